//! The numbers in words: one sentence per key, the same wherever it is shown.

use std::collections::BTreeMap;

use mlxsup_fit::advice::{count, footprint_over_budget};
use mlxsup_fit::derivation::{Derivation, spoken};
use mlxsup_fit::{Budget, Machine, Source};

use super::{Resolved, Unknown};
use crate::config::{Config, Threshold, WiredLimit};

/// One sentence about a number of the budget.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sentence {
    /// The key it belongs to, or a word for what has none.
    pub key: &'static str,
    /// The sum or the reason.
    pub text: String,
}

/// Every number of the budget, in the order of the file.
#[must_use]
pub fn sentences(resolved: &Resolved) -> Vec<Sentence> {
    let (budget, machine) = (&resolved.budget, &resolved.machine);
    let mut all = Vec::new();
    // Where both sizes read alike, the sums below have it already.
    if spoken(resolved.model.on_disk_bytes) != spoken(budget.weights_bytes) {
        all.push(Sentence { key: "weights", text: format!("weights {}", weights(resolved)) });
    }
    all.extend([
        Sentence { key: "worker.slots", text: slots(budget) },
        Sentence { key: "worker.context", text: context(budget) },
        Sentence { key: "worker.memory.wired_limit", text: wired(resolved) },
        Sentence { key: "worker.memory.memory_limit", text: assumed(budget.memory_limit.to_string(), machine) },
    ]);
    // What is left for requests is no sum where nothing is left: then the verdict has it.
    match budget.too_big_by {
        None => all.push(Sentence { key: "pool", text: budget.pool.to_string() }),
        Some(bytes) => all.push(Sentence {
            key: "verdict",
            text: format!("the model is too big by {}: {}", spoken(bytes), budget.need),
        }),
    }
    all
}

/// For every key whose number the file leaves open, what it comes to, or that nobody knows yet: the comments of
/// `config show`.
#[must_use]
pub fn comments(config: &Config, found: &Result<Resolved, Unknown>) -> BTreeMap<&'static str, String> {
    let mut comments = match found {
        Ok(resolved) => of_auto(config, resolved),
        Err(Unknown::OtherEngine) => return BTreeMap::new(),
        Err(error) => BTreeMap::from([("worker.slots", format!("auto is not known yet: {error}"))]),
    };
    let rule = match found {
        Ok(resolved) => footprint_rule(config, resolved).map(|sum| {
            let text = sum.to_string();
            let text = text.strip_prefix("footprint-over-budget").map_or(text.as_str(), str::trim_start);
            format!("{}, once the worker has reported its limit", assumed(text.to_owned(), &resolved.machine))
        }),
        Err(_) => provisional_share(config)
            .map(|share| format!("{:.0} % of memory until the worker has reported its limit", share * 100.0)),
    };
    comments.extend(rule.map(|told| ("rule.footprint-over-budget.when", told)));
    comments
}

/// The share of the memory at which the built-in rule on the footprint stands before a worker has told its limit; `None`
/// where the file fixes the limit or has a rule of its own.
fn provisional_share(config: &Config) -> Option<f64> {
    let rule = config.rules.iter().find(|rule| rule.built_in && rule.name == "footprint-over-budget")?;
    match rule.when.first()?.threshold {
        Threshold::OfMemory(share) => Some(share),
        Threshold::Fixed(_) | Threshold::Percentile { .. } => None,
    }
}

/// Where the built-in rule on the footprint will act; `None` where the file says it.
#[must_use]
pub fn footprint_rule(config: &Config, resolved: &Resolved) -> Option<Derivation> {
    provisional_share(config)?;
    Some(footprint_over_budget(resolved.budget.memory_limit.bytes, config.worker.memory.cache_limit))
}

fn of_auto(config: &Config, resolved: &Resolved) -> BTreeMap<&'static str, String> {
    let worker = &config.worker;
    let is_auto = |key: &str| match key {
        "worker.slots" => worker.slots.is_none(),
        "worker.context" => worker.context.is_none(),
        "worker.memory.wired_limit" => worker.memory.wired_limit == WiredLimit::Auto,
        "worker.memory.memory_limit" => worker.memory.memory_limit.is_none(),
        _ => false,
    };
    let value = |sentence: Sentence| {
        let name = sentence.key.rsplit('.').next().unwrap_or_default();
        let text = sentence.text.strip_prefix(name).map_or(sentence.text.as_str(), str::trim_start).to_owned();
        (sentence.key, text)
    };
    sentences(resolved).into_iter().filter(|sentence| is_auto(sentence.key)).map(value).collect()
}

/// `94 MiB on disk, 513 MiB in memory`: a CPU unpacks what is stored in few bits, and parts that only see stay on disk.
#[must_use]
pub fn weights(resolved: &Resolved) -> String {
    let [on_disk, in_memory] = [resolved.model.on_disk_bytes, resolved.budget.weights_bytes].map(spoken);
    format!("{on_disk} on disk, {in_memory} in memory")
}

/// `64.0 GiB of memory, 51.8 GiB of them for the GPU`.
#[must_use]
pub fn machine(machine: &Machine) -> String {
    let memory = format!("{} of {}", spoken(machine.total_bytes), machine.memory_word());
    match machine.working_set {
        None if machine.gpu => memory,
        None => format!("{memory}, no GPU"),
        Some(set) => assumed(format!("{memory}, {} of it for the GPU", spoken(set.bytes)), machine),
    }
}

/// `8 requests of 74,496 tokens each fit at once`.
fn slots(budget: &Budget) -> String {
    let each = budget.longest_with(budget.slots);
    match (budget.slots, each) {
        (slots, 0) => format!("slots {slots}: nothing is left for requests"),
        (1, each) => format!("slots 1: one request of {} tokens fits at a time", count(each)),
        (slots, each) => format!("slots {slots}: {slots} requests of {} tokens each fit at once", count(each)),
    }
}

fn context(budget: &Budget) -> String {
    let own = budget.model_context();
    if budget.context >= own {
        format!("context {}: the model's own length", count(own))
    } else if budget.context > budget.longest_with(1) {
        format!("context {} of the model's {}: the least that is tried", count(budget.context), count(own))
    } else {
        format!("context {} of the model's {}: more does not fit", count(budget.context), count(own))
    }
}

fn wired(resolved: &Resolved) -> String {
    match &resolved.budget.wired_limit {
        Some(limit) => assumed(limit.to_string(), &resolved.machine),
        None if resolved.wiring_forbidden => {
            "wired_limit off: wired memory brought this machine down within 30 days".to_owned()
        }
        None => "wired_limit off".to_owned(),
    }
}

/// Says where a number rests on an assumed working set.
fn assumed(text: String, machine: &Machine) -> String {
    match machine.working_set {
        Some(set) if set.source == Source::Assumed => format!("{text} (assumed until a worker runs)"),
        _ => text,
    }
}

/// A size for `mlxsup.toml`: quarters of a GiB, or whole MiB where that would be coarse. Rounded down, so that no limit grows
/// by being written; `config_size_up` rounds up where what is wanted must be covered.
#[must_use]
pub fn config_size(bytes: u64) -> String {
    let step = step(bytes);
    written(bytes / step * step)
}

/// Rounded up, but not beyond `most`.
#[must_use]
pub fn config_size_up(bytes: u64, most: u64) -> String {
    let up = bytes.checked_next_multiple_of(step(bytes)).filter(|up| *up <= most);
    up.map_or_else(|| config_size(bytes), written)
}

const fn step(bytes: u64) -> u64 {
    if bytes >= 4 << 30 { 256 << 20 } else { 1 << 20 }
}

fn written(bytes: u64) -> String {
    let (whole, rest) = (bytes >> 30, bytes % (1 << 30));
    match rest >> 20 {
        0 if whole > 0 => format!("{whole}GiB"),
        256 if whole >= 4 => format!("{whole}.25GiB"),
        512 if whole >= 4 => format!("{whole}.5GiB"),
        768 if whole >= 4 => format!("{whole}.75GiB"),
        _ => format!("{}MiB", bytes >> 20),
    }
}

#[cfg(test)]
mod tests {
    use mlxsup_fit::Model;

    use super::*;
    use crate::limits::{Runner, on_machine};

    #[test]
    fn weights_that_a_cpu_unpacks_are_told_with_both_sizes() {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/worker/tests/reference/tiny-4bit");
        let mut model = Model::open(folder).unwrap();
        (model.on_disk_bytes, model.stored_bytes, model.unpacked_bytes) = (94 << 20, 94 << 20, 513 << 20);
        let told = |gpu| {
            let total_bytes = 24 << 30;
            let machine =
                Machine { gpu, unified: true, can_wire: true, total_bytes, outside_bytes: 0, working_set: None };
            let budget = on_machine(&model, &machine, Runner::Native);
            let first =
                sentences(&Resolved { model: model.clone(), machine, budget, wiring_forbidden: false }).remove(0);
            (first.key, first.text)
        };
        assert_eq!(told(false), ("weights", "weights 94 MiB on disk, 513 MiB in memory".to_owned()));
        assert_eq!(told(true).0, "worker.slots", "both are alike");
    }

    #[test]
    fn sizes_for_the_file_are_read_back() {
        for bytes in [1 << 20, 512 << 20, 1 << 30, 40_000_000_000, 49 << 30, (49 << 30) - 1] {
            let text = config_size(bytes);
            let read = crate::config::parse_size(&text).unwrap();
            assert!(read <= bytes && bytes - read < 256 << 20, "{text}: {read} for {bytes}");
            let up = crate::config::parse_size(&config_size_up(bytes, u64::MAX)).unwrap();
            assert!(up >= bytes && up - read <= 256 << 20, "{up} for {bytes}");
            assert_eq!(config_size_up(bytes, bytes), text, "no room to round up to, or nothing to round");
        }
        assert_eq!(
            [config_size(36 << 30), config_size(40_000_000_000), config_size(3 << 29)],
            ["36GiB", "37.25GiB", "1536MiB"]
        );
    }
}
