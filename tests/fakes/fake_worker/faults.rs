//! What can be ordered in `MLXSUP_FAKE`.

use serde::Deserialize;

/// Faults and timings; everything absent is harmless.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Faults {
    /// Time from start to ready.
    pub load_ms: u64,
    /// Pause before every token.
    pub token_ms: u64,
    /// Time to read the prompt, told in four prefill comments.
    pub prefill_ms: u64,
    /// Tokens of an answer whose request names no `max_tokens`; 16 if absent.
    pub tokens: Option<u32>,
    /// Sequences offered at once; 4 if absent.
    pub slots: Option<u32>,
    /// Die before doing anything.
    pub crash_at_start: bool,
    /// Die once this many tokens of a choice are out; only the worker of `only_generation`, if that is given.
    pub crash_at_token: Option<u32>,
    /// Write half of the event with this token, then die.
    pub half_frame_at_token: Option<u32>,
    /// Stop answering anything at this token.
    pub wedge_at_token: Option<u32>,
    /// Stop generating at this token while `/status` goes on answering.
    pub stall_at_token: Option<u32>,
    /// End with an engine error at this token.
    pub fail_at_token: Option<u32>,
    /// The token faults above hit only this generation, so that its successor can show that it goes on.
    pub only_generation: Option<u64>,
    /// Do nothing on the terminate signal.
    pub ignore_term: bool,
    /// Report somebody else's nonce.
    pub status_lies: bool,
    /// Report this failure instead of becoming ready, then die.
    pub fail_load: Option<String>,
    /// How to die: an exit code; absent: by abort.
    pub exit_code: Option<u8>,
    /// Bytes reported as footprint and as MLX's cache until it is cleared.
    pub cache_bytes: u64,
    /// Bytes reported as footprint besides the cache.
    pub footprint_bytes: u64,
}

impl Faults {
    /// Reads `MLXSUP_FAKE`; absent means none.
    pub fn from_env() -> Result<Self, String> {
        match std::env::var("MLXSUP_FAKE") {
            Ok(text) => serde_json::from_str(&text).map_err(|why| format!("MLXSUP_FAKE: {why}")),
            Err(_) => Ok(Self::default()),
        }
    }

    /// What goes wrong at token `position` (counted from 1) in the worker of `generation`.
    pub fn at(&self, position: u32, generation: u64) -> Option<Fault> {
        if self.only_generation.is_some_and(|only| only != generation) {
            return None;
        }
        let hits = |token: Option<u32>| token == Some(position);
        if hits(self.half_frame_at_token) {
            Some(Fault::HalfFrame)
        } else if hits(self.crash_at_token) {
            Some(Fault::Crash)
        } else if hits(self.wedge_at_token) {
            Some(Fault::Wedge)
        } else if hits(self.stall_at_token) {
            Some(Fault::Stall)
        } else if hits(self.fail_at_token) {
            Some(Fault::Fail)
        } else {
            None
        }
    }
}

/// One thing that goes wrong at a token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// Die after the token.
    Crash,
    /// Die inside the token's event.
    HalfFrame,
    /// Answer nothing any more.
    Wedge,
    /// Generate nothing any more.
    Stall,
    /// Engine error.
    Fail,
}
