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
use super::event::{Exit, ExitStatus, Vitals, WorkerFacts};
use super::health::{HealthTracker, Verdict};
use super::retirement::Replacement;
use super::snapshot::CompletedRestart;
use super::time::{Mono, Now};
use super::verbs::{Outcome, OutcomeKind};
use super::worker_life::{Life, StopLadder, StopReason, Worker};
use super::{Action, DEATHS_KEPT, Death, Generation, Supervisor, spoken};

/// A worker is to be spawned.
#[derive(Debug, Clone, PartialEq)]
pub struct Respawn {
    /// When.
    pub at: Mono,
    /// Why not at once; absent when it is at once.
    pub crash: Option<String>,
}

impl Respawn {
    /// Without a delay.
    #[must_use]
    pub fn at_once(now: Mono) -> Self {
        Self { at: now, crash: None }
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
        if self.stopping.is_some() || self.worker.is_some() {
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
        if self.respawn.as_ref().is_some_and(|respawn| now >= respawn.at) {
            self.respawn = None;
            self.spawn(now);
        }
    }

    /// When `respawn_if_due` has something to do: only an empty slot is filled.
    pub(super) fn spawn_deadline(&self) -> Option<Mono> {
        if self.worker.is_some() || self.stopping.is_some() {
            return None;
        }
        let respawn = self.respawn.as_ref().map(|respawn| respawn.at);
        let retry = self.parked.as_ref().map(|parked| parked.retry_at);
        [respawn, retry].into_iter().flatten().min()
    }

    fn spawn(&mut self, now: Mono) {
        self.generation += 1;
        let generation = Generation(self.generation);
        self.worker = Some(Worker::spawning(generation, self.config.worker.start_timeout, now));
        self.persist();
        self.actions.push(Action::Spawn { generation });
    }

    pub(super) fn spawned(&mut self, generation: Generation, pid: u32, now: Mono) {
        let timeout = self.config.worker.start_timeout;
        let Some(worker) = self.worker.as_mut().filter(|worker| worker.generation == generation) else { return };
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
        if self.worker.as_ref().is_none_or(|worker| worker.generation != generation) {
            return;
        }
        let Some(worker) = self.worker.take() else { return };
        if let Some(retirement) = self.retirement.take() {
            self.retired(retirement, now);
            return;
        }
        self.failed(&worker, format!("could not be started: {why}"), now);
    }

    pub(super) fn worker_ready(&mut self, generation: Generation, facts: WorkerFacts, now: Now) {
        let Some(worker) = self.worker.as_mut().filter(|worker| worker.generation == generation) else { return };
        if !matches!(worker.life, Life::Loading { .. } | Life::Spawning { .. }) {
            return;
        }
        worker.life = Life::Ready { health: HealthTracker::new(now.mono), suspect: false };
        worker.ready_at = Some(now.mono);
        let took = worker.load_time(now.mono);
        let message =
            format!("worker {generation} serves {} with {} slots after {}", facts.model, facts.slots, spoken(took));
        worker.facts = Some(facts);
        self.parked = None;
        self.last_busy = now.mono;
        self.record("worker_ready", message.clone());
        let mut outcome = Outcome::new(OutcomeKind::Done, message).with_fact("load_s", took.as_secs_f64());
        if let Some(replacement) = self.replacement.take() {
            let restart = CompletedRestart::new(&replacement, took, now);
            self.ledger.restarts += 1;
            self.record("restart_done", restart.to_string());
            for (name, value) in &restart.cost {
                outcome = outcome.with_fact(name, *value);
            }
            outcome.message = restart.to_string();
            self.last_restart = Some(restart);
        }
        let waiting = std::mem::take(&mut self.awaiting_ready);
        self.reply_all(waiting, &outcome);
    }

    pub(super) fn probed(&mut self, generation: Generation, vitals: &Vitals, now: Mono) {
        let pending = self.running() > 0;
        let health_policy = self.config.health.clone();
        let start_timeout = self.config.worker.start_timeout;
        let Some(worker) = self.worker.as_mut().filter(|worker| worker.generation == generation) else { return };
        if let Some(answer) = &vitals.answer {
            worker.last_answer = Some(answer.clone());
        }
        worker.footprint_bytes = vitals.footprint_bytes.or(worker.footprint_bytes);
        let mut note = None;
        match &mut worker.life {
            Life::Spawning { .. } => {}
            Life::Loading { deadline } => {
                // Downloading has its own pace; the start timeout is for reading and warming.
                if vitals.answer.as_ref().is_some_and(|answer| answer.phase == "downloading") {
                    *deadline = now + start_timeout;
                }
            }
            Life::Stopping(ladder) => {
                if let Some(bytes) = vitals.footprint_bytes {
                    ladder.footprint_seen(bytes, now);
                }
            }
            Life::Ready { health, suspect } => {
                health.observe(vitals, now);
                match health.verdict(&health_policy, pending, now) {
                    Verdict::Well if *suspect => {
                        *suspect = false;
                        note = Some(("worker_recovered", format!("worker {generation} answers again")));
                    }
                    Verdict::Well => {}
                    Verdict::Suspect if !*suspect => {
                        *suspect = true;
                        let why = vitals.missed.as_deref().unwrap_or("no answer");
                        let message =
                            format!("worker {generation} missed a probe ({why}); it gets no new work meanwhile");
                        note = Some(("worker_suspect", message));
                    }
                    Verdict::Suspect => {}
                    Verdict::Dead { why } => {
                        self.record("worker_dead", format!("worker {generation} is replaced: {why}"));
                        self.terminate(StopReason::Failed(why), now);
                        return;
                    }
                }
            }
        }
        if let Some((kind, message)) = note {
            self.record(kind, message);
        }
    }

    /// Sends TERM and starts the ladder's clock.
    pub(super) fn terminate(&mut self, why: StopReason, now: Mono) {
        let Some(worker) = self.worker.as_mut() else { return };
        if matches!(worker.life, Life::Stopping(_)) {
            return;
        }
        worker.life = Life::Stopping(StopLadder::new(worker.footprint_bytes, why, now));
        let generation = worker.generation;
        self.actions.push(Action::SendTerminate { generation });
        if let Some(replacement) = self.replacement.as_mut() {
            replacement.stop_at.get_or_insert(now);
        }
    }

    pub(super) fn keep_worker_deadlines(&mut self, now: Mono) {
        let Some(worker) = self.worker.as_mut() else { return };
        let generation = worker.generation;
        match &mut worker.life {
            Life::Spawning { deadline } | Life::Loading { deadline } if now >= *deadline => {
                let why = format!("was not ready within {}", spoken(self.config.worker.start_timeout));
                self.record(
                    "worker_late",
                    format!("worker {generation} {why}; raise worker.start_timeout if it only needs longer"),
                );
                self.terminate(StopReason::Failed(why), now);
            }
            Life::Stopping(ladder) if !ladder.killed && now >= ladder.kill_at => {
                ladder.killed = true;
                let waited = spoken(now - ladder.since);
                self.record(
                    "worker_killed",
                    format!("worker {generation} ignored SIGTERM for {waited}; killing its group"),
                );
                self.actions.push(Action::SendKill { generation });
            }
            Life::Spawning { .. } | Life::Loading { .. } | Life::Ready { .. } | Life::Stopping(_) => {}
        }
    }

    pub(super) fn worker_exited(&mut self, generation: Generation, exit: &Exit, now: Now) {
        if self.worker.as_ref().is_none_or(|worker| worker.generation != generation) {
            return;
        }
        let Some(worker) = self.worker.take() else { return };
        let planned = matches!(&worker.life, Life::Stopping(StopLadder { why: StopReason::Planned, .. }));
        self.deaths.insert(generation, Death { explained: planned });
        while self.deaths.len() > DEATHS_KEPT {
            self.deaths.pop_first();
        }
        self.last_exit = Some(exit.status);
        let clears = std::mem::take(&mut self.awaiting_clear);
        self.reply_all(clears, &Outcome::new(OutcomeKind::Failed, "the worker is gone"));
        if let Some(replacement) = self.replacement.as_mut() {
            replacement.gone_at.get_or_insert(now.mono);
        }
        if planned {
            self.record("worker_stopped", format!("worker {generation} stopped ({})", exit.status));
        }
        if let Some(retirement) = self.retirement.take() {
            if !planned {
                self.record("worker_crashed", format!("worker {generation} died while retiring: {}", describe(exit)));
            }
            self.retired(retirement, now);
            return;
        }
        let why = match &worker.life {
            Life::Stopping(StopLadder { why: StopReason::Failed(why), .. }) => why.clone(),
            Life::Stopping(_) | Life::Ready { .. } => describe(exit),
            Life::Spawning { .. } | Life::Loading { .. } => {
                match worker.last_answer.as_ref().and_then(|a| a.failure.clone()) {
                    Some(failure) => format!("could not load: {failure}"),
                    None => format!("ended while loading: {}", describe(exit)),
                }
            }
        };
        self.failed(&worker, why, now);
    }

    /// A worker is gone that should not be.
    fn failed(&mut self, worker: &Worker, why: String, now: Now) {
        let generation = worker.generation;
        self.record("worker_crashed", format!("worker {generation} {why}"));
        let served = worker.ready_at.map(|ready| now.mono - ready);
        let replacement = self.replacement.get_or_insert_with(|| Replacement {
            reason: format!("crash: {why}"),
            since: now.mono,
            stop_at: None,
            gone_at: Some(now.mono),
            planned: false,
        });
        // A hand-over whose successor fails is an outage, and shown and steered as one.
        replacement.planned = false;
        let dice = self.roll();
        let load = worker.load_time(now.mono);
        let verdict = self.crashes.crashed(&self.config.restart, served, load, dice, now.mono);
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
                self.respawn = Some(Respawn { at, crash: Some(why) });
            }
            CrashVerdict::Retry { crashes, .. } | CrashVerdict::Park { crashes } => self.park(crashes, &why, now.mono),
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
        self.respawn = None;
        let waiting = std::mem::take(&mut self.awaiting_ready);
        self.reply_all(waiting, &Outcome::new(OutcomeKind::Failed, format!("parked: {why}")));
    }
}

/// Exit status and the last words.
fn describe(exit: &Exit) -> String {
    // Whoever is killed from outside had no chance to say why.
    if exit.status == ExitStatus::Signal(9) {
        return format!("ended by {}", exit.status);
    }
    match exit.stderr_tail.iter().rev().find(|line| !line.trim().is_empty()) {
        Some(line) => format!("ended by {}, last words: {}", exit.status, line.trim()),
        None => format!("ended by {}", exit.status),
    }
}
