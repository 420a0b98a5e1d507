//! How the daemon tells a worker what to be: environment names and the settings document.

use serde::{Deserialize, Serialize};

/// Environment variables of a spawned worker.
pub mod env {
    /// Number of the inherited descriptor on which one newline means "ready".
    pub const READY_FD: &str = "MLXSUP_READY_FD";
    /// Path of the Unix socket the worker must bind.
    pub const SOCKET: &str = "MLXSUP_SOCKET";
    /// Decimal generation of this worker.
    pub const GENERATION: &str = "MLXSUP_GENERATION";
    /// 128-bit random identity of this worker, 32 hexadecimal digits.
    pub const NONCE: &str = "MLXSUP_NONCE";
    /// Decimal epoch of the daemon that spawned this worker.
    pub const EPOCH: &str = "MLXSUP_EPOCH";
    /// [`super::Settings`] as JSON.
    pub const SETTINGS: &str = "MLXSUP_SETTINGS";
}

/// What a native worker runs with. Absent numbers mean "auto": the worker derives and reports them.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// A folder in MLX/Hugging Face layout, a GGUF file, or a hub id that is already in the hub cache.
    pub model: String,
    /// `auto`, `gpu` or `cpu`.
    pub device: Device,
    /// Sequences decoded together; `None` is auto.
    pub slots: Option<u32>,
    /// Tokens (prompt + answer) one request may use; `None` is auto: the model's own context.
    pub context: Option<u32>,
    /// `max_tokens` of a request that names none.
    pub default_max_tokens: u32,
    /// Bytes of weights kept resident.
    pub wired_limit: WiredLimit,
    /// Bytes of freed buffers MLX may keep for reuse.
    pub cache_limit_bytes: u64,
    /// MLX back-pressure and the worker's own admission budget in bytes; `None` is auto.
    pub memory_limit_bytes: Option<u64>,
    /// Clear MLX's cache after an answer of at least this many tokens; 0 turns it off.
    pub clear_cache_after_tokens: u32,
    /// Interval of a tiny GPU operation while idle, in milliseconds; `None` is off.
    pub idle_keep_warm_ms: Option<u64>,
    /// Folder in which saved prompts outlive the worker; absent: they end with it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub prefix_cache_dir: Option<String>,
    /// Seconds without any daemon contact after which the worker finishes what it has and exits 0.
    pub lease_s: u64,
    /// `model` values answered besides the real name; empty means any.
    pub served_names: Vec<String>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            model: String::new(),
            device: Device::Auto,
            slots: None,
            context: None,
            default_max_tokens: 8192,
            wired_limit: WiredLimit::Auto,
            cache_limit_bytes: 512 << 20,
            memory_limit_bytes: None,
            clear_cache_after_tokens: 500,
            idle_keep_warm_ms: None,
            prefix_cache_dir: None,
            lease_s: 15 * 60,
            served_names: Vec::new(),
        }
    }
}

/// Where the model runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Device {
    /// The GPU when MLX has one, else the CPU.
    Auto,
    /// The GPU, or an error.
    Gpu,
    /// The CPU.
    Cpu,
}

/// The residency budget handed to MLX before any weight is read (on the Linux CPU backend: bytes locked in memory).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum WiredLimit {
    /// Derived from machine and model.
    Auto,
    /// Never call MLX for it.
    Off,
    /// Exactly so many bytes.
    Bytes(u64),
}

/// Body of `POST /control/limits`: only what is present changes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    /// New MLX cache limit in bytes.
    pub cache_limit_bytes: Option<u64>,
    /// New admission budget in bytes.
    pub memory_limit_bytes: Option<u64>,
}
