//! The core as others see it: the state of the service, its cause, and the numbers behind `status`.
//!
//! A snapshot informs; it never gates an action, because it is old the moment it is taken.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use super::ledger::Ledger;
use super::retirement::{Purpose, Replacement};
use super::time::{Mono, Now, Wall};
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
    /// Requests that hold a slot.
    pub active: usize,
    /// A hand-over under way: its phase and when that is given up.
    pub handover: Option<(&'static str, Option<Mono>)>,
    /// A drain under way.
    pub drain: Option<DrainCounts>,
    /// The last completed restart.
    pub last_restart: Option<CompletedRestart>,
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

/// A restart with its cost.
#[derive(Debug, Clone, PartialEq)]
pub struct CompletedRestart {
    /// For people.
    pub reason: String,
    /// When the new worker was ready.
    pub at: Wall,
    /// From the decision (or the death) to ready.
    pub took: Duration,
    /// Seconds per phase.
    pub cost: BTreeMap<&'static str, f64>,
}

impl CompletedRestart {
    /// The account of a replacement that has just become ready; `load` is spawn to ready.
    #[must_use]
    pub fn new(replacement: &Replacement, load: Duration, now: Now) -> Self {
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
        Self { reason: replacement.reason.clone(), at: now.wall, took, cost }
    }
}

impl fmt::Display for CompletedRestart {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: restarted in {} (", self.reason, spoken(self.took))?;
        for (index, (name, seconds)) in self.cost.iter().enumerate() {
            if index > 0 {
                f.write_str(", ")?;
            }
            write!(f, "{} {seconds:.2} s", name.trim_end_matches("_s"))?;
        }
        f.write_str(")")
    }
}

impl Supervisor {
    /// The state of the service.
    #[must_use]
    pub fn state(&self) -> State {
        if self.stopping.is_some() {
            return State::Stopping;
        }
        if self.parked.is_some() {
            return State::Parked;
        }
        if let Some(retirement) = &self.retirement {
            return match retirement.purpose {
                Purpose::Restart { .. } => State::Handover,
                Purpose::Unload { .. } | Purpose::Sleep => State::Draining,
                Purpose::Stop => State::Stopping,
            };
        }
        if self.asleep {
            return State::Asleep;
        }
        if self.standing == Standing::Unloaded {
            return State::Unloaded;
        }
        if self.worker_is_ready() {
            return match &self.drain {
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
            active: self.running(),
            handover: (state == State::Handover).then(|| self.handover_phase()),
            drain: self.drain.as_ref().filter(|drain| !drain.complete).map(|drain| DrainCounts {
                active: self.requests.in_flight(),
                waiting: self.requests.waiting_before(drain.line),
                ends: drain.ends,
                refusing: drain.refuse,
            }),
            last_restart: self.last_restart.clone(),
            rules: self.rules.views().map(|(name, state, why)| (name.to_owned(), state, why.to_owned())).collect(),
            ledger: self.ledger,
            started: self.started,
        }
    }

    fn handover_phase(&self) -> (&'static str, Option<Mono>) {
        match self.worker.as_ref().map(|worker| (&worker.life, worker.deadline())) {
            Some((Life::Ready { .. }, _)) => {
                ("draining", self.retirement.as_ref().map(|retirement| retirement.deadline))
            }
            Some((Life::Stopping(_), deadline)) => ("stopping", deadline),
            Some((Life::Spawning { .. } | Life::Loading { .. }, deadline)) => ("loading", deadline),
            None => ("starting", self.respawn.as_ref().map(|respawn| respawn.at)),
        }
    }

    fn cause(&self, state: State) -> Option<Cause> {
        let cause = |code, message: String, since, retry_at, next| Some(Cause { code, message, since, retry_at, next });
        match state {
            State::Serving => self.suspect_cause(),
            State::Parked => {
                let parked = self.parked.as_ref()?;
                let next = Some("mlxsupctl restart");
                cause("crash_budget", parked.why.clone(), parked.since, Some(parked.retry_at), next)
            }
            State::Starting => match &self.respawn {
                Some(respawn) if respawn.crash.is_some() => {
                    let why = respawn.crash.clone().unwrap_or_default();
                    let since = self.replacement.as_ref().map_or(respawn.at, |replacement| replacement.since);
                    let message = format!("the worker {why}");
                    cause("crash_backoff", message, since, Some(respawn.at), Some("mlxsupctl restart"))
                }
                _ => {
                    if let Some(Life::Stopping(ladder)) = self.worker.as_ref().map(|worker| &worker.life) {
                        let message = match &ladder.why {
                            StopReason::Failed(why) => format!("stopping the worker: {why}"),
                            StopReason::Planned => "stopping the worker".to_owned(),
                        };
                        return cause("stopping_worker", message, ladder.since, None, None);
                    }
                    let since = self.worker.as_ref().map_or(self.started.mono, |worker| worker.spawned_at);
                    let message = match &self.replacement {
                        Some(replacement) => format!("loading after {}", replacement.reason),
                        None => "loading the model".to_owned(),
                    };
                    cause("loading", message, since, None, None)
                }
            },
            State::Handover => {
                let replacement = self.replacement.as_ref();
                let reason = self
                    .retirement
                    .as_ref()
                    .map(|retirement| retirement.reason.clone())
                    .or_else(|| replacement.map(|replacement| replacement.reason.clone()))
                    .unwrap_or_default();
                let since = replacement.map_or(self.started.mono, |replacement| replacement.since);
                cause("restart", format!("restarting for {reason}; requests wait"), since, None, None)
            }
            State::Draining => match (&self.drain, &self.retirement) {
                (_, Some(retirement)) => {
                    cause("unload", format!("unloading for {}", retirement.reason), retirement.since, None, None)
                }
                (Some(drain), None) => {
                    let message = "draining for the operator; new requests wait".to_owned();
                    cause("operator", message, drain.since, None, Some("mlxsupctl resume"))
                }
                (None, None) => None,
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
            State::Stranded => None,
            State::Stopping => cause("stopping", "the daemon is stopping".to_owned(), self.last_busy, None, None),
        }
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
