//! The core as others see it: the state of the service, its cause, and the numbers behind `status`.
//!
//! A snapshot informs; it never gates an action, because it is old the moment it is taken.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use super::conditions::bytes;
use super::failure::Failure;
use super::ledger::Ledger;
use super::memory_gate::spoken_bytes;
use super::overlap::Phase;
use super::retirement::{Purpose, Replacement};
use super::succession::{Hold, Respawn};
use super::time::{Mono, Now, Wall};
use super::upgrade::Upgrade;
use super::worker_life::{Life, StopReason, Worker};
use super::{Standing, Supervisor, spoken};
use crate::control::view::{RuleState, State};

/// Everything `status` needs from the core.
#[derive(Debug, Clone, PartialEq)]
pub struct Snapshot {
    /// The service's state.
    pub state: State,
    /// Why, where it is not simply serving.
    pub cause: Option<Cause>,
    /// The worker, if there is one.
    pub worker: Option<Worker>,
    /// Requests that wait.
    pub waiting: usize,
    /// Since when the oldest of them waits that no worker has had yet.
    pub oldest_admitted_at: Option<Mono>,
    /// Requests that hold a slot.
    pub active: usize,
    /// A hand-over under way.
    pub handover: Option<Handover>,
    /// A drain under way.
    pub drain: Option<DrainCounts>,
    /// The last completed restart.
    pub last_restart: Option<CompletedRestart>,
    /// The last failure of a worker.
    pub last_failure: Option<(Failure, Wall)>,
    /// Name, state and explanation of every rule.
    pub rules: Vec<(String, RuleState, String)>,
    /// Totals.
    pub ledger: Ledger,
    /// Since when the daemon runs.
    pub started: Now,
}

/// Why the service is in its state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cause {
    /// Stable word.
    pub code: &'static str,
    /// One sentence.
    pub message: String,
    /// Since when.
    pub since: Mono,
    /// When the daemon tries again by itself.
    pub retry_at: Option<Mono>,
    /// The command that mends it.
    pub next: Option<&'static str>,
}

/// A hand-over in mid-way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Handover {
    /// True when both workers are there at once.
    pub overlap: bool,
    /// What it is doing: `draining`, `stopping`, `starting`, `loading`.
    pub phase: &'static str,
    /// When that is given up or forced.
    pub deadline: Option<Mono>,
    /// The successor, once it has a process.
    pub green: Option<(u32, super::Generation)>,
}

/// A drain in numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DrainCounts {
    /// Still running.
    pub active: usize,
    /// From before the line, still waiting.
    pub waiting: usize,
    /// When waiting ends.
    pub ends: Option<Mono>,
    /// New requests are refused.
    pub refusing: bool,
}

/// The record of every restart that is over, with its cost.
pub const RESTART_DONE: &str = "restart_done";

/// A restart with its cost.
#[derive(Debug, Clone, PartialEq)]
pub struct CompletedRestart {
    /// For people.
    pub reason: String,
    /// When the new worker was ready.
    pub at: Wall,
    /// From the decision (or the death) to ready.
    pub took: Duration,
    /// Seconds per phase (`…_s`), tokens and requests, and what the two workers weighed (`…_bytes`).
    pub cost: BTreeMap<&'static str, f64>,
}

impl CompletedRestart {
    /// The account of a replacement that has just become ready; `load` is spawn to ready, `tokens` what the requests that
    /// were interrupted have behind them and the new worker reads again.
    #[must_use]
    pub fn sequential(replacement: &Replacement, load: Duration, tokens: u64, now: Now) -> Self {
        let took = now.mono - replacement.since;
        let mut cost = BTreeMap::new();
        let mut mark = replacement.since;
        if let Some(stop_at) = replacement.stop_at {
            cost.insert("drain_s", (stop_at - mark).as_secs_f64());
            mark = stop_at;
            if let Some(gone_at) = replacement.gone_at {
                cost.insert("stop_s", (gone_at - stop_at).as_secs_f64());
                mark = gone_at;
            }
        }
        let wait = (now.mono - mark).saturating_sub(load);
        if !wait.is_zero() {
            cost.insert("backoff_s", wait.as_secs_f64());
        }
        cost.insert("load_s", load.as_secs_f64());
        if tokens > 0 {
            #[expect(clippy::cast_precision_loss, reason = "tokens of one queue are far below 2^52")]
            cost.insert("replayed_tokens", tokens as f64);
        }
        Self { reason: replacement.reason.clone(), at: now.wall, took, cost }
    }

    /// The account of an overlap hand-over whose predecessor is gone.
    #[must_use]
    pub fn overlap(reason: String, times: &OverlapTimes, load: Duration, handed_on: usize, now: Now) -> Self {
        let OverlapTimes { since, committed_at, stop_at } = *times;
        let mut cost = BTreeMap::new();
        cost.insert("load_s", load.as_secs_f64());
        cost.insert("drain_s", (stop_at - committed_at).as_secs_f64());
        cost.insert("stop_s", (now.mono - stop_at).as_secs_f64());
        if handed_on > 0 {
            cost.insert("handed_on", f64::from(u32::try_from(handed_on).unwrap_or(u32::MAX)));
        }
        Self { reason, at: now.wall, took: now.mono - since, cost }
    }
}

impl CompletedRestart {
    /// With what the old worker weighed at last and the new one when this was written, as far as that is known.
    #[must_use]
    pub fn weighed(mut self, before: Option<u64>, after: Option<u64>) -> Self {
        for (name, bytes) in [(BEFORE, before), (AFTER, after)] {
            if let Some(bytes) = bytes.filter(|bytes| *bytes > 0) {
                #[expect(clippy::cast_precision_loss, reason = "bytes far below 2^52")]
                self.cost.insert(name, bytes as f64);
            }
        }
        self
    }
}

const BEFORE: &str = "footprint_before_bytes";
const AFTER: &str = "footprint_after_bytes";

/// When an overlap hand-over did what.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OverlapTimes {
    /// The decision.
    pub since: Mono,
    /// Green took over.
    pub committed_at: Mono,
    /// Blue was told to stop.
    pub stop_at: Mono,
}

impl fmt::Display for CompletedRestart {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: restarted in {} (", self.reason, spoken(self.took))?;
        let costs = self.cost.iter().filter(|(name, _)| !name.ends_with("_bytes"));
        for (index, (name, seconds)) in costs.enumerate() {
            if index > 0 {
                f.write_str(", ")?;
            }
            match name.strip_suffix("_s") {
                Some(phase) => write!(f, "{phase} {seconds:.2} s")?,
                None => write!(f, "{} {seconds:.0}", name.replace('_', " "))?,
            }
        }
        f.write_str(")")?;
        match (self.cost.get(BEFORE), self.cost.get(AFTER)) {
            (Some(before), Some(after)) => write!(f, "; footprint {} → {}", bytes(*before), bytes(*after)),
            _ => Ok(()),
        }
    }
}

impl Supervisor {
    /// The state of the service.
    #[must_use]
    pub fn state(&self) -> State {
        if self.stopping.is_some() {
            return State::Stopping;
        }
        if self.stranded.is_some() {
            return State::Stranded;
        }
        if self.parked.is_some() || self.unconfigured.is_some() {
            return State::Parked;
        }
        if self.overlap.is_some() {
            return State::Handover;
        }
        if let Some(retirement) = self.present_retirement() {
            return match retirement.purpose {
                Purpose::Restart { .. } => State::Handover,
                Purpose::Unload { .. } | Purpose::Sleep => State::Draining,
                Purpose::Stop => State::Stopping,
            };
        }
        if self.asleep {
            return State::Asleep;
        }
        if self.kept.standing == Standing::Unloaded {
            return State::Unloaded;
        }
        if self.worker_is_ready() {
            return match &self.drain {
                None if self.upgrade_drains().is_some() => State::Draining,
                Some(drain) if drain.complete => State::Drained,
                Some(_) => State::Draining,
                None => State::Serving,
            };
        }
        let planned = self.replacement.as_ref().is_some_and(|replacement| replacement.planned);
        if planned { State::Handover } else { State::Starting }
    }

    /// State, worker, and whether that worker is ready: what changes seldom and matters to everybody.
    #[must_use]
    pub fn standpoint(&self) -> (State, Option<super::Generation>, bool) {
        (self.state(), self.worker.as_ref().map(|worker| worker.generation), self.worker_is_ready())
    }

    /// The core as `status` shows it.
    #[must_use]
    pub fn snapshot(&self) -> Snapshot {
        let state = self.state();
        Snapshot {
            state,
            cause: self.cause(state),
            worker: self.worker.clone(),
            waiting: self.requests.queue().len(),
            oldest_admitted_at: self.requests.oldest_fresh().map(|request| request.admitted_at),
            active: self.running(),
            handover: (state == State::Handover).then(|| self.handover()),
            drain: self.drain.as_ref().filter(|drain| !drain.complete).map(|drain| DrainCounts {
                active: self.requests.in_flight(),
                waiting: self.requests.waiting_before(drain.line),
                ends: drain.ends,
                refusing: drain.refuse,
            }),
            last_restart: self.last_restart.clone(),
            last_failure: self.last_failure.clone(),
            rules: self.rules.views().map(|(name, state, why)| (name.to_owned(), state, why.to_owned())).collect(),
            ledger: self.ledger,
            started: self.started,
        }
    }

    fn handover(&self) -> Handover {
        let green = |worker: &Worker| Some((worker.pid?, worker.generation));
        if let Some(overlap) = &self.overlap {
            let (phase, deadline, successor) = match &overlap.phase {
                Phase::Rising { green } => ("loading", green.deadline(), Some(green)),
                Phase::Settling { deadline, stop_at: None, .. } => ("draining", *deadline, self.worker.as_ref()),
                Phase::Settling { blue, .. } => ("stopping", blue.deadline(), self.worker.as_ref()),
            };
            return Handover { overlap: true, phase, deadline, green: successor.and_then(green) };
        }
        let (phase, deadline) = match self.worker.as_ref().map(|worker| (&worker.life, worker.deadline())) {
            Some((Life::Ready { .. }, _)) => {
                ("draining", self.retirement.as_ref().map(|retirement| retirement.deadline))
            }
            Some((Life::Stopping(_), deadline)) => ("stopping", deadline),
            Some((Life::Spawning { .. } | Life::Loading { .. }, deadline)) => ("loading", deadline),
            None => ("starting", self.respawn.as_ref().map(|respawn| respawn.at)),
        };
        let successor = self.worker.as_ref().filter(|worker| matches!(worker.life, Life::Loading { .. }));
        Handover { overlap: false, phase, deadline, green: successor.and_then(green) }
    }

    fn upgrade_drains(&self) -> Option<Mono> {
        self.upgrade.as_ref().and_then(Upgrade::draining_since)
    }

    fn cause(&self, state: State) -> Option<Cause> {
        let cause = |code, message: String, since, retry_at, next| Some(Cause { code, message, since, retry_at, next });
        match state {
            State::Serving => self.suspect_cause(),
            State::Parked => {
                if let Some((why, since)) = &self.unconfigured {
                    return cause("config_error", why.clone(), *since, None, Some("mlxsupctl reload"));
                }
                let parked = self.parked.as_ref()?;
                let next = Some("mlxsupctl restart");
                cause("crash_budget", parked.why.clone(), parked.since, Some(parked.retry_at), next)
            }
            State::Starting => self.starting_cause(),
            State::Handover => {
                let replacement = self.replacement.as_ref();
                let reason = self
                    .retirement
                    .as_ref()
                    .map(|retirement| retirement.reason.clone())
                    .or_else(|| replacement.map(|replacement| replacement.reason.clone()))
                    .unwrap_or_default();
                if let Some(overlap) = &self.overlap {
                    let message = format!("restarting for {}; requests are served meanwhile", overlap.reason);
                    return cause("restart", message, overlap.since, None, None);
                }
                let since = replacement.map_or(self.started.mono, |replacement| replacement.since);
                cause("restart", format!("restarting for {reason}; requests wait"), since, None, None)
            }
            State::Draining => match (&self.drain, self.present_retirement()) {
                (_, Some(retirement)) => {
                    cause("unload", format!("unloading for {}", retirement.reason), retirement.since, None, None)
                }
                (Some(drain), None) => {
                    let message = "draining for the operator; new requests wait".to_owned();
                    cause("operator", message, drain.since, None, Some("mlxsupctl resume"))
                }
                (None, None) => {
                    let since = self.upgrade_drains()?;
                    let message = "the daemon is about to be replaced in place; connections wait".to_owned();
                    cause("upgrade", message, since, None, Some("mlxsupctl resume"))
                }
            },
            State::Drained => {
                let since = self.drain.as_ref().map_or(self.started.mono, |drain| drain.since);
                let message = "drained for the operator; requests wait".to_owned();
                cause("operator", message, since, None, Some("mlxsupctl resume"))
            }
            State::Asleep => {
                let message = "stopped for idleness; the next request loads the model".to_owned();
                cause("idle", message, self.last_busy, None, Some("mlxsupctl load"))
            }
            State::Unloaded => {
                let message = "unloaded by the operator".to_owned();
                cause("operator", message, self.last_busy, None, Some("mlxsupctl load"))
            }
            State::Stranded => {
                let stranded = self.stranded.as_ref()?;
                let message = format!(
                    "{} of a dead worker are still wired; nothing is started on top of them, a reboot frees them",
                    spoken_bytes(stranded.bytes)
                );
                cause("stranded", message, stranded.since, None, Some("reboot, then mlxsupctl start"))
            }
            State::Stopping => cause("stopping", "the daemon is stopping".to_owned(), self.last_busy, None, None),
        }
    }

    fn starting_cause(&self) -> Option<Cause> {
        let cause = |code, message, since, retry_at, next| Some(Cause { code, message, since, retry_at, next });
        if let Some(Respawn { at, since, held_by: Some(hold) }) = &self.respawn {
            return match hold {
                Hold::Backoff(failure) => {
                    let since = self.replacement.as_ref().map_or(*since, |replacement| replacement.since);
                    let message = format!("the worker {failure}");
                    cause("crash_backoff", message, since, Some(*at), Some("mlxsupctl restart"))
                }
                Hold::Gate(arithmetic) => {
                    cause("memory_gate", format!("the worker {arithmetic}"), *since, Some(*at), None)
                }
            };
        }
        if let Some(Life::Stopping(ladder)) = self.worker.as_ref().map(|worker| &worker.life) {
            let message = match &ladder.why {
                StopReason::Failed(failure) => format!("stopping the worker: {failure}"),
                StopReason::Planned => "stopping the worker".to_owned(),
            };
            return cause("stopping_worker", message, ladder.since, None, None);
        }
        if let Some(reclaim) = &self.reclaim {
            let message = format!("waiting for the memory of worker {} to come back", reclaim.generation);
            return cause("memory_return", message, reclaim.since, None, None);
        }
        let since = self.worker.as_ref().map_or(self.started.mono, |worker| worker.spawned_at);
        let message = match &self.replacement {
            Some(replacement) => format!("loading after {}", replacement.reason),
            None => "loading the model".to_owned(),
        };
        cause("loading", message, since, None, None)
    }

    fn suspect_cause(&self) -> Option<Cause> {
        let worker = self.worker.as_ref()?;
        let Life::Ready { suspect: true, .. } = worker.life else { return None };
        Some(Cause {
            code: "suspect",
            message: "the worker missed a probe; it gets no new work until it answers".to_owned(),
            since: worker.ready_at.unwrap_or(worker.spawned_at),
            retry_at: None,
            next: None,
        })
    }
}
