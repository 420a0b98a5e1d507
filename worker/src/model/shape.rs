//! What a network looks like: the numbers every later step needs, whatever file they came from.

use super::StoredTensor;

pub use mlxsup_fit::native::ARCHITECTURES;

/// Dimensions and constants of a llama-like network.
#[derive(Debug, Clone, PartialEq)]
pub struct Shape {
    /// One of [`ARCHITECTURES`].
    pub architecture: String,
    /// Transformer blocks.
    pub layers: u32,
    /// Width of the residual stream.
    pub hidden: u32,
    /// Width inside the feed-forward part.
    pub feed_forward: u32,
    /// Query heads.
    pub heads: u32,
    /// Key and value heads; divides `heads`.
    pub kv_heads: u32,
    /// Width of one head.
    pub head_dim: u32,
    /// Token ids the embedding knows.
    pub vocabulary: u32,
    /// Longest sequence the model was made for.
    pub context: u32,
    /// Added to the mean square before its root is taken.
    pub norm_epsilon: f32,
    /// Position encoding.
    pub rope: Rope,
    /// The output projection is the embedding; `None` until the tensors are known.
    pub tied: Option<bool>,
}

/// Rotary position encoding.
#[derive(Debug, Clone, PartialEq)]
pub struct Rope {
    /// The base of the geometric series of wavelengths.
    pub theta: f32,
    /// Neighbouring pairs are rotated instead of halves.
    pub traditional: bool,
    /// How wavelengths are stretched for long contexts.
    pub scaling: RopeScaling,
}

/// Stretching of the rotary wavelengths.
#[derive(Debug, Clone, PartialEq)]
pub enum RopeScaling {
    /// As trained.
    None,
    /// All positions are divided by this.
    Linear(f32),
    /// Llama 3: long wavelengths are stretched, short ones kept, those between blended.
    Llama3 {
        /// How far long wavelengths are stretched.
        factor: f32,
        /// Bound of "long", relative to the original context.
        low_freq_factor: f32,
        /// Bound of "short", relative to the original context.
        high_freq_factor: f32,
        /// Context before stretching.
        original_context: f32,
    },
    /// The file brings one stretch factor per wavelength (`rope_freqs.weight` in GGUF).
    Factors,
}

/// Largest accepted width or count; keeps every product below in 64 bits and out of absurd allocations.
const MOST: u32 = 1 << 24;

impl Shape {
    /// Says what contradicts itself, if anything.
    ///
    /// # Errors
    /// A description without the file's name.
    pub fn check(&self) -> Result<(), String> {
        for (what, number) in [
            ("the number of layers", self.layers),
            ("the hidden size", self.hidden),
            ("the feed-forward size", self.feed_forward),
            ("the number of heads", self.heads),
            ("the number of key/value heads", self.kv_heads),
            ("the head dimension", self.head_dim),
            ("the vocabulary size", self.vocabulary),
            ("the context length", self.context),
        ] {
            if number == 0 || number > MOST {
                return Err(format!("{what} is {number}"));
            }
        }
        if !self.heads.is_multiple_of(self.kv_heads) {
            return Err(format!("{} heads cannot share {} key/value heads evenly", self.heads, self.kv_heads));
        }
        if self.heads.checked_mul(self.head_dim).is_none_or(|width| width > MOST) {
            return Err(format!("{} heads of width {} are too many", self.heads, self.head_dim));
        }
        if !self.head_dim.is_multiple_of(2) {
            return Err(format!("the head dimension {} is odd", self.head_dim));
        }
        if !(self.norm_epsilon.is_finite() && self.rope.theta.is_finite() && self.rope.theta > 0.0) {
            return Err("the norm epsilon or the rotary base is not a usable number".to_owned());
        }
        Ok(())
    }

    /// Settles whether the output projection is the embedding: as configured, else by the absence of `lm_head`.
    #[must_use]
    pub fn with_tying_from(mut self, tensors: &[StoredTensor]) -> Self {
        let has_head = tensors.iter().any(|tensor| tensor.name == "lm_head.weight");
        self.tied = Some(self.tied.unwrap_or(!has_head));
        self
    }

    /// Bytes one token costs in one sequence's cache, with `element` bytes per number.
    #[must_use]
    pub fn kv_bytes_per_token(&self, element: u64) -> u64 {
        2 * u64::from(self.layers) * u64::from(self.kv_heads) * u64::from(self.head_dim) * element
    }

    /// Rows and columns of the matrix called `module` (a name without `.weight`); `None` for anything else.
    #[must_use]
    pub fn matrix(&self, module: &str) -> Option<(u32, u32)> {
        let (queries, keys) = (self.heads * self.head_dim, self.kv_heads * self.head_dim);
        Some(match module.rsplit('.').next()? {
            "embed_tokens" | "lm_head" => (self.vocabulary, self.hidden),
            "q_proj" => (queries, self.hidden),
            "k_proj" | "v_proj" => (keys, self.hidden),
            "o_proj" => (self.hidden, queries),
            "gate_proj" | "up_proj" => (self.feed_forward, self.hidden),
            "down_proj" => (self.hidden, self.feed_forward),
            _ => return None,
        })
    }
}
