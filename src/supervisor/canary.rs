//! The canary: one generated token that proves a worker still generates, and generates the right thing.
//!
//! Asked only when no real traffic has proved it: after `health.canary_after_idle` without a token, at once after an
//! adoption, when a worker refuses request after request, when it was given requests and has said for `health.stall` that
//! it has none, and when a rule says so. While it is out it counts as pending
//! work, so a worker that never answers it is found by the same window as any stall.
//!
//! The first answer of a fingerprint is what later ones are compared with: greedy decoding of a fixed prompt by the same
//! weights gives the same token. One difference may be a near-tie; the second in a row is a failure. Which of the two
//! workers was wrong, nobody can tell, so the next one's answer is a first answer again.

use super::failure::{Failure, FailureClass};
use super::time::Mono;
use super::worker_life::StopReason;
use super::{Action, Generation, Supervisor};

/// What is known about a worker's ability to generate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Proof {
    /// Last token of real work, or canary answered.
    pub at: Mono,
    /// A canary is out since.
    pub asked_at: Option<Mono>,
    /// Canaries that failed or differed in a row.
    pub failures: u32,
    /// Not before this is the next one asked.
    pub not_before: Mono,
}

impl Proof {
    /// Becoming ready includes a generated token.
    #[must_use]
    pub fn new(now: Mono) -> Self {
        Self { at: now, asked_at: None, failures: 0, not_before: now }
    }

    /// A token of real work arrived.
    pub fn seen(&mut self, now: Mono) {
        self.at = now;
        self.failures = 0;
    }
}

/// What the canary of a model answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Expected {
    fingerprint: String,
    ids: Vec<u32>,
}

/// Failures in a row after which a worker is replaced.
const FAILURES_ALLOWED: u32 = 2;

/// Errors of its own that a worker may give in a row, without a token, before it must prove itself.
const REFUSALS_ALLOWED: u32 = 3;

impl Supervisor {
    /// When the serving worker is asked next, if nothing happens before.
    pub(super) fn canary_deadline(&self) -> Option<Mono> {
        let worker = self.worker.as_ref().filter(|worker| worker.accepts())?;
        if worker.proof.asked_at.is_some() || self.retirement.is_some() {
            return None;
        }
        if self.running() > 0 {
            // It has finished and a slow client has not read to the end, or it has lost what it was given.
            return worker.says_idle().then(|| worker.proof.at + self.config.health.stall);
        }
        let again = worker.proof.failures > 0 || worker.refusals >= REFUSALS_ALLOWED;
        let due = if again { worker.proof.not_before } else { worker.proof.at + self.config.health.canary_after_idle };
        Some(due.max(worker.proof.not_before))
    }

    pub(super) fn ask_canary_if_due(&mut self, now: Mono) {
        if self.canary_deadline().is_some_and(|due| now >= due) {
            self.ask_canary(now);
        }
    }

    /// Asks the serving worker; false when there is none to ask, or one is out already.
    pub(super) fn ask_canary(&mut self, now: Mono) -> bool {
        let idle = self.running() == 0;
        let Some(worker) = self.worker.as_mut().filter(|worker| worker.is_ready()) else { return false };
        if worker.proof.asked_at.is_some() {
            return false;
        }
        worker.proof.asked_at = Some(now);
        if idle || worker.says_idle() {
            worker.work_began(now);
        }
        let generation = worker.generation;
        self.actions.push(Action::Canary { generation });
        true
    }

    pub(super) fn canary_answered(&mut self, generation: Generation, result: &Result<Vec<u32>, String>, now: Mono) {
        let interval = self.config.health.interval;
        let expected = self.canary_expected.clone();
        let Some(worker) = self.worker_mut(generation) else { return };
        if worker.proof.asked_at.take().is_none() || !worker.is_ready() {
            return;
        }
        let Some(fingerprint) = worker.facts.as_ref().map(|facts| facts.fingerprint.clone()) else { return };
        let problem = match (result, &expected) {
            (Err(why), _) => Some(format!("refuses a canary ({why})")),
            (Ok(ids), _) if ids.len() != 1 => Some(format!("generated {} tokens where one was asked", ids.len())),
            (Ok(ids), Some(expected)) if expected.fingerprint == fingerprint && expected.ids != *ids => {
                Some(format!("generated token {} where it once generated {}", word(ids), word(&expected.ids)))
            }
            (Ok(_), _) => None,
        };
        let Some(problem) = problem else {
            worker.proof.seen(now);
            worker.refusals = 0;
            if let Ok(ids) = result
                && expected.is_none_or(|expected| expected.fingerprint != fingerprint)
            {
                self.canary_expected = Some(Expected { fingerprint, ids: ids.clone() });
            }
            return;
        };
        worker.proof.failures += 1;
        worker.proof.not_before = now + interval;
        let (failures, refusals) = (worker.proof.failures, worker.refusals);
        self.record("canary_failed", format!("worker {generation} {problem}"));
        if failures >= FAILURES_ALLOWED || refusals >= REFUSALS_ALLOWED {
            if result.is_ok() {
                // A first answer that was wrong would condemn every right worker after it.
                self.canary_expected = None;
            }
            let why = match refusals {
                0 => problem,
                _ => format!("{problem}, and ended {refusals} requests in a row without a token"),
            };
            self.replace_dead(generation, Failure::new(FailureClass::Canary, why), now);
        }
    }

    /// A worker ended a request with an error of its own.
    pub(super) fn refused_by_worker(&mut self, generation: Generation, progressed: bool, now: Mono) {
        let Some(worker) = self.worker_mut(generation) else { return };
        if progressed {
            return;
        }
        worker.refusals = worker.refusals.saturating_add(1);
        // The requests may be to blame. The canary is not: it tells the two apart.
        if worker.refusals == REFUSALS_ALLOWED {
            worker.proof.not_before = now;
            let message = format!(
                "worker {generation} ended {REFUSALS_ALLOWED} requests in a row without a token; a canary will tell \
                 whether it still generates"
            );
            self.record("worker_refusing", message);
        }
    }

    /// Ends a worker that was judged dead.
    pub(super) fn replace_dead(&mut self, generation: Generation, failure: Failure, now: Mono) {
        self.record("worker_dead", format!("worker {generation} is replaced: {failure}"));
        self.stop_worker(generation, StopReason::Failed(failure), now);
    }
}

/// The ids of an answer, for people.
fn word(ids: &[u32]) -> String {
    ids.iter().map(u32::to_string).collect::<Vec<_>>().join(" ")
}
