//! The shadow: what the core has been told and has said, kept apart from how it decides.
//!
//! [`Model::note`] takes in an event before the step, [`Model::judge`] the actions after it (promises.rs). Nothing here
//! is copied from the core: it follows requests, verbs and workers by the words of the design alone.

use std::collections::{BTreeMap, BTreeSet};

use mlxsup::config::Engine;
use mlxsup::control::view::State;
use mlxsup::memory::{Metric, Sample};
use mlxsup::supervisor::event::{Exit, ExitStatus, Inherited};
use mlxsup::supervisor::request::{Class, Outcome, Report, Submission};
use mlxsup::supervisor::verbs::Verb;
use mlxsup::supervisor::{Event, Generation, Mono, Now, OperationId, Persistent, RequestId, Standing, Supervisor};

use crate::endings::{Leaving, Line};

/// A request that has been admitted and has not ended.
#[derive(Debug, Clone)]
pub struct Shadow {
    pub arrival: u64,
    pub principal: String,
    pub class: Class,
    pub expires_at: Mono,
    pub bytes: u64,
    pub running: Option<Generation>,
    /// Assigned once.
    pub assigned: bool,
    /// A token has come in this assignment.
    pub token: bool,
    pub fingerprint: Option<String>,
    /// Lost from a worker whose fate is open.
    pub adrift: Option<Adrift>,
    /// An unexplained death without a token: it runs alone now.
    pub suspect: bool,
    /// And a second one: it may be ended for it.
    pub poisoned: bool,
    /// Links in a row that broke without a token.
    pub broken: u32,
    /// Its answer had begun on an engine that cannot continue.
    pub cut: bool,
}

/// A broken link whose cause is not known yet.
#[derive(Debug, Clone, Copy)]
pub struct Adrift {
    pub from: Generation,
    pub token: bool,
    pub since: Mono,
}

/// A worker the core knows of and has not been told gone.
#[derive(Debug, Clone)]
pub struct ShadowWorker {
    pub ready: bool,
    /// It can take over what another one began.
    pub continues: bool,
    pub fingerprint: String,
    pub slots: usize,
    /// SIGTERM, and whether it was meant: not for a failure.
    pub terminated: Option<(Mono, bool)>,
    pub killed: Option<Mono>,
    pub footprint: Option<u64>,
    pub footprint_at_term: u64,
    /// The least footprint since SIGTERM.
    pub least: u64,
    pub shrunk_at: Option<Mono>,
    pub missed: bool,
    /// A look is under way; its end always comes.
    pub looked_at: bool,
    pub canary_out: bool,
}

/// A verb that has not been answered.
#[derive(Debug, Clone)]
pub struct Asked {
    pub verb: Verb,
    /// Where a deadline is promised.
    pub until: Option<Mono>,
}

/// What the judge needs to know of the moment before the step.
#[derive(Debug)]
pub struct Before {
    pub submitted: Option<(RequestId, Submission)>,
    pub verb: Option<(OperationId, Verb)>,
    pub stale: Option<(Supervisor, Vec<mlxsup::supervisor::Action>)>,
    pub serving: Option<Generation>,
    pub stop_asked: bool,
    pub reconfigured: bool,
}

/// The shadow of one daemon's core.
#[derive(Debug)]
pub struct Model {
    pub requests: BTreeMap<RequestId, Shadow>,
    /// Requests a principal may have under way, as its last admitted one said.
    pub caps: BTreeMap<String, u32>,
    /// Whose turn it would be in each principal and class, and since when.
    pub heads: BTreeMap<(String, Class), (RequestId, Mono)>,
    pub seen: BTreeSet<RequestId>,
    pub operations: BTreeMap<OperationId, Asked>,
    pub workers: BTreeMap<Generation, ShadowWorker>,
    /// The service's state before the step: a request may be refused, and the step then end in another state.
    pub state_before: State,
    /// Gone lately, and whether the end was meant.
    pub gone: BTreeMap<Generation, (ShadowWorker, bool)>,
    pub arrivals: u64,
    pub line: Option<Line>,
    /// Workers on their way out.
    pub leaving: BTreeMap<Generation, Leaving>,
    pub accepting: Option<Generation>,
    pub overlapping: bool,
    pub stopping: bool,
    pub unconfigured: bool,
    pub awake: bool,
    pub vetting: bool,
    pub executing: bool,
    pub persisted: Persistent,
    pub last_sample: Option<(Mono, Sample)>,
    pub last_exit: Mono,
    /// The rule that acts in this step.
    pub fired: Option<String>,
    /// The last load (true) or unload that a rule had done, and until when the other may not follow.
    pub switched: Option<(bool, Mono)>,
}

impl Model {
    pub fn new(persistent: &Persistent, now: Mono) -> Self {
        Self {
            requests: BTreeMap::new(),
            caps: BTreeMap::new(),
            heads: BTreeMap::new(),
            seen: BTreeSet::new(),
            operations: BTreeMap::new(),
            workers: BTreeMap::new(),
            gone: BTreeMap::new(),
            arrivals: 0,
            line: (persistent.standing == Standing::Drained).then_some(Line { at: 0, ends: None }),
            leaving: BTreeMap::new(),
            accepting: None,
            overlapping: false,
            stopping: false,
            unconfigured: false,
            awake: false,
            vetting: false,
            executing: false,
            state_before: State::Starting,
            persisted: persistent.clone(),
            last_sample: None,
            last_exit: now,
            fired: None,
            switched: None,
        }
    }

    pub fn is_overlapping(&self) -> bool {
        self.overlapping
    }

    pub fn is_executing(&self) -> bool {
        self.executing
    }

    pub fn is_drained(&self) -> bool {
        self.line.is_some()
    }

    /// The worker a record of death is about.
    pub fn told_dead(&self, message: &str) -> Option<u64> {
        message.strip_prefix("worker ")?.split(' ').next()?.parse().ok()
    }

    pub fn waiting(&self) -> usize {
        self.requests.values().filter(|request| request.running.is_none()).count()
    }

    pub fn running_on(&self, generation: Generation) -> usize {
        self.requests.values().filter(|request| request.running == Some(generation)).count()
    }

    /// What the daemon adds to a sample.
    pub fn requests_in_sample(&self, sample: &mut Sample) {
        let count = |number: usize| Some(f64::from(u32::try_from(number).unwrap_or(u32::MAX)));
        let waiting = self.waiting();
        sample.set(Metric::RequestsWaiting, count(waiting));
        sample.set(Metric::RequestsActive, count(self.requests.len() - waiting));
    }

    /// True for news that must change nothing: of workers that are gone or never were, of requests that have ended or
    /// run elsewhere, of things nobody asked for.
    pub fn is_stale(&self, event: &Event) -> bool {
        let unknown = |generation: &Generation| !self.workers.contains_key(generation);
        match event {
            Event::Spawned { generation, .. }
            | Event::SpawnFailed { generation, .. }
            | Event::Probed { generation, .. }
            | Event::WorkerExited { generation, .. }
            | Event::CacheCleared { generation, .. } => unknown(generation),
            Event::WorkerReady { generation, .. } => {
                self.workers.get(generation).is_none_or(|worker| worker.ready || worker.terminated.is_some())
            }
            Event::CanaryAnswered { generation, .. } => {
                self.workers.get(generation).is_none_or(|worker| !worker.canary_out)
            }
            Event::Reported { id, report } => match (self.requests.get(id), report) {
                (None, _) => true,
                (Some(request), Report::Progressed { generation, .. } | Report::Interrupted { generation, .. }) => {
                    request.running != Some(*generation)
                }
                (Some(_), Report::Ended(_)) => false,
            },
            Event::ImageVetted { .. } => !self.vetting,
            Event::ExecFailed { .. } => !self.executing,
            Event::Submitted { .. }
            | Event::Adopted { .. }
            | Event::Sampled { .. }
            | Event::Learned { .. }
            | Event::Operator { .. }
            | Event::ScheduleDue { .. }
            | Event::ScheduleLeftOut { .. }
            | Event::ModelMeasured { .. }
            | Event::Unconfigured { .. }
            | Event::StopAsked { .. }
            | Event::Reconfigured { .. }
            | Event::Tick => false,
        }
    }

    /// Takes in what the core is about to be told.
    ///
    /// # Errors
    /// When the world itself tells nonsense.
    pub fn note(&mut self, event: &Event, core: &Supervisor, now: Now) -> Result<Before, String> {
        self.state_before = core.state();
        let mut before = Before {
            submitted: None,
            verb: None,
            stale: None,
            serving: core.serving_generation(),
            stop_asked: false,
            reconfigured: false,
        };
        if self.is_stale(event) {
            // What a mere tick would do at this moment is all that may happen.
            let mut other = core.clone();
            let actions = other.step(Event::Tick, now);
            before.stale = Some((other, actions));
            return Ok(before);
        }
        match event {
            Event::Submitted { id, submission } => {
                if !self.seen.insert(*id) {
                    return Err(format!("the world used {id} twice"));
                }
                before.submitted = Some((*id, submission.clone()));
            }
            Event::Reported { id, report } => self.note_report(*id, report, now.mono),
            Event::WorkerReady { generation, facts } => {
                if let Some(worker) = self.workers.get_mut(generation) {
                    worker.ready = true;
                    worker.fingerprint.clone_from(&facts.fingerprint);
                    worker.slots = facts.slots as usize;
                }
            }
            Event::Probed { generation, vitals } => {
                if let Some(worker) = self.workers.get_mut(generation) {
                    worker.missed = vitals.answer.is_none();
                    worker.looked_at = false;
                    // Only below the least so far: a worker that grows and shrinks by turns must not live for ever.
                    if let (Some(new), true) = (vitals.footprint_bytes, worker.terminated.is_some()) {
                        let least = if worker.least == 0 { new } else { worker.least };
                        if new + (64 << 20) <= least {
                            worker.shrunk_at = Some(now.mono);
                        }
                        worker.least = least.min(new);
                    }
                    worker.footprint = vitals.footprint_bytes.or(worker.footprint);
                }
            }
            Event::Adopted { generation, engine, found, .. } => {
                self.note_adopted(*generation, engine.unwrap_or(Engine::Native), found);
            }
            Event::CanaryAnswered { generation, .. } => {
                if let Some(worker) = self.workers.get_mut(generation) {
                    worker.canary_out = false;
                }
            }
            Event::WorkerExited { generation, .. } | Event::SpawnFailed { generation, .. } => {
                self.last_exit = now.mono;
                if let Some(worker) = self.workers.remove(generation) {
                    // What nobody of ours ended by SIGKILL, and the kernel not for memory, somebody else did.
                    let from_outside = |exit: &Exit| exit.status == ExitStatus::Signal(9) && !exit.out_of_memory;
                    let meant = match (worker.terminated, event) {
                        (Some((_, meant)), _) => meant,
                        (None, Event::WorkerExited { exit, .. }) => from_outside(exit),
                        (None, _) => false,
                    };
                    self.gone.insert(*generation, (worker, meant));
                }
                self.leaving.remove(generation);
            }
            Event::Sampled { sample } => self.last_sample = Some((now.mono, (**sample).clone())),
            Event::Operator { operation, verb } => {
                let until = match verb {
                    Verb::Drain { deadline, .. } => Some(now.mono + deadline.unwrap_or(core.config().drain.grace)),
                    _ => None,
                };
                self.operations.insert(*operation, Asked { verb: verb.clone(), until });
                before.verb = Some((*operation, verb.clone()));
            }
            Event::Unconfigured { .. } => self.unconfigured = true,
            Event::ImageVetted { .. } => self.vetting = false,
            Event::ExecFailed { .. } => self.executing = false,
            Event::StopAsked { .. } => {
                before.stop_asked = true;
                if self.stopping {
                    self.leaving.values_mut().for_each(|leaving| leaving.forced = true);
                }
            }
            Event::Reconfigured { .. } => {
                before.reconfigured = true;
                self.unconfigured = false;
            }
            Event::Spawned { .. }
            | Event::CacheCleared { .. }
            | Event::ScheduleDue { .. }
            | Event::ScheduleLeftOut { .. }
            | Event::ModelMeasured { .. }
            | Event::Learned { .. }
            | Event::Tick => {}
        }
        Ok(before)
    }

    fn note_adopted(&mut self, generation: Generation, engine: Engine, found: &Inherited) {
        let (ready, fingerprint, slots) = match found {
            Inherited::Ready(facts) => (true, facts.fingerprint.clone(), facts.slots as usize),
            Inherited::Loading { .. } | Inherited::Silent { .. } => (false, String::new(), 0),
        };
        let worker = ShadowWorker { ready, fingerprint, slots, ..ShadowWorker::spawned(engine) };
        self.workers.insert(generation, worker);
        self.persisted.generation = self.persisted.generation.max(generation.0);
    }

    fn note_report(&mut self, id: RequestId, report: &Report, now: Mono) {
        let known = |generation: Generation, model: &Self| {
            let dead = || model.gone.get(&generation).map(|(worker, _)| worker.clone());
            let worker = model.workers.get(&generation).cloned().or_else(dead);
            worker.map(|worker| (worker.fingerprint, worker.continues)).unzip()
        };
        match report {
            Report::Progressed { generation, .. } => {
                let (fingerprint, _) = known(*generation, self);
                let Some(request) = self.requests.get_mut(&id) else { return };
                request.token = true;
                request.suspect = false;
                request.poisoned = false;
                request.broken = 0;
                if request.fingerprint.is_none() {
                    request.fingerprint = fingerprint;
                }
            }
            Report::Interrupted { generation, progressed, .. } => {
                let (fingerprint, continues) = known(*generation, self);
                let Some(request) = self.requests.get_mut(&id) else { return };
                let token = request.token || *progressed;
                request.running = None;
                request.adrift = Some(Adrift { from: *generation, token, since: now });
                if token && request.fingerprint.is_none() {
                    request.fingerprint = fingerprint;
                }
                request.cut |= token && continues != Some(true);
            }
            Report::Ended(outcome) => {
                if let Some(request) = self.requests.remove(&id) {
                    debug_assert!(
                        matches!(outcome, Outcome::Cancelled) || request.running.is_some() || request.assigned
                    );
                }
            }
        }
    }

    /// Decides, by the design's words, whom a death counts against.
    pub fn judge_adrift(&mut self, now: Mono) {
        for request in self.requests.values_mut() {
            let Some(Adrift { from, token, since }) = request.adrift else { continue };
            let meant = match (self.gone.get(&from), self.workers.get(&from)) {
                (Some((_, meant)), _) => Some(*meant),
                (None, Some(worker)) => worker.terminated.map(|(_, meant)| meant),
                (None, None) => None,
            };
            match meant {
                Some(true) => {
                    request.broken = 0;
                    request.suspect &= !token;
                }
                Some(false) if token => (request.suspect, request.broken) = (false, 0),
                Some(false) => {
                    request.poisoned |= request.suspect;
                    request.suspect = true;
                    request.broken = 0;
                }
                None if now - since < std::time::Duration::from_secs(2) => continue,
                None if token => (request.suspect, request.broken) = (false, 1),
                None => request.broken += 1,
            }
            request.adrift = None;
        }
    }
}

impl ShadowWorker {
    pub fn spawned(engine: Engine) -> Self {
        Self {
            ready: false,
            continues: engine.continues(),
            fingerprint: String::new(),
            slots: 0,
            terminated: None,
            killed: None,
            footprint: None,
            footprint_at_term: 0,
            least: 0,
            shrunk_at: None,
            missed: false,
            looked_at: false,
            canary_out: false,
        }
    }
}
