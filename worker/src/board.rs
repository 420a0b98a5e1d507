//! What the worker knows about itself, readable at any time without touching MLX.
//!
//! The engine thread publishes here after every step; `/status` only reads. Counters are relaxed atomics: each is right
//! by itself, and nothing is decided from two of them together.

use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64};
use std::sync::{Mutex, OnceLock};
use std::time::Instant;

use mlxsup_worker_api::{MemoryFacts, ModelFacts, Phase};
use tokio::sync::watch;

/// Shared between the engine thread (writes) and the HTTP side (reads).
#[derive(Debug)]
pub struct Board {
    /// When the worker started; `last_step_ms` counts from here.
    pub started: Instant,
    /// Phase and, when failed, why.
    pub phase: watch::Sender<(Phase, Option<String>)>,
    /// Set once the model is open.
    pub model: OnceLock<ModelFacts>,
    /// Digest of weights, tokenizer and template; set once known.
    pub fingerprint: OnceLock<String>,
    /// Bytes of weights read.
    pub bytes_done: AtomicU64,
    /// Bytes of weights in all.
    pub bytes_total: AtomicU64,
    /// Engine steps.
    pub steps: AtomicU64,
    /// Milliseconds after `started` at which the last step ended; `u64::MAX` before the first.
    pub last_step_ms: AtomicU64,
    /// Prompt tokens not yet prefilled.
    pub pending_prefill_tokens: AtomicU64,
    /// Sequences in the set.
    pub active: AtomicU32,
    /// Sequences waiting for room in the set.
    pub waiting: AtomicU32,
    /// Sequences the set may hold.
    pub slots: AtomicU32,
    /// Memory as last read by the engine thread (MLX counters, limits) — not the process's footprint.
    pub memory: Mutex<MemoryFacts>,
    /// What the kernel charges the process, refreshed by a timer and never on a request.
    pub footprint: Mutex<Footprint>,
    /// Generation requests taken.
    pub requests: AtomicU64,
    /// Prompt tokens prefilled.
    pub prompt_tokens: AtomicU64,
    /// Prompt tokens that saved prompts spared.
    pub restored_tokens: AtomicU64,
    /// Tokens generated.
    pub completion_tokens: AtomicU64,
    /// The engine has ended and leaves saved prompts to the next worker.
    pub saving: AtomicBool,
    /// Requests whose client hung up.
    pub cancelled: AtomicU64,
    /// Requests that ended with an engine error.
    pub failed: AtomicU64,
    /// Times MLX's cache was cleared.
    pub cache_clears: AtomicU64,
}

/// The process's memory as the kernel charges it, in bytes; absent where the platform does not tell.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Footprint {
    /// Resident and compressed or swapped memory of the process's own.
    pub total_bytes: Option<u64>,
    /// The graphics part of it (macOS).
    pub graphics_bytes: Option<u64>,
    /// The compressed part of the graphics part (macOS).
    pub graphics_compressed_bytes: Option<u64>,
    /// Locked in memory (Linux).
    pub locked_bytes: Option<u64>,
}

impl Default for Board {
    fn default() -> Self {
        Self {
            started: Instant::now(),
            phase: watch::Sender::new((Phase::Loading, None)),
            model: OnceLock::new(),
            fingerprint: OnceLock::new(),
            bytes_done: AtomicU64::new(0),
            bytes_total: AtomicU64::new(0),
            steps: AtomicU64::new(0),
            last_step_ms: AtomicU64::new(u64::MAX),
            pending_prefill_tokens: AtomicU64::new(0),
            active: AtomicU32::new(0),
            waiting: AtomicU32::new(0),
            slots: AtomicU32::new(0),
            memory: Mutex::new(MemoryFacts::default()),
            footprint: Mutex::new(Footprint::default()),
            requests: AtomicU64::new(0),
            prompt_tokens: AtomicU64::new(0),
            restored_tokens: AtomicU64::new(0),
            completion_tokens: AtomicU64::new(0),
            saving: AtomicBool::new(false),
            cancelled: AtomicU64::new(0),
            failed: AtomicU64::new(0),
            cache_clears: AtomicU64::new(0),
        }
    }
}
