//! The prefix cache: keys and values of beginnings of prompts, for the next request that begins alike.
//!
//! ```text
//! prefill or end of a sequence ─ save ─▶ block tree (copies of 64 tokens each, bounded by bytes)
//!                                            │ ▲   write_one: when asked to, and at the end
//!                                            ▼ │   fetch: what is only there
//!                                           disk
//! a new sequence ─ restore ◀── the longest beginning that is saved, copied together; the rest is prefilled
//! ```
//! Owns the copies. A failure of MLX or of the disk costs the copy, never the sequence: it is prefilled as if nothing were
//! saved.

mod block_tree;
mod disk;

use std::path::Path;
use std::time::Instant;

use mlx_rs::error::Exception;
use mlx_rs::{Array, transforms};

use self::block_tree::{BLOCK, BlockTree};
use self::disk::{BlockKey, PrefixFolder};
use crate::model::KvCache;

/// Bytes fetched from disk between two steps: other sequences wait for it.
const FETCH: u64 = 64 << 20;

/// One saved block.
#[derive(Debug)]
struct Saved {
    copy: Array,
    key: BlockKey,
    on_disk: bool,
}

/// Saved beginnings. Belongs to the engine thread.
#[derive(Debug)]
pub(super) struct PrefixCache {
    tree: BlockTree<Saved>,
    /// Bytes it may have at most, in memory and again on disk.
    most: u64,
    block_bytes: u64,
    /// `None`: nothing outlives the process.
    folder: Option<PrefixFolder>,
}

impl PrefixCache {
    /// An empty one of at most `most` bytes, for a model of so many bytes of keys and values per token.
    pub(super) fn new(most: u64, kv_bytes_per_token: u64) -> Self {
        let block_bytes = kv_bytes_per_token.saturating_mul(BLOCK as u64).max(1);
        Self { tree: BlockTree::default(), most, block_bytes, folder: None }
    }

    /// Also looks for blocks under `root`, and writes them there. `fingerprint` and `dtype` say whose they are.
    pub(super) fn keep_under(&mut self, root: &Path, fingerprint: &str, dtype: &str) {
        match PrefixFolder::open(root, fingerprint, dtype, self.most, self.block_bytes) {
            Ok(folder) => self.folder = Some(folder),
            Err(error) => {
                tracing::warn!(folder = %root.display(), %error, "saved prompts will not outlive this worker");
            }
        }
    }

    /// Bytes of keys and values held in memory.
    pub(super) const fn bytes(&self) -> u64 {
        self.tree.bytes()
    }

    /// A cache with as much of the beginning of `tokens` as is in memory, and room for `reserve` tokens in all.
    pub(super) fn restore(&mut self, tokens: &[u32], reserve: usize) -> Option<KvCache> {
        let saved = self.tree.find(tokens);
        if saved.is_empty() {
            return None;
        }
        let copies: Vec<&Array> = saved.iter().map(|block| &block.copy).collect();
        let restored =
            KvCache::from_copies(&copies, reserve).and_then(|cache| transforms::eval(cache.arrays()).map(|()| cache));
        restored.inspect_err(|error| tracing::warn!("saved prompts could not be copied: {}", error.what())).ok()
    }

    /// Saves the whole blocks of `tokens`, which `cache` holds, and forgets what was not used for longest where the bytes
    /// are needed. `room` bounds it beside its own limit: bytes that nobody else needs now.
    pub(super) fn save(&mut self, tokens: &[u32], cache: &KvCache, room: u64) {
        let (known, key, missing) = self.missing(tokens, room, usize::MAX);
        let blocks = keys(key, missing).enumerate().map(|(index, key)| {
            let start = (known + index) * BLOCK;
            cache.copy(start..start + BLOCK).map(|copy| Saved { copy, key, on_disk: false })
        });
        if let Err(error) = blocks.collect::<Result<_, _>>().and_then(|blocks| self.add(tokens, blocks, room)) {
            tracing::warn!("a prompt could not be saved: {}", error.what());
        }
    }

    /// Brings back from disk what follows in `tokens` on what is in memory: a part of it, so that others need not wait.
    /// True when there was something, and there may be more.
    pub(super) fn fetch(&mut self, tokens: &[u32], room: u64) -> bool {
        let part = usize::try_from(FETCH / self.block_bytes).unwrap_or(usize::MAX).max(1);
        let (_, key, missing) = self.missing(tokens, room, part);
        let Some(folder) = &self.folder else { return false };
        let read = |key| folder.read(key).map(|copy| Saved { copy, key, on_disk: true });
        let blocks: Vec<Saved> = keys(key, missing).map_while(read).collect();
        let found = !blocks.is_empty();
        match self.add(tokens, blocks, room) {
            Ok(()) => found,
            Err(error) => {
                tracing::warn!("a saved prompt could not be read: {}", error.what());
                false
            }
        }
    }

    /// Of `tokens`: how many blocks are in memory, the key of the last of them, and the whole blocks after it, at most so
    /// many and as far as there is room.
    fn missing<'t>(&mut self, tokens: &'t [u32], room: u64, most: usize) -> (usize, Option<BlockKey>, Vec<&'t [u32]>) {
        let fit = usize::try_from(self.most.min(room) / self.block_bytes).unwrap_or(usize::MAX);
        let path = self.tree.find(tokens);
        let (known, key) = (path.len(), path.last().map(|block| block.key));
        let missing = tokens.chunks_exact(BLOCK).take(fit).skip(known).take(most);
        (known, key, missing.collect())
    }

    /// Adds blocks of `tokens` that follow on those in memory.
    fn add(&mut self, tokens: &[u32], blocks: Vec<Saved>, room: u64) -> Result<(), Exception> {
        transforms::eval(blocks.iter().map(|block| &block.copy))?;
        let sized = blocks.into_iter().map(|block| {
            let bytes = block.copy.nbytes() as u64;
            (block, bytes)
        });
        self.tree.extend(tokens, sized);
        self.shrink_to(self.most.min(room));
        Ok(())
    }

    /// Forgets what was not used for longest until no more than `bytes` are left in memory.
    pub(super) fn shrink_to(&mut self, bytes: u64) {
        self.tree.shrink_to(bytes);
    }

    /// Writes the most recently used block that is not on disk. While the disk is behind it does nothing, after a moment if
    /// nobody is kept waiting. False when there is no such block.
    pub(super) fn write_one(&mut self, may_wait: bool) -> bool {
        let Some(folder) = &self.folder else { return false };
        if folder.is_behind() {
            if may_wait {
                folder.wait_a_little();
            }
            return true;
        }
        let Some(block) = self.tree.newest_where(|block| !block.on_disk) else { return false };
        // Also when it fails: a full disk is not tried again with every block.
        block.on_disk = true;
        if let Err(error) = folder.write(block.key, &block.copy) {
            tracing::warn!("a saved prompt could not be written to disk: {error}");
        }
        true
    }

    /// Does something once everything written has reached the disk; at once where nothing is written.
    pub(super) fn when_written(&self, job: impl FnOnce() + Send + 'static) {
        match &self.folder {
            Some(folder) => {
                folder.clean_up();
                folder.then(job);
            }
            None => job(),
        }
    }

    /// Writes everything that is not on disk, as far as it gets until `deadline`.
    pub(super) fn write_all(&mut self, deadline: Instant) {
        while Instant::now() < deadline && self.write_one(true) {}
        self.when_written(|| {});
        if let Some(folder) = &self.folder {
            folder.wait(deadline);
        }
    }
}

/// The names of these blocks, the first of which follows on the block called `key`.
fn keys(mut key: Option<BlockKey>, blocks: Vec<&[u32]>) -> impl Iterator<Item = BlockKey> {
    blocks.into_iter().map(move |tokens| {
        let next = BlockKey::after(key, tokens);
        key = Some(next);
        next
    })
}
