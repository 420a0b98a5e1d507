//! Keys and values of one sequence, growing in blocks.

use std::ops::Range;

use mlx_rs::error::Exception;
use mlx_rs::ops::indexing::{TryIndexMutOp, TryIndexOp};
use mlx_rs::ops::{concatenate, zeros_dtype};
use mlx_rs::{Array, Dtype};

/// Tokens by which a cache grows.
pub const BLOCK: u32 = 256;

/// The cache of every layer of one sequence.
#[derive(Debug, Default)]
pub struct KvCache {
    layers: Vec<LayerCache>,
    /// Tokens in it.
    tokens: i32,
    /// Tokens to make room for at the next growth; 0 grows by blocks.
    reserve: i32,
}

#[derive(Debug)]
struct LayerCache {
    /// [1, kv_heads, capacity, head_dim]
    keys: Array,
    values: Array,
}

impl KvCache {
    /// An empty cache that will take room for `tokens` at once when first used, instead of growing block by block.
    #[must_use]
    pub fn with_reserve(tokens: usize) -> Self {
        Self { reserve: row(tokens), ..Self::default() }
    }

    /// Tokens whose keys and values are in it.
    #[must_use]
    pub const fn tokens(&self) -> i32 {
        self.tokens
    }

    /// Bytes held, room for growth included.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.arrays().map(|array| array.nbytes() as u64).sum()
    }

    /// The arrays to evaluate after a step.
    pub fn arrays(&self) -> impl Iterator<Item = &Array> {
        self.layers.iter().flat_map(|layer| [&layer.keys, &layer.values])
    }

    /// A copy of keys and values of the tokens in `range`, of all layers in one array [2 × layers, kv_heads, tokens,
    /// head_dim]. Not yet evaluated.
    ///
    /// # Errors
    /// MLX's, also when layers differ in shape.
    pub fn copy(&self, range: Range<usize>) -> Result<Array, Exception> {
        let (start, end) = (row(range.start), row(range.end));
        let parts: Vec<Array> =
            self.arrays().map(|array| array.try_index((.., .., start..end, ..))).collect::<Result<_, _>>()?;
        concatenate(&parts, 0)
    }

    /// A cache that begins with these copies, one after the other, and has room for `reserve` tokens. Not yet evaluated.
    ///
    /// # Errors
    /// MLX's, also when the copies are not of one model.
    pub fn from_copies(copies: &[&Array], reserve: usize) -> Result<Self, Exception> {
        let tokens = copies.iter().map(|copy| copy.dim(2)).sum();
        let room = rounded(row(reserve).max(tokens)) - tokens;
        let joined = |part: i32| {
            let mut pieces: Vec<Array> =
                copies.iter().map(|copy| copy.try_index((part..part + 1, .., .., ..))).collect::<Result<_, _>>()?;
            if let Some(first) = pieces.first().filter(|_| room > 0) {
                pieces.push(empty(first, room)?);
            }
            concatenate(&pieces, 2)
        };
        let parts = copies.first().map_or(0, |copy| copy.dim(0));
        let layers =
            (0..parts / 2).map(|layer| Ok(LayerCache { keys: joined(2 * layer)?, values: joined(2 * layer + 1)? }));
        Ok(Self { layers: layers.collect::<Result<_, Exception>>()?, tokens, reserve: 0 })
    }

    /// Appends `keys` and `values` ([1, kv_heads, n, head_dim]) of one layer and returns all of that layer, the new ones
    /// included. Layers must be fed in order; [`Self::advance`] ends the step.
    pub(super) fn append(&mut self, layer: usize, keys: &Array, values: &Array) -> Result<(Array, Array), Exception> {
        let end = self.tokens + keys.dim(2);
        if layer == self.layers.len() {
            let room = rounded(end.max(self.reserve));
            self.layers.push(LayerCache { keys: empty(keys, room)?, values: empty(values, room)? });
        }
        let wanted = self.tokens;
        let cache = self.layers.get_mut(layer).ok_or_else(|| Exception::custom("layers were fed out of order"))?;
        let capacity = cache.keys.dim(2);
        if end > capacity {
            let more = rounded(end) - capacity;
            cache.keys = concatenate(&[&cache.keys, &empty(keys, more)?], 2)?;
            cache.values = concatenate(&[&cache.values, &empty(values, more)?], 2)?;
        }
        cache.keys.try_index_mut((.., .., wanted..end, ..), keys)?;
        cache.values.try_index_mut((.., .., wanted..end, ..), values)?;
        Ok((cache.keys.try_index((.., .., ..end, ..))?, cache.values.try_index((.., .., ..end, ..))?))
    }

    /// Counts `tokens` as appended to every layer.
    pub(super) fn advance(&mut self, tokens: i32) {
        self.tokens += tokens;
    }
}

/// A number of tokens for MLX; a context is far below the limit.
fn row(tokens: usize) -> i32 {
    i32::try_from(tokens).unwrap_or(i32::MAX)
}

fn rounded(tokens: i32) -> i32 {
    let block = super::weights::side(BLOCK);
    tokens.saturating_add(block - 1) / block * block
}

fn empty(like: &Array, tokens: i32) -> Result<Array, Exception> {
    let dtype: Dtype = like.dtype();
    zeros_dtype(&[1, like.dim(1), tokens, like.dim(3)], dtype)
}
