//! The list of keys: what may be written, and what a change of it takes.
//!
//! Owns the names alone; what they may hold is said by the readers. The schema and `etc/mlxsup.toml` are tested
//! against this list.

use std::collections::BTreeMap;

/// When a changed key takes effect.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum When {
    /// At once, by `reload`.
    Applied,
    /// At the next worker: `mlxsupctl restart`.
    NextWorker,
    /// It concerns sockets that the init system may hold: `mlxsupctl install`.
    NeedsInstall,
}

use When::{Applied, NeedsInstall, NextWorker};

/// Every key, in the order of `etc/mlxsup.toml`. `schedule.` and `rule.` stand for each entry of those lists.
const KEYS: &[(&str, When)] = &[
    ("listen.socket", NeedsInstall),
    ("listen.mode", NeedsInstall),
    ("listen.allow_uids", Applied),
    ("listen.tcp", NeedsInstall),
    ("listen.api_key_file", Applied),
    ("listen.max_body", Applied),
    ("worker.engine", NextWorker),
    ("worker.model", NextWorker),
    ("worker.served_names", NextWorker),
    ("worker.command", NextWorker),
    ("worker.python", NextWorker),
    ("worker.upstream", NextWorker),
    ("worker.health_path", NextWorker),
    ("worker.ready_path", NextWorker),
    ("worker.slots", NextWorker),
    ("worker.context", NextWorker),
    ("worker.default_max_tokens", NextWorker),
    ("worker.device", NextWorker),
    ("worker.start_timeout", NextWorker),
    ("worker.idle_unload", Applied),
    ("worker.keep_awake", Applied),
    ("worker.env", NextWorker),
    ("worker.memory.wired_limit", NextWorker),
    ("worker.memory.cache_limit", NextWorker),
    ("worker.memory.memory_limit", NextWorker),
    ("worker.memory.clear_cache_after_tokens", NextWorker),
    ("worker.memory.idle_keep_warm", NextWorker),
    ("health.interval", Applied),
    ("health.timeout", Applied),
    ("health.failures", Applied),
    ("health.stall", Applied),
    ("health.canary_after_idle", Applied),
    ("restart.mode", Applied),
    ("restart.backoff_initial", Applied),
    ("restart.backoff_max", Applied),
    ("restart.budget", Applied),
    ("restart.retry_parked", Applied),
    ("restart.recycle.max_age", Applied),
    ("restart.recycle.max_requests", Applied),
    ("restart.recycle.max_prompt_tokens", Applied),
    ("restart.recycle.min_speed_ratio", Applied),
    ("drain.grace", Applied),
    ("queue.max_waiting", Applied),
    ("queue.max_bytes", Applied),
    ("queue.max_wait", Applied),
    ("queue.keepalive", Applied),
    ("queue.keepalive_plain", Applied),
    ("queue.per_client_share", Applied),
    ("log.level", Applied),
    ("log.format", Applied),
    ("log.keep", Applied),
    ("log.rotate_at", Applied),
    ("schedule.name", Applied),
    ("schedule.cron", Applied),
    ("schedule.timezone", Applied),
    ("schedule.action", Applied),
    ("schedule.action.action", Applied),
    ("schedule.action.mode", Applied),
    ("schedule.min_uptime", Applied),
    ("schedule.jitter", Applied),
    ("schedule.wait_for_idle", Applied),
    ("schedule.if_busy", Applied),
    ("schedule.missed", Applied),
    ("rule.name", Applied),
    ("rule.when.metric", Applied),
    ("rule.when.above", Applied),
    ("rule.when.above.percentile", Applied),
    ("rule.when.above.of", Applied),
    ("rule.when.above.plus", Applied),
    ("rule.when.above.at_least", Applied),
    ("rule.when.below", Applied),
    ("rule.when.below.percentile", Applied),
    ("rule.when.below.of", Applied),
    ("rule.when.below.plus", Applied),
    ("rule.when.below.at_least", Applied),
    ("rule.when.clear_below", Applied),
    ("rule.when.clear_above", Applied),
    ("rule.for", Applied),
    ("rule.action", Applied),
    ("rule.action.action", Applied),
    ("rule.action.mode", Applied),
    ("rule.cooldown", Applied),
    ("rule.break_streams_after", Applied),
];

/// Every key with when a change of it takes effect, in the order of `etc/mlxsup.toml`.
#[must_use]
pub fn known_keys() -> BTreeMap<&'static str, When> {
    KEYS.iter().copied().collect()
}

/// When a change of this key takes effect; keys inside a list entry follow their list.
pub(super) fn when(key: &str) -> When {
    let plain = without_indices(key);
    let found = KEYS
        .iter()
        .find(|(known, _)| plain == *known || plain.strip_prefix(known).is_some_and(|rest| rest.starts_with('.')));
    found.map_or(Applied, |(_, when)| *when)
}

/// True for a key, and for a table that contains keys.
pub(super) fn is_known(key: &str) -> bool {
    let plain = without_indices(key);
    KEYS.iter().any(|(known, _)| *known == plain) || contains_keys(key)
}

/// True for a table that contains keys.
pub(super) fn contains_keys(key: &str) -> bool {
    let plain = without_indices(key);
    KEYS.iter().any(|(known, _)| known.strip_prefix(plain.as_str()).is_some_and(|rest| rest.starts_with('.')))
}

/// `rule[2].when[0].metric` → `rule.when.metric`.
fn without_indices(key: &str) -> String {
    let mut inside = false;
    key.chars()
        .filter(|letter| {
            let index = inside || *letter == '[';
            inside = index && *letter != ']';
            !index
        })
        .collect()
}

/// What an unknown key probably meant, as a sentence.
pub(super) fn suggestion(table: &str, name: &str) -> String {
    let table = without_indices(table);
    let siblings: Vec<&str> = siblings(&table);
    if let Some(known) = nearest(name, siblings.iter().copied()) {
        return format!("did you mean `{known}`?");
    }
    let elsewhere = KEYS.iter().filter_map(|(known, _)| known.rsplit_once('.')).find(|(parent, last)| {
        // Names inside list entries are too general to point at.
        *last == name && !parent.contains("when") && !parent.contains("action")
    });
    match elsewhere {
        Some((parent @ ("schedule" | "rule"), _)) => format!("`{name}` belongs into a [[{parent}]]"),
        Some((parent, _)) => format!("`{name}` belongs under [{parent}]"),
        None if table.is_empty() => format!("the sections are {}", siblings.join(", ")),
        None => format!("the keys here are {}", siblings.join(", ")),
    }
}

/// The names directly under a table, each once, in order.
fn siblings(table: &str) -> Vec<&'static str> {
    let mut names = Vec::new();
    for (known, _) in KEYS {
        let rest = if table.is_empty() {
            Some(*known)
        } else {
            known.strip_prefix(table).and_then(|rest| rest.strip_prefix('.'))
        };
        if let Some(name) = rest.and_then(|rest| rest.split('.').next())
            && !names.contains(&name)
        {
            names.push(name);
        }
    }
    names
}

/// The candidate nearest to what was written, when it is near enough to be meant.
pub(super) fn nearest<'c>(written: &str, candidates: impl Iterator<Item = &'c str>) -> Option<&'c str> {
    let plain = |text: &str| text.to_ascii_lowercase().replace('_', "-");
    let lower = plain(written);
    candidates
        .filter_map(|candidate| {
            let known = plain(candidate);
            // A cut or lengthened name is nearer than any misspelt one: `system.swap`, `logging`.
            let shorter = known.len().min(lower.len());
            if shorter >= 3 && (known.starts_with(&lower) || lower.starts_with(&known)) {
                return Some((0, candidate));
            }
            let edits = distance(&lower, &known);
            (edits <= 1.max(shorter / 3)).then_some((edits, candidate))
        })
        .min_by_key(|(edits, _)| *edits)
        .map(|(_, candidate)| candidate)
}

/// Edits between two words: insertions, deletions, substitutions, swapped neighbours.
fn distance(a: &str, b: &str) -> usize {
    // Long names are not typing slips of ours; this also bounds the work.
    if a.len() > 64 || b.len() > 64 {
        return usize::MAX;
    }
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    let mut rows: Vec<Vec<usize>> = vec![(0..=b.len()).collect()];
    for (i, letter) in a.iter().enumerate() {
        let mut row = vec![i + 1];
        for (j, other) in b.iter().enumerate() {
            let mut best = (rows[i][j] + usize::from(letter != other)).min(rows[i][j + 1] + 1).min(row[j] + 1);
            if i > 0 && j > 0 && *letter == b[j - 1] && a[i - 1] == *other {
                best = best.min(rows[i - 1][j - 1] + 1);
            }
            row.push(best);
        }
        rows.push(row);
    }
    rows[a.len()][b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slips_are_recognised_and_misplaced_keys_sent_home() {
        assert_eq!(suggestion("drain", "grase"), "did you mean `grace`?");
        assert_eq!(suggestion("queue", "max-waiting"), "did you mean `max_waiting`?");
        assert_eq!(suggestion("", "model"), "`model` belongs under [worker]");
        assert_eq!(suggestion("queue", "grace"), "`grace` belongs under [drain]");
        assert_eq!(suggestion("rule[1]", "cron"), "`cron` belongs into a [[schedule]]");
        assert_eq!(suggestion("drain", "unrelated"), "the keys here are grace");
        assert!(suggestion("", "zzz").starts_with("the sections are listen, worker, health"));
    }

    #[test]
    fn paths_of_list_entries_are_known() {
        assert!(is_known("rule[12].when[0].above.percentile"));
        assert!(is_known("worker.memory"));
        assert!(!is_known("worker.memories"));
        assert_eq!(when("worker.env.PATH"), NextWorker);
        assert_eq!(when("rule.nightly"), Applied);
    }
}
