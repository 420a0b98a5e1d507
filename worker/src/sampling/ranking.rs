//! The ranked prefix of the vocabulary that the filters keep, and the draw from it.
//!
//! Owns temperature, top-k, top-p, min-p and the inverse CDF. A vocabulary is never sorted whole unless its
//! distribution is flat: candidates within a distance of the best are gathered, which is by construction a prefix of the
//! full ranking, and the distance grows only while the filters need more of them.
//!
//! The draw walks over ids, not over ranks. Two ways of computing the same logits (one pass over a replayed answer, one
//! step per token, other sequences beside it) differ in their last digits, and in the long tail of a vocabulary that is
//! enough to swap neighbours in rank: drawn by rank, one answer in some hundred came out differently after a seam.

use super::Sampling;
use super::exponential::{total_weight, weight};

/// Distances from the best logit, in units of temperature. The last one holds every id that has any weight.
const REACHES: [f32; 4] = [5.0, 12.0, 30.0, 81.0];

/// A candidate: its weight relative to the best, its logit, its id.
struct Candidate {
    weight: f64,
    logit: f32,
    id: u32,
}

/// Draws one id; `None` only when no logit has weight.
pub(super) fn draw(logits: &[f32], highest: f32, sampling: &Sampling, uniform: f64) -> Option<u32> {
    let inverse_temperature = sampling.temperature.recip();
    let filtered = sampling.top_k > 0 || sampling.top_p < 1.0 || sampling.min_p > 0.0;
    if !filtered {
        let total = total_weight(logits, highest, inverse_temperature);
        let weight_of = |logit: &f32| f64::from(weight((logit - highest) * inverse_temperature));
        return pick((0_u32..).zip(logits.iter().map(weight_of)), uniform * total);
    }
    // Top-k renormalises over what it keeps, min-p alone needs no mass: only then is the whole vocabulary summed.
    let needs_total = sampling.top_k == 0 && sampling.top_p < 1.0;
    let total = needs_total.then(|| total_weight(logits, highest, inverse_temperature));
    let mut candidates = Vec::with_capacity(256);
    for reach in REACHES {
        let complete = reach > 80.0;
        gather(&mut candidates, logits, highest, inverse_temperature, reach);
        if let Some((count, mass)) = kept(&candidates, complete, sampling, total) {
            candidates.truncate(count);
            candidates.sort_unstable_by_key(|candidate| candidate.id);
            return pick(candidates.iter().map(|candidate| (candidate.id, candidate.weight)), uniform * mass);
        }
    }
    None
}

/// Fills `candidates` with every id within `reach` of the best, ranked.
fn gather(candidates: &mut Vec<Candidate>, logits: &[f32], highest: f32, inverse_temperature: f32, reach: f32) {
    candidates.clear();
    for (id, &logit) in (0_u32..).zip(logits) {
        let distance = (logit - highest) * inverse_temperature;
        if distance >= -reach {
            candidates.push(Candidate { weight: f64::from(weight(distance)), logit, id });
        }
    }
    candidates.sort_unstable_by(|a, b| b.logit.total_cmp(&a.logit).then(a.id.cmp(&b.id)));
}

/// Length and mass of the prefix that the filters keep; `None` when the candidates end before the filters do.
fn kept(candidates: &[Candidate], complete: bool, sampling: &Sampling, total: Option<f64>) -> Option<(usize, f64)> {
    let limit = if sampling.top_k == 0 { usize::MAX } else { sampling.top_k as usize };
    if sampling.top_k > 0 && candidates.len() < limit && !complete {
        return None;
    }
    let ranked = &candidates[..candidates.len().min(limit)];
    let total = total.unwrap_or_else(|| ranked.iter().map(|c| c.weight).sum());
    let nucleus = if sampling.top_p < 1.0 { f64::from(sampling.top_p) * total } else { f64::INFINITY };
    let floor = f64::from(sampling.min_p);
    let mut mass = 0.0;
    for (index, candidate) in ranked.iter().enumerate() {
        // The first candidate always stays: it has weight 1, and no floor is above 1.
        if candidate.weight < floor {
            return Some((index, mass));
        }
        mass += candidate.weight;
        if mass >= nucleus {
            return Some((index + 1, mass));
        }
    }
    (complete || ranked.len() == limit).then_some((ranked.len(), mass))
}

/// The first id at which the cumulative weight passes `target`.
fn pick(candidates: impl Iterator<Item = (u32, f64)>, target: f64) -> Option<u32> {
    let mut cumulative = 0.0;
    let mut last = None;
    for (id, weight) in candidates.filter(|(_, weight)| *weight > 0.0) {
        cumulative += weight;
        last = Some(id);
        if cumulative > target {
            break;
        }
    }
    // Partial sums in another order may leave the target a rounding error above the last candidate.
    last
}
