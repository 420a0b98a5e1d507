//! What can be ordered: faults and timings as JSON, in the file that `MLXSUP_FAKE_FILE` names, else in `MLXSUP_FAKE`.
//!
//! The file is read anew at every start of a worker, so that a test can order something else for the next generation.

use serde::Deserialize;

use crate::chance::Chance;

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
    /// The model's identity; `fake` if absent.
    pub fingerprint: Option<String>,
    /// Die before doing anything.
    pub crash_at_start: bool,
    /// Die once this many tokens of a choice are out; only the worker of `only_generation`, if that is given.
    pub crash_at_token: Option<u32>,
    /// Write half of the event with this token, then die.
    pub half_frame_at_token: Option<u32>,
    /// Stop answering anything at this token.
    pub wedge_at_token: Option<u32>,
    /// Stop the whole process (SIGSTOP) at this token.
    pub stop_at_token: Option<u32>,
    /// Stop generating at this token while `/status` goes on answering.
    pub stall_at_token: Option<u32>,
    /// End with an engine error at this token.
    pub fail_at_token: Option<u32>,
    /// The token faults above, `crash_at_start` and `fail_load` hit only this generation, so that its successor can show
    /// that it goes on.
    pub only_generation: Option<u64>,
    /// The token faults above spare so many requests of a worker, its first ones.
    pub spared_requests: u64,
    /// Answer every generation with this HTTP status and an error object.
    pub refuse_generations: Option<u16>,
    /// Say ready at once, though the load takes its time and every generation is refused meanwhile.
    pub ready_before_load: bool,
    /// Do nothing on the terminate signal.
    pub ignore_term: bool,
    /// Report somebody else's nonce.
    pub status_lies: bool,
    /// Report the same engine step for ever.
    pub frozen_steps: bool,
    /// Answer requests of one token, as the canary is, with another word than the right one.
    pub canary_wrong: bool,
    /// Report this failure instead of becoming ready, then die.
    pub fail_load: Option<String>,
    /// Probability, from 0 to 1, that a worker fails its load.
    pub fail_load_chance: f64,
    /// Probability, from 0 to 1, that a request kills the worker at some token of it.
    pub crash_chance: f64,
    /// What the chances above are drawn from, together with the generation.
    pub seed: u64,
    /// How to die: an exit code; absent: by abort.
    pub exit_code: Option<u8>,
    /// Bytes reported as footprint and as MLX's cache until it is cleared.
    pub cache_bytes: u64,
    /// Bytes of saved prompts it reports; absent: it keeps no prefix cache.
    pub prefix_cache_bytes: Option<u64>,
    /// Bytes reported as footprint besides the cache.
    pub footprint_bytes: u64,
    /// Reported footprint added per second once ready.
    pub growth_bytes_per_s: u64,
    /// Pages really touched, so that the kernel charges them; given back while shrinking.
    pub resident_bytes: u64,
    /// Time from the terminate signal to the exit, during which the footprint falls to nothing.
    pub shrink_ms: u64,
    /// Bytes that stay wired after a death that was no orderly end; kept in the file that `MLXSUP_FAKE_MEMORY` names.
    pub strand_bytes: u64,
    /// Leave after so long without word from a daemon; absent: the lease in the settings.
    pub lease_ms: Option<u64>,
}

impl Faults {
    /// Reads the orders; none at all means none.
    pub fn read() -> Result<Self, String> {
        let (name, text) = match std::env::var("MLXSUP_FAKE_FILE") {
            Ok(path) => {
                let text = std::fs::read_to_string(&path).map_err(|why| format!("MLXSUP_FAKE_FILE {path}: {why}"))?;
                (path, text)
            }
            Err(_) => ("MLXSUP_FAKE".to_owned(), std::env::var("MLXSUP_FAKE").unwrap_or_default()),
        };
        if text.trim().is_empty() {
            return Ok(Self::default());
        }
        serde_json::from_str(&text).map_err(|why| format!("{name}: {why}"))
    }

    /// True where the faults are meant for this generation.
    pub fn hit(&self, generation: u64) -> bool {
        self.only_generation.is_none_or(|only| only == generation)
    }

    /// The failure this worker's load ends with.
    pub fn load_failure(&self, generation: u64) -> Option<String> {
        let unlucky = || Chance::of(&[self.seed, generation]).happens(self.fail_load_chance);
        let ordered = self.fail_load.clone().filter(|_| self.hit(generation));
        ordered.or_else(|| unlucky().then(|| "the dice said no".to_owned()))
    }

    /// The token, of `tokens`, at which the worker's `request`-th request kills it.
    pub fn fatal_token(&self, generation: u64, request: u64, tokens: u32) -> Option<u32> {
        let mut chance = Chance::of(&[self.seed, generation, request]);
        chance.happens(self.crash_chance).then(|| 1 + chance.below(tokens.max(1)))
    }

    /// What goes wrong at token `position` (counted from 1) of the `request`-th request (from 0) of the worker of
    /// `generation`.
    pub fn at(&self, position: u32, generation: u64, request: u64) -> Option<Fault> {
        if !self.hit(generation) || request < self.spared_requests {
            return None;
        }
        [
            (self.half_frame_at_token, Fault::HalfFrame),
            (self.crash_at_token, Fault::Crash),
            (self.wedge_at_token, Fault::Wedge),
            (self.stop_at_token, Fault::Stop),
            (self.stall_at_token, Fault::Stall),
            (self.fail_at_token, Fault::Fail),
        ]
        .into_iter()
        .find_map(|(token, fault)| (token == Some(position)).then_some(fault))
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
    /// Stop the process.
    Stop,
    /// Generate nothing any more.
    Stall,
    /// Engine error.
    Fail,
}
