//! What became of the requests: how people learn that it works.

use std::time::Duration;

/// Totals since the daemon started.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Ledger {
    /// Answered completely.
    pub answered: u64,
    /// Answered completely after outliving at least one worker.
    pub carried: u64,
    /// Admitted, then ended with an error of ours.
    pub lost: u64,
    /// Workers replaced, planned or not.
    pub restarts: u64,
    /// Longest wait for a first assignment.
    pub longest_wait: Duration,
}

/// A running mean of how fast requests end, for honest retry hints.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Pace {
    last_end_ms: Option<u64>,
    mean_gap_ms: Option<f64>,
}

/// Weight of the newest gap: about the last ten requests count.
const NEWEST: f64 = 0.1;

/// Retry hints stay within these, seconds: a client that comes back at once only queues behind itself, and one that
/// waits longer than a minute forgets.
const HINT_BOUNDS_S: (f64, f64) = (1.0, 60.0);

impl Pace {
    /// A request ended at `now_ms`.
    pub fn ended(&mut self, now_ms: u64) {
        if let Some(last) = self.last_end_ms {
            #[expect(clippy::cast_precision_loss, reason = "gaps are far below 2^52 ms")]
            let gap = now_ms.saturating_sub(last) as f64;
            self.mean_gap_ms = Some(self.mean_gap_ms.map_or(gap, |mean| mean + NEWEST * (gap - mean)));
        }
        self.last_end_ms = Some(now_ms);
    }

    /// When `ahead` requests will have ended, judged by the pace so far.
    #[must_use]
    pub fn wait_for(&self, ahead: usize) -> Duration {
        #[expect(clippy::cast_precision_loss, reason = "queues are bounded far below 2^52")]
        let ahead = ahead as f64;
        let seconds = self.mean_gap_ms.map_or(5.0, |gap| gap * ahead / 1000.0);
        Duration::from_secs_f64(seconds.clamp(HINT_BOUNDS_S.0, HINT_BOUNDS_S.1).ceil())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hints_follow_the_measured_pace() {
        let mut pace = Pace::default();
        assert_eq!(pace.wait_for(10), Duration::from_secs(5), "unknown pace");
        for second in 0..50 {
            pace.ended(second * 2_000);
        }
        assert_eq!(pace.wait_for(10), Duration::from_secs(20));
        assert_eq!(pace.wait_for(1_000), Duration::from_secs(60));
    }
}
