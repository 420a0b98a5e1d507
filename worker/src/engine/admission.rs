//! Whether there is memory for one more sequence. Pure arithmetic.

use crate::model::kv_cache::BLOCK;

/// Tokens of an answer that are reserved at admission, unless its own limit is lower; beyond it, caches grow block by
/// block.
pub(super) const ANSWER_RESERVE: usize = 512;

/// Bytes of keys and values to reserve for `tokens` known tokens and an answer of at most `answer` more.
pub(super) fn reservation(tokens: usize, answer: usize, kv_bytes_per_token: u64) -> u64 {
    let tokens = tokens.saturating_add(answer.min(ANSWER_RESERVE)) as u64;
    tokens.checked_next_multiple_of(u64::from(BLOCK)).unwrap_or(u64::MAX).saturating_mul(kv_bytes_per_token)
}

/// True when `wanted` bytes fit beside the weights and what live sequences hold. The first sequence always fits: one
/// that runs alone runs to its end.
pub(super) fn fits(wanted: u64, held: &[u64], weights: u64, memory_limit: u64) -> bool {
    let held_bytes = held.iter().copied().fold(weights, u64::saturating_add);
    held.is_empty() || held_bytes.saturating_add(wanted) <= memory_limit
}

/// Bytes that `wanted`, weights and live sequences leave under the memory limit: saved prompts may have them.
pub(super) fn room(wanted: u64, held: &[u64], weights: u64, memory_limit: u64) -> u64 {
    let needed = held.iter().copied().fold(weights.saturating_add(wanted), u64::saturating_add);
    memory_limit.saturating_sub(needed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reservations_are_whole_blocks() {
        assert_eq!(reservation(1, 10, 2), 512);
        assert_eq!(reservation(256, 1, 2), 1024);
        assert_eq!(reservation(100, 8192, 1), 768);
        assert_eq!(reservation(usize::MAX, 1, 8), u64::MAX);
    }

    #[test]
    fn the_limit_counts_weights_and_live_sequences() {
        assert!(fits(10, &[10], 80, 100));
        assert!(!fits(11, &[10], 80, 100));
        assert!(fits(1000, &[], 80, 100), "alone it runs anyway");
        assert!(!fits(u64::MAX, &[1], 80, 100));
        assert_eq!(room(5, &[4, 6], 80, 100), 5);
        assert_eq!(room(6, &[9, 6], 80, 100), 0);
    }
}
