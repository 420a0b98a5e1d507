//! Whether a model fits a machine, and what follows from it: one arithmetic for the worker, the daemon and `mlxsupctl`.
//!
//! ```text
//! name ─resolve─▶ files ─gguf, safetensors (headers only)─▶ Model: weights, keys and values per token, state, context
//!                                                               │            Machine: memory, working set, reserve
//!                                                               └─▶ budget ◀─┘      Observed: percentiles, if there are any
//!                                                                     └─▶ limits, slots × context, and every sum they come from
//! ```
//!
//! Owns reading headers (bounded; never a weight) and the arithmetic, which is pure. Does not own what is done with it:
//! the worker sets limits, the daemon shows them, `mlxsupctl tune` proposes them. No MLX, no runtime, no network.

pub mod advice;
pub mod attention;
pub mod budget;
#[cfg(target_os = "linux")]
pub mod cgroup;
pub mod derivation;
pub mod error;
pub mod gguf;
pub mod hub;
pub mod machine;
pub mod model;
pub mod native;
pub mod observed;
pub mod plan;
pub mod resolve;
pub mod safetensors;
pub mod tensor;

pub use advice::{Advice, Circumstances};
pub use attention::Attention;
pub use budget::{Budget, Engine, Question, Room};
pub use derivation::{Derivation, Term};
pub use error::FileError;
pub use machine::{Machine, Source, WorkingSet};
pub use model::{Format, Model};
pub use observed::Observed;
pub use plan::{Plan, Precision};
pub use resolve::ModelSource;
pub use tensor::StoredTensor;

/// The smallest limit that control groups set on this process, if one is below `total` bytes; only Linux has such groups.
#[cfg(target_os = "linux")]
#[must_use]
pub fn group_limit(total: u64) -> Option<u64> {
    cgroup::limit(total)
}

/// The smallest limit that control groups set on this process: there are none here.
#[cfg(not(target_os = "linux"))]
#[must_use]
pub const fn group_limit(_total: u64) -> Option<u64> {
    None
}
