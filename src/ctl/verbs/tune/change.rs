//! Which keys of the configuration would get which values.
//!
//! Owns the reluctance: a key is only touched where the advice differs from what is in force by more than rounding, and
//! never on a guess about the device.

use mlxsup_fit::{Advice, Observed, Source};
use serde_json::{Value, json};

use crate::config::edit::{Edit, Written};
use crate::config::{Config, WiredLimit, format_size, parse_size};
use crate::limits::Resolved;
use crate::limits::words::{config_size, config_size_up};

/// Sizes closer than this are the same: they are written in quarters of a GiB.
const ROUNDING: u64 = 256 << 20;

/// One change, with the value it replaces as the file has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Change {
    /// Which key, or rule.
    pub key: String,
    /// As configured.
    pub from: String,
    /// As it will be.
    pub to: String,
    /// How the text changes.
    pub edit: Edit,
}

impl Change {
    /// As `--json` shows it.
    pub(super) fn json(&self) -> Value {
        json!({"key": self.key, "from": self.from, "to": self.to})
    }

    fn text(key: &str, from: String, to: String) -> Self {
        let edit = Edit::Set { key: key.to_owned(), to: Written::Text(to.clone()) };
        Self { key: key.to_owned(), from, to, edit }
    }

    fn whole(key: &str, from: Option<u32>, to: u32) -> Self {
        let from = from.map_or_else(|| "auto".to_owned(), |from| from.to_string());
        let edit = Edit::Set { key: key.to_owned(), to: Written::Whole(to.into()) };
        Self { key: key.to_owned(), from, to: to.to_string(), edit }
    }
}

/// Everything that would change; empty when the configuration says it all, or when nothing fits anyway.
pub(super) fn changes(config: &Config, resolved: &Resolved, advice: &Advice, observed: &Observed) -> Vec<Change> {
    let (worker, memory, budget) = (&config.worker, &config.worker.memory, &resolved.budget);
    // A limit set by hand may hide that nothing fits: then the advice alone says so.
    if budget.too_big_by.or(advice.budget.too_big_by).is_some() {
        return Vec::new();
    }
    let mut changes = Vec::new();
    if worker.slots.unwrap_or(advice.budget.slots) != advice.slots.value {
        changes.push(Change::whole("worker.slots", worker.slots, advice.slots.value));
    }
    // Shorter than what fits is the operator's choice.
    if worker.context.is_some_and(|context| context.min(budget.model_context()) > advice.context.value) {
        changes.push(Change::whole("worker.context", worker.context, advice.context.value));
    }
    if resolved.machine.working_set.is_none_or(|set| set.source != Source::Assumed) {
        if let Some(wanted) = &advice.wired_limit {
            let cap = resolved.machine.wired_cap();
            let (from, now) = match memory.wired_limit {
                // Left alone until a day is recorded: a number that is guessed explains itself worse than `auto` does.
                WiredLimit::Auto if is_guess(observed) => ("auto".to_owned(), Some(wanted.bytes)),
                WiredLimit::Auto => ("auto".to_owned(), budget.wired_limit.as_ref().map(|limit| limit.bytes)),
                WiredLimit::Bytes(bytes) => (format_size(bytes), Some(bytes)),
                WiredLimit::Off => ("off".to_owned(), Some(wanted.bytes)),
            };
            if differs(now, wanted.bytes) {
                let to = config_size_up(wanted.bytes, cap);
                changes.push(Change::text("worker.memory.wired_limit", from, to));
            }
        }
        // Left to `auto` it is already what is advised, and a lower one is advised as it is: only what the machine cannot give
        // is changed.
        if let Some(now) = memory.memory_limit.filter(|now| differs(Some(*now), advice.memory_limit.bytes)) {
            let to = config_size(advice.memory_limit.bytes);
            changes.push(Change::text("worker.memory.memory_limit", format_size(now), to));
        }
    }
    if advice.cache_limit.bytes != memory.cache_limit {
        let to = config_size(advice.cache_limit.bytes);
        changes.push(Change::text("worker.memory.cache_limit", format_size(memory.cache_limit), to));
    }
    for rule in advice.rules.iter().filter(|rule| rule.observed) {
        let (above, clear_below) = (config_size(rule.above.bytes), config_size(rule.clear_below));
        changes.push(Change {
            key: format!("rule.{}", rule.name),
            from: "as it is".to_owned(),
            to: format!("{} above {above}, clear below {clear_below}", rule.metric),
            edit: Edit::Rule { name: rule.name.to_owned(), metric: rule.metric.to_owned(), above, clear_below },
        });
    }
    changes.retain(|change| !is_same(change));
    changes
}

/// True where no history says how much KV is usual here, so that the wired limit rests on a guess.
pub(super) fn is_guess(observed: &Observed) -> bool {
    observed.trusted(observed.kv_bytes).is_none()
}

fn differs(now: Option<u64>, wanted: u64) -> bool {
    now.is_none_or(|now| now.abs_diff(wanted) >= ROUNDING.min(wanted / 16).max(1))
}

/// True where rounding has led back to the same value.
fn is_same(change: &Change) -> bool {
    change.from == change.to || parse_size(&change.from).ok().is_some_and(|from| parse_size(&change.to) == Ok(from))
}
