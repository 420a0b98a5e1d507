//! The loop: commands, admission, one prefill chunk, one decode step of the set.

use std::collections::VecDeque;
use std::path::Path;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::mpsc::{Receiver, RecvTimeoutError, TryRecvError};
use std::time::{Duration, Instant};

use mlx_rs::{Array, memory};
use mlxsup_fit::budget::{CHUNK_CPU, CHUNK_GPU};
use mlxsup_worker_api::settings::Limits;
use mlxsup_worker_api::{MemoryFacts, Settings};
use tokio::sync::oneshot;

use super::admission::{fits, room};
use super::handle::Command;
use super::load::{Loaded, facts, publish_counters};
use super::prefixes::PrefixCache;
use super::running::{Progress, Running};
use crate::board::Board;
use crate::limits;
use crate::model::{Model, Segment};

/// How long saved prompts may hold up the end. The daemon waits at least 10 s between asking a worker to end and killing
/// it.
pub(crate) const LAST_WRITING: Duration = Duration::from_secs(5);

/// The engine thread's state.
pub(super) struct Engine<'b> {
    model: Model,
    board: &'b Board,
    commands: Receiver<Command>,
    /// False once every handle is gone.
    connected: bool,
    waiting: VecDeque<Running>,
    set: Vec<Running>,
    slots: usize,
    context: u32,
    /// Prompt tokens fed in one turn: a decode step waits no longer than this takes.
    chunk: usize,
    weights_bytes: u64,
    memory_limit: u64,
    clear_after: usize,
    keep_warm: Option<Duration>,
    prefixes: PrefixCache,
    /// Who waits for saved prompts to be on disk.
    saving: Vec<oneshot::Sender<MemoryFacts>>,
}

impl<'b> Engine<'b> {
    pub(super) fn new(loaded: Loaded, settings: &Settings, board: &'b Board, commands: Receiver<Command>) -> Self {
        let mut prefixes = PrefixCache::new(loaded.prefix_cache_bytes, loaded.model.kv_bytes_per_token());
        if let (Some(folder), Some(fingerprint)) = (&settings.prefix_cache_dir, board.fingerprint.get())
            && loaded.prefix_cache_bytes > 0
        {
            prefixes.keep_under(Path::new(folder), fingerprint, &format!("{:?}", loaded.model.dtype()).to_lowercase());
        }
        Self {
            model: loaded.model,
            board,
            commands,
            connected: true,
            waiting: VecDeque::new(),
            set: Vec::new(),
            slots: loaded.slots as usize,
            context: loaded.context,
            chunk: (if loaded.on_gpu { CHUNK_GPU } else { CHUNK_CPU }) as usize,
            weights_bytes: loaded.weights_bytes,
            memory_limit: loaded.memory_limit,
            clear_after: settings.clear_cache_after_tokens as usize,
            keep_warm: settings.idle_keep_warm_ms.filter(|_| loaded.on_gpu).map(Duration::from_millis),
            prefixes,
            saving: Vec::new(),
        }
    }

    /// Works until every handle is gone and every sequence has ended, then leaves saved prompts to the next worker.
    pub(super) fn run(mut self) {
        while self.take_commands() {
            self.drop_cancelled();
            self.admit();
            self.prefill();
            self.decode();
            self.make_room();
            self.publish();
            self.write_prefixes();
        }
        self.board.saving.store(true, Relaxed);
        self.prefixes.write_all(Instant::now() + LAST_WRITING);
        self.board.saving.store(false, Relaxed);
    }

    fn is_idle(&self) -> bool {
        self.has_no_sequence() && self.saving.is_empty()
    }

    fn has_no_sequence(&self) -> bool {
        self.set.is_empty() && self.waiting.is_empty()
    }

    /// One block between two steps, while somebody waits for them to be on disk.
    fn write_prefixes(&mut self) {
        if self.saving.is_empty() || self.prefixes.write_one(self.has_no_sequence()) {
            return;
        }
        let (waiting, facts) = (std::mem::take(&mut self.saving), self.counters());
        self.prefixes.when_written(move || {
            for reply in waiting {
                let _ = reply.send(facts);
            }
        });
    }

    /// Carries out what was asked since the last turn; waits for something while there is no work. False: stop.
    fn take_commands(&mut self) -> bool {
        while self.connected && self.is_idle() {
            let interval = self.keep_warm.unwrap_or(Duration::MAX);
            match self.commands.recv_timeout(interval) {
                Ok(command) => self.carry_out(command),
                Err(RecvTimeoutError::Timeout) => keep_warm(),
                Err(RecvTimeoutError::Disconnected) => self.connected = false,
            }
        }
        loop {
            match self.commands.try_recv() {
                Ok(command) => self.carry_out(command),
                Err(TryRecvError::Empty) => break,
                Err(TryRecvError::Disconnected) => {
                    self.connected = false;
                    break;
                }
            }
        }
        self.connected || !self.is_idle()
    }

    fn carry_out(&mut self, command: Command) {
        match command {
            Command::Sequence(request, ticket) => {
                self.waiting.push_back(Running::new(*request, ticket));
                self.board.waiting.store(number(self.waiting.len()), Relaxed);
            }
            Command::ClearCache(reply) => {
                self.clear_cache();
                // A caller that left does not need the answer.
                let _ = reply.send(self.counters());
            }
            Command::TrimPrefixCache(reply) => {
                self.prefixes.shrink_to(0);
                // Else the buffers would only have changed their name.
                self.clear_cache();
                let _ = reply.send(self.counters());
            }
            Command::SavePrefixCache(reply) => self.saving.push(reply),
            Command::Limits(wanted, reply) => {
                let outcome = self.set_limits(wanted);
                let _ = reply.send(outcome);
            }
        }
    }

    fn clear_cache(&self) {
        match memory::clear_cache() {
            Ok(()) => drop(self.board.cache_clears.fetch_add(1, Relaxed)),
            Err(error) => tracing::warn!("MLX's cache could not be cleared: {}", error.what()),
        }
    }

    fn set_limits(&mut self, wanted: Limits) -> Result<MemoryFacts, String> {
        if let Some(bytes) = wanted.cache_limit_bytes {
            limits::set_cache_limit(bytes).map_err(|error| error.to_string())?;
            facts(self.board, |facts| facts.cache_limit_bytes = Some(bytes));
        }
        if let Some(bytes) = wanted.memory_limit_bytes {
            limits::set_memory_limit(bytes).map_err(|error| error.to_string())?;
            self.memory_limit = bytes;
            facts(self.board, |facts| facts.memory_limit_bytes = Some(bytes));
        }
        Ok(self.counters())
    }

    fn drop_cancelled(&mut self) {
        self.waiting.retain(|sequence| !sequence.is_cancelled());
        let before = self.set.len();
        let (ended, set): (Vec<_>, Vec<_>) = std::mem::take(&mut self.set).into_iter().partition(Running::is_cancelled);
        self.set = set;
        if self.set.len() < before {
            self.after(ended);
        }
    }

    fn admit(&mut self) {
        let per_token = self.model.kv_bytes_per_token();
        while self.set.len() < self.slots {
            let Some(next) = self.waiting.front() else { break };
            let (held, wanted) = (self.held(), next.reserved(per_token));
            if !fits(wanted, &held, self.weights_bytes, self.memory_limit) {
                break;
            }
            self.prefixes.shrink_to(room(wanted, &held, self.weights_bytes, self.memory_limit));
            let Some(next) = self.waiting.pop_front() else { break };
            if next.finish_if_complete(self.context) == Progress::GoesOn {
                self.set.push(next);
            }
        }
    }

    /// Answers grow beyond what was reserved for them: what is saved gives way.
    fn make_room(&mut self) {
        if self.prefixes.bytes() > 0 {
            self.prefixes.shrink_to(self.spare());
        }
    }

    /// Bytes that live sequences leave to saved prompts.
    fn spare(&self) -> u64 {
        room(0, &self.held(), self.weights_bytes, self.memory_limit)
    }

    /// Bytes that admission counts for each sequence of the set.
    fn held(&self) -> Vec<u64> {
        let per_token = self.model.kv_bytes_per_token();
        self.set.iter().map(|sequence| sequence.reserved(per_token)).collect()
    }

    /// Feeds one chunk of the oldest sequence whose prompt is not yet in.
    fn prefill(&mut self) {
        let Some(index) = self.set.iter().position(|sequence| !sequence.is_prefilled()) else { return };
        if self.restore(index) {
            return;
        }
        let before = self.set[index].pending();
        self.step(&[index], self.chunk);
        let after = self.set.get(index).map_or(0, Running::pending);
        self.board.prompt_tokens.fetch_add(before.saturating_sub(after) as u64, Relaxed);
        // Chunk by chunk, so that no turn copies a whole long prompt.
        self.save(index);
        self.sweep();
    }

    /// Gives a sequence that begins what is saved of its beginning. True while that is still on its way from the disk.
    fn restore(&mut self, index: usize) -> bool {
        let room = self.spare();
        let sequence = &mut self.set[index];
        let Some((tokens, reserve)) = sequence.restorable() else { return false };
        if self.prefixes.fetch(tokens, room) {
            return true;
        }
        if let Some(cache) = self.prefixes.restore(tokens, reserve) {
            self.board.restored_tokens.fetch_add(u64::try_from(cache.tokens()).unwrap_or(0), Relaxed);
            sequence.resume_from(cache);
        }
        false
    }

    /// Saves what a sequence has been fed for those that will begin alike.
    fn save(&mut self, index: usize) {
        let room = self.spare();
        let (tokens, cache) = self.set[index].fed_tokens();
        self.prefixes.save(tokens, cache, room);
    }

    fn decode(&mut self) {
        let ready = |set: &[Running], solo: bool| -> Vec<usize> {
            (0..set.len()).filter(|index| set[*index].is_prefilled() && set[*index].solo == solo).collect()
        };
        self.step(&ready(&self.set, false), 1);
        for index in ready(&self.set, true) {
            self.step(&[index], 1);
        }
        self.sweep();
    }

    /// One step of the sequences at `indices` (ascending).
    fn step(&mut self, indices: &[usize], most: usize) {
        if indices.is_empty() {
            return;
        }
        let chosen = |index: &usize| indices.binary_search(index).is_ok();
        let members = self.set.iter_mut().enumerate().filter(|(index, _)| chosen(index));
        let mut segments: Vec<Segment<'_>> = members.map(|(_, sequence)| sequence.segment(most)).collect();
        let from: Vec<usize> =
            segments.iter().map(|segment| usize::try_from(segment.cache.tokens()).unwrap_or(0)).collect();
        let outcome = self.model.step(&mut segments);
        drop(segments);
        self.stepped();

        let vocabulary = self.model.shape().vocabulary as usize;
        let members = self.set.iter_mut().enumerate().filter(|(index, _)| chosen(index)).map(|(_, sequence)| sequence);
        match outcome {
            Ok(logits) => {
                let mut new_tokens = 0;
                for ((sequence, from), logits) in members.zip(from).zip(logits) {
                    let before = sequence.answer_tokens();
                    if sequence.advance(from, logits, vocabulary, self.context) == Progress::Ended {
                        sequence.ended = true;
                    }
                    new_tokens += sequence.answer_tokens() - before;
                }
                self.board.completion_tokens.fetch_add(new_tokens as u64, Relaxed);
            }
            Err(error) if indices.len() == 1 => {
                for sequence in members {
                    tracing::error!("MLX failed in a step: {}", error.what());
                    sequence.fail(error.what());
                    sequence.ended = true;
                }
            }
            Err(error) => {
                // Nobody knows whose fault it was: everyone starts over from its tokens, each on its own.
                tracing::error!(sequences = indices.len(), "MLX failed in a joint step: {}", error.what());
                members.for_each(Running::rebuild);
            }
        }
    }

    /// Removes what has ended.
    fn sweep(&mut self) {
        let (ended, set): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.set).into_iter().partition(|sequence| sequence.ended);
        self.set = set;
        self.after(ended);
    }

    /// Saves what ended sequences held for those that will begin alike, frees it and, after a long answer, MLX's free buffers.
    fn after(&mut self, ended: Vec<Running>) {
        let Some(longest) = ended.iter().map(Running::answer_tokens).max() else { return };
        let room = self.spare();
        for sequence in ended {
            let (tokens, cache) = sequence.fed_tokens();
            self.prefixes.save(tokens, cache, room);
        }
        if self.clear_after > 0 && longest >= self.clear_after {
            self.clear_cache();
        }
    }

    fn stepped(&self) {
        let now = u64::try_from(self.board.started.elapsed().as_millis()).unwrap_or(u64::MAX - 1);
        self.board.last_step_ms.store(now, Relaxed);
        self.board.steps.fetch_add(1, Relaxed);
    }

    fn counters(&self) -> MemoryFacts {
        publish_counters(self.board, self.set.iter().map(Running::cache_bytes).sum(), self.prefixes.bytes())
    }

    fn publish(&self) {
        let sequences = self.set.iter().chain(&self.waiting);
        let pending: usize = sequences.map(Running::pending).sum();
        self.board.pending_prefill_tokens.store(pending as u64, Relaxed);
        self.board.active.store(number(self.set.len()), Relaxed);
        self.board.waiting.store(number(self.waiting.len()), Relaxed);
        self.counters();
    }
}

fn number(count: usize) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}

/// The smallest operation that touches the GPU, which keeps idle weights resident there.
fn keep_warm() {
    let one = Array::from_f32(1.0);
    if let Err(error) = one.add(&one).and_then(|two| two.eval()) {
        tracing::warn!("the idle operation failed: {}", error.what());
    }
}
