//! Restart delays after crashes, and the crash budget that ends in parking.
//!
//! Delay n is `initial · 2^n`, capped, times a jitter in 0.75–1.25 so that several machines do not restart in step. The
//! count starts anew after a worker was ready for max(10 min, 3 × its load time): a slow loader must not look healthy
//! merely because loading took long. Workers that never became ready are also counted without the window: loads that
//! hang until `worker.start_timeout` are too slow to fill it, and would be tried for ever.

use std::collections::VecDeque;
use std::time::Duration;

use super::time::Mono;
use crate::config::Restart;

/// Shortest healthy life that forgives earlier crashes.
const FORGIVING_UPTIME: Duration = Duration::from_secs(600);

/// What a crash leads to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Start again after so long.
    Retry {
        /// The jittered delay.
        delay: Duration,
        /// Crashes within the window, this one included.
        crashes: u32,
    },
    /// The budget is spent.
    Park {
        /// Crashes within the window, this one included.
        crashes: u32,
    },
}

/// The crashes that still count.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct CrashHistory {
    at: VecDeque<Mono>,
    consecutive: u32,
    /// Workers in a row that never became ready.
    unready: u32,
}

impl CrashHistory {
    /// Counts a crash. `served` is how long the worker had been ready, `load` how long it took to become so; `dice` is
    /// a random number.
    pub fn crashed(
        &mut self,
        policy: &Restart,
        served: Option<Duration>,
        load: Duration,
        dice: u64,
        now: Mono,
    ) -> Verdict {
        if served.is_some_and(|served| served >= FORGIVING_UPTIME.max(load * 3)) {
            self.forgive();
        }
        self.at.push_back(now);
        while self.at.front().is_some_and(|at| now - *at > policy.budget.window) {
            self.at.pop_front();
        }
        self.unready = if served.is_some() { 0 } else { self.unready.saturating_add(1) };
        let crashes = u32::try_from(self.at.len()).unwrap_or(u32::MAX);
        let delay = jittered(policy, self.consecutive, dice);
        self.consecutive = self.consecutive.saturating_add(1);
        if crashes.max(self.unready) > policy.budget.crashes {
            Verdict::Park { crashes }
        } else {
            Verdict::Retry { delay, crashes }
        }
    }

    /// An operator, or a long healthy life, starts the count anew.
    pub fn forgive(&mut self) {
        self.at.clear();
        self.consecutive = 0;
        self.unready = 0;
    }
}

fn jittered(policy: &Restart, exponent: u32, dice: u64) -> Duration {
    let doubled = policy.backoff_initial.saturating_mul(1_u32.checked_shl(exponent.min(31)).unwrap_or(u32::MAX));
    let capped = doubled.min(policy.backoff_max);
    // 750–1250 per mille of the capped delay.
    let per_mille = u32::try_from(dice % 501).unwrap_or(0) + 750;
    capped * per_mille / 1000
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Budget, Recycle, RestartMode};

    fn policy() -> Restart {
        Restart {
            mode: RestartMode::Auto,
            backoff_initial: Duration::from_secs(1),
            backoff_max: Duration::from_secs(300),
            budget: Budget { crashes: 5, window: Duration::from_secs(1800) },
            retry_parked: Duration::from_secs(1800),
            recycle: Recycle::default(),
        }
    }

    fn delay(verdict: Verdict) -> u64 {
        match verdict {
            Verdict::Retry { delay, .. } => u64::try_from(delay.as_millis()).unwrap(),
            Verdict::Park { .. } => panic!("parked"),
        }
    }

    #[test]
    fn delays_double_within_their_jitter() {
        let mut history = CrashHistory::default();
        for (n, base) in [(0_u64, 1_000_u64), (1, 2_000), (2, 4_000), (3, 8_000), (4, 16_000)] {
            let got = delay(history.crashed(&policy(), None, Duration::ZERO, n * 97, Mono(n)));
            assert!((base * 3 / 4..=base * 5 / 4).contains(&got), "crash {n}: {got} ms");
        }
    }

    #[test]
    fn the_sixth_crash_in_the_window_parks() {
        let mut history = CrashHistory::default();
        for n in 0..5 {
            delay(history.crashed(&policy(), None, Duration::ZERO, 0, Mono(n)));
        }
        assert_eq!(history.crashed(&policy(), None, Duration::ZERO, 0, Mono(5)), Verdict::Park { crashes: 6 });
    }

    #[test]
    fn a_window_without_crashes_restores_the_budget() {
        let mut history = CrashHistory::default();
        let served = Some(Duration::from_secs(1));
        for n in 0..5 {
            delay(history.crashed(&policy(), served, Duration::ZERO, 0, Mono(n)));
        }
        let later = Mono(0) + Duration::from_secs(1801);
        assert!(matches!(
            history.crashed(&policy(), served, Duration::ZERO, 0, later),
            Verdict::Retry { crashes: 1, .. }
        ));
    }

    #[test]
    fn a_long_load_does_not_count_as_a_healthy_life() {
        let mut history = CrashHistory::default();
        history.crashed(&policy(), None, Duration::ZERO, 0, Mono(0));
        let load = Duration::from_secs(400);
        let short = history.crashed(&policy(), Some(Duration::from_secs(1100)), load, 250, Mono(1));
        assert_eq!(delay(short), 2_000, "1100 s < 3 × 400 s must not forgive");
        let long = history.crashed(&policy(), Some(Duration::from_secs(1200)), load, 250, Mono(2));
        assert_eq!(delay(long), 1_000, "1200 s = 3 × 400 s forgives");
    }
}
