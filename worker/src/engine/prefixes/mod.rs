//! The prefix cache: keys and values of beginnings of prompts, for the next request that begins alike.
//!
//! ```text
//! prefill or end of a sequence ─ save ─▶ block tree (copies of 64 tokens each, bounded by bytes)
//! a new sequence ─ restore ◀── the longest beginning that is saved, copied together; the rest is prefilled
//! ```
//! Owns the copies. A failure of MLX costs the copy, never the sequence: it is prefilled as if nothing were saved.

mod block_tree;

use mlx_rs::{Array, transforms};

use self::block_tree::{BLOCK, BlockTree};
use crate::model::KvCache;

/// Saved beginnings. Belongs to the engine thread.
#[derive(Debug)]
pub(super) struct PrefixCache {
    tree: BlockTree<Array>,
    /// Bytes it may have at most.
    most: u64,
    block_bytes: u64,
}

impl PrefixCache {
    /// An empty one of at most `most` bytes, for a model of so many bytes of keys and values per token.
    pub(super) fn new(most: u64, kv_bytes_per_token: u64) -> Self {
        Self { tree: BlockTree::default(), most, block_bytes: kv_bytes_per_token.saturating_mul(BLOCK as u64).max(1) }
    }

    /// Bytes of keys and values held.
    pub(super) const fn bytes(&self) -> u64 {
        self.tree.bytes()
    }

    /// A cache with as much of the beginning of `tokens` as is saved, and room for `reserve` tokens in all.
    pub(super) fn restore(&mut self, tokens: &[u32], reserve: usize) -> Option<KvCache> {
        let copies = self.tree.find(tokens);
        if copies.is_empty() {
            return None;
        }
        let restored =
            KvCache::from_copies(&copies, reserve).and_then(|cache| transforms::eval(cache.arrays()).map(|()| cache));
        restored.inspect_err(|error| tracing::warn!("saved prompts could not be copied: {}", error.what())).ok()
    }

    /// Saves the whole blocks of `tokens`, which `cache` holds, and forgets what was not used for longest where the bytes
    /// are needed. `room` bounds it beside its own limit: bytes that nobody else needs now.
    pub(super) fn save(&mut self, tokens: &[u32], cache: &KvCache, room: u64) {
        let most = self.most.min(room);
        let whole = (tokens.len() / BLOCK).min(usize::try_from(most / self.block_bytes).unwrap_or(usize::MAX));
        let tokens = &tokens[..whole * BLOCK];
        let known = self.tree.find(tokens).len();
        if known == whole {
            return;
        }
        let copies: Result<Vec<Array>, _> =
            (known..whole).map(|block| cache.copy(block * BLOCK..(block + 1) * BLOCK)).collect();
        match copies.and_then(|copies| transforms::eval(&copies).map(|()| copies)) {
            Ok(copies) => {
                self.tree.extend(
                    tokens,
                    copies.into_iter().map(|copy| {
                        let bytes = copy.nbytes() as u64;
                        (copy, bytes)
                    }),
                );
                self.shrink_to(most);
            }
            Err(error) => tracing::warn!("a prompt could not be saved: {}", error.what()),
        }
    }

    /// Forgets what was not used for longest until no more than `bytes` are left.
    pub(super) fn shrink_to(&mut self, bytes: u64) {
        self.tree.shrink_to(bytes);
    }
}
