//! Which beginnings of token sequences are saved: a tree of blocks, the least recently used of which goes first.
//!
//! ```text
//! root ─ [t0 … t63] ─┬─ [t64 … t127] ─ …      two conversations with one system prompt
//!                    └─ [u64 … u127]
//! ```
//! Pure: what a block carries is the caller's. Invariant: a block is never older than what hangs on it, so that the oldest
//! block of all is always a leaf, and forgetting it cuts no other off from the root.

use std::collections::{BTreeMap, HashMap};
use std::rc::Rc;

/// Tokens of a block. Smaller ones save more of short prompts, larger ones cost fewer pieces to copy together.
pub(super) const BLOCK: usize = 64;

/// Names a block while it exists; never used twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct BlockId(u64);

#[derive(Debug)]
struct Block<P> {
    parent: Option<BlockId>,
    tokens: Rc<[u32]>,
    children: HashMap<Rc<[u32]>, BlockId>,
    payload: P,
    bytes: u64,
    /// When it was last used; its key in the order.
    used: u64,
}

/// The tree.
#[derive(Debug)]
pub(super) struct BlockTree<P> {
    blocks: HashMap<BlockId, Block<P>>,
    roots: HashMap<Rc<[u32]>, BlockId>,
    /// Least recently used first.
    order: BTreeMap<u64, BlockId>,
    /// Counts uses.
    clock: u64,
    bytes: u64,
}

impl<P> Default for BlockTree<P> {
    fn default() -> Self {
        Self { blocks: HashMap::new(), roots: HashMap::new(), order: BTreeMap::new(), clock: 0, bytes: 0 }
    }
}

impl<P> BlockTree<P> {
    /// Bytes of all blocks, as told when they were added.
    pub(super) const fn bytes(&self) -> u64 {
        self.bytes
    }

    /// What is carried by the whole blocks that `tokens` begin with, in order. They count as used now.
    pub(super) fn find(&mut self, tokens: &[u32]) -> Vec<&P> {
        let path = self.path(tokens);
        self.touch(&path);
        path.iter().filter_map(|id| self.blocks.get(id)).map(|block| &block.payload).collect()
    }

    /// The most recently used block of which `wanted` holds. Of two on one path that is the one nearer to the root.
    pub(super) fn newest_where(&mut self, wanted: impl Fn(&P) -> bool) -> Option<&mut P> {
        let blocks = &self.blocks;
        let is_wanted = |id: &&BlockId| blocks.get(id).is_some_and(|block| wanted(&block.payload));
        let id = *self.order.values().rev().find(is_wanted)?;
        self.blocks.get_mut(&id).map(|block| &mut block.payload)
    }

    /// Adds the blocks of `tokens` that follow on those already here, with what they carry and its bytes, in order. All
    /// blocks of `tokens` count as used now.
    pub(super) fn extend(&mut self, tokens: &[u32], payloads: impl IntoIterator<Item = (P, u64)>) {
        let mut path = self.path(tokens);
        let missing = tokens.chunks_exact(BLOCK).skip(path.len());
        for (chunk, (payload, bytes)) in missing.zip(payloads) {
            let (parent, tokens) = (path.last().copied(), Rc::<[u32]>::from(chunk));
            let id = BlockId(self.clock);
            self.clock += 1;
            let siblings = match parent.and_then(|id| self.blocks.get_mut(&id)) {
                Some(parent) => &mut parent.children,
                None => &mut self.roots,
            };
            siblings.insert(Rc::clone(&tokens), id);
            // Used at its own birth; `touch` below brings the whole path into order.
            let block = Block { parent, tokens, children: HashMap::new(), payload, bytes, used: id.0 };
            self.order.insert(block.used, id);
            self.blocks.insert(id, block);
            self.bytes += bytes;
            path.push(id);
        }
        self.touch(&path);
    }

    /// Forgets the least recently used blocks until no more than `bytes` are left.
    pub(super) fn shrink_to(&mut self, bytes: u64) {
        while self.bytes > bytes {
            let Some((_, id)) = self.order.pop_first() else { return };
            let Some(block) = self.blocks.remove(&id) else { continue };
            debug_assert!(block.children.is_empty(), "the oldest block is a leaf");
            self.bytes -= block.bytes;
            let siblings = match block.parent.and_then(|id| self.blocks.get_mut(&id)) {
                Some(parent) => &mut parent.children,
                None => &mut self.roots,
            };
            siblings.remove(&block.tokens);
        }
    }

    /// The whole blocks that `tokens` begin with, from the root on.
    fn path(&self, tokens: &[u32]) -> Vec<BlockId> {
        let mut path = Vec::new();
        let mut siblings = &self.roots;
        for chunk in tokens.chunks_exact(BLOCK) {
            let Some(id) = siblings.get(chunk) else { break };
            let Some(block) = self.blocks.get(id) else { break };
            path.push(*id);
            siblings = &block.children;
        }
        path
    }

    /// Used now, the deepest first: so a parent is younger than its children.
    fn touch(&mut self, path: &[BlockId]) {
        for id in path.iter().rev() {
            let Some(block) = self.blocks.get_mut(id) else { continue };
            self.order.remove(&block.used);
            block.used = self.clock;
            self.order.insert(self.clock, *id);
            self.clock += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A sequence of blocks, told by one number each.
    fn tokens(blocks: &[u32]) -> Vec<u32> {
        blocks.iter().flat_map(|number| (0..BLOCK).map(move |_| *number)).collect()
    }

    fn save(tree: &mut BlockTree<Vec<u32>>, blocks: &[u32]) {
        let known = tree.find(&tokens(blocks)).len();
        let payloads = (known..blocks.len()).map(|last| (blocks[..=last].to_vec(), 10));
        tree.extend(&tokens(blocks), payloads.collect::<Vec<_>>());
    }

    fn found(tree: &mut BlockTree<Vec<u32>>, blocks: &[u32]) -> usize {
        tree.find(&tokens(blocks)).len()
    }

    #[test]
    fn what_begins_alike_is_stored_once_and_found_up_to_where_it_parts() {
        let mut tree = BlockTree::default();
        save(&mut tree, &[1, 2, 3]);
        save(&mut tree, &[1, 2, 4, 5]);
        assert_eq!(tree.bytes(), 50);
        assert_eq!(found(&mut tree, &[1, 2, 4, 6]), 3);
        assert_eq!(found(&mut tree, &[2]), 0);
        assert_eq!(tree.find(&tokens(&[1, 2])[..2 * BLOCK - 1]).len(), 1, "a part of a block is none");
    }

    #[test]
    fn the_least_recently_used_goes_first_and_never_what_others_stand_on() {
        let mut tree = BlockTree::default();
        save(&mut tree, &[1, 2]);
        save(&mut tree, &[3]);
        save(&mut tree, &[1, 4]);
        tree.shrink_to(30);
        assert_eq!((found(&mut tree, &[1, 2]), found(&mut tree, &[3]), found(&mut tree, &[1, 4])), (1, 1, 2));
        tree.shrink_to(29);
        assert_eq!((found(&mut tree, &[3]), found(&mut tree, &[1, 4])), (0, 2));
        let newest = tree.newest_where(|blocks| blocks.len() == 2).cloned();
        assert_eq!((newest, tree.newest_where(|blocks| blocks.len() == 3)), (Some(vec![1, 4]), None));
        tree.shrink_to(0);
        assert_eq!((tree.bytes(), tree.blocks.len(), tree.roots.len(), tree.order.len()), (0, 0, 0, 0));
    }

    proptest! {
        /// Against a list of everything ever saved: what is found is a true beginning, nothing found was never saved, and
        /// the books agree.
        #[test]
        fn it_holds_what_was_saved_and_nothing_else(
            steps in prop::collection::vec((prop::collection::vec(0..3_u32, 1..5), 0..4_u8, 0..12_u64), 1..60)
        ) {
            let mut tree = BlockTree::default();
            let mut saved: Vec<Vec<u32>> = Vec::new();
            for (blocks, what, most) in steps {
                match what {
                    0 => tree.shrink_to(most * 10),
                    1 => {
                        let whole = tokens(&blocks);
                        let found: Vec<Vec<u32>> = tree.find(&whole).into_iter().cloned().collect();
                        for (index, payload) in found.iter().enumerate() {
                            prop_assert_eq!(payload, &blocks[..=index], "each carries its own beginning");
                        }
                        prop_assert!(found.is_empty() || saved.iter().any(|all| all.starts_with(&blocks[..found.len()])));
                    }
                    _ => {
                        save(&mut tree, &blocks);
                        prop_assert_eq!(found(&mut tree, &blocks), blocks.len(), "what was just saved is there");
                        saved.push(blocks);
                    }
                }
                prop_assert_eq!(tree.bytes(), 10 * tree.blocks.len() as u64);
                prop_assert_eq!(tree.order.len(), tree.blocks.len());
                for (id, block) in &tree.blocks {
                    prop_assert_eq!(tree.order.get(&block.used), Some(id));
                    if let Some(parent) = block.parent {
                        prop_assert!(tree.blocks[&parent].used > block.used, "a parent is younger");
                    }
                }
            }
        }
    }
}
