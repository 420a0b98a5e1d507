//! Is the worker alive? Slow is never taken for dead.
//!
//! ```text
//! Well ── a /status probe is missed ──▶ Suspect (no new work) ── it answers again ──▶ Well
//!   └──────────────── no witness moved for the window ─────────────▶ Dead
//! ```
//! Three witnesses: engine steps in `/status`, tokens on any link stream, the process's CPU time and page-ins. While work
//! is pending the window is `health.stall`, longer with pending prefill; when idle it is 60 s and only missed probes
//! start it. A stopped process can move nothing and is dead after `health.failures` missed probes.
//!
//! Work counts as pending only while the worker does not deny having any: the end of an answer may lie in buffers that a
//! slow client does not empty, and nothing moves then in a worker that is well. A canary proves that it is (canary.rs).

use std::time::Duration;

use super::event::Vitals;
use super::time::Mono;
use crate::config::Health;

/// Idle worker: how long it may neither answer nor move.
const IDLE_WINDOW: Duration = Duration::from_secs(60);

/// Extra patience per prompt token that is not prefilled yet: twice the slowest prefill seen on a CPU (40 tokens/s).
const PATIENCE_PER_PREFILL_TOKEN: Duration = Duration::from_millis(50);

/// CPU time per probe interval below which a process has not moved: answering a probe costs far less, computing far more.
const CPU_MOVED_MS: u64 = 50;

/// What the tracker thinks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// Give it work.
    Well,
    /// Give it no new work.
    Suspect,
    /// Replace it.
    Dead {
        /// One sentence.
        why: String,
    },
}

/// What is known about one worker's movement.
#[derive(Debug, Clone, PartialEq)]
pub struct HealthTracker {
    last_moved: Mono,
    misses: u32,
    last_miss: Option<String>,
    /// Looks in a row that were missed and found the process stopped.
    stopped: u32,
    steps: u64,
    cpu_ms: u64,
    page_ins: u64,
    pending_prefill_tokens: u64,
    /// It said last that it has no sequence at all.
    says_idle: bool,
    /// An extra look has been asked for and has not come back.
    looking: bool,
}

impl HealthTracker {
    /// A worker that has just become ready.
    #[must_use]
    pub fn new(now: Mono) -> Self {
        Self {
            last_moved: now,
            misses: 0,
            last_miss: None,
            stopped: 0,
            steps: 0,
            cpu_ms: 0,
            page_ins: 0,
            pending_prefill_tokens: 0,
            says_idle: false,
            looking: false,
        }
    }

    /// Takes in one probe.
    pub fn observe(&mut self, vitals: &Vitals, now: Mono) {
        self.looking = false;
        let mut moved = false;
        match &vitals.answer {
            Some(answer) => {
                self.misses = 0;
                self.last_miss = None;
                moved |= answer.steps != self.steps;
                self.steps = answer.steps;
                self.pending_prefill_tokens = answer.pending_prefill_tokens;
                let says_idle = answer.sequences == Some(0);
                // Taking up work is movement: the stall window starts now.
                moved |= self.says_idle && !says_idle;
                self.says_idle = says_idle;
            }
            None => {
                moved |= self.says_idle;
                self.says_idle = false;
                self.misses = self.misses.saturating_add(1);
                self.last_miss.clone_from(&vitals.missed);
            }
        }
        if let Some(cpu_ms) = vitals.cpu_ms {
            // Per interval, not summed up: answering probes for minutes is no movement of the engine.
            moved |= cpu_ms >= self.cpu_ms.saturating_add(CPU_MOVED_MS);
            self.cpu_ms = cpu_ms;
        }
        if let Some(page_ins) = vitals.page_ins {
            moved |= page_ins > self.page_ins;
            self.page_ins = page_ins;
        }
        let stopped = vitals.stopped && vitals.answer.is_none();
        self.stopped = if stopped { self.stopped.saturating_add(1) } else { 0 };
        if moved {
            self.last_moved = now;
        }
    }

    /// A token arrived on some link stream.
    pub fn token_seen(&mut self, now: Mono) {
        self.last_moved = now;
    }

    /// Work begins on an idle worker: the stall window starts now, not when it went idle.
    pub fn work_began(&mut self, now: Mono) {
        self.last_moved = now;
        self.says_idle = false;
    }

    /// True when it said last that it has nothing to do, whatever was given to it.
    #[must_use]
    pub fn says_idle(&self) -> bool {
        self.says_idle
    }

    /// How long nothing may move.
    fn window(&self, policy: &Health, work_pending: bool) -> Duration {
        if work_pending {
            let tokens = u32::try_from(self.pending_prefill_tokens).unwrap_or(u32::MAX);
            policy.stall + PATIENCE_PER_PREFILL_TOKEN.saturating_mul(tokens)
        } else {
            IDLE_WINDOW
        }
    }

    fn is_watched(&self, policy: &Health, work_pending: bool) -> bool {
        work_pending || self.misses >= policy.failures
    }

    /// When the witnesses are to be looked at although no regular probe is due: a verdict at the end of the window must
    /// not rest on what was seen seconds before it.
    #[must_use]
    pub fn look_at(&self, policy: &Health, work_pending: bool) -> Option<Mono> {
        let watched = self.is_watched(policy, work_pending) && !self.looking;
        watched.then(|| self.last_moved + self.window(policy, work_pending))
    }

    /// The look has been asked for.
    pub fn looks(&mut self) {
        self.looking = true;
    }

    /// What to think of it at `now`, given whether work is pending.
    #[must_use]
    pub fn verdict(&self, policy: &Health, work_pending: bool, now: Mono) -> Verdict {
        let still = now - self.last_moved;
        if self.stopped >= policy.failures {
            return Verdict::Dead { why: format!("its process is stopped and missed {} probes", self.stopped) };
        }
        if self.is_watched(policy, work_pending) && still >= self.window(policy, work_pending) {
            let seconds = still.as_secs();
            let why = match &self.last_miss {
                Some(miss) => format!("no engine step, token, CPU time or page-in for {seconds} s ({miss})"),
                None => format!("no engine step, token, CPU time or page-in for {seconds} s with work pending"),
            };
            return Verdict::Dead { why };
        }
        if self.misses > 0 { Verdict::Suspect } else { Verdict::Well }
    }
}

#[cfg(test)]
mod tests {
    use super::super::event::Answer;
    use super::*;

    fn policy() -> Health {
        Health {
            interval: Duration::from_secs(5),
            timeout: Duration::from_secs(2),
            failures: 3,
            stall: Duration::from_secs(120),
            canary_after_idle: Duration::from_secs(300),
        }
    }

    fn answer(steps: u64, prefill: u64) -> Vitals {
        Vitals {
            answer: Some(Answer { steps, pending_prefill_tokens: prefill, ..Answer::default() }),
            ..Vitals::default()
        }
    }

    fn miss() -> Vitals {
        Vitals { missed: Some("no answer in 2 s".into()), ..Vitals::default() }
    }

    fn at(seconds: u64) -> Mono {
        Mono(seconds * 1000)
    }

    #[test]
    fn one_miss_makes_it_suspect_and_an_answer_clears_it() {
        let mut tracker = HealthTracker::new(at(0));
        tracker.observe(&miss(), at(5));
        assert_eq!(tracker.verdict(&policy(), true, at(5)), Verdict::Suspect);
        tracker.observe(&answer(0, 0), at(10));
        assert_eq!(tracker.verdict(&policy(), true, at(10)), Verdict::Well);
    }

    #[test]
    fn a_worker_that_answers_but_does_not_step_is_dead_after_the_stall_window() {
        let mut tracker = HealthTracker::new(at(0));
        for second in (5..120).step_by(5) {
            tracker.observe(&answer(0, 0), at(second));
            assert_eq!(tracker.verdict(&policy(), true, at(second)), Verdict::Well, "at {second} s");
        }
        tracker.observe(&answer(0, 0), at(120));
        assert!(matches!(tracker.verdict(&policy(), true, at(120)), Verdict::Dead { .. }));
    }

    #[test]
    fn each_witness_alone_keeps_it_alive() {
        let moving: [fn(u64) -> Vitals; 3] = [
            |n| answer(n, 0),
            |n| Vitals { cpu_ms: Some(n * 100), ..miss() },
            |n| Vitals { page_ins: Some(n), ..miss() },
        ];
        for (which, vitals) in moving.into_iter().enumerate() {
            let mut tracker = HealthTracker::new(at(0));
            for n in 1..1000 {
                tracker.observe(&vitals(n), at(n * 5));
                let verdict = tracker.verdict(&policy(), true, at(n * 5));
                assert!(!matches!(verdict, Verdict::Dead { .. }), "witness {which} at probe {n}: {verdict:?}");
            }
        }
    }

    #[test]
    fn pending_prefill_widens_the_window() {
        let mut tracker = HealthTracker::new(at(0));
        tracker.observe(&answer(0, 10_000), at(5));
        assert_eq!(tracker.verdict(&policy(), true, at(600)), Verdict::Well);
        assert!(matches!(tracker.verdict(&policy(), true, at(620)), Verdict::Dead { .. }));
    }

    #[test]
    fn a_stopped_process_is_dead_after_the_configured_misses() {
        let mut tracker = HealthTracker::new(at(0));
        let stopped = Vitals { stopped: true, ..miss() };
        for second in [5, 10] {
            tracker.observe(&stopped, at(second));
            assert_eq!(tracker.verdict(&policy(), false, at(second)), Verdict::Suspect);
        }
        tracker.observe(&stopped, at(15));
        assert!(matches!(tracker.verdict(&policy(), false, at(15)), Verdict::Dead { .. }));
    }

    #[test]
    fn what_a_thrashing_worker_missed_does_not_count_against_it_when_it_is_stopped() {
        let mut tracker = HealthTracker::new(at(0));
        for n in 1..10 {
            tracker.observe(&Vitals { page_ins: Some(n), ..miss() }, at(n * 5));
        }
        tracker.observe(&Vitals { stopped: true, page_ins: Some(9), ..miss() }, at(50));
        assert_eq!(tracker.verdict(&policy(), true, at(50)), Verdict::Suspect, "a debugger looked for a moment");
    }

    #[test]
    fn the_cpu_time_of_answering_probes_is_no_movement() {
        let mut tracker = HealthTracker::new(at(0));
        let mut died_at = None;
        for n in 1..100 {
            tracker.observe(&Vitals { cpu_ms: Some(n * 4), ..answer(0, 0) }, at(n * 5));
            if matches!(tracker.verdict(&policy(), true, at(n * 5)), Verdict::Dead { .. }) {
                died_at = Some(n * 5);
                break;
            }
        }
        assert_eq!(died_at, Some(120), "a wedged engine whose status thread answers");
    }

    #[test]
    fn an_idle_worker_that_answers_is_never_dead() {
        let mut tracker = HealthTracker::new(at(0));
        for n in 1..10_000 {
            tracker.observe(&answer(0, 0), at(n * 5));
            assert_eq!(tracker.verdict(&policy(), false, at(n * 5)), Verdict::Well);
        }
    }
}
