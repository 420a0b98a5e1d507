//! The llama network (also mistral and smollm): root-mean-square norms, rotary grouped-query attention, gated
//! feed-forward.
//!
//! A step takes a *set* of segments from different sequences. Everything but attention works on the rows of all segments
//! together, so weights are read once per step however many sequences are decoded.

use mlx_rs::error::Exception;
use mlx_rs::fast::{ScaledDotProductAttentionMask, rms_norm, scaled_dot_product_attention};
use mlx_rs::ops::indexing::TryIndexOp;
use mlx_rs::ops::{concatenate, multiply, sigmoid};
use mlx_rs::{Array, Dtype, transforms};

use super::kv_cache::KvCache;
use super::linear::{Linear, Matrix};
use super::rope::Rope;
use super::shape::RopeScaling;
use super::weights::{Weights, side};
use super::{ModelError, OpenedModel, Precision, Shape};

/// A model with its weights resident. Belongs to the thread that loaded it.
#[derive(Debug)]
pub struct Model {
    shape: Shape,
    embedding: Matrix,
    layers: Vec<Layer>,
    norm: Array,
    /// `None`: the embedding is used.
    head: Option<Linear>,
    rope: Rope,
    dtype: Dtype,
}

#[derive(Debug)]
struct Layer {
    attention_norm: Array,
    query: Linear,
    key: Linear,
    value: Linear,
    output: Linear,
    feed_forward_norm: Array,
    gate: Linear,
    up: Linear,
    down: Linear,
}

/// Tokens of one sequence to run in a step.
#[derive(Debug)]
pub struct Segment<'a> {
    /// The next tokens; never empty.
    pub tokens: &'a [u32],
    /// Of the same sequence; holds the tokens before these.
    pub cache: &'a mut KvCache,
    /// Logits are wanted from this index of `tokens` on; `tokens.len()` or more: none.
    pub logits_from: usize,
}

impl Model {
    /// Reads all weights, telling `progress` the stored bytes of each part as it becomes resident.
    ///
    /// # Errors
    /// [`ModelError`] when tensors are missing, have other shapes than the configuration says, or MLX fails.
    pub fn load(model: &OpenedModel, precision: Precision, progress: &mut dyn FnMut(u64)) -> Result<Self, ModelError> {
        let shape = model.shape.clone();
        let mut weights = Weights::open(model, precision)?;
        let mut resident = |weights: &mut Weights, what: &str, arrays: Vec<&Array>| {
            transforms::eval(arrays).map_err(ModelError::mlx(format!("reading {what}")))?;
            progress(weights.taken());
            Ok::<(), ModelError>(())
        };

        let embedding = weights.matrix("model.embed_tokens")?;
        resident(&mut weights, "the embedding", embedding.arrays())?;
        let dtype = embedding.dtype();
        let mut layers = Vec::new();
        for index in 0..shape.layers {
            let layer = Layer::take(&mut weights, &shape, index, dtype)?;
            resident(&mut weights, &format!("layer {index}"), layer.arrays())?;
            layers.push(layer);
        }
        let norm = weights.vector("model.norm.weight", shape.hidden, dtype)?;
        let head = match shape.tied {
            Some(false) => Some(weights.linear("lm_head")?),
            _ => None,
        };
        let mut rest = vec![&norm];
        rest.extend(head.iter().flat_map(Linear::arrays));
        resident(&mut weights, "the output projection", rest)?;

        let factors = match shape.rope.scaling {
            RopeScaling::Factors => {
                let factors = weights.vector("rope_freqs.weight", shape.head_dim / 2, Dtype::Float32)?;
                Some(host_copy(&factors).map_err(ModelError::mlx("reading `rope_freqs.weight`"))?)
            }
            _ => None,
        };
        let rope = Rope::new(&shape.rope, shape.head_dim, factors.as_deref());
        let left_over = weights.left_over();
        if !left_over.is_empty() {
            tracing::warn!(count = left_over.len(), first = left_over[0], "the model has tensors that are not used");
        }
        Ok(Self { shape, embedding, layers, norm, head, rope, dtype })
    }

    /// The network's dimensions.
    #[must_use]
    pub const fn shape(&self) -> &Shape {
        &self.shape
    }

    /// Type of activations, keys and values.
    #[must_use]
    pub const fn dtype(&self) -> Dtype {
        self.dtype
    }

    /// Bytes one token costs in one sequence's cache.
    #[must_use]
    pub fn kv_bytes_per_token(&self) -> u64 {
        self.shape.kv_bytes_per_token(if self.dtype == Dtype::Float32 { 4 } else { 2 })
    }

    /// Every array that holds weights.
    pub fn arrays(&self) -> impl Iterator<Item = &Array> {
        let mut arrays = self.embedding.arrays();
        arrays.extend(self.layers.iter().flat_map(Layer::arrays));
        arrays.push(&self.norm);
        arrays.extend(self.head.iter().flat_map(Linear::arrays));
        arrays.into_iter()
    }

    /// Group and bits of the first quantised matrix, when the model is kept quantised.
    #[must_use]
    pub fn quantisation(&self) -> Option<(i32, i32)> {
        let first = self.layers.first().map(|layer| &layer.query.matrix);
        match first {
            Some(Matrix::Quantised { group, bits, .. }) => Some((*bits, *group)),
            _ => None,
        }
    }

    /// Runs every segment and evaluates the result. Returns, per segment, the raw logits of the wanted rows
    /// ([rows · vocabulary], 32-bit), or nothing where none were wanted.
    ///
    /// After an error the caches of all segments are unusable and must be dropped.
    ///
    /// # Errors
    /// MLX's own.
    pub fn step(&self, set: &mut [Segment<'_>]) -> Result<Vec<Option<Vec<f32>>>, Exception> {
        let ids: Vec<u32> = set.iter().flat_map(|segment| segment.tokens.iter().copied()).collect();
        // MLX does not check indices; an id beyond the table would read foreign memory.
        if ids.is_empty() || ids.iter().any(|id| *id >= self.shape.vocabulary) {
            return Err(Exception::custom("a token id is outside the model's vocabulary"));
        }
        let rows = i32::try_from(ids.len()).map_err(|_| Exception::custom("too many tokens in one step"))?;
        let embedded = self.embedding.rows(&Array::from_slice(&ids, &[rows]))?;
        let mut x = embedded.reshape(&[1, rows, side(self.shape.hidden)])?;
        for (index, layer) in self.layers.iter().enumerate() {
            x = layer.forward(&x, index, set, &self.shape, &self.rope)?;
        }
        let mut wanted = Vec::new();
        let mut start = 0;
        for segment in set.iter_mut() {
            let length = segment.tokens.len();
            segment.cache.advance(row(length));
            wanted.push((segment.logits_from < length).then(|| row(start + segment.logits_from)..row(start + length)));
            start += length;
        }
        let logits = self.logits(&x, &wanted)?;
        let caches = set.iter().flat_map(|segment| segment.cache.arrays());
        transforms::eval(logits.iter().chain(caches))?;
        let mut host = logits.map(|logits| host_copy(&logits)).transpose()?.unwrap_or_default().into_iter();
        let vocabulary = self.shape.vocabulary as usize;
        let count = |range: &std::ops::Range<i32>| range.len() * vocabulary;
        Ok(wanted.iter().map(|range| range.as_ref().map(|range| host.by_ref().take(count(range)).collect())).collect())
    }

    /// Logits of the wanted rows of all segments, one after the other.
    fn logits(&self, x: &Array, wanted: &[Option<std::ops::Range<i32>>]) -> Result<Option<Array>, Exception> {
        let pieces: Vec<Array> =
            wanted.iter().flatten().map(|range| x.try_index((.., range.clone(), ..))).collect::<Result<_, _>>()?;
        let x = match pieces.as_slice() {
            [] => return Ok(None),
            [only] => only.clone(),
            several => concatenate(several, 1)?,
        };
        let x = rms_norm(&x, Some(&self.norm), self.shape.norm_epsilon)?;
        let logits = match &self.head {
            Some(head) => head.forward(&x)?,
            None => self.embedding.project(&x)?,
        };
        logits.as_dtype(Dtype::Float32).map(Some)
    }
}

impl Layer {
    fn take(weights: &mut Weights, shape: &Shape, index: u32, dtype: Dtype) -> Result<Self, ModelError> {
        let name = |part: &str| format!("model.layers.{index}.{part}");
        Ok(Self {
            attention_norm: weights.vector(&name("input_layernorm.weight"), shape.hidden, dtype)?,
            query: weights.linear(&name("self_attn.q_proj"))?,
            key: weights.linear(&name("self_attn.k_proj"))?,
            value: weights.linear(&name("self_attn.v_proj"))?,
            output: weights.linear(&name("self_attn.o_proj"))?,
            feed_forward_norm: weights.vector(&name("post_attention_layernorm.weight"), shape.hidden, dtype)?,
            gate: weights.linear(&name("mlp.gate_proj"))?,
            up: weights.linear(&name("mlp.up_proj"))?,
            down: weights.linear(&name("mlp.down_proj"))?,
        })
    }

    fn arrays(&self) -> Vec<&Array> {
        let linears = [&self.query, &self.key, &self.value, &self.output, &self.gate, &self.up, &self.down];
        let mut arrays: Vec<_> = linears.into_iter().flat_map(Linear::arrays).collect();
        arrays.extend([&self.attention_norm, &self.feed_forward_norm]);
        arrays
    }

    fn forward(
        &self,
        x: &Array,
        index: usize,
        set: &mut [Segment<'_>],
        shape: &Shape,
        rope: &Rope,
    ) -> Result<Array, Exception> {
        let normed = rms_norm(x, Some(&self.attention_norm), shape.norm_epsilon)?;
        let attended = self.attend(&normed, index, set, shape, rope)?;
        let x = x.add(self.output.forward(&attended)?)?;
        let normed = rms_norm(&x, Some(&self.feed_forward_norm), shape.norm_epsilon)?;
        let gate = self.gate.forward(&normed)?;
        let gated = multiply(multiply(&gate, sigmoid(&gate)?)?, self.up.forward(&normed)?)?;
        x.add(self.down.forward(&gated)?)
    }

    /// Attention of each segment over its own cache; rows in, rows out.
    fn attend(
        &self,
        x: &Array,
        index: usize,
        set: &mut [Segment<'_>],
        shape: &Shape,
        rope: &Rope,
    ) -> Result<Array, Exception> {
        let (queries, keys, values) = (self.query.forward(x)?, self.key.forward(x)?, self.value.forward(x)?);
        let alone = set.len() == 1;
        let mut outputs = Vec::with_capacity(set.len());
        let mut start = 0;
        for segment in set.iter_mut() {
            let length = row(segment.tokens.len());
            let heads_of = |rows: &Array, heads: u32| {
                let rows = if alone { rows.clone() } else { rows.try_index((.., start..start + length, ..))? };
                rows.reshape(&[1, length, side(heads), side(shape.head_dim)])?.transpose_axes(&[0, 2, 1, 3])
            };
            let offset = segment.cache.tokens();
            let query = rope.rotate(&heads_of(&queries, shape.heads)?, offset)?;
            let key = rope.rotate(&heads_of(&keys, shape.kv_heads)?, offset)?;
            let (key, value) = segment.cache.append(index, &key, &heads_of(&values, shape.kv_heads)?)?;
            #[allow(clippy::cast_precision_loss, reason = "head dimensions are a few hundred")]
            let scale = (shape.head_dim as f32).sqrt().recip();
            let mask = (length > 1).then_some(ScaledDotProductAttentionMask::Causal);
            let output = scaled_dot_product_attention(&query, &key, &value, scale, mask, None)?;
            outputs.push(output.transpose_axes(&[0, 2, 1, 3])?.reshape(&[1, length, -1])?);
            start += length;
        }
        match outputs.as_slice() {
            [only] => Ok(only.clone()),
            several => concatenate(several, 1),
        }
    }
}

/// A row number for MLX; a step is bounded far below the limit.
fn row(number: usize) -> i32 {
    i32::try_from(number).unwrap_or(i32::MAX)
}

fn host_copy(array: &Array) -> Result<Vec<f32>, Exception> {
    array.to_vec_exact::<f32>().map_err(|error| Exception::custom(error.to_string()))
}
