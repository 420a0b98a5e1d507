//! The worker link: every type that crosses the socket between `mlxsupd` and a worker.
//!
//! Owns the shapes and their text forms; does no I/O and depends on serde alone, so that both sides, and tests on
//! either side, agree by construction. Protocol changes bump [`PROTOCOL`].
//!
//! ```text
//! mlxsupd ── spawn: environment (settings::env) + Settings as JSON ──▶ worker
//! mlxsupd ── GET /status ──▶ WorkerStatus          POST /control/*  ──▶ CommandReply
//! mlxsupd ── POST /link/{chat,completions}: Envelope ──▶ events, each with an EventId
//! ```

pub mod envelope;
pub mod event_id;
pub mod settings;
pub mod status;

pub use envelope::{Choice, Envelope, ErrorBody, ErrorObject};
pub use event_id::EventId;
pub use settings::{Settings, WiredLimit};
pub use status::{Counters, EngineFacts, MemoryFacts, ModelFacts, Phase, WorkerStatus};

/// Version of the worker link. The daemon refuses a worker that speaks another one.
pub const PROTOCOL: u32 = 1;

/// Request header on `/control/*`: the daemon's epoch. A lower one than the highest seen is answered 409.
pub const HEADER_EPOCH: &str = "x-mlxsup-epoch";

/// Request header on `/control/*`: the worker's nonce, proof that the command is meant for this very process.
pub const HEADER_NONCE: &str = "x-mlxsup-nonce";

/// Worker-link paths.
pub mod path {
    /// `GET`: [`crate::WorkerStatus`].
    pub const STATUS: &str = "/status";
    /// `POST`: an [`crate::Envelope`] around a chat request; the answer is an event stream.
    pub const LINK_CHAT: &str = "/link/chat";
    /// `POST`: an [`crate::Envelope`] around a completions request; the answer is an event stream.
    pub const LINK_COMPLETIONS: &str = "/link/completions";
    /// `POST`: drop MLX's free-buffer cache; the reply is [`crate::status::MemoryFacts`] measured afterwards.
    pub const CLEAR_CACHE: &str = "/control/clear-cache";
    /// `POST`: forget saved prompts; the reply is [`crate::status::MemoryFacts`] measured afterwards.
    pub const TRIM_PREFIX_CACHE: &str = "/control/trim-prefix-cache";
    /// `POST`: write saved prompts to disk; the reply, [`crate::status::MemoryFacts`], comes when that is done.
    pub const SAVE_PREFIX_CACHE: &str = "/control/save-prefix-cache";
    /// `POST`: change the cache limit or the admission budget ([`crate::settings::Limits`]).
    pub const LIMITS: &str = "/control/limits";
}
