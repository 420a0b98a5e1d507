//! Log probabilities from raw logits, on the host.

use super::sequence::TokenLogprobs;

/// The log probability of `chosen` and of the `most` most probable tokens, best first.
///
/// `chosen` must be inside `logits`; a token outside gets negative infinity.
pub(super) fn logprobs(logits: &[f32], chosen: u32, most: u32) -> TokenLogprobs {
    let largest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let sum: f64 = logits.iter().map(|logit| f64::from(logit - largest).exp()).sum();
    #[allow(clippy::cast_possible_truncation, reason = "a logarithm of at most the vocabulary size")]
    let normaliser = largest + sum.ln() as f32;
    let of = |id: u32| logits.get(id as usize).map_or(f32::NEG_INFINITY, |logit| logit - normaliser);

    let most = (most as usize).min(logits.len());
    let mut ids: Vec<u32> = (0..).take(logits.len()).collect();
    // Equal logits keep the order of their ids, so that the list is the same on every machine.
    let rank = |a: &u32, b: &u32| logits[*b as usize].total_cmp(&logits[*a as usize]).then(a.cmp(b));
    if most > 0 && most < ids.len() {
        ids.select_nth_unstable_by(most - 1, rank);
    }
    ids.truncate(most);
    ids.sort_unstable_by(rank);
    TokenLogprobs { chosen: of(chosen), top: ids.into_iter().map(|id| (id, of(id))).collect() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn probabilities_add_up_and_the_best_come_first() {
        let logits = [1.0, 3.0, 2.0, 3.0, -50.0];
        let all = logprobs(&logits, 2, 5);
        let sum: f32 = all.top.iter().map(|(_, logprob)| logprob.exp()).sum();
        assert!((sum - 1.0).abs() < 1e-6);
        assert_eq!(all.top.iter().map(|(id, _)| *id).collect::<Vec<_>>(), [1, 3, 2, 0, 4]);
        assert_eq!(all.chosen, all.top[2].1);
        assert_eq!(logprobs(&logits, 4, 2).top, all.top[..2]);
        assert!(logprobs(&logits, 0, 0).top.is_empty());
        assert_eq!(logprobs(&logits, 9, 0).chosen, f32::NEG_INFINITY);
    }
}
