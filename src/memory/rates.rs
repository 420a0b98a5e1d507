//! Speeds out of cumulative counters.
//!
//! Owns what must be remembered between two samples. Counters that go backwards (a device was reset, a worker was
//! replaced) give no rate for one sample rather than a wrong one.

use std::collections::VecDeque;
use std::time::Duration;

use crate::supervisor::Mono;

/// Remembers one cumulative counter.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Rate {
    last: Option<(Mono, u64)>,
}

impl Rate {
    /// Counts per second since the previous reading; `None` for the first reading, without a reading, after a step
    /// backwards, and when no time has passed.
    pub(super) fn update(&mut self, at: Mono, counter: Option<u64>) -> Option<f64> {
        let Some(counter) = counter else {
            self.last = None;
            return None;
        };
        let Some((then, before)) = self.last else {
            self.last = Some((at, counter));
            return None;
        };
        let seconds = (at - then).as_secs_f64();
        if seconds <= 0.0 {
            // Two readings in the same millisecond: keep the earlier one, so that the next rate spans real time.
            return None;
        }
        self.last = Some((at, counter));
        counter.checked_sub(before).map(|delta| delta as f64 / seconds)
    }
}

/// The slope of a level over the last minute: a single allocation must not look like a leak.
#[derive(Debug, Clone, Default)]
pub(super) struct Slope {
    points: VecDeque<(Mono, u64)>,
}

impl Slope {
    /// How far back the slope looks.
    const WINDOW: Duration = Duration::from_secs(60);
    /// Shorter spans say nothing about growth.
    const SHORTEST: Duration = Duration::from_secs(10);
    /// Samples come at up to 4 Hz; one point a second is enough, and bounds the queue to 61 points.
    const SPACING: Duration = Duration::from_secs(1);

    /// Units per second over the window, negative when shrinking; `None` until ten seconds are known.
    pub(super) fn update(&mut self, at: Mono, level: u64) -> Option<f64> {
        if self.points.back().is_none_or(|(then, _)| at - *then >= Self::SPACING) {
            self.points.push_back((at, level));
        }
        while self.points.front().is_some_and(|(then, _)| at - *then > Self::WINDOW) {
            self.points.pop_front();
        }
        let (then, before) = *self.points.front()?;
        let span = at - then;
        (span >= Self::SHORTEST).then(|| (level as f64 - before as f64) / span.as_secs_f64())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_needs_two_readings_and_survives_a_reset() {
        let mut rate = Rate::default();
        assert_eq!(rate.update(Mono(1_000), Some(100)), None);
        assert_eq!(rate.update(Mono(3_000), Some(500)), Some(200.0));
        assert_eq!(rate.update(Mono(4_000), Some(20)), None, "the counter started over");
        assert_eq!(rate.update(Mono(5_000), Some(30)), Some(10.0));
        assert_eq!(rate.update(Mono(5_000), Some(90)), None, "no time passed");
        assert_eq!(rate.update(Mono(6_000), Some(90)), Some(60.0), "and nothing of it is lost");
        assert_eq!(rate.update(Mono(7_000), None), None);
        assert_eq!(rate.update(Mono(8_000), Some(90)), None);
    }

    #[test]
    fn a_slope_looks_one_minute_back() {
        let mut slope = Slope::default();
        let mut last = None;
        for second in 0..300_u64 {
            // Flat for four minutes, then 10 per second.
            let level = if second < 240 { 1_000 } else { 1_000 + (second - 240) * 10 };
            last = slope.update(Mono(second * 1_000), level);
            match second {
                0..10 => assert_eq!(last, None, "{second}"),
                10..241 => assert_eq!(last, Some(0.0), "{second}"),
                _ => {}
            }
        }
        assert!((last.unwrap() - 9.8).abs() < 0.3, "{last:?}");
        assert!(slope.points.len() <= 61);
    }

    #[test]
    fn fast_samples_do_not_grow_the_window() {
        let mut slope = Slope::default();
        for tick in 0..4_000_u64 {
            slope.update(Mono(tick * 250), tick);
        }
        assert!(slope.points.len() <= 61, "{}", slope.points.len());
    }
}
