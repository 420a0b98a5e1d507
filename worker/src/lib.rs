//! The MLX worker: one process that holds one model and answers for it.
//!
//! ```text
//! serve (tokio): /status · /control · /link · /v1      text: tokenizer, template, detokeniser
//!        │ SequenceRequest                ▲ SequenceEvent            openai: request in, chunks out
//!        ▼                                │                          sampling: host-side choice of the token
//! engine (one thread owns MLX): admits sequences, prefills in chunks, steps the set
//!        │ counters                                                   model: weights, layers, caches
//!        ▼
//! board: what `/status` reads without touching MLX            launch: how the process begins and ends
//! ```

pub mod board;
pub mod engine;
pub mod last_exit;
pub mod launch;
pub mod limits;
pub mod linux_compat;
pub mod model;
pub mod openai;
pub mod sampling;
pub mod serve;
pub mod text;

pub use mlxsup_fit::gguf;
