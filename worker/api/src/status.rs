//! What a worker says about itself on `GET /status`.
//!
//! The answer is assembled from counters that other threads publish: it costs O(1), never touches MLX, and comes while
//! the engine is wedged. Absent numbers are `None`, never 0.

use serde::{Deserialize, Serialize};

/// The whole report.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct WorkerStatus {
    /// [`crate::PROTOCOL`] of the worker.
    pub protocol: u32,
    /// Process id.
    pub pid: u32,
    /// Generation given at spawn.
    pub generation: u64,
    /// Nonce given at spawn.
    pub nonce: String,
    /// Digest of weights, tokenizer and chat template: two workers with equal fingerprints continue each other's text.
    pub fingerprint: String,
    /// Where the worker is in its life.
    pub phase: Phase,
    /// Why, when `phase` is `failed`.
    #[serde(default)]
    pub failure: Option<String>,
    /// Bytes of weights read so far.
    pub bytes_done: u64,
    /// Bytes of weights in all; 0 while unknown.
    pub bytes_total: u64,
    /// Known once the model is open.
    #[serde(default)]
    pub model: Option<ModelFacts>,
    /// Progress of the engine loop.
    pub engine: EngineFacts,
    /// Memory as the worker sees it.
    pub memory: MemoryFacts,
    /// Totals since start.
    pub counters: Counters,
}

/// Life of a worker as it reports it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Phase {
    /// Fetching the model.
    Downloading,
    /// Reading weights.
    Loading,
    /// First prefill and token, which compile kernels on some backends.
    Warming,
    /// Requests may come.
    Ready,
    /// It will never be ready; `failure` says why.
    Failed,
}

impl Phase {
    /// The lower-case word used in JSON, logs and the terminal.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Downloading => "downloading",
            Self::Loading => "loading",
            Self::Warming => "warming",
            Self::Ready => "ready",
            Self::Failed => "failed",
        }
    }
}

/// Facts that do not change after load.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ModelFacts {
    /// The name clients see in `/v1/models` and answers.
    pub name: String,
    /// For example `llama`.
    pub architecture: String,
    /// For example `4-bit affine, group 32` or `f32 (dequantised)`.
    pub precision: String,
    /// `cpu` or `gpu`.
    pub device: String,
    /// Bytes of weights resident.
    pub weights_bytes: u64,
    /// Bytes one more token costs in one sequence.
    pub kv_bytes_per_token: u64,
    /// Bytes every sequence costs regardless of length.
    pub fixed_bytes_per_sequence: u64,
    /// Tokens (prompt + answer) one request may use.
    pub context_tokens: u32,
}

/// The engine loop's own progress: the heartbeat that proves life.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct EngineFacts {
    /// Steps since start (one decode of the set, or one prefill chunk).
    pub steps: u64,
    /// Milliseconds since the last step ended; `None` before the first.
    #[serde(default)]
    pub last_step_age_ms: Option<u64>,
    /// Prompt tokens not yet prefilled, over all sequences.
    pub pending_prefill_tokens: u64,
    /// Sequences being decoded or prefilled.
    pub active: u32,
    /// Sequences waiting inside the worker.
    pub waiting: u32,
    /// Sequences the worker takes at once.
    pub slots: u32,
}

/// Memory, in bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct MemoryFacts {
    /// Held by live MLX arrays.
    pub mlx_active_bytes: Option<u64>,
    /// Freed buffers MLX keeps for reuse.
    pub mlx_cache_bytes: Option<u64>,
    /// Highest `mlx_active_bytes` so far.
    pub mlx_peak_bytes: Option<u64>,
    /// Residency budget in force; `None` when never set.
    pub wired_limit_bytes: Option<u64>,
    /// Bytes really locked (Linux) as far as known.
    pub wired_bytes: Option<u64>,
    /// MLX cache limit in force.
    pub cache_limit_bytes: Option<u64>,
    /// MLX memory limit in force.
    pub memory_limit_bytes: Option<u64>,
    /// The device's recommended maximum working set.
    pub recommended_working_set_bytes: Option<u64>,
    /// The process's footprint as the kernel charges it.
    pub footprint_bytes: Option<u64>,
    /// The graphics part of the footprint (macOS).
    pub graphics_footprint_bytes: Option<u64>,
    /// The compressed part of the graphics footprint (macOS).
    pub graphics_compressed_bytes: Option<u64>,
    /// Keys and values of live sequences.
    pub kv_bytes: Option<u64>,
    /// Saved prefixes.
    pub prefix_cache_bytes: Option<u64>,
}

/// Totals since the worker started.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Counters {
    /// Generation requests taken.
    pub requests: u64,
    /// Prompt tokens prefilled.
    pub prompt_tokens: u64,
    /// Prompt tokens that were not prefilled, since an earlier request began alike.
    pub restored_tokens: u64,
    /// Tokens generated, replayed ones not counted.
    pub completion_tokens: u64,
    /// Requests whose client hung up.
    pub cancelled: u64,
    /// Requests that ended with an engine error.
    pub failed: u64,
    /// Times MLX's cache was cleared.
    pub cache_clears: u64,
}
