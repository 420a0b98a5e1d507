//! From the core's snapshot to the JSON contract of `status`.

use std::collections::BTreeMap;
use std::time::Duration;

use mlxsup_worker_api::WorkerStatus;

use super::clock::{rfc3339, wall_of};
use super::derived_limits::{self, Derived};
use crate::config::Config;
use crate::control::view::{
    Cause, ClientView, ConfigView, DaemonView, DrainView, FailureView, GreenView, HandoverView, Ledger, LoadView,
    QueueView, RestartView, RuleView, ScheduleView, ServedView, Status, WaitingView, WorkerView,
};
use crate::memory::Sample;
use crate::supervisor::clients::ClientFacts;
use crate::supervisor::snapshot::{self, Snapshot};
use crate::supervisor::worker_life::{Life, Worker};
use crate::supervisor::{Mono, Now, Wall};

/// What `status` shows besides the core's snapshot.
#[derive(Debug)]
pub struct Surroundings<'a> {
    /// In force.
    pub config: &'a Config,
    /// Counts daemons of this home.
    pub epoch: u64,
    /// What its `auto` comes to, once known.
    pub derived: Option<&'a Derived>,
    /// The worker's last report.
    pub report: Option<&'a WorkerStatus>,
    /// The last sample.
    pub sample: &'a Sample,
    /// Next firing of each schedule.
    pub next_firings: &'a [(String, Option<Wall>)],
    /// Keys waiting, problems.
    pub pending: &'a [String],
    /// Problems of a rejected file.
    pub problems: &'a [String],
    /// A failure of before this daemon: shown until a later one.
    pub found_at_boot: Option<&'a FailureView>,
}

/// The status at `now`.
#[must_use]
pub fn status(core: &Snapshot, around: &Surroundings<'_>, now: Now) -> Status {
    let at = |mono: Mono| rfc3339(wall_of(mono, now));
    Status {
        schema: 1,
        state: core.state,
        cause: core.cause.as_ref().map(|cause| self::cause(cause, now)),
        daemon: DaemonView {
            pid: std::process::id(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            uptime_s: (now.mono - core.started.mono).as_secs(),
            epoch: around.epoch,
        },
        worker: core.worker.as_ref().and_then(|worker| self::worker(worker, around, core, now)),
        queue: QueueView {
            waiting: core.waiting,
            active: core.active,
            slots: core.worker.as_ref().map_or(0, Worker::slots),
            oldest_wait_s: core.oldest_admitted_at.map(|at| seconds(now.mono - at)),
        },
        handover: core.handover.as_ref().map(|handover| HandoverView {
            strategy: if handover.overlap { "overlap" } else { "sequential" }.to_owned(),
            phase: handover.phase.to_owned(),
            green: handover.green.map(|(pid, generation)| GreenView { pid, generation: generation.0 }),
            deadline_at: handover.deadline.map(at),
        }),
        memory: memory(around.sample),
        schedules: around
            .next_firings
            .iter()
            .map(|(name, next)| ScheduleView { name: name.clone(), next_at: next.map(rfc3339), upcoming: Vec::new() })
            .collect(),
        last_restart: core.last_restart.as_ref().map(restart),
        last_failure: core
            .last_failure
            .as_ref()
            .map(|(failure, at)| FailureView {
                class: failure.class.as_str().to_owned(),
                message: failure.why.clone(),
                at: rfc3339(*at),
            })
            .or_else(|| around.found_at_boot.cloned()),
        rules: core
            .rules
            .iter()
            .map(|(name, state, explain)| RuleView { name: name.clone(), state: *state, explain: explain.clone() })
            .collect(),
        ledger: Ledger {
            answered: core.ledger.answered,
            carried: core.ledger.carried,
            lost: core.ledger.lost,
            restarts: core.ledger.restarts,
            longest_wait_s: seconds(core.ledger.longest_wait),
        },
        config: ConfigView {
            hash: around.config.hash.clone(),
            pending: around.pending.to_vec(),
            problems: around.problems.to_vec(),
        },
        drain: core.drain.map(|drain| DrainView {
            active: drain.active,
            waiting: drain.waiting,
            deadline_at: drain.ends.map(at),
            refusing: drain.refusing,
        }),
        limits: derived_limits::view(around.config, around.derived, around.report),
    }
}

/// The clients as the control socket shows them.
#[must_use]
pub fn clients(facts: Vec<ClientFacts>) -> Vec<ClientView> {
    let view = |facts: ClientFacts| {
        let [interactive, normal, batch] = facts.waiting;
        ClientView {
            name: Some(facts.label).filter(|label| !label.is_empty()),
            waiting: WaitingView { interactive, normal, batch },
            active: facts.active,
            max_active: facts.max_active,
            served: ServedView { prompt_tokens: facts.prompt_tokens, completion_tokens: facts.completion_tokens },
            counter: facts.counter,
            mean_answer_tokens: facts.mean_answer,
            share: facts.share,
            clients: clients(facts.names),
        }
    };
    facts.into_iter().map(view).collect()
}

fn cause(cause: &snapshot::Cause, now: Now) -> Cause {
    Cause {
        code: cause.code.to_owned(),
        message: cause.message.clone(),
        since: rfc3339(wall_of(cause.since, now)),
        retry_at: cause.retry_at.map(|at| rfc3339(wall_of(at, now))),
        next: cause.next.map(str::to_owned),
    }
}

fn worker(worker: &Worker, around: &Surroundings<'_>, core: &Snapshot, now: Now) -> Option<WorkerView> {
    let loading = matches!(worker.life, Life::Loading { .. });
    // A worker that is being drained for a restart says so, though for its own life it is simply ready.
    let handing_over = core.handover.as_ref().is_some_and(|handover| !handover.overlap);
    let draining = worker.is_ready() && (core.drain.is_some() || handing_over);
    Some(WorkerView {
        pid: worker.pid?,
        generation: worker.generation.0,
        phase: if draining { "draining".to_owned() } else { worker.phase().to_owned() },
        uptime_s: (now.mono - worker.spawned_at).as_secs(),
        model: worker
            .facts
            .as_ref()
            .map(|facts| facts.model.clone())
            .filter(|model| !model.is_empty())
            .unwrap_or_else(|| around.config.worker.model.clone()),
        engine: worker.engine.as_str().to_owned(),
        footprint_bytes: worker.footprint_bytes,
        load: worker
            .last_answer
            .as_ref()
            .filter(|_| loading)
            .map(|answer| LoadView { bytes_done: answer.bytes_done, bytes_total: answer.bytes_total }),
        context_tokens: around
            .report
            .and_then(|report| report.model.as_ref())
            .map(|model| model.context_tokens)
            .or_else(|| worker.facts.as_ref().and_then(|facts| facts.context_tokens)),
    })
}

fn memory(sample: &Sample) -> BTreeMap<String, f64> {
    sample.present().map(|(metric, value)| (metric.name().to_owned(), value)).collect()
}

fn restart(restart: &snapshot::CompletedRestart) -> RestartView {
    RestartView {
        reason: restart.reason.clone(),
        at: rfc3339(restart.at),
        took_s: seconds(restart.took),
        cost: restart.cost.iter().map(|(name, value)| ((*name).to_owned(), *value)).collect(),
    }
}

fn seconds(duration: Duration) -> f64 {
    duration.as_secs_f64()
}

/// The status before the core has taken its first step.
#[must_use]
pub fn initial() -> Status {
    Status {
        schema: 1,
        state: crate::control::view::State::Starting,
        cause: None,
        daemon: DaemonView {
            pid: std::process::id(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            uptime_s: 0,
            epoch: 0,
        },
        worker: None,
        queue: QueueView::default(),
        handover: None,
        memory: BTreeMap::new(),
        schedules: Vec::new(),
        last_restart: None,
        last_failure: None,
        rules: Vec::new(),
        ledger: Ledger::default(),
        config: ConfigView::default(),
        drain: None,
        limits: None,
    }
}
