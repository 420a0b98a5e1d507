//! The decision core: `step(event, now) -> actions`.
//!
//! Owns every decision about workers, requests, restarts, rules and schedules. Never looks at a clock, a socket, a file
//! or a random number: time arrives with each event, and jitter comes from a generator seeded at construction, so a
//! list of (event, now) replays to the same actions.
//!
//! ```text
//! door      Submitted ─▶ admission ─▶ queue ─▶ dispatch ─▶ Assign          admission.rs, requests.rs, table.rs
//! turns     clients, counters, classes, caps ─▶ whose request is next       queue.rs, accounts.rs, principal.rs, fairness.rs
//! worker    Spawn ─▶ Loading ─▶ Ready ─▶ Stopping ─▶ gone                   worker_life.rs, health.rs
//! slot      none ─ spawn ─▶ worker ─ retire (drain, stop) ─▶ none ─ …       succession.rs, retirement.rs, backoff.rs
//! memory    room before a start, and back after an end                      memory_gate.rs, memory_return.rs
//! two       green beside blue, and back                                     planner.rs, overlap.rs, workers.rs
//! asked by  operators (operations.rs, drain.rs, permits.rs) · rules and schedules (unattended.rs, rules.rs, agenda.rs)
//! proof     one token, content checked                                      canary.rs
//! told      a new configuration, or none                                    configuration.rs
//! the end   TERM, grace, exit · another image in this process's place       stopping.rs, upgrade.rs
//! seen by   snapshot.rs, clients.rs
//! ```
//!
//! Failure edges, first: a worker that dies puts its requests back at the queue's head with their tokens and is spawned
//! again after a backoff; more deaths than the crash budget park the service, which answers everything with the cause
//! and tries again every `restart.retry_parked`. A worker that never becomes ready counts as a crash. A restart that
//! finds its worker dead goes on with the spawn; an unload whose drain runs out resumes service and says so.

pub mod accounts;
pub mod action;
mod admission;
pub mod agenda;
pub mod backoff;
mod caches;
pub mod canary;
pub mod clients;
pub mod conditions;
mod configuration;
mod drain;
pub mod event;
pub mod failure;
pub mod fairness;
pub mod health;
pub mod ids;
pub mod ledger;
pub mod memory_gate;
pub mod memory_return;
mod operations;
pub mod overlap;
pub mod pace;
pub mod permits;
pub mod planner;
pub mod principal;
pub mod queue;
mod recycle;
pub mod refusal;
pub mod request;
mod requests;
pub mod retirement;
pub mod rules;
pub mod snapshot;
mod stopping;
pub mod succession;
pub mod table;
pub mod time;
mod unattended;
mod upgrade;
pub mod verbs;
pub mod worker_life;
mod workers;

#[cfg(test)]
mod stories;

use std::collections::BTreeMap;
use std::time::Duration;

pub use action::{Action, Appetite, Persistent, Record, Standing};
pub use event::Event;
pub use ids::{Generation, OperationId, RequestId};
pub use refusal::{Code, Refusal};
pub use snapshot::{RESTART_DONE, Snapshot};
use time::spoken;
pub use time::{Mono, Now, Wall};

use self::agenda::Agenda;
use self::backoff::CrashHistory;
use self::caches::Clearing;
use self::canary::Expected;
use self::drain::Drain;
use self::failure::Failure;
use self::ledger::Ledger;
use self::memory_gate::Machine;
use self::memory_return::{Reclaim, Stranded};
use self::overlap::Overlap;
use self::pace::Pace;
use self::recycle::Wear;
use self::retirement::{Replacement, Retirement};
use self::rules::RuleBook;
use self::stopping::Stopping;
use self::succession::{Parked, Respawn};
use self::table::RequestTable;
use self::upgrade::Upgrade;
use self::worker_life::Worker;
use crate::config::{Config, Engine, KeepAwake};

/// The state of the whole service.
#[derive(Debug, Clone)]
pub struct Supervisor {
    config: Config,
    dice: u64,
    started: Now,
    kept: Persistent,
    worker: Option<Worker>,
    /// A hand-over with two workers.
    overlap: Option<Overlap>,
    /// Workers that serve nobody any more and are not gone yet.
    surplus: Vec<Worker>,
    /// The memory of a worker that is gone is awaited.
    reclaim: Option<Reclaim>,
    /// It did not come back.
    stranded: Option<Stranded>,
    /// The machine at the last sample.
    machine: Option<Machine>,
    /// Keys and values of live sequences at the last sample, bytes.
    kv_bytes: Option<u64>,
    /// Prompts kept for later requests at the last sample, bytes.
    prefix_bytes: Option<u64>,
    /// Size of the configured model on disk, bytes.
    model_bytes: Option<u64>,
    /// The worker is being retired.
    retirement: Option<Retirement>,
    /// A worker is to be spawned later.
    respawn: Option<Respawn>,
    /// From a worker's end (or the decision to end it) to the next ready one.
    replacement: Option<Replacement>,
    /// Dispatch is held back, in progress or complete.
    drain: Option<Drain>,
    parked: Option<Parked>,
    /// There is no configuration to serve with: why, and since when.
    unconfigured: Option<(String, Mono)>,
    /// Another image is about to take this process's place.
    upgrade: Option<Upgrade>,
    /// Stopped for idleness.
    asleep: bool,
    stopping: Option<Stopping>,
    /// Last time a request ran, waited or ended.
    last_busy: Mono,
    requests: RequestTable,
    /// Recent worker deaths and whether we caused them; judges requests whose link broke.
    deaths: BTreeMap<Generation, Death>,
    /// Verbs that wait for a ready worker.
    awaiting_ready: Vec<OperationId>,
    /// Caches that are being emptied.
    clearings: Vec<Clearing>,
    /// What the serving worker weighed at the last sample that knew, bytes.
    footprint: Option<(u64, Mono)>,
    crashes: CrashHistory,
    rules: RuleBook,
    agenda: Agenda,
    ledger: Ledger,
    pace: Pace,
    last_restart: Option<snapshot::CompletedRestart>,
    last_failure: Option<(Failure, Wall)>,
    canary_expected: Option<Expected>,
    /// How worn the present worker is.
    wear: Wear,
    /// The worker whose recycling was last asked for, and when it may be asked for again.
    recycle_asked: Option<(Generation, Mono)>,
    awake: bool,
    actions: Vec<Action>,
}

/// How a worker ended, as far as its requests are concerned.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Death {
    /// What it was.
    engine: Engine,
    /// What it served.
    fingerprint: Option<String>,
    /// True when we stopped it, or somebody else killed it: no request is to blame.
    explained: bool,
}

/// Where a request stands in the queue, if nobody else comes or leaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct QueuePlace {
    /// Requests that are served before it.
    pub ahead: usize,
    /// About how long it still waits, by the measured pace ([`pace`]); `None` while nobody can tell.
    pub wait: Option<Duration>,
}

/// Deaths remembered. A link failure is reported at once by its session, so a handful would do.
const DEATHS_KEPT: usize = 64;

impl Supervisor {
    /// A core at rest. The first `Event::Tick` starts the worker unless the operator's standing wish says otherwise.
    #[must_use]
    pub fn new(config: Config, persistent: &Persistent, seed: u64, now: Now) -> Self {
        let rules =
            RuleBook::new(&config.rules, &RuleBook::default()).with_cache_limit(config.worker.memory.cache_limit);
        let mut core = Self {
            config,
            dice: seed,
            started: now,
            kept: persistent.clone(),
            worker: None,
            overlap: None,
            surplus: Vec::new(),
            reclaim: None,
            stranded: None,
            machine: None,
            kv_bytes: None,
            prefix_bytes: None,
            model_bytes: None,
            retirement: None,
            respawn: None,
            replacement: None,
            drain: None,
            parked: None,
            unconfigured: None,
            upgrade: None,
            asleep: false,
            stopping: None,
            last_busy: now.mono,
            requests: RequestTable::default(),
            deaths: BTreeMap::new(),
            awaiting_ready: Vec::new(),
            clearings: Vec::new(),
            footprint: None,
            crashes: CrashHistory::default(),
            rules,
            agenda: Agenda::default(),
            ledger: Ledger::default(),
            pace: Pace::default(),
            last_restart: None,
            last_failure: None,
            canary_expected: None,
            wear: Wear::default(),
            recycle_asked: None,
            awake: false,
            actions: Vec::new(),
        };
        match persistent.standing {
            Standing::Serve => core.respawn = Some(Respawn::at_once(now.mono)),
            Standing::Drained => {
                core.respawn = Some(Respawn::at_once(now.mono));
                core.drain = Some(Drain::completed(now.mono));
            }
            Standing::Unloaded => {}
        }
        if let Some(why) = &persistent.parked {
            let retry_at = now.mono + core.config.restart.retry_parked;
            core.parked = Some(Parked { why: why.clone(), since: now.mono, retry_at });
            core.respawn = None;
        }
        core.begin_schedules(now.wall);
        core
    }

    /// Takes in one event and returns what is to be done, in order.
    pub fn step(&mut self, event: Event, now: Now) -> Vec<Action> {
        match event {
            Event::Submitted { id, submission } => self.submitted(id, submission, now.mono),
            Event::Reported { id, report } => self.reported(id, report, now.mono),
            Event::Spawned { generation, pid } => self.spawned(generation, pid, now.mono),
            Event::SpawnFailed { generation, why } => self.spawn_failed(generation, &why, now),
            Event::WorkerReady { generation, facts } => self.worker_ready(generation, facts, now),
            Event::Probed { generation, vitals } => self.probed(generation, &vitals, now.mono),
            Event::Adopted { generation, pid, engine, found } => {
                let engine = engine.unwrap_or(self.config.worker.engine);
                self.adopted(Worker::inherited(generation, engine, pid, &found, now.mono), &found, now);
            }
            Event::CanaryAnswered { generation, result } => self.canary_answered(generation, &result, now.mono),
            Event::WorkerExited { generation, exit } => self.worker_exited(generation, &exit, now),
            Event::CacheCleared { generation, cache, result } => self.cleared(generation, cache, &result, now.mono),
            Event::Sampled { sample } => self.sampled(&sample, now),
            Event::Learned { percentiles } => self.rules.learn(percentiles),
            Event::Operator { operation, verb } => self.operator(operation, &verb, now),
            Event::ScheduleDue { name, nominal } => self.schedule_due(&name, nominal, now.mono),
            Event::ScheduleLeftOut { name, nominal } => self.schedule_done(&name, nominal),
            Event::ModelMeasured { bytes } => self.model_bytes = bytes,
            Event::Unconfigured { why } => self.unconfigured(why, now.mono),
            Event::ImageVetted { result } => self.image_vetted(result, now.mono),
            Event::ExecFailed { why } => self.exec_failed(&why, now.mono),
            Event::StopAsked { keep_worker } => self.stop_asked(keep_worker, now),
            Event::Reconfigured { config } => self.reconfigured(*config, now),
            Event::Tick => {}
        }
        self.settle(now);
        std::mem::take(&mut self.actions)
    }

    /// Lets everything that has become possible, or overdue, happen.
    fn settle(&mut self, now: Now) {
        self.judge_adrift(now.mono);
        self.expire_waiting(now.mono);
        self.keep_worker_deadlines(now.mono);
        self.advance_reclaim(now);
        self.advance_clearings(now.mono);
        self.advance_upgrade(now.mono);
        self.recycle_if_worn(now.mono);
        self.settle_agenda(now);
        self.fall_asleep(now);
        self.advance_retirement(now);
        self.advance_overlap(now.mono);
        self.advance_drain(now.mono);
        // After whatever may have held it back has ended.
        self.ask_canary_if_due(now.mono);
        self.respawn_if_due(now.mono);
        self.refuse_unservable(now.mono);
        self.dispatch(now.mono);
        self.settle_awake();
        self.exit_if_stopped(now.mono);
    }

    /// The earliest instant at which `Event::Tick` must come even if nothing else happens.
    #[must_use]
    pub fn next_deadline(&self, now: Mono) -> Option<Mono> {
        let idle = self.idle_deadline();
        let requests = self.request_deadline(now);
        [
            self.worker_deadline(),
            self.canary_deadline(),
            self.overlap_deadline(),
            self.clearing_deadline(),
            self.reclaim.as_ref().map(|reclaim| reclaim.deadline),
            self.upgrade.as_ref().map(Upgrade::deadline),
            self.recycle_deadline(),
            self.retirement_deadline(now),
            self.spawn_deadline(),
            self.drain.as_ref().and_then(Drain::deadline),
            self.agenda.deadline(now),
            idle,
            requests,
        ]
        .into_iter()
        .flatten()
        .min()
    }

    /// Where this request stands in the queue; `None` if it does not wait.
    pub fn position(&mut self, id: RequestId) -> Option<QueuePlace> {
        let ahead = self.requests.ahead(id)?;
        Some(QueuePlace { ahead: ahead.requests, wait: self.estimate(ahead.cost) })
    }

    /// True while an operator's drain is under way.
    #[must_use]
    pub fn is_draining(&self) -> bool {
        self.drain.as_ref().is_some_and(|drain| !drain.complete)
    }

    /// What must hold inside, whatever happens; the simulation asks after every step.
    ///
    /// # Errors
    /// The broken rule, in words.
    pub fn check_invariants(&self) -> Result<(), String> {
        if self.parked.is_some() && self.retirement.is_some() {
            return Err("parked and retiring at once".to_owned());
        }
        if self.respawn.is_some() && self.worker.is_some() {
            return Err("a worker is to be spawned beside another".to_owned());
        }
        if self.respawn.is_some() && self.kept.standing == Standing::Unloaded {
            return Err("unloaded, and a worker is to be spawned".to_owned());
        }
        if self.retirement.is_some() && self.worker.is_none() {
            return Err("a retirement without a worker".to_owned());
        }
        // At the daemon's end green may be gone before blue.
        if self.overlap.is_some() && self.worker.is_none() && self.stopping.is_none() {
            return Err("a hand-over without a serving worker".to_owned());
        }
        if self.reclaim.is_some() && self.worker.is_some() && self.respawn.is_some() {
            return Err("a start while memory is awaited".to_owned());
        }
        let resident = self.workers().filter(|worker| worker.is_stopped().is_none()).count();
        if resident > 1 + usize::from(self.overlap.is_some()) {
            return Err(format!("{resident} workers that nobody stops"));
        }
        if self.asleep && (self.worker.is_some() || self.respawn.is_some()) {
            return Err("asleep with a worker".to_owned());
        }
        self.requests.check_invariants()
    }

    /// The configuration in force.
    #[must_use]
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// True while samples decide something soon, or memory is short, and should come four times a second.
    #[must_use]
    pub fn is_watching_memory(&self) -> bool {
        let loading = self.workers().any(|worker| worker.ready_at.is_none());
        let pressed = self.machine.is_some_and(|machine| machine.pressed().is_some());
        loading || pressed || self.reclaim.is_some() || self.overlap.is_some() || self.is_watching_clearing()
    }

    /// The worker whose numbers the rules judge: the one that serves.
    #[must_use]
    pub fn serving_generation(&self) -> Option<Generation> {
        self.worker.as_ref().map(|worker| worker.generation)
    }

    /// Tells the outside when the machine must not fall into idle sleep, and when it may again.
    fn settle_awake(&mut self) {
        let on = match self.config.worker.keep_awake {
            KeepAwake::Busy => !self.requests.is_empty(),
            KeepAwake::Always => true,
            KeepAwake::Off => false,
        };
        if on != self.awake {
            self.awake = on;
            self.actions.push(Action::KeepAwake { on });
        }
    }

    fn worker_is_ready(&self) -> bool {
        self.worker.as_ref().is_some_and(Worker::is_ready)
    }

    /// The next random number: SplitMix64 (Steele, Lea, Flood 2014), state seeded at construction.
    fn roll(&mut self) -> u64 {
        self.dice = self.dice.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.dice;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn record(&mut self, kind: &'static str, message: impl Into<String>) {
        self.actions.push(Action::Record(Record { kind, message: message.into() }));
    }

    fn persist(&mut self) {
        self.actions.push(Action::Persist(self.kept.clone()));
    }

    fn reply(&mut self, operation: OperationId, outcome: verbs::Outcome) {
        self.actions.push(Action::Reply { operation, outcome });
    }

    fn reply_all(&mut self, operations: Vec<OperationId>, outcome: &verbs::Outcome) {
        for operation in operations {
            self.reply(operation, outcome.clone());
        }
    }
}
