//! How long the tokens of one answer came apart, counted without leaving the request.

use std::time::Duration;

/// Upper bounds, seconds: a fast model gives a token every few milliseconds, a hand-over takes seconds.
const BOUNDS: [f64; 12] = [0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0];

/// A histogram of gaps.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct TokenGaps {
    /// By bound; the last for what is longer than all of them.
    counts: [u64; BOUNDS.len() + 1],
    sum_seconds: f64,
}

impl TokenGaps {
    /// `tokens` came together, `since` after the one before them.
    pub fn note(&mut self, since: Duration, tokens: u32) {
        if tokens == 0 {
            return;
        }
        let each = since.as_secs_f64() / f64::from(tokens);
        let bucket = BOUNDS.iter().position(|bound| each <= *bound).unwrap_or(BOUNDS.len());
        self.counts[bucket] += u64::from(tokens);
        self.sum_seconds += since.as_secs_f64();
    }

    /// Adds another answer's.
    pub fn add(&mut self, other: &Self) {
        for (count, more) in self.counts.iter_mut().zip(other.counts) {
            *count += more;
        }
        self.sum_seconds += other.sum_seconds;
    }

    /// All gaps together, seconds.
    #[must_use]
    pub fn sum_seconds(&self) -> f64 {
        self.sum_seconds
    }

    /// How many.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// Upper bound and count of each bucket; the last has no bound.
    pub fn buckets(&self) -> impl Iterator<Item = (f64, u64)> + '_ {
        BOUNDS.into_iter().chain([f64::INFINITY]).zip(self.counts)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_that_come_together_share_their_gap() {
        let mut gaps = TokenGaps::default();
        gaps.note(Duration::from_millis(40), 4);
        gaps.note(Duration::from_secs(60), 1);
        gaps.note(Duration::from_secs(1), 0);
        let mut all = gaps.clone();
        all.add(&gaps);
        assert_eq!(all.count(), 10);
        assert!((all.sum_seconds() - 120.08).abs() < 1e-9);
        let filled: Vec<_> = all.buckets().filter(|(_, count)| *count > 0).collect();
        assert_eq!(filled, [(0.01, 8), (f64::INFINITY, 2)]);
    }
}
