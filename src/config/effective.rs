//! Every key at the value in force, as one tree.
//!
//! Owns the way back from [`Config`] to what a file would say. Writing the tree is [`mod@super::show`]'s part, comparing two
//! of them [`super::reload`]'s.

use std::time::Duration;

use super::quantity::{format_duration, format_size};
use super::schedules::action_name;
use super::{
    Action, ApiKeyFile, Condition, Config, IdleKeepWarm, RestartMode, Rule, Schedule, Side, Threshold, WiredLimit,
    schedules, sections,
};
use crate::memory::{Metric, Unit};

/// One effective value.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Node {
    Text(String),
    Whole(u64),
    Number(f64),
    List(Vec<Node>),
    Table(Vec<(String, Node)>),
    /// `[[…]]`: entries by name.
    Entries(Vec<(String, Vec<(String, Node)>)>),
    /// Not set, and no word of the file says so.
    Unset,
}

/// Every section in the order of `etc/mlxsup.toml`.
pub(super) fn tree(config: &Config, mask: bool) -> Vec<(String, Node)> {
    let (health, queue, log) = (&config.health, &config.queue, &config.log);
    vec![
        ("listen".to_owned(), listen(config)),
        ("worker".to_owned(), worker(config, mask)),
        (
            "health".to_owned(),
            table([
                ("interval", time(health.interval)),
                ("timeout", time(health.timeout)),
                ("failures", whole(health.failures)),
                ("stall", time(health.stall)),
                ("canary_after_idle", time(health.canary_after_idle)),
            ]),
        ),
        ("restart".to_owned(), restart(config)),
        ("drain".to_owned(), table([("grace", time(config.drain.grace))])),
        (
            "queue".to_owned(),
            table([
                ("max_waiting", Node::Whole(queue.max_waiting as u64)),
                ("max_bytes", size(queue.max_bytes)),
                ("max_wait", time(queue.max_wait)),
                ("keepalive", time(queue.keepalive)),
                ("keepalive_plain", time_or_off(queue.keepalive_plain)),
                ("per_client_share", Node::Number(queue.per_client_share)),
            ]),
        ),
        (
            "log".to_owned(),
            table([
                ("level", word(sections::LEVELS, log.level)),
                ("format", word(sections::FORMATS, log.format)),
                ("keep", whole(log.keep)),
                ("rotate_at", size(log.rotate_at)),
            ]),
        ),
        (
            "schedule".to_owned(),
            Node::Entries(
                config.schedules.iter().map(|one| (one.name.clone(), schedule(one, config.restart.mode))).collect(),
            ),
        ),
        (
            "rule".to_owned(),
            Node::Entries(config.rules.iter().map(|one| (one.name.clone(), rule(one, config.restart.mode))).collect()),
        ),
    ]
}

fn listen(config: &Config) -> Node {
    let listen = &config.listen;
    table([
        ("socket", text(listen.socket.to_string_lossy())),
        ("mode", text(format!("{:04o}", listen.mode))),
        ("allow_uids", Node::List(listen.allow_uids.iter().map(|uid| whole(*uid)).collect())),
        ("tcp", listen.tcp.map_or(Node::Unset, |address| text(address.to_string()))),
        (
            "api_key_file",
            match &listen.api_key_file {
                None => Node::Unset,
                Some(ApiKeyFile::Keyless) => text("none"),
                Some(ApiKeyFile::Path(path)) => text(path.to_string_lossy()),
            },
        ),
        ("max_body", size(listen.max_body)),
    ])
}

fn worker(config: &Config, mask: bool) -> Node {
    let worker = &config.worker;
    let memory = &worker.memory;
    let openai = worker.engine == super::Engine::OpenAi;
    let for_openai = |node: Node| if openai { node } else { Node::Unset };
    let texts = |list: &[String]| Node::List(list.iter().map(text).collect());
    let count_or_auto = |count: Option<u32>| count.map_or_else(|| text("auto"), whole);
    let env = worker.env.iter().map(|(name, value)| {
        let shown = if mask && looks_secret(name) { "****" } else { value };
        (name.clone(), text(shown))
    });
    table([
        ("engine", word(sections::ENGINES, worker.engine)),
        ("model", text(&worker.model)),
        ("served_names", texts(&worker.served_names)),
        ("command", worker.command.as_deref().map_or(Node::Unset, texts)),
        ("python", worker.python.as_ref().map_or(Node::Unset, |path| text(path.to_string_lossy()))),
        ("upstream", worker.upstream.as_ref().map_or(Node::Unset, text)),
        ("health_path", for_openai(text(&worker.health_path))),
        ("ready_path", for_openai(text(&worker.ready_path))),
        ("slots", count_or_auto(worker.slots)),
        ("context", count_or_auto(worker.context)),
        ("default_max_tokens", whole(worker.default_max_tokens)),
        ("device", word(sections::DEVICES, worker.device)),
        ("start_timeout", time(worker.start_timeout)),
        ("idle_unload", time_or_off(worker.idle_unload)),
        ("keep_awake", word(sections::KEEP_AWAKE, worker.keep_awake)),
        ("env", Node::Table(env.collect())),
        (
            "memory",
            table([
                (
                    "wired_limit",
                    match memory.wired_limit {
                        WiredLimit::Auto => text("auto"),
                        WiredLimit::Off => text("off"),
                        WiredLimit::Bytes(bytes) => size(bytes),
                    },
                ),
                ("cache_limit", size(memory.cache_limit)),
                ("memory_limit", memory.memory_limit.map_or_else(|| text("auto"), size)),
                ("clear_cache_after_tokens", whole(memory.clear_cache_after_tokens)),
                (
                    "idle_keep_warm",
                    match memory.idle_keep_warm {
                        IdleKeepWarm::Auto => text("auto"),
                        IdleKeepWarm::Off => text("off"),
                        IdleKeepWarm::Every(interval) => time(interval),
                    },
                ),
            ]),
        ),
    ])
}

/// Names under which people keep keys and passwords.
#[must_use]
pub fn looks_secret(name: &str) -> bool {
    let upper = name.to_ascii_uppercase();
    ["TOKEN", "KEY", "SECRET", "PASSWORD", "PASSWD", "CREDENTIAL"].iter().any(|part| upper.contains(part))
}

fn restart(config: &Config) -> Node {
    let restart = &config.restart;
    let recycle = &restart.recycle;
    let count_or_off = |count: Option<u64>| count.map_or_else(|| text("off"), Node::Whole);
    table([
        ("mode", word(sections::RESTART_MODES, restart.mode)),
        ("backoff_initial", time(restart.backoff_initial)),
        ("backoff_max", time(restart.backoff_max)),
        ("budget", text(format!("{} in {}", restart.budget.crashes, format_duration(restart.budget.window)))),
        ("retry_parked", time(restart.retry_parked)),
        (
            "recycle",
            table([
                ("max_age", time_or_off(recycle.max_age)),
                ("max_requests", count_or_off(recycle.max_requests)),
                ("max_prompt_tokens", count_or_off(recycle.max_prompt_tokens)),
                ("min_speed_ratio", recycle.min_speed_ratio.map_or_else(|| text("off"), Node::Number)),
            ]),
        ),
    ])
}

fn schedule(schedule: &Schedule, mode: RestartMode) -> Vec<(String, Node)> {
    entry([
        ("name", text(&schedule.name)),
        ("cron", text(&schedule.when.text)),
        ("timezone", text(schedule.when.zone().to_string())),
        ("action", action(schedule.action, mode)),
        ("min_uptime", time(schedule.min_uptime)),
        ("jitter", time(schedule.jitter)),
        ("wait_for_idle", time(schedule.wait_for_idle)),
        ("if_busy", word(schedules::IF_BUSY, schedule.if_busy)),
        ("missed", word(schedules::MISSED, schedule.missed)),
    ])
}

fn rule(rule: &Rule, mode: RestartMode) -> Vec<(String, Node)> {
    entry([
        ("name", text(&rule.name)),
        ("when", Node::List(rule.when.iter().map(condition).collect())),
        ("for", time(rule.dwell)),
        ("action", Node::List(rule.actions.iter().map(|one| action(*one, mode)).collect())),
        ("cooldown", time(rule.cooldown)),
        ("break_streams_after", time_or_off(rule.break_streams_after)),
    ])
}

/// A restart in the mode that is the default anyway is written short.
fn action(action: Action, mode: RestartMode) -> Node {
    match action {
        Action::Restart(own) if own != mode => {
            table([("action", text("restart")), ("mode", word(sections::RESTART_MODES, own))])
        }
        action => text(action_name(action)),
    }
}

fn condition(condition: &Condition) -> Node {
    let (acts, clears) = match condition.side {
        Side::Above => ("above", "clear_below"),
        Side::Below => ("below", "clear_above"),
    };
    table([
        ("metric", text(condition.metric.name())),
        (acts, threshold(&condition.threshold, condition.metric)),
        (clears, condition.clear.as_ref().map_or(Node::Unset, |clear| threshold(clear, condition.metric))),
    ])
}

fn threshold(threshold: &Threshold, metric: Metric) -> Node {
    match threshold {
        Threshold::Fixed(value) => in_unit(*value, metric.unit()),
        Threshold::OfMemory(share) => percent(share * 100.0),
        Threshold::Percentile { percentile, of, factor, at_least } => table([
            ("percentile", Node::Number(*percentile)),
            ("of", time(*of)),
            ("plus", percent((factor - 1.0) * 100.0)),
            ("at_least", at_least.map_or(Node::Unset, |value| in_unit(value, metric.unit()))),
        ]),
    }
}

#[allow(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "thresholds of sizes are whole and positive"
)]
fn in_unit(value: f64, unit: Unit) -> Node {
    match unit {
        Unit::Bytes => size(value as u64),
        Unit::BytesPerSecond => text(format!("{}/s", format_size(value as u64))),
        Unit::Percent => percent(value),
        Unit::Seconds => time(Duration::from_secs_f64((value * 1000.0).round() / 1000.0)),
        Unit::Count | Unit::PerSecond => Node::Number(value),
    }
}

/// Without the noise of binary fractions: 94, not 93.99999999999999.
fn percent(value: f64) -> Node {
    text(format!("{}%", (value * 1e6).round() / 1e6))
}

/// Two values are equal in the file when their text is.
fn word<T: Copy + PartialEq>(words: &[(&'static str, T)], value: T) -> Node {
    text(words.iter().find(|(_, other)| *other == value).map_or("", |(word, _)| *word))
}

fn table<const N: usize>(items: [(&str, Node); N]) -> Node {
    Node::Table(entry(items))
}

fn entry<const N: usize>(items: [(&str, Node); N]) -> Vec<(String, Node)> {
    items.into_iter().map(|(key, node)| (key.to_owned(), node)).collect()
}

fn text(text: impl AsRef<str>) -> Node {
    Node::Text(text.as_ref().to_owned())
}

fn whole(number: u32) -> Node {
    Node::Whole(u64::from(number))
}

fn size(bytes: u64) -> Node {
    text(format_size(bytes))
}

fn time(duration: Duration) -> Node {
    text(format_duration(duration))
}

fn time_or_off(duration: Option<Duration>) -> Node {
    duration.map_or_else(|| text("off"), time)
}
