//! What somebody who knows this machine's history would write into the configuration, and why. Pure arithmetic.
//!
//! Starts from the same [`Budget`] as `auto`. Where there is a day of history its percentiles replace guesses; where there
//! is none, every guess is named among the warnings.

use serde::Serialize;

use crate::budget::{Budget, Engine, LEAST_PER_SLOT, Question, wired};
use crate::derivation::{Derivation, Term, spoken};
use crate::machine::Source;
use crate::observed::Observed;

const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;

/// Of the worker's own beside MLX's arrays, as far as its footprint goes.
const PROCESS: u64 = GIB;
/// The article's cap on freed buffers, and the least that is worth having.
const LEAST_CACHE: u64 = 512 * MIB;
/// More cache than this saves nothing: buffers are reused only for nearly the same size.
const MOST_CACHE: u64 = 2 * GIB;
/// Share of the machine in use from which `system-memory` warns, percent.
const SYSTEM_PERCENT: u64 = 94;
/// Share up to which history may raise that, percent: above it the warning would come too late or never.
const SYSTEM_PERCENT_MOST: u64 = 98;
/// Compressed bytes of the worker from which `cold-weights` acts.
const COLD: u64 = 2 * GIB;

/// Numbers for the configuration.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Advice {
    /// What everything else starts from: every number as `auto` has it.
    pub budget: Budget,
    /// For `worker.memory.wired_limit`; `None` where it is off or nothing can be wired.
    pub wired_limit: Option<Derivation>,
    /// For `worker.memory.cache_limit`.
    pub cache_limit: Derivation,
    /// For `worker.memory.memory_limit`.
    pub memory_limit: Derivation,
    /// For `worker.slots`, and why.
    pub slots: Reasoned,
    /// For `worker.context`, and why.
    pub context: Reasoned,
    /// Prompt tokens read at once, and what that costs. No key sets it: the engine does.
    pub chunk: Reasoned,
    /// Where the built-in rules act.
    pub rules: Vec<RuleAdvice>,
    /// What these numbers rest on too lightly.
    pub warnings: Vec<String>,
}

/// A count and the reason for it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Reasoned {
    /// The number.
    pub value: u32,
    /// Why this one.
    pub because: String,
}

/// Where a rule acts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RuleAdvice {
    /// The rule.
    pub name: &'static str,
    /// What it looks at.
    pub metric: &'static str,
    /// It acts above this.
    pub above: Derivation,
    /// It lets go below this, bytes.
    pub clear_below: u64,
    /// True where history says something else than the built-in number.
    pub observed: bool,
    /// Why it can never act, if it cannot.
    pub never: Option<String>,
}

/// What is asked, beside the question of the budget.
#[derive(Debug, Clone, Copy)]
pub struct Circumstances<'a> {
    /// As for the budget: what is configured stays.
    pub question: Question<'a>,
    /// `worker.default_max_tokens`.
    pub default_max_tokens: u32,
    /// `worker.memory.cache_limit` in force.
    pub cache_limit: u64,
    /// The machine's history.
    pub observed: Observed,
}

impl Circumstances<'_> {
    /// The budget that everything else starts from: what the configuration leaves to `auto` and what it fixes.
    #[must_use]
    pub fn budget(&self) -> Budget {
        self.question.answer()
    }

    /// The advice. Limits that were set by hand are derived anew, as if they were `auto`; but a memory limit below what the
    /// machine gives is a decision, and everything else stays within it.
    #[must_use]
    pub fn advice(&self) -> Advice {
        let memory_limit = self.decided_memory_limit();
        let question = Question { slots: None, context: None, memory_limit, ..self.question };
        let budget = question.answer();
        let slots = self.slots(&budget);
        let context = context(&budget);
        let mut warnings = self.warnings(&budget);
        let cache_limit = self.cache();
        Advice {
            wired_limit: budget.wired_limit.as_ref().map(|_| self.wired(&budget, slots.value, &mut warnings)),
            rules: self.rules(&budget, &cache_limit),
            cache_limit,
            memory_limit: memory_limit.map_or_else(|| budget.memory_limit.clone(), |set| self.as_set(set)),
            chunk: self.chunk(&budget),
            slots,
            context,
            warnings,
            budget,
        }
    }

    /// The memory limit set by hand, where it is lower than the machine's.
    #[must_use]
    pub fn decided_memory_limit(&self) -> Option<u64> {
        self.question.memory_limit.filter(|set| *set < self.question.machine.memory_limit())
    }

    fn as_set(&self, bytes: u64) -> Derivation {
        let auto = spoken(self.question.machine.memory_limit());
        Derivation::of("memory_limit", bytes, vec![Term::plus(format!("as you set it; auto would be {auto}"), bytes)])
    }

    /// As many as were busy at once and one more. Without evidence what is configured stays, if it fits.
    fn slots(&self, budget: &Budget) -> Reasoned {
        let at_once = |slots: u32| match budget.longest_with(slots) {
            0 => "nothing is left for requests".to_owned(),
            tokens if slots == 1 => format!("one request of {} tokens fits at a time", count(tokens)),
            tokens => format!("{slots} requests of {} tokens each fit at once", count(tokens)),
        };
        let most = budget.slots.max(1);
        // Days without requests say nothing about how many come at once.
        if let Some(active) = self.observed.trusted(self.observed.active).filter(|active| *active > 0.0) {
            #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "clamped first")]
            let busy = active.ceil().clamp(0.0, 1024.0) as u32;
            let value = (busy + 1).clamp(1, most);
            let because = format!("{busy} at once at the 99th percentile, and one to spare; {}", at_once(value));
            return Reasoned { value, because };
        }
        let value = match self.question.slots {
            Some(configured) if budget.longest_with(configured) >= LEAST_PER_SLOT.min(budget.model_context()) => {
                configured
            }
            Some(configured) => configured.min(most),
            None => most,
        };
        Reasoned { value, because: at_once(value) }
    }

    /// Weights and state as `auto` has them, and keys and values of the work that is usual here.
    fn wired(&self, budget: &Budget, slots: u32, warnings: &mut Vec<String>) -> Derivation {
        let state = u64::from(slots).saturating_mul(budget.state_bytes);
        if !self.question.machine.gpu {
            // Where wiring is locking pages, weights alone are locked.
            return wired(self.question.machine, vec![Term::plus("weights", budget.weights_bytes)]);
        }
        let kv = match self.observed.trusted(self.observed.kv_bytes) {
            Some(kv) => kv,
            None => {
                let tokens = self.default_max_tokens.min(budget.context);
                warnings.push(format!(
                    "KV is a guess: {slots} × {} tokens, the answers that default_max_tokens allows",
                    count(tokens)
                ));
                budget.kv_bytes(slots, tokens).saturating_sub(state)
            }
        };
        let kv = kv.min(budget.pool.bytes.saturating_sub(state));
        let parts = vec![Term::plus("weights", budget.weights_bytes), Term::plus("state", state), Term::plus("KV", kv)];
        wired(self.question.machine, parts)
    }

    fn cache(&self) -> Derivation {
        match self.observed.trusted(self.observed.cache_bytes) {
            Some(used) => {
                let bytes = used.next_multiple_of(256 * MIB).clamp(LEAST_CACHE, MOST_CACHE);
                Derivation::of(
                    "cache_limit",
                    bytes,
                    vec![Term::plus("what is reused at the 99th percentile, rounded up", bytes)],
                )
            }
            None => Derivation::of("cache_limit", self.cache_limit, vec![Term::plus("as it is", self.cache_limit)]),
        }
    }

    fn chunk(&self, budget: &Budget) -> Reasoned {
        let cost = |chunk: u32| spoken(budget.scratch_bytes(budget.context, chunk));
        let mut because = format!(
            "up to {} of scratch while a prompt of {} tokens is read",
            cost(budget.chunk),
            count(budget.context)
        );
        if self.question.engine == Engine::MlxLm {
            because.push_str(&format!("; at 512 it would be {} (mlx-lm's --prefill-step-size)", cost(512)));
        }
        Reasoned { value: budget.chunk, because }
    }

    fn rules(&self, budget: &Budget, cache_limit: &Derivation) -> Vec<RuleAdvice> {
        let machine = self.question.machine;
        let most = most_compressed(budget);
        let compressed = self.observed.trusted(self.observed.compressed_bytes).map(tenth_more);
        let compressed = compressed.filter(|bytes| *bytes > COLD && *bytes <= most);
        let used = self.observed.trusted(self.observed.used_bytes).map(tenth_more);
        let of_memory = machine.total_bytes / 100 * SYSTEM_PERCENT;
        let most_used = machine.total_bytes / 100 * SYSTEM_PERCENT_MOST;
        let used = used.map(|used| used.min(most_used)).filter(|used| *used > of_memory);
        let plain = |name: &str, bytes: u64, word: &str| Derivation::of(name, bytes, vec![Term::plus(word, bytes)]);
        let p99 = "99th percentile and a tenth";
        vec![
            RuleAdvice {
                name: "mlx-cache",
                metric: "mlx.cache",
                above: plain("mlx-cache", GIB, "the article's"),
                clear_below: GIB,
                observed: false,
                never: (cache_limit.bytes <= GIB).then(|| format!("cache_limit is {}", spoken(cache_limit.bytes))),
            },
            RuleAdvice {
                name: "system-memory",
                metric: "system.used",
                above: match used {
                    Some(used) if used == most_used => plain("system-memory", used, "98 % of memory, the most"),
                    Some(used) => plain("system-memory", used, p99),
                    None => plain("system-memory", of_memory, "94 % of memory"),
                },
                clear_below: used.unwrap_or(of_memory) / 100 * 96,
                observed: used.is_some(),
                never: None,
            },
            RuleAdvice {
                name: "cold-weights",
                metric: "worker.compressed",
                above: match compressed {
                    Some(bytes) => plain("cold-weights", bytes, p99),
                    None => plain("cold-weights", COLD, "built in"),
                },
                clear_below: compressed.unwrap_or(COLD) / 2,
                observed: compressed.is_some(),
                never: None,
            },
            RuleAdvice {
                name: "footprint-over-budget",
                metric: "worker.footprint",
                above: footprint_over_budget(budget.memory_limit.bytes, cache_limit.bytes),
                clear_below: budget.memory_limit.bytes.saturating_add(cache_limit.bytes + PROCESS) / 20 * 19,
                observed: false,
                never: None,
            },
        ]
    }

    fn warnings(&self, budget: &Budget) -> Vec<String> {
        let mut warnings = Vec::new();
        if let Some(bytes) = budget.too_big_by {
            warnings.push(format!("the model is too big by {}: {}", spoken(bytes), budget.need));
        }
        if let Some(obstacle) = self.question.model.obstacle.as_ref().filter(|_| self.question.engine == Engine::Native)
        {
            warnings.push(format!("{obstacle}; engine = \"mlx_lm\" runs most that are folders"));
        }
        if self.question.machine.working_set.is_some_and(|set| set.source == Source::Assumed) {
            warnings.push(
                "the working set is assumed, the least that any macOS gives; a running worker knows the real one: start the \
                 service and tune again"
                    .to_owned(),
            );
        }
        if !self.observed.is_evidence() {
            warnings.push(match self.observed.seconds {
                0 => "there is no history yet: tune again after a day of real work".to_owned(),
                seconds @ 0..3600 => {
                    format!("only {} min of history: tune again after a day of real work", seconds / 60)
                }
                seconds => format!("only {} h of history: tune again after a day of real work", seconds / 3600),
            });
        }
        let compressed = self.observed.trusted(self.observed.compressed_bytes);
        if let Some(bytes) = compressed.filter(|bytes| tenth_more(*bytes) > most_compressed(budget)) {
            warnings.push(format!(
                "{} of the worker were compressed at the 99th percentile: these are its weights, so cold-weights stays as \
                 built in; wire them",
                spoken(bytes)
            ));
        }
        warnings
    }
}

/// Where the rule `footprint-over-budget` acts: the memory limit counts live arrays only, so freed buffers and the process
/// itself come on top.
#[must_use]
pub fn footprint_over_budget(memory_limit: u64, cache_limit: u64) -> Derivation {
    Derivation::sum(
        "footprint-over-budget",
        vec![
            Term::plus("memory_limit", memory_limit),
            Term::plus("cache_limit", cache_limit),
            Term::plus("process", PROCESS),
        ],
    )
}

fn context(budget: &Budget) -> Reasoned {
    let own = budget.model_context();
    let because = if budget.context >= own {
        "the model's own length; one request alone may take it".to_owned()
    } else {
        format!("of the model's {}: one request alone fits no more", count(own))
    };
    Reasoned { value: budget.context, because }
}

/// Up to here history may raise `cold-weights`: a process has some cold memory beside its model, but whoever learns from
/// days on which a quarter of the weights lay in the compressor learns the very illness.
fn most_compressed(budget: &Budget) -> u64 {
    (budget.weights_bytes / 4).max(COLD)
}

const fn tenth_more(bytes: u64) -> u64 {
    bytes.saturating_add(bytes / 10)
}

/// A whole number with its thousands apart: `12,480`.
#[must_use]
pub fn count(number: u32) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
#[path = "advice_tests.rs"]
mod tests;
