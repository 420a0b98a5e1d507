//! The configuration file: raw, spanned text in; a [`Config`] without impossible values out.
//!
//! Owns the keys, their defaults and every message about them. Does not look at the machine: `mlxsupd --check` does.
//! [`load`] reports all problems at once, each with file, line, the text underlined and a hint.
//!
//! ```text
//! text ─toml─▶ spanned tables ─raw─▶ sections, schedules, rules ─▶ Config ─combinations─▶ Config or Problems
//! ```

mod builtin;
mod carried;
mod combinations;
pub mod edit;
mod effective;
mod file;
mod home;
mod keys;
mod policy;
mod problem;
mod quantity;
mod raw;
mod reload;
mod report;
mod rules;
mod schedules;
mod sections;
mod show;
mod unknown;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

pub use mlxsup_worker_api::WiredLimit;
use mlxsup_worker_api::settings::Device;
use serde::{Deserialize, Serialize};

pub use builtin::footprint_over_budget;
pub use effective::looks_secret;
pub use file::{LoadError, MINIMAL, load, parse};
pub use home::{check_home, longest_socket_path};
pub use keys::{When, known_keys};
pub use policy::{Action, Condition, IfBusy, Missed, Rule, Schedule, Side, Threshold};
pub use problem::{Problem, Problems, Source};
pub use quantity::{QuantityError, format_duration, format_size, parse_duration, parse_size};
pub use reload::{Change, diff};
pub use schedules::action_name;
pub use show::{show, show_with, to_json};

/// A complete, valid configuration. Relative paths are relative to the home.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    /// `[listen]`.
    pub listen: Listen,
    /// `[worker]`.
    pub worker: Worker,
    /// `[health]`.
    pub health: Health,
    /// `[restart]`.
    pub restart: Restart,
    /// `[drain]`.
    pub drain: Drain,
    /// `[queue]`.
    pub queue: Queue,
    /// `[log]`.
    pub log: Log,
    /// `[[schedule]]`, in file order.
    pub schedules: Vec<Schedule>,
    /// `[[rule]]` and the built-in rules not overridden by name, in evaluation order.
    pub rules: Vec<Rule>,
    /// Hexadecimal digest of the file's text: what `status` shows as `config.hash`.
    pub hash: String,
    /// The text it was read from, for messages of later checks.
    pub source: Source,
}

/// Where clients connect.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listen {
    /// The stable socket; relative to the home or absolute.
    pub socket: PathBuf,
    /// Permission bits of the socket.
    pub mode: u32,
    /// Uids served besides the owner's, by peer credentials.
    pub allow_uids: Vec<u32>,
    /// TCP address, if any.
    pub tcp: Option<std::net::SocketAddr>,
    /// File of keys for TCP, or keyless.
    pub api_key_file: Option<ApiKeyFile>,
    /// Largest request body in bytes.
    pub max_body: u64,
}

/// `listen.api_key_file`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ApiKeyFile {
    /// `"none"`: no key; only with a loopback address.
    Keyless,
    /// Lines `NAME KEY [max_class=…] [max_active=…]`.
    Path(PathBuf),
}

/// What runs.
#[derive(Debug, Clone, PartialEq)]
pub struct Worker {
    /// Which kind of worker.
    pub engine: Engine,
    /// Folder, GGUF file or hub id, `~` expanded.
    pub model: String,
    /// Names answered besides the real one; empty: any.
    pub served_names: Vec<String>,
    /// Command of the worker; native default: `mlxsup-worker` beside `mlxsupd`.
    pub command: Option<Vec<String>>,
    /// `mlx_lm` only: the Python that imports mlx_lm; `None`: the first `python3` that does.
    pub python: Option<PathBuf>,
    /// `openai` only, and always present there: `unix:{socket}` or `http://127.0.0.1:{port}`.
    pub upstream: Option<String>,
    /// `openai` only: path that answers 200 while the process lives.
    pub health_path: String,
    /// `openai` only: path that answers 200 once the model is loaded.
    pub ready_path: String,
    /// Sequences decoded together; `None` is auto.
    pub slots: Option<u32>,
    /// Tokens one request may use; `None` is auto.
    pub context: Option<u32>,
    /// `max_tokens` of a request that names none.
    pub default_max_tokens: u32,
    /// Where the model runs.
    pub device: Device,
    /// Spawn to ready, downloads not counted.
    pub start_timeout: Duration,
    /// Stop the worker after so long without work; `None` is off.
    pub idle_unload: Option<Duration>,
    /// When the machine is kept from idle sleep.
    pub keep_awake: KeepAwake,
    /// Added to the worker's environment.
    pub env: BTreeMap<String, String>,
    /// `[worker.memory]`.
    pub memory: WorkerMemory,
}

/// `worker.engine`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Engine {
    /// `mlxsup-worker`.
    #[serde(rename = "native")]
    Native,
    /// mlx-lm's server behind a bridge.
    #[serde(rename = "mlx_lm")]
    MlxLm,
    /// Any command that serves the OpenAI API.
    #[serde(rename = "openai")]
    OpenAi,
}

impl Engine {
    /// Its name in `mlxsup.toml` and `status`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Native => "native",
            Self::MlxLm => "mlx_lm",
            Self::OpenAi => "openai",
        }
    }

    /// True when a lost answer can go on where it stopped, with another worker of this engine.
    #[must_use]
    pub fn continues(self) -> bool {
        self == Self::Native
    }
}

/// `worker.keep_awake`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeepAwake {
    /// While requests run or wait.
    Busy,
    /// Always.
    Always,
    /// Never.
    Off,
}

/// Limits set before the weights are read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WorkerMemory {
    /// Residency budget.
    pub wired_limit: WiredLimit,
    /// MLX's free-buffer cache, bytes.
    pub cache_limit: u64,
    /// Back-pressure and admission budget, bytes; `None` is auto.
    pub memory_limit: Option<u64>,
    /// Clear MLX's cache after an answer of at least so many tokens; 0 is off.
    pub clear_cache_after_tokens: u32,
    /// Keep-warm interval while idle.
    pub idle_keep_warm: IdleKeepWarm,
}

/// `worker.memory.idle_keep_warm`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IdleKeepWarm {
    /// On where the system drops residency of idle weights (macOS 26 and later).
    Auto,
    /// Never.
    Off,
    /// At this interval.
    Every(Duration),
}

/// How the daemon watches the worker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Health {
    /// Between two `/status` probes.
    pub interval: Duration,
    /// For one probe.
    pub timeout: Duration,
    /// Missed probes before a worker that makes no progress is dead.
    pub failures: u32,
    /// Without progress while work is pending.
    pub stall: Duration,
    /// Idle time before a canary is sent.
    pub canary_after_idle: Duration,
}

/// How a worker is replaced.
#[derive(Debug, Clone, PartialEq)]
pub struct Restart {
    /// Strategy of planned restarts.
    pub mode: RestartMode,
    /// First delay after a crash.
    pub backoff_initial: Duration,
    /// Longest delay after a crash.
    pub backoff_max: Duration,
    /// Crashes allowed per window before parking.
    pub budget: Budget,
    /// Between two tries while parked.
    pub retry_parked: Duration,
    /// Planned recycling.
    pub recycle: Recycle,
}

/// `restart.mode`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RestartMode {
    /// The planner decides.
    Auto,
    /// The replacement loads beside the serving worker.
    Overlap,
    /// The serving worker is retired first, requests wait.
    Sequential,
}

/// `5 in 30m`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Budget {
    /// So many crashes …
    pub crashes: u32,
    /// … within this long.
    pub window: Duration,
}

/// `restart.recycle`; every limit optional.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Recycle {
    /// Age of the worker.
    pub max_age: Option<Duration>,
    /// Requests served.
    pub max_requests: Option<u64>,
    /// Prompt tokens prefilled.
    pub max_prompt_tokens: Option<u64>,
    /// Decode speed relative to the worker's first hour.
    pub min_speed_ratio: Option<f64>,
}

/// `[drain]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Drain {
    /// For requests in flight before they are forced.
    pub grace: Duration,
}

/// `[queue]`.
#[derive(Debug, Clone, PartialEq)]
pub struct Queue {
    /// Requests that may wait.
    pub max_waiting: usize,
    /// Bytes of bodies that may wait.
    pub max_bytes: u64,
    /// Until the first assignment.
    pub max_wait: Duration,
    /// Interval of comments on silent streams.
    pub keepalive: Duration,
    /// Before a plain request is committed and kept alive; `None` is off.
    pub keepalive_plain: Option<Duration>,
    /// Share of the queue one client may hold while another waits.
    pub per_client_share: f64,
}

/// `[log]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Log {
    /// Lowest level written.
    pub level: LogLevel,
    /// Line format of `mlxsupd.log`.
    pub format: LogFormat,
    /// Rotated files kept per log.
    pub keep: u32,
    /// Bytes after which a log rotates.
    pub rotate_at: u64,
}

/// `log.level`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogLevel {
    /// Only failures.
    Error,
    /// And what may become one.
    Warn,
    /// And every decision.
    Info,
    /// And every event and action.
    Debug,
    /// And every byte count.
    Trace,
}

/// `log.format`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// `key=value` text.
    Text,
    /// One JSON object per line.
    Json,
}
