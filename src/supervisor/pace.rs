//! How fast requests are served, measured, and what waiting therefore means: estimates and retry hints.
//!
//! ```text
//! pace (cost units per second and slot) = mean cost of ended requests / mean seconds in their slot
//! wait (seconds)                        = cost of what is served before / (pace · slots)
//! ```
//! A cost unit is one prompt token; a token of the answer is two ([`super::fairness::cost`]). Both means are exponential,
//! about the last twenty requests. What is served before is what runs, less what it has had, and what waits ahead. Time
//! without work does not count, so that a quiet night makes nobody slow.

use std::time::Duration;

/// Weight of the newest request in both means: about the last twenty count.
const NEWEST: f64 = 0.05;

/// Requests that must have ended before anybody is refused for an estimate.
const TRUSTED_AFTER: u32 = 8;

/// Retry hints stay within these, seconds: a client that comes back at once only queues behind itself, and one that
/// waits longer than a minute forgets.
const HINT_BOUNDS_S: (f64, f64) = (1.0, 60.0);

/// The hint while nothing has been measured.
const UNMEASURED_HINT: Duration = Duration::from_secs(5);

/// The measured pace of one slot.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Pace {
    /// Mean cost of a request.
    cost: f64,
    /// Mean time in its slot, seconds.
    seconds: f64,
    ended: u32,
}

impl Pace {
    /// A request of this cost ended after so long in its slot.
    pub fn ended(&mut self, cost: u64, took: Duration) {
        #[expect(clippy::cast_precision_loss, reason = "costs are far below 2^52")]
        let cost = cost as f64;
        // The first ones count in full, or the start would be remembered for too long.
        let weight = NEWEST.max(1.0 / f64::from(self.ended + 1));
        self.cost += weight * (cost - self.cost);
        self.seconds += weight * (took.as_secs_f64() - self.seconds);
        self.ended = self.ended.saturating_add(1);
    }

    /// How long work of this cost takes `slots` slots; `None` before anything was measured.
    #[must_use]
    pub fn time_for(&self, cost: u64, slots: u32) -> Option<Duration> {
        if self.cost <= 0.0 || self.seconds <= 0.0 {
            return None;
        }
        #[expect(clippy::cast_precision_loss, reason = "costs are far below 2^52")]
        let cost = cost as f64;
        Duration::try_from_secs_f64(cost * self.seconds / self.cost / f64::from(slots.max(1))).ok()
    }

    /// True once enough has been measured to refuse somebody for it.
    #[must_use]
    pub fn is_trusted(&self) -> bool {
        self.ended >= TRUSTED_AFTER
    }
}

/// When to come back, for a wait of this length.
#[must_use]
pub fn hint(wait: Option<Duration>) -> Duration {
    let seconds = wait.unwrap_or(UNMEASURED_HINT).as_secs_f64();
    Duration::from_secs_f64(seconds.clamp(HINT_BOUNDS_S.0, HINT_BOUNDS_S.1).ceil())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn estimates_follow_the_measured_pace() {
        let mut pace = Pace::default();
        assert_eq!(pace.time_for(1000, 2), None);
        assert_eq!(hint(pace.time_for(1000, 2)), Duration::from_secs(5), "unknown pace");
        for _ in 0..50 {
            pace.ended(200, Duration::from_secs(4));
        }
        assert!(pace.is_trusted());
        assert_eq!(pace.time_for(1000, 2), Some(Duration::from_secs(10)));
        assert_eq!(hint(pace.time_for(100_000, 2)), Duration::from_secs(60));
        assert_eq!(hint(Some(Duration::ZERO)), Duration::from_secs(1));
        for _ in 0..100 {
            pace.ended(200, Duration::from_secs(1));
        }
        let faster = pace.time_for(1000, 2).map(|wait| wait.as_secs_f64().round());
        assert_eq!(faster, Some(3.0), "the last twenty count");
    }
}
