//! Emptying a cache of the worker, and the proof that it helped; and having what is worth keeping written to disk.
//!
//! ```text
//! asked ─▶ worker: cache before → after ─▶ samples, until the footprint has fallen too ─▶ event and replies
//!             └ nothing worth looking for ─────────────────────────────────────────────▲
//! ```
//! The worker says what its cache has lost. What the system takes off its account follows later, and is what matters.

use std::time::Duration;

use super::event::{CacheCleared, CacheKind};
use super::ids::OperationId;
use super::memory_gate::spoken_bytes;
use super::time::Mono;
use super::verbs::{Outcome, OutcomeKind};
use super::worker_life::Worker;
use super::{Action, Generation, Supervisor, spoken};
use crate::config::Engine;

/// How long the footprint may take to follow. Seen: 0.1 to 4 s.
const PATIENCE: Duration = Duration::from_secs(4);

/// A worker's footprint moves by itself: less than this cannot be told from it. Bytes.
const LEAST_FREED: u64 = 64 << 20;

/// A clearing on its way.
#[derive(Debug, Clone, PartialEq)]
pub struct Clearing {
    generation: Generation,
    cache: CacheKind,
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
    fn awaits(&self, generation: Generation, cache: CacheKind) -> bool {
        self.generation == generation && self.cache == cache && self.freed.is_none()
    }

    /// What is known of it once the worker has done its part; `last` is the footprint as last sampled.
    fn outcome(&self, last: Option<(u64, Mono)>, now: Mono) -> Option<Outcome> {
        let freed = self.freed.as_ref()?;
        let Freed { before, after, since } = *freed;
        let mut message = format!("{}: {} → {}", self.cache.words(), spoken_bytes(before), spoken_bytes(after));
        let mut facts = vec![("before_bytes", before), ("after_bytes", after)];
        if let (Some(heavy), Some(light)) = (self.footprint_before, freed.footprint_since(last)) {
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
        Some(outcome)
    }

    /// True when there is nothing more to wait for.
    fn is_over(&self, last: Option<(u64, Mono)>, now: Mono) -> bool {
        let Some(freed) = &self.freed else { return false };
        let seen = freed.footprint_since(last);
        let fallen = self.footprint_before.zip(seen).is_some_and(|(before, now)| freed.shows(before, now));
        fallen || now >= freed.since + PATIENCE
    }
}

impl CacheKind {
    const fn words(self) -> &'static str {
        match self {
            Self::Buffers => "MLX cache",
            Self::Prefixes => "prefix cache",
        }
    }

    /// The event that tells of it.
    const fn event(self) -> &'static str {
        match self {
            Self::Buffers => "cache_cleared",
            Self::Prefixes => "prefix_cache_trimmed",
        }
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
    /// Asks the worker to empty `cache`; `operation` is told what came of it. False when there is none to ask.
    pub(super) fn clear_cache(&mut self, cache: CacheKind, operation: Option<OperationId>, now: Mono) -> bool {
        let Some(worker) = self.worker.as_ref().filter(|worker| worker.is_ready()) else { return false };
        let generation = worker.generation;
        if let Some(clearing) = self.clearings.iter_mut().find(|clearing| clearing.awaits(generation, cache)) {
            clearing.operations.extend(operation);
            return true;
        }
        // One that only waits for the footprint need not wait any longer.
        self.end_clearings("another worker has taken over", now, |clearing| clearing.cache == cache);
        let footprint_before = self.footprint.map(|(bytes, _)| bytes);
        let operations = operation.into_iter().collect();
        self.clearings.push(Clearing { generation, cache, operations, footprint_before, freed: None });
        self.actions.push(Action::ClearCache { generation, cache });
        true
    }

    /// Has the serving worker write the prompts it keeps to disk while it still serves. One that ends in good order does so
    /// by itself: this is for those who cannot wait for that.
    pub(super) fn save_prefixes(&mut self) {
        let native = |worker: &&Worker| worker.engine == Engine::Native && worker.is_ready();
        if let Some(worker) = self.worker.as_ref().filter(native)
            && self.prefix_bytes.is_some_and(|bytes| bytes > 0)
        {
            self.actions.push(Action::SavePrefixCache { generation: worker.generation });
        }
    }

    /// The worker's word.
    pub(super) fn cleared(
        &mut self,
        generation: Generation,
        cache: CacheKind,
        result: &Result<CacheCleared, String>,
        now: Mono,
    ) {
        let awaits = |clearing: &Clearing| clearing.awaits(generation, cache);
        let Some(index) = self.clearings.iter().position(awaits) else { return };
        let outcome = match result {
            Ok(CacheCleared { before_bytes: Some(before), after_bytes: Some(after) }) => {
                let clearing = &mut self.clearings[index];
                let freed = Freed { before: *before, after: *after, since: now };
                let worth_it = clearing.footprint_before.is_some() && freed.bytes() >= LEAST_FREED;
                clearing.freed = Some(freed);
                if worth_it {
                    self.actions.push(Action::Sample);
                    return;
                }
                return self.end_clearings("", now, |clearing| clearing.cache == cache);
            }
            Ok(_) => Outcome::new(OutcomeKind::Done, format!("{} cleared", cache.words())),
            Err(why) => Outcome::new(OutcomeKind::Failed, format!("the {} was not cleared: {why}", cache.words())),
        };
        let clearing = self.clearings.remove(index);
        self.tell_clearing(clearing, &outcome);
    }

    /// Looks whether the footprint has followed.
    pub(super) fn advance_clearings(&mut self, now: Mono) {
        let last = self.footprint;
        self.end_clearings("", now, |clearing| clearing.is_over(last, now));
    }

    /// When a footprint is looked at for the last time.
    pub(super) fn clearing_deadline(&self) -> Option<Mono> {
        let freed = self.clearings.iter().filter_map(|clearing| clearing.freed.as_ref());
        Some(freed.map(|freed| freed.since).min()? + PATIENCE)
    }

    /// True while samples tell what came of a clearing.
    pub(super) fn is_watching_clearing(&self) -> bool {
        self.clearings.iter().any(|clearing| clearing.freed.is_some())
    }

    /// Ends all of them: the worker is gone, or there will be none. Those nobody can tell about any more failed because of
    /// `why`.
    pub(super) fn give_up_clearings(&mut self, why: &str, now: Mono) {
        self.end_clearings(why, now, |_| true);
    }

    fn end_clearings(&mut self, why: &str, now: Mono, which: impl Fn(&Clearing) -> bool) {
        let (ended, kept) = std::mem::take(&mut self.clearings).into_iter().partition(which);
        self.clearings = kept;
        let ended: Vec<Clearing> = ended;
        for clearing in ended {
            match clearing.outcome(self.footprint, now) {
                Some(outcome) => self.tell_clearing(clearing, &outcome),
                None => self.reply_all(clearing.operations, &Outcome::new(OutcomeKind::Failed, why)),
            }
        }
    }

    fn tell_clearing(&mut self, clearing: Clearing, outcome: &Outcome) {
        self.record(clearing.cache.event(), outcome.message.clone());
        self.reply_all(clearing.operations, outcome);
    }
}
