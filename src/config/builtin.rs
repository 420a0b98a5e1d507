//! The rules mlxsup brings along.
//!
//! Owns their thresholds and the reasons for them. A `[[rule]]` of the same name changes them key by key.

use std::time::Duration;

use super::{Action, Condition, RestartMode, Rule, Side, Threshold, Worker};
use crate::memory::Metric;

const GIB: u64 = 1 << 30;

/// Of the worker's own beside MLX's arrays: code, tokenizer, compiled kernels, connections.
const WORKER_OVERHEAD: u64 = GIB;

/// Names in evaluation order.
#[cfg(test)]
pub(super) const NAMES: &[&str] =
    &["mlx-cache", "system-memory", "cold-weights", "footprint-over-budget", "swap-rate", "refusing-without-progress"];

/// All of them, in evaluation order, for this worker. `mode` is what a plain `restart` means.
pub(super) fn rules(worker: &Worker, mode: RestartMode) -> Vec<Rule> {
    let minute = Duration::from_secs(60);
    let rule = |name: &str, when: Vec<Condition>, dwell: Duration, actions: Vec<Action>, cooldown: Duration| Rule {
        name: name.to_owned(),
        when,
        dwell,
        actions,
        cooldown,
        break_streams_after: None,
        built_in: true,
    };
    vec![
        // The article's first: cached buffers above 1 GiB are dropped. With a lower `cache_limit` it can never fire.
        rule(
            "mlx-cache",
            vec![above(Metric::MlxCache, bytes(GIB), None)],
            minute / 2,
            vec![Action::ClearCache],
            5 * minute,
        ),
        // The article's second. Only a warning: the pressure may be the browser's.
        rule(
            "system-memory",
            vec![above(Metric::SystemUsed, Threshold::OfMemory(0.94), Some(Threshold::OfMemory(0.90)))],
            minute,
            vec![Action::Warn],
            30 * minute,
        ),
        // Idle weights in the compressor make the next answer slow: touching them may do, else a fresh worker. Saved prompts
        // are never wired: where it is they that were compressed, neither helps, and letting go of them does.
        rule(
            "cold-weights",
            vec![above(Metric::WorkerCompressed, bytes(2 * GIB), Some(bytes(GIB)))],
            minute,
            vec![Action::Canary, Action::TrimPrefixCache, Action::Restart(mode)],
            30 * minute,
        ),
        footprint_rule(budget(worker), mode),
        // Reading pages back is what hurts; swap that merely lies there is harmless.
        rule(
            "swap-rate",
            vec![above(Metric::SystemSwapinRate, bytes(10 << 20), Some(bytes(1 << 20)))],
            minute / 2,
            vec![Action::Warn],
            10 * minute,
        ),
        // A guard that refuses for hours helps nobody: requests wait, a worker older than its start timeout runs none.
        rule(
            "refusing-without-progress",
            vec![
                above(Metric::RequestsWaiting, Threshold::Fixed(0.0), None),
                Condition {
                    metric: Metric::RequestsActive,
                    side: Side::Below,
                    threshold: Threshold::Fixed(1.0),
                    clear: None,
                },
                above(Metric::WorkerUptime, Threshold::Fixed(worker.start_timeout.as_secs_f64()), None),
            ],
            10 * minute,
            vec![Action::Canary, Action::Restart(mode)],
            30 * minute,
        ),
    ]
}

/// The rule `footprint-over-budget` for a memory limit the worker derived itself (`memory_limit = "auto"`): the daemon
/// puts it in the place of the built-in one once the worker has reported the limit. Bytes.
#[must_use]
pub fn footprint_over_budget(memory_limit: u64, cache_limit: u64, mode: RestartMode) -> Rule {
    footprint_rule(Some(memory_limit.saturating_add(cache_limit).saturating_add(WORKER_OVERHEAD)), mode)
}

/// What the worker may weigh: its limit counts live arrays only, so cached buffers and the process itself come on top.
fn budget(worker: &Worker) -> Option<u64> {
    let memory = worker.memory.memory_limit?;
    Some(memory.saturating_add(worker.memory.cache_limit).saturating_add(WORKER_OVERHEAD))
}

/// Without a known budget 88 % of the machine's memory, the share that `auto` never exceeds.
fn footprint_rule(budget: Option<u64>, mode: RestartMode) -> Rule {
    let whole_mib = |count: u64| bytes(count >> 20 << 20);
    let (enter, leave) = match budget {
        Some(budget) => (whole_mib(budget), whole_mib(budget - budget / 20)),
        None => (Threshold::OfMemory(0.88), Threshold::OfMemory(0.84)),
    };
    Rule {
        name: "footprint-over-budget".to_owned(),
        when: vec![above(Metric::WorkerFootprint, enter, Some(leave))],
        dwell: Duration::from_secs(60),
        actions: vec![Action::ClearCache, Action::TrimPrefixCache, Action::Restart(mode)],
        cooldown: Duration::from_secs(600),
        // The one rule that may end a stream by default: what grows without bound takes the whole machine down.
        break_streams_after: Some(Duration::from_secs(600)),
        built_in: true,
    }
}

fn above(metric: Metric, threshold: Threshold, clear: Option<Threshold>) -> Condition {
    Condition { metric, side: Side::Above, threshold, clear }
}

#[allow(clippy::cast_precision_loss, reason = "sizes up to 8 PiB are exact")]
fn bytes(count: u64) -> Threshold {
    Threshold::Fixed(count as f64)
}
