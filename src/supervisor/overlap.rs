//! The overlap hand-over: green loads beside blue, takes over, and blue finishes what it has.
//!
//! ```text
//!             begin (planner.rs says that two fit)
//!               │
//!               ▼   green fails · pressure rises · start_timeout · resume      blue never stopped serving
//!            Rising ──────────────────────────────────────────────────▶ aborted
//!               │ green ready: the commit point           blue dies: green becomes the one to wait for
//!               ▼
//!            Settling ── green dies while blue is whole: blue serves again
//!               │  blue's last request ends, or drain.grace passes: SIGTERM, stragglers go on at green
//!               ▼
//!            WorkerExited(blue) ─▶ done, with its cost
//! ```
//! Before the commit point every failure means "carry on with blue". Engines that cannot continue a stream keep blue
//! until its last stream has ended.

use super::event::WorkerFacts;
use super::failure::Failure;
use super::ids::OperationId;
use super::memory_gate::spoken_bytes;
use super::memory_return::Then;
use super::snapshot::{CompletedRestart, OverlapTimes, RESTART_DONE};
use super::time::{Mono, Now};
use super::verbs::{Outcome, OutcomeKind};
use super::worker_life::{StopReason, Worker};
use super::{Action, Generation, Supervisor, spoken};

/// A hand-over with two workers.
#[derive(Debug, Clone, PartialEq)]
pub struct Overlap {
    /// For people: `operator`, `schedule nightly`.
    pub reason: String,
    /// When it was decided.
    pub since: Mono,
    /// Verbs that wait for its end.
    pub operations: Vec<OperationId>,
    /// How far it is.
    pub phase: Phase,
}

/// How far a hand-over is.
#[derive(Debug, Clone, PartialEq)]
pub enum Phase {
    /// Green is on its way; blue is the serving worker.
    Rising {
        /// The successor.
        green: Worker,
    },
    /// Green is the serving worker; blue finishes.
    Settling {
        /// The predecessor.
        blue: Worker,
        /// The commit point.
        committed_at: Mono,
        /// What still runs in blue is handed on then; `None` when it cannot be.
        deadline: Option<Mono>,
        /// When blue was told to stop.
        stop_at: Option<Mono>,
        /// Requests that blue did not finish.
        handed_on: usize,
    },
}

impl Overlap {
    /// The worker that is not the serving one.
    #[must_use]
    pub fn other(&self) -> &Worker {
        match &self.phase {
            Phase::Rising { green: worker } | Phase::Settling { blue: worker, .. } => worker,
        }
    }

    /// As `other`.
    pub fn other_mut(&mut self) -> &mut Worker {
        match &mut self.phase {
            Phase::Rising { green: worker } | Phase::Settling { blue: worker, .. } => worker,
        }
    }
}

impl Supervisor {
    /// Starts green beside the serving worker.
    pub(super) fn begin_overlap(&mut self, reason: &str, because: &str, operations: Vec<OperationId>, now: Now) {
        self.record("handover", format!("{reason}: overlap; {because}"));
        let mut green = self.next_worker(now.mono);
        // It will end after green has begun to serve.
        self.save_prefixes();
        // What must be wired back when both are gone is what was wired before either.
        green.wired_before = self.worker.as_ref().and_then(|blue| blue.wired_before);
        let phase = Phase::Rising { green };
        self.overlap = Some(Overlap { reason: reason.to_owned(), since: now.mono, operations, phase });
    }

    /// The commit point: from here on everything new goes to green.
    pub(super) fn commit_overlap(&mut self, facts: WorkerFacts, now: Now) {
        let Some(Overlap { reason, since, operations, phase: Phase::Rising { mut green } }) = self.overlap.take()
        else {
            return;
        };
        green.became_ready(facts, now.mono);
        let generation = green.generation;
        let load = green.load_time(now.mono);
        let continues = green.engine.continues();
        let Some(blue) = self.worker.replace(green) else { return };
        let left = self.requests.running_on(blue.generation);
        let deadline = (continues && blue.engine.continues()).then(|| now.mono + self.config.drain.grace);
        let patience = match deadline {
            Some(_) => format!("at most {}", spoken(self.config.drain.grace)),
            None => "as long as they take: this engine cannot continue a stream".to_owned(),
        };
        let message = format!(
            "{reason}: worker {generation} takes over from {} after {} of loading; {left} requests end there, {patience}",
            blue.generation,
            spoken(load)
        );
        self.record("handover_committed", message);
        self.learn_appetite(generation);
        let phase = Phase::Settling { blue, committed_at: now.mono, deadline, stop_at: None, handed_on: 0 };
        self.overlap = Some(Overlap { reason, since, operations, phase });
    }

    /// Lets blue go once it has nothing left, or its time is up.
    pub(super) fn advance_overlap(&mut self, now: Mono) {
        let Some(Overlap { phase: Phase::Settling { blue, deadline, stop_at: stop_at @ None, handed_on, .. }, .. }) =
            &mut self.overlap
        else {
            return;
        };
        if blue.is_stopped().is_some() {
            // Found dead meanwhile.
            *stop_at = Some(now);
            return;
        }
        let generation = blue.generation;
        let running = self.requests.running_on(generation);
        let over = deadline.is_some_and(|deadline| now >= deadline);
        if running > 0 && !over {
            return;
        }
        *stop_at = Some(now);
        *handed_on = running;
        if running > 0 {
            let message = format!("{running} requests outlasted the grace period; the next worker continues them");
            self.record("drain_deadline", message);
        }
        self.stop_worker(generation, StopReason::Planned, now);
    }

    /// Blue's time is up: the daemon stops and nobody wants to wait.
    pub(super) fn hurry_overlap(&mut self, now: Mono) {
        if let Some(Overlap { phase: Phase::Settling { deadline, .. }, .. }) = &mut self.overlap {
            *deadline = Some(now);
        }
    }

    /// When `advance_overlap` has something to do by itself.
    pub(super) fn overlap_deadline(&self) -> Option<Mono> {
        match &self.overlap.as_ref()?.phase {
            Phase::Settling { deadline, stop_at: None, .. } => *deadline,
            Phase::Settling { stop_at: Some(_), .. } | Phase::Rising { .. } => None,
        }
    }

    /// Gives green up and ends it; blue serves on as if nothing had been.
    pub(super) fn give_up_green(&mut self, why: &str, now: Mono) {
        if let Some(green) = self.abort_overlap(why, now) {
            self.end_as_surplus(green, now);
        }
    }

    fn abort_overlap(&mut self, why: &str, now: Mono) -> Option<Worker> {
        if self.overlap.as_ref().is_some_and(|overlap| matches!(overlap.phase, Phase::Settling { .. })) {
            return None;
        }
        let Overlap { reason, since, operations, phase } = self.overlap.take()?;
        let Phase::Rising { green } = phase else { return None };
        let blue =
            self.worker.as_ref().map_or_else(String::new, |blue| format!("worker {} serves on", blue.generation));
        let message = format!("{reason}: given up after {}: {why}; {blue}", spoken(now - since));
        self.record("handover_aborted", message.clone());
        self.reply_all(operations, &Outcome::new(OutcomeKind::Failed, message));
        Some(green)
    }

    /// Green is gone before it took over.
    pub(super) fn green_lost(&mut self, failure: &Failure, now: Now) {
        let Some(generation) = self.overlap.as_ref().map(|overlap| overlap.other().generation) else { return };
        self.last_failure = Some((failure.clone(), now.wall));
        // There is nothing to end: it is gone.
        self.abort_overlap(&format!("worker {generation} {failure}"), now.mono);
    }

    /// Blue is gone: the hand-over is over.
    pub(super) fn blue_gone(&mut self, now: Now) {
        let Some(Overlap { reason, since, operations, phase }) = self.overlap.take() else { return };
        let Phase::Settling { blue, committed_at, stop_at, handed_on, .. } = phase else { return };
        let load = self.worker.as_ref().map(|green| green.load_time(now.mono)).unwrap_or_default();
        let times = OverlapTimes { since, committed_at, stop_at: stop_at.unwrap_or(now.mono) };
        let green_weighs = self.worker.as_ref().and_then(|green| green.footprint_bytes);
        let restart =
            CompletedRestart::overlap(reason, &times, load, handed_on, now).weighed(blue.footprint_bytes, green_weighs);
        self.ledger.restarts += 1;
        self.record(RESTART_DONE, restart.to_string());
        let mut outcome = Outcome::new(OutcomeKind::Done, restart.to_string());
        for (name, value) in &restart.cost {
            outcome = outcome.with_fact(name, *value);
        }
        self.last_restart = Some(restart);
        self.reply_all(operations, &outcome);
        self.reclaim(&blue, Then::Settled, now);
    }

    /// The serving worker died in mid-hand-over. True when the other one takes its place and nothing is to be spawned.
    pub(super) fn other_takes_over(&mut self, now: Mono) -> bool {
        let Some(Overlap { reason, since, operations, phase }) = self.overlap.take() else { return false };
        match phase {
            Phase::Rising { green } => {
                let message = format!("worker {} is loading already and takes the place", green.generation);
                self.record("handover_promoted", message);
                self.worker = Some(green);
                self.awaiting_ready.extend(operations);
                true
            }
            Phase::Settling { blue, .. } if blue.is_ready() => {
                let message = format!("{reason}: undone: worker {} serves again", blue.generation);
                self.record("handover_undone", message.clone());
                self.worker = Some(blue);
                self.replacement = None;
                self.reply_all(operations, &Outcome::new(OutcomeKind::Failed, message));
                true
            }
            Phase::Settling { blue, .. } => {
                self.surplus.push(blue);
                let message = format!("{reason}: the new worker died {} into the hand-over", spoken(now - since));
                self.reply_all(operations, &Outcome::new(OutcomeKind::Failed, message));
                false
            }
        }
    }

    /// A second model must not push the machine into compression: green is given up as soon as it begins to.
    pub(super) fn judge_overlap_pressure(&mut self, now: Mono) {
        if !matches!(self.overlap, Some(Overlap { phase: Phase::Rising { .. }, .. })) {
            return;
        }
        let Some(machine) = self.machine else { return };
        if let Some(level) = machine.pressed() {
            self.give_up_green(&format!("memory pressure rose to level {level}"), now);
        } else if machine.available < machine.reserve() {
            let (available, reserve) = (spoken_bytes(machine.available), spoken_bytes(machine.reserve()));
            self.give_up_green(&format!("only {available} are available, the reserve is {reserve}"), now);
        }
    }

    /// Decides and announces the next worker.
    pub(super) fn next_worker(&mut self, now: Mono) -> Worker {
        self.kept.generation += 1;
        let generation = Generation(self.kept.generation);
        let mut worker = Worker::spawning(generation, self.config.worker.engine, self.config.worker.start_timeout, now);
        worker.wired_at_spawn = self.machine.and_then(|machine| machine.wired);
        self.persist();
        self.actions.push(Action::Spawn { generation });
        worker
    }
}
