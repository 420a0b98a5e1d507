//! How fast answers have come lately: the numbers behind the `latency.*` metrics.
//!
//! Owns a window of answers that is short enough to tell about now and long enough for a percentile, and bounded. When
//! nothing was answered in it there is no number, rather than a good one.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// An answer counts this long.
const WINDOW: Duration = Duration::from_secs(300);

/// Answers counted at most, the newest.
const MOST: usize = 512;

/// Percentiles of the last five minutes, seconds; `None` where nothing came.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Latencies {
    /// Arrival to first token, median.
    pub first_token_p50: Option<f64>,
    /// Arrival to first token of the slowest in a hundred.
    pub first_token_p99: Option<f64>,
    /// Time between two tokens: the median over answers of each answer's mean.
    pub token_p50: Option<f64>,
}

/// The last answers.
#[derive(Debug, Default)]
pub struct RecentLatency {
    answers: VecDeque<Answer>,
}

#[derive(Debug)]
struct Answer {
    ended: Instant,
    first_token: f64,
    token: Option<f64>,
}

impl RecentLatency {
    /// An answer ended: seconds to its first token, and between its tokens on average.
    pub fn add(&mut self, first_token: f64, token: Option<f64>, ended: Instant) {
        if self.answers.len() == MOST {
            self.answers.pop_front();
        }
        self.answers.push_back(Answer { ended, first_token, token });
    }

    /// The percentiles at `now`.
    pub fn latencies(&mut self, now: Instant) -> Latencies {
        while self.answers.front().is_some_and(|answer| now.saturating_duration_since(answer.ended) > WINDOW) {
            self.answers.pop_front();
        }
        let first_tokens = sorted(self.answers.iter().map(|answer| answer.first_token));
        let tokens = sorted(self.answers.iter().filter_map(|answer| answer.token));
        Latencies {
            first_token_p50: nearest_rank(&first_tokens, 50),
            first_token_p99: nearest_rank(&first_tokens, 99),
            token_p50: nearest_rank(&tokens, 50),
        }
    }
}

fn sorted(values: impl Iterator<Item = f64>) -> Vec<f64> {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    values
}

/// The smallest value that so many percent of all do not exceed.
fn nearest_rank(sorted: &[f64], percent: usize) -> Option<f64> {
    let rank = (sorted.len() * percent).div_ceil(100);
    sorted.get(rank.checked_sub(1)?).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_of_what_really_happened() {
        let mut recent = RecentLatency::default();
        let now = Instant::now();
        assert_eq!(recent.latencies(now), Latencies::default(), "nothing is no zero");
        for number in (1..=100).rev() {
            recent.add(f64::from(number), (number > 50).then_some(0.5), now);
        }
        let expected = Latencies { first_token_p50: Some(50.0), first_token_p99: Some(99.0), token_p50: Some(0.5) };
        assert_eq!(recent.latencies(now), expected);
    }

    #[test]
    fn old_answers_leave_and_too_many_push_the_oldest_out() {
        let mut recent = RecentLatency::default();
        let begin = Instant::now();
        for _ in 0..MOST {
            recent.add(9.0, None, begin);
        }
        recent.add(1.0, None, begin + Duration::from_secs(200));
        assert_eq!(recent.answers.len(), MOST);
        let later = recent.latencies(begin + Duration::from_secs(301));
        assert_eq!((later.first_token_p50, later.token_p50), (Some(1.0), None));
        assert_eq!(recent.latencies(begin + Duration::from_secs(501)), Latencies::default());
    }
}
