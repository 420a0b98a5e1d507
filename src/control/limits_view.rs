//! The limits part of `status`: what `auto` came to, and what the worker has set.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// `limits` of `status`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct LimitsView {
    /// `worker` once it has reported its limits; before, `derived` from machine and model.
    pub source: String,
    /// Sequences decoded together.
    pub slots: Option<u32>,
    /// Tokens (prompt + answer) one request may use.
    pub context_tokens: Option<u32>,
    /// Bytes kept resident; absent where nothing is.
    pub wired_limit_bytes: Option<u64>,
    /// Bytes of freed buffers MLX may keep.
    pub cache_limit_bytes: Option<u64>,
    /// Bytes from which the worker admits no more.
    pub memory_limit_bytes: Option<u64>,
    /// The device's recommended largest working set, where it has one.
    pub recommended_working_set_bytes: Option<u64>,
    /// `cpu` or `gpu`, once the worker has said.
    pub device: Option<String>,
    /// The sums, by key; `pool` is what is left for requests, `problem` why there are none.
    pub explain: BTreeMap<String, String>,
}
