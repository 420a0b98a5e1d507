//! One worker, from the decision to spawn it to its exit.
//!
//! ```text
//! Spawning ──Spawned──▶ Loading ──WorkerReady──▶ Ready ──▶ Stopping ──WorkerExited──▶ gone
//!    │ SpawnFailed          │ start_timeout ───────────────▶ ▲ ▲
//!    ▼                      │ exit before ready              │ │ dead verdict, hand-over, unload, stop
//!   gone                    ▼                                │ └ kill_at passes: SIGKILL to the group
//!                          gone (load failure)               └ kill_at moves while the footprint shrinks
//! ```
//! Every phase but Ready has a deadline. Ready has none: health decides there.

use std::time::Duration;

use super::Generation;
use super::canary::Proof;
use super::event::{Answer, Inherited, WorkerFacts};
use super::failure::{Failure, FailureClass};
use super::health::HealthTracker;
use super::memory_gate::Machine;
use super::time::Mono;
use crate::config::Engine;

/// A worker process, or the intention of one.
#[derive(Debug, Clone, PartialEq)]
pub struct Worker {
    /// Which one.
    pub generation: Generation,
    /// What it was born as: a later configuration changes the next worker, not this one.
    pub engine: Engine,
    /// Process id, once spawned.
    pub pid: Option<u32>,
    /// Where it is in its life.
    pub life: Life,
    /// When `Spawn` was decided.
    pub spawned_at: Mono,
    /// When it became ready, if it did.
    pub ready_at: Option<Mono>,
    /// What it serves, once ready.
    pub facts: Option<WorkerFacts>,
    /// Its last word about itself.
    pub last_answer: Option<Answer>,
    /// Footprint at the last probe, bytes.
    pub footprint_bytes: Option<u64>,
    /// Footprint at the first look after it became ready, bytes.
    pub loaded_bytes: Option<u64>,
    /// Requests it answered.
    pub answered: u64,
    /// Prompt tokens of the requests it answered.
    pub prompt_tokens: u64,
    /// Requests in a row that it ended with an error of its own, none of them having gained a token.
    pub refusals: u32,
    /// Machine memory wired before it was spawned, bytes: what must come back when it is gone.
    pub wired_before: Option<u64>,
    /// Machine memory wired when it was spawned, bytes: with an overlap that includes its predecessor's.
    pub wired_at_spawn: Option<u64>,
    /// What it wired itself, as seen by the first sample after it became ready, bytes.
    pub wired_itself: Option<u64>,
    /// The machine when its stop ladder began.
    pub machine_at_stop: Option<Machine>,
    /// Whether real work, or a canary, has lately proved that it generates.
    pub proof: Proof,
}

/// Phases, each with what exists only then.
#[derive(Debug, Clone, PartialEq)]
pub enum Life {
    /// `Spawn` is out.
    Spawning {
        /// Given up then.
        deadline: Mono,
    },
    /// The process exists and reads weights or warms up.
    Loading {
        /// Given up then.
        deadline: Mono,
    },
    /// It may be assigned work.
    Ready {
        /// Whether it lives.
        health: HealthTracker,
        /// True from a missed probe to the next answer.
        suspect: bool,
    },
    /// SIGTERM is out.
    Stopping(StopLadder),
}

/// The end of a worker: TERM, patience, KILL.
#[derive(Debug, Clone, PartialEq)]
pub struct StopLadder {
    /// When TERM was sent.
    pub since: Mono,
    /// When KILL is sent, or sent again.
    pub kill_at: Mono,
    /// How often KILL was sent.
    pub kills: u32,
    /// Footprint when `kill_at` was last set, bytes.
    pub footprint_bytes: u64,
    /// Why it is stopped; decides whether its exit is a failure.
    pub why: StopReason,
}

/// Why a worker is stopped.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StopReason {
    /// Restart, unload, sleep or the daemon's own end.
    Planned,
    /// It was found dead or could not become ready; the sentence says how.
    Failed(Failure),
}

/// Patience of the ladder before the footprint counts.
const TERMINATE_BASE: Duration = Duration::from_secs(10);

/// Patience per byte: one second per 4 GiB. Clean exits of 424 GB workers took 2.7–4.1 s, and a hard kill of a wired
/// worker can strand its memory until reboot, so patience is cheap.
const BYTES_PER_SECOND_OF_PATIENCE: u64 = 4 << 30;

/// A process that SIGKILL does not end hangs in the kernel, which may let go of it any time: it is told again after so
/// long, then after twice that, and so on.
const KILL_AGAIN: Duration = Duration::from_secs(30);

/// A footprint must fall by so much to buy time. Smaller movements are noise, and would postpone the kill for ever.
const LEAST_SHRINKAGE: u64 = 64 << 20;

impl StopLadder {
    /// The ladder of a worker whose footprint is known or not.
    #[must_use]
    pub fn new(footprint_bytes: Option<u64>, why: StopReason, now: Mono) -> Self {
        let footprint_bytes = footprint_bytes.unwrap_or(0);
        Self { since: now, kill_at: now + patience(footprint_bytes), kills: 0, footprint_bytes, why }
    }

    /// KILL goes out (again).
    pub fn kill_sent(&mut self, now: Mono) {
        self.kill_at = now + KILL_AGAIN * (1 << self.kills.min(10));
        self.kills += 1;
    }

    /// A smaller footprint means teardown is under way: the patience for what is left starts now.
    pub fn footprint_seen(&mut self, footprint_bytes: u64, now: Mono) {
        if self.footprint_bytes == 0 {
            // Its weight was not known when SIGTERM went out.
            self.footprint_bytes = footprint_bytes;
            self.kill_at = self.kill_at.max(self.since + patience(footprint_bytes));
        }
        if self.kills == 0 && footprint_bytes.saturating_add(LEAST_SHRINKAGE) <= self.footprint_bytes {
            self.footprint_bytes = footprint_bytes;
            self.kill_at = self.kill_at.max(now + patience(footprint_bytes));
        }
    }
}

fn patience(footprint_bytes: u64) -> Duration {
    TERMINATE_BASE + Duration::from_secs(footprint_bytes.div_ceil(BYTES_PER_SECOND_OF_PATIENCE))
}

impl Worker {
    /// A worker about to be spawned.
    #[must_use]
    pub fn spawning(generation: Generation, engine: Engine, start_timeout: Duration, now: Mono) -> Self {
        Self {
            generation,
            engine,
            pid: None,
            life: Life::Spawning { deadline: now + start_timeout },
            spawned_at: now,
            ready_at: None,
            facts: None,
            last_answer: None,
            footprint_bytes: None,
            loaded_bytes: None,
            answered: 0,
            prompt_tokens: 0,
            refusals: 0,
            wired_before: None,
            wired_at_spawn: None,
            wired_itself: None,
            machine_at_stop: None,
            proof: Proof::new(now),
        }
    }

    /// A worker of the last daemon, as it was found.
    #[must_use]
    pub fn inherited(generation: Generation, engine: Engine, pid: u32, found: &Inherited, now: Mono) -> Self {
        let (life, facts) = match found {
            Inherited::Ready(facts) => {
                (Life::Ready { health: HealthTracker::new(now), suspect: false }, Some(facts.clone()))
            }
            Inherited::Loading { remaining } => (Life::Loading { deadline: now + *remaining }, None),
            Inherited::Silent { why } => {
                let why =
                    Failure { class: FailureClass::Stall, why: format!("was of no use to the new daemon ({why})") };
                (Life::Stopping(StopLadder::new(None, StopReason::Failed(why), now)), None)
            }
        };
        let ready_at = facts.is_some().then_some(now);
        Self { pid: Some(pid), life, ready_at, facts, ..Self::spawning(generation, engine, Duration::ZERO, now) }
    }

    /// Begins the stop ladder; false when it has begun before.
    pub fn begin_stop(&mut self, why: StopReason, now: Mono) -> bool {
        if self.is_stopped().is_some() {
            return false;
        }
        self.life = Life::Stopping(StopLadder::new(self.footprint_bytes, why, now));
        true
    }

    /// It said that it serves.
    pub fn became_ready(&mut self, facts: WorkerFacts, now: Mono) {
        self.life = Life::Ready { health: HealthTracker::new(now), suspect: false };
        self.ready_at = Some(now);
        self.facts = Some(facts);
        self.proof = Proof::new(now);
    }

    /// True while it may be assigned work: ready, and not suspect.
    #[must_use]
    pub fn accepts(&self) -> bool {
        matches!(self.life, Life::Ready { suspect: false, .. })
    }

    /// True from ready until it is told to stop.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        matches!(self.life, Life::Ready { .. })
    }

    /// Whether it is being stopped, and if so whether that was planned.
    #[must_use]
    pub fn is_stopped(&self) -> Option<bool> {
        match &self.life {
            Life::Stopping(ladder) => Some(ladder.why == StopReason::Planned),
            Life::Spawning { .. } | Life::Loading { .. } | Life::Ready { .. } => None,
        }
    }

    /// Sequences it takes at once; 0 until ready.
    #[must_use]
    pub fn slots(&self) -> u32 {
        self.facts.as_ref().map_or(0, |facts| facts.slots.max(1))
    }

    /// A token of one of its requests arrived.
    pub fn token_seen(&mut self, now: Mono) {
        self.refusals = 0;
        self.proof.seen(now);
        if let Life::Ready { health, .. } = &mut self.life {
            health.token_seen(now);
        }
    }

    /// It was idle and has work now.
    pub fn work_began(&mut self, now: Mono) {
        if let Life::Ready { health, .. } = &mut self.life {
            health.work_began(now);
        }
    }

    /// True when it said last that it has nothing to do.
    #[must_use]
    pub fn says_idle(&self) -> bool {
        matches!(&self.life, Life::Ready { health, .. } if health.says_idle())
    }

    /// How long loading and warming took (or has taken so far).
    #[must_use]
    pub fn load_time(&self, now: Mono) -> Duration {
        self.ready_at.unwrap_or(now) - self.spawned_at
    }

    /// The instant that needs attention even if nothing happens.
    #[must_use]
    pub fn deadline(&self) -> Option<Mono> {
        match &self.life {
            Life::Spawning { deadline } | Life::Loading { deadline } => Some(*deadline),
            Life::Ready { .. } => None,
            Life::Stopping(ladder) => Some(ladder.kill_at),
        }
    }

    /// The word people see.
    #[must_use]
    pub fn phase(&self) -> &str {
        match &self.life {
            Life::Spawning { .. } => "spawning",
            Life::Loading { .. } => match &self.last_answer {
                Some(answer) if !answer.phase.is_empty() && answer.phase != "ready" => &answer.phase,
                _ => "loading",
            },
            Life::Ready { .. } => "ready",
            Life::Stopping(_) => "stopping",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patience_grows_with_the_footprint() {
        let ladder = StopLadder::new(Some(40 << 30), StopReason::Planned, Mono(0));
        assert_eq!(ladder.kill_at, Mono(20_000), "10 s + 40 GiB / 4 GiB per second");
        assert_eq!(StopLadder::new(None, StopReason::Planned, Mono(0)).kill_at, Mono(10_000));
    }

    #[test]
    fn a_weight_learned_on_the_ladder_counts() {
        let mut ladder = StopLadder::new(None, StopReason::Planned, Mono(0));
        ladder.footprint_seen(40 << 30, Mono(5_000));
        assert_eq!(ladder.kill_at, Mono(20_000));
        ladder.footprint_seen(20 << 30, Mono(19_000));
        assert_eq!(ladder.kill_at, Mono(19_000 + 15_000));
    }

    #[test]
    fn a_shrinking_footprint_buys_time_and_a_steady_one_does_not() {
        let mut ladder = StopLadder::new(Some(40 << 30), StopReason::Planned, Mono(0));
        ladder.footprint_seen(20 << 30, Mono(19_000));
        assert_eq!(ladder.kill_at, Mono(19_000 + 15_000));
        ladder.footprint_seen(20 << 30, Mono(30_000));
        assert_eq!(ladder.kill_at, Mono(34_000));
    }
}
