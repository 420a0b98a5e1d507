//! The ranked prefix of the vocabulary that the filters keep, and the draw from it.
//!
//! Owns temperature, top-k, top-p, min-p and the inverse CDF. A vocabulary is never sorted whole unless its
//! distribution is flat: candidates within a distance of the best are gathered, which is by construction a prefix of the
//! full ranking, and the distance grows only while the filters or the draw need more of them.
//!
//! The draw walks down the ranks for the sake of seams. A replayed prompt gives the same logits up to about 3e-5; walked
//! by rank, a boundary between two tokens moves with the smaller of the masses on its sides, so the tail hardly moves.
//! With the 135M model on the CPU one or two in 10,000 drawn tokens change; walked by id, seven do.

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
    // Top-k renormalises over what it keeps, min-p alone needs no mass: only then is the whole vocabulary summed.
    let needs_total = sampling.top_k == 0 && (sampling.top_p < 1.0 || sampling.min_p <= 0.0);
    let total = needs_total.then(|| total_weight(logits, highest, inverse_temperature));
    let mut candidates = Vec::with_capacity(256);
    for reach in REACHES {
        let complete = reach > 80.0;
        gather(&mut candidates, logits, highest, inverse_temperature, reach);
        let mass = match kept_mass(&candidates, complete, sampling, total) {
            Some(mass) => mass,
            None => continue,
        };
        if let Some(id) = pick(&candidates, complete, uniform * mass) {
            return Some(id);
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

/// Mass of the prefix that the filters keep; `None` when the candidates end before the filters do.
fn kept_mass(candidates: &[Candidate], complete: bool, sampling: &Sampling, total: Option<f64>) -> Option<f64> {
    let filtered = sampling.top_k > 0 || sampling.top_p < 1.0 || sampling.min_p > 0.0;
    if !filtered {
        return total;
    }
    let limit = if sampling.top_k == 0 { usize::MAX } else { sampling.top_k as usize };
    if sampling.top_k > 0 && candidates.len() < limit && !complete {
        return None;
    }
    let ranked = &candidates[..candidates.len().min(limit)];
    let total = total.unwrap_or_else(|| ranked.iter().map(|c| c.weight).sum());
    let nucleus = if sampling.top_p < 1.0 { f64::from(sampling.top_p) * total } else { f64::INFINITY };
    let floor = f64::from(sampling.min_p);
    let mut mass = 0.0;
    for candidate in ranked {
        // The first candidate always stays: it has weight 1, and no floor is above 1.
        if candidate.weight < floor {
            return Some(mass);
        }
        mass += candidate.weight;
        if mass >= nucleus {
            return Some(mass);
        }
    }
    (complete || ranked.len() == limit).then_some(mass)
}

/// The first candidate at which the cumulative weight passes `target`; `None` when the candidates end before.
fn pick(candidates: &[Candidate], complete: bool, target: f64) -> Option<u32> {
    let mut cumulative = 0.0;
    for candidate in candidates {
        cumulative += candidate.weight;
        if cumulative > target {
            return Some(candidate.id);
        }
    }
    // Partial sums in another order may leave the target a rounding error above the last candidate.
    let last = candidates.iter().rev().find(|c| c.weight > 0.0);
    if complete { last.map(|c| c.id) } else { None }
}
