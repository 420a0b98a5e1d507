//! What the HTTP side holds of the engine.

use std::sync::atomic::AtomicU32;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, PoisonError, mpsc};

use mlxsup_worker_api::settings::Limits;
use mlxsup_worker_api::{MemoryFacts, ModelFacts};
use tokio::sync::oneshot;

use super::sequence::SequenceRequest;
use crate::board::Board;

/// Sequences the engine holds at most, in the set and waiting. The daemon never sends more than slots; this bounds a
/// worker that runs alone.
pub const MAX_WAITING: u32 = 1024;

/// Tokens of an answer for which a prompt must leave memory.
const LEAST_ANSWER: u64 = 256;

/// What the thread is asked to do.
pub(super) enum Command {
    Sequence(Box<SequenceRequest>, Ticket),
    ClearCache(oneshot::Sender<MemoryFacts>),
    TrimPrefixCache(oneshot::Sender<MemoryFacts>),
    SavePrefixCache(oneshot::Sender<MemoryFacts>),
    Limits(Limits, oneshot::Sender<Result<MemoryFacts, String>>),
}

/// Counts a sequence while it exists.
#[derive(Debug, Default)]
pub(super) struct Ticket(Arc<AtomicU32>);

impl Drop for Ticket {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Relaxed);
    }
}

/// The engine thread is gone; its failure is on the board.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the engine is not running")]
pub struct EngineGone;

/// Why a request is not taken. All but `Full` and `Gone` hold for every later try as well.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The prompt fills the context.
    #[error(
        "This model's maximum context length is {context} tokens. However, you requested {prompt} tokens in the messages; \
         reduce their length"
    )]
    Context {
        /// Tokens one request may use.
        context: u32,
        /// Tokens of the prompt.
        prompt: usize,
    },
    /// Prompt and a short answer can never fit the memory limit.
    #[error(
        "This model's maximum context length is {context} tokens. However, you requested {prompt} tokens in the messages, \
         and {needed} bytes of keys and values beside {weights} bytes of weights exceed the memory limit of {limit} bytes; \
         reduce their length or raise memory_limit"
    )]
    Memory {
        /// Tokens one request may use.
        context: u32,
        /// Tokens of the prompt.
        prompt: usize,
        /// Bytes of keys and values of the prompt and 256 tokens.
        needed: u64,
        /// Bytes of weights.
        weights: u64,
        /// The memory limit.
        limit: u64,
    },
    /// A token id the model does not have, or no token at all.
    #[error("the prompt is empty or has a token id outside the model's vocabulary of {vocabulary}")]
    Vocabulary {
        /// Ids the model knows.
        vocabulary: u32,
    },
    /// Too many sequences wait.
    #[error("the worker already holds {MAX_WAITING} sequences; try again later")]
    Full,
    /// The engine thread is gone.
    #[error(transparent)]
    Gone(#[from] EngineGone),
}

/// Sends work to the engine thread. Cheap to clone; the thread ends after the last clone is dropped.
#[derive(Debug, Clone)]
pub struct EngineHandle {
    commands: mpsc::Sender<Command>,
    board: Arc<Board>,
    held: Arc<AtomicU32>,
    context: u32,
    vocabulary: u32,
}

impl EngineHandle {
    pub(super) fn new(commands: mpsc::Sender<Command>, board: Arc<Board>, context: u32, vocabulary: u32) -> Self {
        Self { commands, board, held: Arc::new(AtomicU32::new(0)), context, vocabulary }
    }

    /// Tokens (prompt + answer) one request may use.
    #[must_use]
    pub fn context_tokens(&self) -> u32 {
        self.board.model.get().map_or(self.context, |facts| facts.context_tokens)
    }

    /// Token ids the model knows.
    #[must_use]
    pub const fn vocabulary(&self) -> u32 {
        self.vocabulary
    }

    /// Facts of the model; `None` while it is loading.
    #[must_use]
    pub fn model(&self) -> Option<&ModelFacts> {
        self.board.model.get()
    }

    /// Says whether a prompt of so many tokens (replayed ones not counted) could ever be answered.
    ///
    /// # Errors
    /// [`Refusal::Context`] or [`Refusal::Memory`], with the arithmetic.
    pub fn check(&self, prompt: usize) -> Result<(), Refusal> {
        let context = self.context_tokens();
        if prompt >= context as usize {
            return Err(Refusal::Context { context, prompt });
        }
        let limit = self.board.memory.lock().unwrap_or_else(PoisonError::into_inner).memory_limit_bytes;
        if let (Some(model), Some(limit)) = (self.model(), limit) {
            let weights = model.weights_bytes;
            let needed = (prompt as u64 + LEAST_ANSWER).saturating_mul(model.kv_bytes_per_token);
            if weights.saturating_add(needed) > limit {
                return Err(Refusal::Memory { context, prompt, needed, weights, limit });
            }
        }
        Ok(())
    }

    /// Hands a sequence to the engine; what becomes of it arrives on its `events`. Sequences sent before the model is
    /// ready wait for it.
    ///
    /// # Errors
    /// [`Refusal`]; nothing was sent on `events` then.
    pub fn submit(&self, request: SequenceRequest) -> Result<(), Refusal> {
        self.check(request.prompt.len())?;
        let mut ids = request.prompt.iter().chain(&request.generated);
        if request.prompt.is_empty() || ids.any(|id| *id >= self.vocabulary) {
            return Err(Refusal::Vocabulary { vocabulary: self.vocabulary });
        }
        let ticket = Ticket(Arc::clone(&self.held));
        if self.held.fetch_add(1, Relaxed) >= MAX_WAITING {
            return Err(Refusal::Full);
        }
        self.commands.send(Command::Sequence(Box::new(request), ticket)).map_err(|_| EngineGone.into())
    }

    /// Drops MLX's free buffers between two steps, and returns memory as measured afterwards.
    ///
    /// # Errors
    /// [`EngineGone`].
    pub async fn clear_cache(&self) -> Result<MemoryFacts, EngineGone> {
        self.ask(Command::ClearCache).await
    }

    /// Forgets saved prompts between two steps, gives their buffers back, and returns memory as measured afterwards.
    ///
    /// # Errors
    /// [`EngineGone`].
    pub async fn trim_prefix_cache(&self) -> Result<MemoryFacts, EngineGone> {
        self.ask(Command::TrimPrefixCache).await
    }

    /// Has saved prompts written to disk, one block between two steps; returns when all are.
    ///
    /// # Errors
    /// [`EngineGone`].
    pub async fn save_prefix_cache(&self) -> Result<MemoryFacts, EngineGone> {
        self.ask(Command::SavePrefixCache).await
    }

    /// Changes the cache limit and the admission budget; `Ok(Err(_))` carries MLX's refusal.
    ///
    /// # Errors
    /// [`EngineGone`].
    pub async fn set_limits(&self, limits: Limits) -> Result<Result<MemoryFacts, String>, EngineGone> {
        self.ask(|reply| Command::Limits(limits, reply)).await
    }

    /// Sends a command between two steps and waits for what comes of it.
    async fn ask<T>(&self, command: impl FnOnce(oneshot::Sender<T>) -> Command) -> Result<T, EngineGone> {
        let (reply, answer) = oneshot::channel();
        self.commands.send(command(reply)).map_err(|_| EngineGone)?;
        answer.await.map_err(|_| EngineGone)
    }
}
