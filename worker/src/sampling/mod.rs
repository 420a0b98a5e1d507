//! From logits to a token, on the host: filters, inverse CDF, Philox randomness by position.

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
/// index where the answer begins; `uniform` is in [0, 1). Returns the chosen id.
pub fn choose(_logits: &mut [f32], _sampling: &Sampling, _history: &[u32], _answer_from: usize, _uniform: f64) -> u32 {
    0
}

/// The uniform number in [0, 1) of token `position` of `choice` under `seed`: Philox4x32-10.
#[must_use]
pub fn uniform(_seed: u64, _choice: u32, _position: u32) -> f64 {
    0.0
}
