//! What one worker may take, and how many requests of which length that is enough for. Pure arithmetic.
//!
//! ```text
//! memory_limit = min(memory − reserve, 95 % of the working set)       what the machine gives, whatever else runs
//! pool         = memory_limit − weights − runtime                     what is left for requests
//! n × (state + keys and values of L tokens) + scratch of L ≤ pool     n slots, each of L tokens
//! wired_limit  = min(weights + state, working set, memory − reserve)  keys and values stay pageable
//! ```
//!
//! Nothing here depends on what happens to be free: the same machine, model and configuration give the same numbers.

use mlxsup_worker_api::WiredLimit;
use serde::Serialize;

use crate::advice::count;
use crate::attention::BLOCK;
use crate::derivation::{Derivation, Term};
use crate::machine::Machine;
use crate::model::Model;
use crate::plan::{Plan, Precision};

/// What a process on the GPU costs beside weights, keys and values: runtime, compiled kernels, activations. Fitted to
/// published peaks within 0.1 GB.
const RUNTIME_GPU: u64 = 1_600_000_000;
/// The same on the CPU, where nothing is compiled for the device.
const RUNTIME_CPU: u64 = 512 << 20;

/// Sequences decoded together by default.
const SLOTS_CPU: u32 = 4;
const SLOTS_GPU: u32 = 8;

/// Prompt tokens the native worker reads at once: few enough that decoding beside it does not stall.
pub const CHUNK_CPU: u32 = 256;
/// The same on the GPU.
pub const CHUNK_GPU: u32 = 512;
/// mlx-lm's default.
const CHUNK_MLX_LM: u32 = 2048;

/// A slot that cannot hold so many tokens is not worth having.
pub const LEAST_PER_SLOT: u32 = 4096;
/// A model that cannot take one request of this length does not fit.
const LEAST_CONTEXT: u32 = 2048;

/// Who runs the model.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Engine {
    /// mlxsup's own worker.
    Native,
    /// mlx-lm's server, or anything else built like it.
    MlxLm,
}

/// Everything the numbers depend on.
#[derive(Debug, Clone, Copy)]
pub struct Question<'a> {
    /// The model.
    pub model: &'a Model,
    /// The machine.
    pub machine: &'a Machine,
    /// Who runs it.
    pub engine: Engine,
    /// Configured slots; `None` is auto.
    pub slots: Option<u32>,
    /// Configured context; `None` is auto.
    pub context: Option<u32>,
    /// Configured wired limit.
    pub wired_limit: WiredLimit,
    /// Configured memory limit, bytes; `None` is auto.
    pub memory_limit: Option<u64>,
}

/// So many slots of so many tokens fit at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Room {
    /// Sequences.
    pub slots: u32,
    /// Tokens (prompt and answer) of each.
    pub context: u32,
}

/// The numbers and their sums.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Budget {
    /// Bytes of weights in memory.
    pub weights_bytes: u64,
    /// True where the CPU has them unpacked to 32-bit floats.
    pub unpacked: bool,
    /// Bytes one more token costs in a long sequence.
    pub kv_bytes_per_token: u64,
    /// Bytes every sequence costs whatever its length.
    pub state_bytes: u64,
    /// Bytes of the process beside weights, keys and values.
    pub runtime_bytes: u64,
    /// Prompt tokens read at once.
    pub chunk: u32,
    /// Where the worker stops admitting.
    pub memory_limit: Derivation,
    /// Bytes kept resident; `None` where it is off or the device has no such thing.
    pub wired_limit: Option<Derivation>,
    /// What is left for requests.
    pub pool: Derivation,
    /// What one short request takes in all, the model included.
    pub need: Derivation,
    /// Bytes by which the model is too big; `None` when it fits.
    pub too_big_by: Option<u64>,
    /// Sequences decoded together.
    pub slots: u32,
    /// Tokens one request may use.
    pub context: u32,
    /// What fits at once, for 1, 2, 4 … slots; empty when nothing does.
    pub rooms: Vec<Room>,
    #[serde(skip)]
    costs: Costs,
}

/// What sequences cost here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Costs {
    attention: crate::attention::Attention,
    element: u64,
    chunk: u64,
    gpu: bool,
    longest: u32,
    pool: u64,
}

/// Saved prompts get no more than this, however large the machine: beyond it, a hit is worth less than the memory.
/// Ollama's MLX runner stops at the same size.
const MOST_PREFIXES: u64 = 8 << 30;

impl Budget {
    /// Bytes that prompts kept for later requests may have: a quarter of what is left for requests, as long as those leave
    /// it, and at most 8 GiB.
    #[must_use]
    pub fn prefix_cache_bytes(&self) -> u64 {
        (self.pool.bytes / 4).min(MOST_PREFIXES)
    }
}

impl Question<'_> {
    /// The numbers.
    #[must_use]
    pub fn answer(&self) -> Budget {
        let (model, machine) = (self.model, self.machine);
        let memory_limit = match self.memory_limit {
            Some(bytes) => Derivation::of("memory_limit", bytes, vec![Term::plus("as configured", bytes)]),
            None => machine.memory_limit_sum(),
        };
        let on_cpu = !machine.gpu && self.engine == Engine::Native;
        let plan = Plan::new(model.stored_bytes, model.unpacked_bytes, on_cpu, memory_limit.bytes);
        let element = if plan.precision == Precision::Float32 { 4 } else { model.element_bytes };
        let (runtime, chunk, most_slots) = match (self.engine, machine.gpu) {
            // mlx-lm itself would decode 32, and has no budget that holds any back.
            (Engine::MlxLm, _) => (RUNTIME_GPU, CHUNK_MLX_LM, SLOTS_GPU),
            (Engine::Native, true) => (RUNTIME_GPU, CHUNK_GPU, SLOTS_GPU),
            (Engine::Native, false) => (RUNTIME_CPU, CHUNK_CPU, SLOTS_CPU),
        };
        let pool = Derivation::sum(
            "for requests",
            vec![
                Term::plus("memory_limit", memory_limit.bytes),
                Term::minus("weights", plan.weights_bytes),
                Term::minus("runtime", runtime),
            ],
        );
        let costs = Costs {
            attention: model.attention,
            element,
            chunk: chunk.into(),
            gpu: machine.gpu,
            longest: model.context,
            pool: pool.bytes,
        };
        let shortest = model.context.min(LEAST_CONTEXT);
        let need = Derivation::sum(
            "needs",
            vec![
                Term::plus("weights", plan.weights_bytes),
                Term::plus("runtime", runtime),
                Term::plus(format!("one request of {} tokens", count(shortest)), costs.of(1, shortest)),
            ],
        );
        let too_big_by = need.bytes.checked_sub(memory_limit.bytes).filter(|bytes| *bytes > 0);
        let slots = self.slots.unwrap_or_else(|| {
            let enough = model.context.min(LEAST_PER_SLOT);
            (1..=most_slots).rev().find(|slots| costs.longest_with(*slots) >= enough).unwrap_or(1)
        });
        let context = match self.context {
            Some(wanted) => wanted.min(model.context),
            // One that runs alone runs to its end: even where the sum says no, a request is not refused for nothing.
            None => costs.longest_with(1).max(shortest),
        };
        let state_bytes = model.attention.state_bytes;
        Budget {
            weights_bytes: plan.weights_bytes,
            unpacked: plan.precision == Precision::Float32,
            kv_bytes_per_token: model.attention.kv_bytes_per_token(element),
            state_bytes,
            runtime_bytes: runtime,
            chunk,
            wired_limit: self.wired(plan.weights_bytes, u64::from(slots).saturating_mul(state_bytes)),
            memory_limit,
            pool,
            need,
            too_big_by,
            slots,
            context,
            rooms: costs.rooms(most_slots.max(slots)),
            costs,
        }
    }

    fn wired(&self, weights: u64, state: u64) -> Option<Derivation> {
        if !self.machine.can_wire {
            return None;
        }
        match self.wired_limit {
            WiredLimit::Off => None,
            WiredLimit::Auto => {
                Some(wired(self.machine, vec![Term::plus("weights", weights), Term::plus("state", state)]))
            }
            WiredLimit::Bytes(bytes) => {
                let most = self.machine.working_set_bytes().unwrap_or(u64::MAX);
                let word = if bytes > most { "working set" } else { "as configured" };
                let bytes = bytes.min(most);
                Some(Derivation::of("wired_limit", bytes, vec![Term::plus(word, bytes)]))
            }
        }
    }
}

/// A wired limit of these parts, cut to what the machine allows.
#[must_use]
pub fn wired(machine: &Machine, parts: Vec<Term>) -> Derivation {
    let cap = machine.wired_cap();
    let sum = Derivation::sum("wired_limit", parts);
    if sum.bytes <= cap {
        return sum.within(cap, machine.wired_cap_word());
    }
    let terms = match machine.working_set_bytes() {
        Some(set) if set == cap => vec![Term::plus("working set", cap)],
        _ => vec![
            Term::plus(machine.memory_word(), machine.total_bytes),
            Term::minus("reserve", machine.total_bytes.saturating_sub(cap)),
        ],
    };
    Derivation::of("wired_limit", cap, terms).within(cap, machine.wired_cap_word())
}

impl Budget {
    /// Bytes of `slots` sequences of `tokens` each, scratch included.
    #[must_use]
    pub fn sequences_bytes(&self, slots: u32, tokens: u32) -> u64 {
        self.costs.of(slots, tokens)
    }

    /// Keys, values and state of `slots` sequences of `tokens` each.
    #[must_use]
    pub fn kv_bytes(&self, slots: u32, tokens: u32) -> u64 {
        self.costs.kept(slots, tokens)
    }

    /// Scratch while a prompt of `tokens` is read `chunk` at a time.
    #[must_use]
    pub fn scratch_bytes(&self, tokens: u32, chunk: u32) -> u64 {
        Costs { chunk: chunk.into(), ..self.costs }.scratch(tokens)
    }

    /// Highest use while one request of `tokens` runs, read `chunk` tokens at a time.
    #[must_use]
    pub fn peak_bytes(&self, tokens: u32, chunk: u32) -> u64 {
        let costs = Costs { chunk: chunk.into(), ..self.costs };
        self.weights_bytes.saturating_add(self.runtime_bytes).saturating_add(costs.of(1, tokens))
    }

    /// Tokens that each of `slots` requests may have at once; 0 when nothing fits.
    #[must_use]
    pub fn longest_with(&self, slots: u32) -> u32 {
        self.costs.longest_with(slots)
    }

    /// Tokens the model was made for.
    #[must_use]
    pub const fn model_context(&self) -> u32 {
        self.costs.longest
    }

    /// Bytes of two workers that are there at once, each with one short request: what an overlap hand-over needs.
    #[must_use]
    pub fn twice(&self) -> u64 {
        self.weights_bytes.saturating_add(self.runtime_bytes).saturating_mul(2)
    }
}

impl Costs {
    fn kept(&self, slots: u32, tokens: u32) -> u64 {
        let one = self.attention.kv_bytes(tokens.into(), self.chunk, self.element);
        one.saturating_add(self.attention.state_bytes).saturating_mul(slots.into())
    }

    fn scratch(&self, tokens: u32) -> u64 {
        self.attention.scratch_bytes(tokens.into(), self.chunk, self.element, self.gpu)
    }

    fn of(&self, slots: u32, tokens: u32) -> u64 {
        self.kept(slots, tokens).saturating_add(self.scratch(tokens))
    }

    /// Whole blocks, or the model's own length where that fits.
    fn longest_with(&self, slots: u32) -> u32 {
        if self.of(slots, self.longest) <= self.pool {
            return self.longest;
        }
        let block = u32::try_from(BLOCK).unwrap_or(256);
        let (mut fits, mut too_long) = (0, self.longest / block + 1);
        while fits + 1 < too_long {
            let middle = fits + (too_long - fits) / 2;
            if self.of(slots, middle.saturating_mul(block)) <= self.pool { fits = middle } else { too_long = middle }
        }
        (fits * block).min(self.longest)
    }

    fn rooms(&self, most: u32) -> Vec<Room> {
        let powers = std::iter::successors(Some(1_u32), |slots| slots.checked_mul(2));
        powers
            .take_while(|slots| *slots <= most)
            .map(|slots| Room { slots, context: self.longest_with(slots) })
            .take_while(|room| room.context > 0)
            .collect()
    }
}

#[cfg(test)]
#[path = "budget_tests.rs"]
pub(crate) mod tests;
