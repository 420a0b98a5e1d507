//! From logits to a token, on the host: filters, inverse CDF, Philox randomness by position.
//!
//! Owns every decision between the model's logits and the chosen id, and is a pure function: same logits, same request,
//! same position, same token, on any machine. It holds no generator state and never touches MLX.
//!
//! Order: logit bias, penalties, temperature, top-k, top-p, min-p, then one draw. Each filter keeps a prefix of the
//! vocabulary ranked by falling probability (ties by rising id), so only that prefix is ever sorted.

mod exponential;
mod philox;
mod ranking;
#[cfg(test)]
mod tests;

/// Temperatures below this are greedy: their reciprocal leaves the range in which logits can be scaled.
const COLDEST: f32 = 1e-5;

/// How a request wants its tokens chosen. Defaults mean "greedy off, nothing filtered".
#[derive(Debug, Clone, PartialEq)]
pub struct Sampling {
    /// 0 is greedy.
    pub temperature: f32,
    /// Nucleus mass, 1 is off.
    pub top_p: f32,
    /// Candidates kept, 0 is off.
    pub top_k: u32,
    /// Relative to the best candidate's probability, 0 is off.
    pub min_p: f32,
    /// OpenAI's additive penalty per earlier occurrence.
    pub frequency_penalty: f32,
    /// OpenAI's additive penalty for having occurred.
    pub presence_penalty: f32,
    /// Multiplicative penalty on tokens of prompt and answer, 1 is off.
    pub repetition_penalty: f32,
    /// Added to the logit of an id.
    pub logit_bias: Vec<(u32, f32)>,
}

impl Default for Sampling {
    fn default() -> Self {
        Self {
            temperature: 1.0,
            top_p: 1.0,
            top_k: 0,
            min_p: 0.0,
            frequency_penalty: 0.0,
            presence_penalty: 0.0,
            repetition_penalty: 1.0,
            logit_bias: Vec::new(),
        }
    }
}

/// Log probabilities over the vocabulary wanted by nobody cost nothing: this is the only entry point.
///
/// `logits` are the model's raw f32 logits and are changed in place; `history` is prompt then answer, `answer_from` the
/// index where the answer begins; `uniform` is in [0, 1). Returns the chosen id. NaN counts as impossible; ids of
/// `history` or of a bias that the vocabulary lacks are ignored.
pub fn choose(logits: &mut [f32], sampling: &Sampling, history: &[u32], answer_from: usize, uniform: f64) -> u32 {
    for &(id, bias) in &sampling.logit_bias {
        if let Some(logit) = logits.get_mut(id as usize) {
            *logit += bias;
        }
    }
    penalise(logits, sampling, history, answer_from);
    let (best, highest) = best(logits);
    if sampling.temperature < COLDEST || !highest.is_finite() {
        return best;
    }
    ranking::draw(logits, highest, sampling, uniform).unwrap_or(best)
}

/// The uniform number in [0, 1) of token `position` of `choice` under `seed`: Philox4x32-10.
///
/// `position` counts the tokens of the answer from 0, replayed ones included.
#[must_use]
pub fn uniform(seed: u64, choice: u32, position: u32) -> f64 {
    let key = [(seed & 0xFFFF_FFFF) as u32, (seed >> 32) as u32];
    let words = philox::philox4x32(key, [choice, position, 0, 0]);
    // 53 bits, the mantissa of an f64: 27 from the first word, 26 from the second.
    let bits = (u64::from(words[0] >> 5) << 26) | u64::from(words[1] >> 6);
    bits as f64 / (1_u64 << 53) as f64
}

/// Repetition penalty on everything seen, presence and frequency on the answer alone.
fn penalise(logits: &mut [f32], sampling: &Sampling, history: &[u32], answer_from: usize) {
    let answer = history.get(answer_from..).unwrap_or_default();
    if sampling.repetition_penalty != 1.0 {
        let mut seen = Seen::new(logits.len());
        for &id in history {
            if seen.is_new(id) {
                let logit = &mut logits[id as usize];
                // Division would raise a negative logit.
                *logit = if *logit < 0.0 {
                    *logit * sampling.repetition_penalty
                } else {
                    *logit / sampling.repetition_penalty
                };
            }
        }
    }
    if sampling.presence_penalty != 0.0 {
        let mut seen = Seen::new(logits.len());
        for &id in answer {
            if seen.is_new(id) {
                logits[id as usize] -= sampling.presence_penalty;
            }
        }
    }
    if sampling.frequency_penalty != 0.0 {
        for &id in answer {
            if let Some(logit) = logits.get_mut(id as usize) {
                *logit -= sampling.frequency_penalty;
            }
        }
    }
}

/// The most probable id and its logit; the lowest id among equals.
fn best(logits: &[f32]) -> (u32, f32) {
    let mut best = (0, f32::NEG_INFINITY);
    for (id, &logit) in (0_u32..).zip(logits) {
        if logit > best.1 {
            best = (id, logit);
        }
    }
    best
}

/// One bit per id of the vocabulary.
struct Seen {
    words: Vec<u64>,
    size: usize,
}

impl Seen {
    fn new(size: usize) -> Self {
        Self { words: vec![0; size.div_ceil(64)], size }
    }

    /// True the first time an id of the vocabulary is shown.
    fn is_new(&mut self, id: u32) -> bool {
        let id = id as usize;
        if id >= self.size {
            return false;
        }
        let (word, bit) = (&mut self.words[id / 64], 1_u64 << (id % 64));
        let new = *word & bit == 0;
        *word |= bit;
        new
    }
}
