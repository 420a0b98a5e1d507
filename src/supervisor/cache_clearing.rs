//! Clearing MLX's cache, and the proof that it helped.
//!
//! ```text
//! asked ─▶ worker: cache before → after ─▶ samples, until the footprint has fallen too ─▶ event and replies
//!             └ nothing worth looking for ─────────────────────────────────────────────▲
//! ```
//! The worker says what its cache has lost. What the system takes off its account follows later, and is what matters.

use std::time::Duration;

use super::event::CacheCleared;
use super::ids::OperationId;
use super::memory_gate::spoken_bytes;
use super::time::Mono;
use super::verbs::{Outcome, OutcomeKind};
use super::{Action, Generation, Supervisor, spoken};

/// How long the footprint may take to follow. Seen: 0.1 to 4 s.
const PATIENCE: Duration = Duration::from_secs(4);

/// A worker's footprint moves by itself: less than this cannot be told from it. Bytes.
const LEAST_FREED: u64 = 64 << 20;

/// A clearing on its way.
#[derive(Debug, Clone, PartialEq)]
pub struct Clearing {
    generation: Generation,
    /// Who waits for it.
    operations: Vec<OperationId>,
    /// What the worker weighed before, bytes.
    footprint_before: Option<u64>,
    /// The worker has done it; the footprint is awaited.
    freed: Option<Freed>,
}

#[derive(Debug, Clone, PartialEq)]
struct Freed {
    /// Of the cache, bytes.
    before: u64,
    after: u64,
    since: Mono,
}

impl Clearing {
    /// True while the worker's word is awaited.
    fn awaits(&self, generation: Generation) -> bool {
        self.generation == generation && self.freed.is_none()
    }
}

impl Freed {
    fn bytes(&self) -> u64 {
        self.before.saturating_sub(self.after)
    }

    /// What the worker weighs since then, if a sample has told.
    fn footprint_since(&self, last: Option<(u64, Mono)>) -> Option<u64> {
        last.filter(|(_, at)| *at > self.since).map(|(bytes, _)| bytes)
    }

    /// True when the footprint has followed. The worker allocates anew meanwhile, so that all of it is too much to ask.
    fn shows(&self, before: u64, now: u64) -> bool {
        before.saturating_sub(now) >= self.bytes() / 2
    }
}

impl Supervisor {
    /// Asks the worker to drop its free buffers; `operation` is told what came of it. False when there is none to ask.
    pub(super) fn clear_cache(&mut self, operation: Option<OperationId>, now: Mono) -> bool {
        let Some(worker) = self.worker.as_ref().filter(|worker| worker.is_ready()) else { return false };
        let generation = worker.generation;
        if let Some(clearing) = self.clearing.as_mut().filter(|clearing| clearing.awaits(generation)) {
            clearing.operations.extend(operation);
            return true;
        }
        let overtaken = self.give_up_clearing(now);
        self.reply_all(overtaken, &Outcome::new(OutcomeKind::Failed, "another worker has taken over"));
        let footprint_before = self.footprint.map(|(bytes, _)| bytes);
        let operations = operation.into_iter().collect();
        self.clearing = Some(Clearing { generation, operations, footprint_before, freed: None });
        self.actions.push(Action::ClearCache { generation });
        true
    }

    /// The worker's word.
    pub(super) fn cache_cleared(&mut self, generation: Generation, result: &Result<CacheCleared, String>, now: Mono) {
        let Some(clearing) = self.clearing.as_mut().filter(|clearing| clearing.awaits(generation)) else { return };
        match result {
            Ok(CacheCleared { before_bytes: Some(before), after_bytes: Some(after) }) => {
                let freed = Freed { before: *before, after: *after, since: now };
                let worth_it = clearing.footprint_before.is_some() && freed.bytes() >= LEAST_FREED;
                clearing.freed = Some(freed);
                if worth_it {
                    self.actions.push(Action::Sample);
                } else {
                    self.conclude_clearing(now);
                }
            }
            Ok(_) => self.end_clearing(&Outcome::new(OutcomeKind::Done, "MLX cache cleared")),
            Err(why) => {
                self.end_clearing(&Outcome::new(OutcomeKind::Failed, format!("the cache was not cleared: {why}")));
            }
        }
    }

    /// Looks whether the footprint has followed.
    pub(super) fn advance_clearing(&mut self, now: Mono) {
        let Some(Clearing { footprint_before, freed: Some(freed), .. }) = &self.clearing else { return };
        let seen = freed.footprint_since(self.footprint);
        let fallen = footprint_before.zip(seen).is_some_and(|(before, now)| freed.shows(before, now));
        if fallen || now >= freed.since + PATIENCE {
            self.conclude_clearing(now);
        }
    }

    /// When the footprint is looked at for the last time.
    pub(super) fn clearing_deadline(&self) -> Option<Mono> {
        Some(self.clearing.as_ref()?.freed.as_ref()?.since + PATIENCE)
    }

    /// True while samples tell what came of a clearing.
    pub(super) fn is_watching_clearing(&self) -> bool {
        self.clearing.as_ref().is_some_and(|clearing| clearing.freed.is_some())
    }

    /// Says what is known of a clearing that the worker has done.
    fn conclude_clearing(&mut self, now: Mono) {
        let Some(Clearing { footprint_before, freed: Some(freed), .. }) = &self.clearing else { return };
        let Freed { before, after, since } = *freed;
        let seen = freed.footprint_since(self.footprint);
        let mut message = format!("MLX cache: {} → {}", spoken_bytes(before), spoken_bytes(after));
        let mut facts = vec![("before_bytes", before), ("after_bytes", after)];
        if let (Some(heavy), Some(light)) = (*footprint_before, seen) {
            let remark = if freed.shows(heavy, light) { "" } else { ", less than was freed" };
            let (heavy_words, light_words) = (spoken_bytes(heavy), spoken_bytes(light));
            message =
                format!("{message}; footprint {heavy_words} → {light_words} after {}{remark}", spoken(now - since));
            facts.extend([("footprint_before_bytes", heavy), ("footprint_after_bytes", light)]);
        }
        let mut outcome = Outcome::new(OutcomeKind::Done, message);
        for (name, count) in facts {
            #[expect(clippy::cast_precision_loss, reason = "bytes far below 2^52")]
            let count = count as f64;
            outcome = outcome.with_fact(name, count);
        }
        self.end_clearing(&outcome);
    }

    fn end_clearing(&mut self, outcome: &Outcome) {
        let Some(clearing) = self.clearing.take() else { return };
        self.record("cache_cleared", outcome.message.clone());
        self.reply_all(clearing.operations, outcome);
    }

    /// The worker is gone, or there will be none. Returns whom nobody can tell a result any more.
    pub(super) fn give_up_clearing(&mut self, now: Mono) -> Vec<OperationId> {
        self.conclude_clearing(now);
        self.clearing.take().map_or_else(Vec::new, |clearing| clearing.operations)
    }
}
