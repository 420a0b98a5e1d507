//! The worker slot: spawn, readiness, retirement, death, and what comes next.
//!
//! ```text
//!            respawn due                  Spawned            WorkerReady
//! empty ────────────────▶ Spawning ─────────────▶ Loading ─────────────▶ Ready ──▶ (health, requests)
//!   ▲ │ parked: retry_at                                                   │ retirement: drain to the line,
//!   │ │ asleep: next request                                               │ or its deadline
//!   │ └ unloaded, stopping: never                                          ▼
//!   └────────── WorkerExited: planned → next purpose · else → backoff or park ── Stopping
//! ```

use super::backoff::Verdict as CrashVerdict;
use super::event::{Exit, WorkerFacts};
use super::failure::{Failure, FailureClass, describe};
use super::memory_return::Then;
use super::retirement::Replacement;
use super::snapshot::{CompletedRestart, RESTART_DONE};
use super::time::{Mono, Now};
use super::verbs::{Outcome, OutcomeKind};
use super::worker_life::{Life, StopLadder, StopReason, Worker};
use super::workers::Role;
use super::{Action, DEATHS_KEPT, Death, Generation, Supervisor, spoken};

/// Between two looks whether the machine has room for the next worker.
const GATE_RETRY: std::time::Duration = std::time::Duration::from_secs(10);

/// A worker is to be spawned.
#[derive(Debug, Clone, PartialEq)]
pub struct Respawn {
    /// When.
    pub at: Mono,
    /// Since when it is wanted.
    pub since: Mono,
    /// Why not at once.
    pub held_by: Option<Hold>,
}

/// What a start waits for.
#[derive(Debug, Clone, PartialEq)]
pub enum Hold {
    /// The pause after a crash.
    Backoff(Failure),
    /// Memory; the arithmetic.
    Gate(String),
}

impl Respawn {
    /// Without a delay.
    #[must_use]
    pub fn at_once(now: Mono) -> Self {
        Self { at: now, since: now, held_by: None }
    }
}

/// No worker, after too many crashes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Parked {
    /// The last failure, with its numbers.
    pub why: String,
    /// Since when.
    pub since: Mono,
    /// When one more try is made.
    pub retry_at: Mono,
}

impl Supervisor {
    pub(super) fn respawn_if_due(&mut self, now: Mono) {
        if !self.may_spawn() {
            return;
        }
        if self.parked.as_ref().is_some_and(|parked| now >= parked.retry_at) {
            self.record("parked_retry", "one more try after restart.retry_parked");
            // `parked` stays until the try succeeds or fails: requests are refused meanwhile.
            if let Some(parked) = self.parked.as_mut() {
                parked.retry_at = now + self.config.restart.retry_parked;
            }
            self.respawn = Some(Respawn::at_once(now));
        }
        let Some(respawn) = self.respawn.as_ref().filter(|respawn| now >= respawn.at) else { return };
        if let Err(arithmetic) = self.gate() {
            let news = !matches!(respawn.held_by, Some(Hold::Gate(_)));
            let since = respawn.since;
            if news {
                self.record("memory_gate", format!("the next worker {arithmetic}; looking again every 10 s"));
            }
            self.respawn = Some(Respawn { at: now + GATE_RETRY, since, held_by: Some(Hold::Gate(arithmetic)) });
            return;
        }
        self.respawn = None;
        self.spawn(now);
    }

    /// True while the slot is empty and nothing forbids filling it.
    fn may_spawn(&self) -> bool {
        self.stopping.is_none()
            && self.worker.is_none()
            && self.reclaim.is_none()
            && self.stranded.is_none()
            && self.unconfigured.is_none()
            && self.surplus.is_empty()
    }

    /// When `respawn_if_due` has something to do: only an empty slot is filled.
    pub(super) fn spawn_deadline(&self) -> Option<Mono> {
        if !self.may_spawn() {
            return None;
        }
        let respawn = self.respawn.as_ref().map(|respawn| respawn.at);
        let retry = self.parked.as_ref().map(|parked| parked.retry_at);
        [respawn, retry].into_iter().flatten().min()
    }

    fn spawn(&mut self, now: Mono) {
        let mut worker = self.next_worker(now);
        worker.wired_before = worker.wired_at_spawn;
        self.kept.wired_before = worker.wired_before;
        self.kept.wired_itself = None;
        self.worker = Some(worker);
    }

    pub(super) fn spawned(&mut self, generation: Generation, pid: u32, now: Mono) {
        let timeout = self.config.worker.start_timeout;
        let Some(worker) = self.worker_mut(generation) else { return };
        worker.pid = Some(pid);
        match &mut worker.life {
            Life::Spawning { .. } => worker.life = Life::Loading { deadline: now + timeout },
            Life::Stopping(ladder) => {
                // There was no process to hear the first TERM, nor the KILL if it came to that.
                *ladder = StopLadder::new(None, ladder.why.clone(), now);
                self.actions.push(Action::SendTerminate { generation });
            }
            Life::Loading { .. } | Life::Ready { .. } => {}
        }
        self.record(
            "worker_spawned",
            format!("worker {generation} has pid {pid} and loads {}", self.config.worker.model),
        );
    }

    pub(super) fn spawn_failed(&mut self, generation: Generation, why: &str, now: Now) {
        let failure = Failure::new(FailureClass::Load, format!("could not be started: {why}"));
        match self.role(generation) {
            None | Some(Role::Blue) => {}
            Some(Role::Green) => self.green_lost(&failure, now),
            Some(Role::Surplus) => self.surplus.retain(|worker| worker.generation != generation),
            Some(Role::Serving) => {
                let Some(worker) = self.worker.take() else { return };
                if let Some(retirement) = self.retirement.take() {
                    self.retired(retirement, None, now);
                    return;
                }
                self.failed(&worker, failure, now);
            }
        }
    }

    pub(super) fn worker_ready(&mut self, generation: Generation, facts: WorkerFacts, now: Now) {
        let loading = |worker: &Worker| matches!(worker.life, Life::Loading { .. } | Life::Spawning { .. });
        if !self.worker_of(generation).is_some_and(loading) {
            return;
        }
        match self.role(generation) {
            Some(Role::Green) => self.commit_overlap(facts, now),
            Some(Role::Serving) => self.serves(facts, now),
            Some(Role::Blue | Role::Surplus) | None => {}
        }
    }

    /// The worker that was awaited is ready.
    fn serves(&mut self, facts: WorkerFacts, now: Now) {
        let Some(mut worker) = self.worker.take() else { return };
        let generation = worker.generation;
        let model = facts.model.clone();
        worker.became_ready(facts, now.mono);
        let took = worker.load_time(now.mono);
        let message =
            format!("worker {generation} serves {model} with {} slots after {}", worker.slots(), spoken(took));
        let footprint = worker.footprint_bytes;
        self.worker = Some(worker);
        self.learn_appetite(generation);
        self.unpark();
        self.last_busy = now.mono;
        self.record("worker_ready", message.clone());
        let mut outcome = Outcome::new(OutcomeKind::Done, message).with_fact("load_s", took.as_secs_f64());
        if let Some(replacement) = self.replacement.take() {
            let restart = CompletedRestart::sequential(&replacement, took, self.requests.interrupted_tokens(), now)
                .weighed(replacement.footprint_before, footprint);
            self.ledger.restarts += 1;
            self.record(RESTART_DONE, restart.to_string());
            for (name, value) in &restart.cost {
                outcome = outcome.with_fact(name, *value);
            }
            outcome.message = restart.to_string();
            self.last_restart = Some(restart);
        }
        let waiting = std::mem::take(&mut self.awaiting_ready);
        self.reply_all(waiting, &outcome);
    }

    /// Begins the stop ladder of the serving worker.
    pub(super) fn terminate(&mut self, why: StopReason, now: Mono) {
        let Some(generation) = self.worker.as_ref().map(|worker| worker.generation) else { return };
        self.stop_worker(generation, why, now);
        if let Some(replacement) = self.replacement.as_mut() {
            replacement.stop_at.get_or_insert(now);
        }
    }

    pub(super) fn worker_exited(&mut self, generation: Generation, exit: &Exit, now: Now) {
        let Some(worker) = self.worker_of(generation) else { return };
        let planned = worker.is_stopped() == Some(true);
        let failure = match &worker.life {
            Life::Stopping(StopLadder { why: StopReason::Failed(failure), .. }) => failure.clone(),
            Life::Stopping(_) | Life::Ready { .. } => Failure::of_exit(exit, false, None),
            Life::Spawning { .. } | Life::Loading { .. } => {
                let told = worker.last_answer.as_ref().and_then(|answer| answer.failure.as_deref());
                Failure::of_exit(exit, true, told)
            }
        };
        // A SIGKILL of ours ends a worker that was judged dead, which counts like any other failure.
        let killed_by_others = worker.is_stopped().is_none() && exit.is_from_outside();
        let fingerprint = worker.facts.as_ref().map(|facts| facts.fingerprint.clone());
        let (engine, explained) = (worker.engine, planned || killed_by_others);
        self.deaths.insert(generation, Death { engine, fingerprint, explained });
        while self.deaths.len() > DEATHS_KEPT {
            self.deaths.pop_first();
        }
        if planned {
            self.record("worker_stopped", format!("worker {generation} stopped ({})", exit.status));
        }
        match self.role(generation) {
            None => {}
            Some(Role::Surplus) => self.surplus.retain(|worker| worker.generation != generation),
            Some(Role::Green) => {
                self.record("worker_crashed", format!("worker {generation} {failure}"));
                self.green_lost(&failure, now);
            }
            Some(Role::Blue) => {
                if !planned {
                    self.record("worker_crashed", format!("worker {generation} died while finishing: {failure}"));
                }
                self.blue_gone(now);
            }
            Some(Role::Serving) => self.serving_worker_exited(planned, failure, exit, now),
        }
    }

    fn serving_worker_exited(&mut self, planned: bool, failure: Failure, exit: &Exit, now: Now) {
        let Some(worker) = self.worker.take() else { return };
        let generation = worker.generation;
        self.give_up_clearings("the worker is gone", now.mono);
        if let Some(replacement) = self.replacement.as_mut() {
            replacement.gone_at.get_or_insert(now.mono);
            replacement.footprint_before = worker.footprint_bytes;
        }
        if let Some(retirement) = self.retirement.take() {
            if !planned {
                let how = describe(exit);
                self.record("worker_crashed", format!("worker {generation} died while retiring: {how}"));
            }
            self.reclaim(&worker, Then::Retired(retirement), now);
            return;
        }
        self.record("worker_crashed", format!("worker {generation} {failure}"));
        if self.overlap.is_some() {
            // The other worker may take the place at once; whether memory came back can be told when it is gone too.
            self.failed(&worker, failure, now);
            return;
        }
        self.reclaim(&worker, Then::Failed { worker: Box::new(worker.clone()), failure }, now);
    }

    /// A worker is gone that should not be.
    pub(super) fn failed(&mut self, worker: &Worker, failure: Failure, now: Now) {
        self.last_failure = Some((failure.clone(), now.wall));
        let served = worker.ready_at.map(|ready| now.mono - ready);
        let replacement = self.replacement.get_or_insert_with(|| Replacement {
            reason: format!("{}: {failure}", failure.class.as_str()),
            since: now.mono,
            stop_at: None,
            gone_at: Some(now.mono),
            footprint_before: worker.footprint_bytes,
            planned: false,
        });
        // A hand-over whose successor fails is an outage, and shown and steered as one.
        replacement.planned = false;
        let dice = self.roll();
        let load = worker.load_time(now.mono);
        let verdict = self.crashes.crashed(&self.config.restart, served, load, dice, now.mono);
        if self.other_takes_over(now.mono) {
            return;
        }
        match verdict {
            CrashVerdict::Retry { delay, crashes } if self.parked.is_none() => {
                let at = now.mono + delay;
                let budget = self.config.restart.budget;
                let message = format!(
                    "next worker in {} (crash {crashes} of {} allowed in {})",
                    spoken(delay),
                    budget.crashes,
                    spoken(budget.window)
                );
                self.record("crash_backoff", message);
                self.respawn = Some(Respawn { at, since: now.mono, held_by: Some(Hold::Backoff(failure)) });
            }
            CrashVerdict::Retry { crashes, .. } | CrashVerdict::Park { crashes } => {
                self.park(crashes, &failure.why, now.mono);
            }
        }
    }

    fn park(&mut self, crashes: u32, why: &str, now: Mono) {
        let window = spoken(self.config.restart.budget.window);
        let retry_at = now + self.config.restart.retry_parked;
        let why = match crashes {
            1 => why.to_owned(),
            _ => format!("{crashes} crashes in {window}, the last one: {why}"),
        };
        self.record("parked", format!("{why}; next try in {}", spoken(self.config.restart.retry_parked)));
        let since = self.parked.as_ref().map_or(now, |parked| parked.since);
        self.parked = Some(Parked { why: why.clone(), since, retry_at });
        self.kept.parked = Some(why.clone());
        self.persist();
        self.respawn = None;
        let waiting = std::mem::take(&mut self.awaiting_ready);
        self.reply_all(waiting, &Outcome::new(OutcomeKind::Failed, format!("parked: {why}")));
    }

    /// Parking is over: a worker serves, or somebody asked for a new try.
    pub(super) fn unpark(&mut self) {
        if self.parked.take().is_some() {
            self.kept.parked = None;
            self.persist();
        }
    }
}
