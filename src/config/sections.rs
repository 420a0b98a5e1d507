//! Reads the plain sections: every key with its type and its default.
//!
//! Owns the defaults. What two keys may not be together is [`super::combinations`]' part.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use toml::de::DeValue;

use super::raw::{Entry, Section};
use super::{
    ApiKeyFile, Budget, Device, Drain, Engine, Health, IdleKeepWarm, KeepAwake, Listen, Log, LogFormat, LogLevel,
    Queue, Recycle, Restart, RestartMode, WiredLimit, Worker, WorkerMemory, quantity,
};

const MODEL_HINT: &str = "name an MLX folder, a GGUF file or a downloaded hub id, like \
                          model = \"mlx-community/Qwen3-30B-A3B-8bit\"";

pub(super) const RESTART_MODES: &[(&str, RestartMode)] =
    &[("auto", RestartMode::Auto), ("overlap", RestartMode::Overlap), ("sequential", RestartMode::Sequential)];
pub(super) const ENGINES: &[(&str, Engine)] =
    &[("native", Engine::Native), ("mlx_lm", Engine::MlxLm), ("openai", Engine::OpenAi)];
pub(super) const DEVICES: &[(&str, Device)] = &[("auto", Device::Auto), ("gpu", Device::Gpu), ("cpu", Device::Cpu)];
pub(super) const KEEP_AWAKE: &[(&str, KeepAwake)] =
    &[("busy", KeepAwake::Busy), ("always", KeepAwake::Always), ("off", KeepAwake::Off)];
pub(super) const LEVELS: &[(&str, LogLevel)] = &[
    ("error", LogLevel::Error),
    ("warn", LogLevel::Warn),
    ("info", LogLevel::Info),
    ("debug", LogLevel::Debug),
    ("trace", LogLevel::Trace),
];
pub(super) const FORMATS: &[(&str, LogFormat)] = &[("text", LogFormat::Text), ("json", LogFormat::Json)];

const fn seconds(count: u64) -> Duration {
    Duration::from_secs(count)
}

const fn minutes(count: u64) -> Duration {
    Duration::from_secs(60 * count)
}

pub(super) fn listen(section: &Section<'_>) -> Listen {
    Listen {
        socket: section.path("socket").unwrap_or_else(|| PathBuf::from("mlxsup.sock")),
        mode: section.entry("mode").and_then(|entry| mode(&entry)).unwrap_or(0o600),
        allow_uids: section.entry("allow_uids").and_then(|entry| uids(&entry)).unwrap_or_default(),
        tcp: section.entry("tcp").and_then(|entry| address(&entry)),
        api_key_file: section.entry("api_key_file").and_then(|entry| {
            if entry.is_word("none") { Some(ApiKeyFile::Keyless) } else { entry.path().map(ApiKeyFile::Path) }
        }),
        max_body: section.size("max_body", 32 << 20),
    }
}

fn mode(entry: &Entry<'_>) -> Option<u32> {
    let hint = "write the octal digits in quotes: \"0600\", \"0660\" or \"0666\"";
    let Some(text) = entry.value.as_str() else {
        entry.wrong_type("text", hint);
        return None;
    };
    let octal = text.len() <= 4 && text.bytes().all(|byte| byte.is_ascii_digit());
    match u32::from_str_radix(text, 8).ok().filter(|mode| octal && *mode <= 0o777) {
        Some(mode) if mode & 0o600 == 0o600 => Some(mode),
        Some(_) => {
            entry.fail(format!("with mode \"{text}\" not even the owner could connect"), hint);
            None
        }
        None => {
            entry.fail(format!("\"{text}\" is no file mode"), hint);
            None
        }
    }
}

fn uids(entry: &Entry<'_>) -> Option<Vec<u32>> {
    let DeValue::Array(items) = entry.value else {
        entry.wrong_type("a list of user ids", "write [501, 502]");
        return None;
    };
    let items = items.iter().enumerate().map(|(index, item)| {
        let item = entry.item(index, item);
        if let DeValue::String(name) = item.value {
            item.fail(
                format!("`allow_uids` takes numbers, not \"{name}\""),
                "`id -u NAME` prints the number of a user",
            );
            return None;
        }
        item.whole(0..=u64::from(u32::MAX)).and_then(|uid| u32::try_from(uid).ok())
    });
    items.collect::<Vec<_>>().into_iter().collect()
}

fn address(entry: &Entry<'_>) -> Option<SocketAddr> {
    let text = entry.text()?;
    if let Ok(address) = text.parse() {
        return Some(address);
    }
    let hint = match text.rsplit_once(':') {
        Some(("localhost", port)) => format!("write the address itself: \"127.0.0.1:{port}\""),
        Some(("" | "*", port)) => format!("for all interfaces write \"0.0.0.0:{port}\""),
        _ => "write an IP address and a port: \"127.0.0.1:11535\" or \"[::1]:11535\"".to_owned(),
    };
    entry.fail(format!("`{text}` is no address to listen on"), hint);
    None
}

pub(super) fn worker(root: &Section<'_>) -> Worker {
    let section = root.section("worker");
    let model = section.required("model", MODEL_HINT).and_then(|entry| entry.expanded()).unwrap_or_default();
    let engine = section.one_of("engine", ENGINES, Engine::Native);
    let command = section.entry("command").and_then(|entry| command(&entry));
    Worker {
        engine,
        model,
        served_names: section.texts("served_names").unwrap_or_default(),
        python: section.path("python"),
        upstream: section.text("upstream").or_else(|| default_upstream(engine, command.as_deref())),
        health_path: section.text("health_path").unwrap_or_else(|| "/health".to_owned()),
        ready_path: section.text("ready_path").unwrap_or_else(|| "/v1/models".to_owned()),
        command,
        slots: section.whole_or_auto("slots", 1..=1024),
        context: section.whole_or_auto("context", 256..=u32::MAX),
        default_max_tokens: section.whole32("default_max_tokens", 1..=u32::MAX, 8192),
        device: section.one_of("device", DEVICES, Device::Auto),
        start_timeout: section.period("start_timeout", minutes(10)),
        idle_unload: section.period_or("idle_unload", "off", None),
        keep_awake: section.one_of("keep_awake", KEEP_AWAKE, KeepAwake::Busy),
        env: environment(&section.section("env")),
        memory: memory(&section.section("memory")),
    }
}

fn command(entry: &Entry<'_>) -> Option<Vec<String>> {
    if let DeValue::String(text) = entry.value {
        let words: Vec<String> = text.split_whitespace().map(|word| format!("{word:?}")).collect();
        entry.fail("`command` is a list: the program and its arguments", format!("write [{}]", words.join(", ")));
        return None;
    }
    let mut words = entry.texts()?;
    let DeValue::Array(items) = entry.value else { return None };
    match items.iter().next() {
        None => {
            entry.fail("`command` names no program", "write [\"/path/to/program\", \"argument\"]");
            None
        }
        Some(program) => {
            words[0] = entry.item(0, program).expanded()?;
            Some(words)
        }
    }
}

/// How the command's own words say it will listen.
fn default_upstream(engine: Engine, command: Option<&[String]>) -> Option<String> {
    let mentions = |word: &str| command.is_some_and(|words| words.iter().any(|text| text.contains(word)));
    match engine {
        Engine::Native | Engine::MlxLm => None,
        Engine::OpenAi if mentions("{socket}") => Some("unix:{socket}".to_owned()),
        Engine::OpenAi if mentions("{port}") => Some("http://127.0.0.1:{port}".to_owned()),
        Engine::OpenAi => None,
    }
}

fn environment(section: &Section<'_>) -> std::collections::BTreeMap<String, String> {
    let mut all = std::collections::BTreeMap::new();
    for (name, entry) in section.pairs() {
        if name.is_empty() || name.contains(['=', '\0']) {
            entry.fail(format!("\"{name}\" is no name of an environment variable"), "names have no `=`");
        } else if name.starts_with("MLXSUP_") {
            entry.fail(format!("`{name}` is set by mlxsupd itself"), "names that begin with MLXSUP_ are its own");
        } else if let Some(text) = entry.value.as_str() {
            if text.contains('\0') {
                entry.fail(format!("`{name}` contains a NUL byte"), "no environment can hold one");
            } else {
                all.insert(name, text.to_owned());
            }
        } else {
            entry.wrong_type("text", "an environment holds text: put it in quotes");
        }
    }
    all
}

fn memory(section: &Section<'_>) -> WorkerMemory {
    let wired_limit = section.entry("wired_limit").and_then(|entry| match entry.value.as_str() {
        Some("auto") => Some(WiredLimit::Auto),
        Some("off") => Some(WiredLimit::Off),
        _ => entry.size("write a size like \"40GiB\", \"auto\" or \"off\"").map(WiredLimit::Bytes),
    });
    let memory_limit = section.entry("memory_limit").filter(|entry| !entry.is_word("auto"));
    let idle_keep_warm = section.entry("idle_keep_warm").and_then(|entry| match entry.value.as_str() {
        Some("auto") => Some(IdleKeepWarm::Auto),
        Some("off") => Some(IdleKeepWarm::Off),
        _ => match entry.duration()? {
            Duration::ZERO => {
                entry.fail("`idle_keep_warm` cannot be zero", "write \"off\" to switch it off");
                None
            }
            interval => Some(IdleKeepWarm::Every(interval)),
        },
    });
    WorkerMemory {
        wired_limit: wired_limit.unwrap_or(WiredLimit::Auto),
        cache_limit: section.size("cache_limit", 512 << 20),
        memory_limit: memory_limit.and_then(|entry| entry.size("write a size like \"48GiB\", or \"auto\"")),
        clear_cache_after_tokens: section.whole32("clear_cache_after_tokens", 0..=u32::MAX, 500),
        idle_keep_warm: idle_keep_warm.unwrap_or(IdleKeepWarm::Auto),
    }
}

pub(super) fn health(section: &Section<'_>) -> Health {
    Health {
        interval: section.period("interval", seconds(5)),
        timeout: section.period("timeout", seconds(2)),
        failures: section.whole32("failures", 1..=1000, 3),
        stall: section.period("stall", seconds(120)),
        canary_after_idle: section.period("canary_after_idle", minutes(5)),
    }
}

pub(super) fn restart(section: &Section<'_>) -> Restart {
    let recycle = section.section("recycle");
    Restart {
        mode: section.one_of("mode", RESTART_MODES, RestartMode::Auto),
        backoff_initial: section.period("backoff_initial", seconds(1)),
        backoff_max: section.period("backoff_max", minutes(5)),
        budget: section
            .entry("budget")
            .and_then(|entry| budget(&entry))
            .unwrap_or(Budget { crashes: 5, window: minutes(30) }),
        retry_parked: section.period("retry_parked", minutes(30)),
        recycle: Recycle {
            max_age: recycle.period_or("max_age", "off", None),
            max_requests: limit(&recycle, "max_requests"),
            max_prompt_tokens: limit(&recycle, "max_prompt_tokens"),
            min_speed_ratio: match recycle.entry("min_speed_ratio") {
                Some(entry) if entry.is_word("off") => None,
                Some(_) | None => recycle.fraction("min_speed_ratio", 0.0, 1.0),
            },
        },
    }
}

fn limit(section: &Section<'_>, key: &str) -> Option<u64> {
    let entry = section.entry(key)?;
    if entry.is_word("off") { None } else { entry.whole(1..=u64::from(u32::MAX) << 16) }
}

fn budget(entry: &Entry<'_>) -> Option<Budget> {
    let hint = "write how many crashes in how long: \"5 in 30m\"";
    let text = match entry.value.as_str() {
        Some(text) => text,
        None => {
            entry.wrong_type("text", hint);
            return None;
        }
    };
    let Some((crashes, window)) = text.split_once(" in ") else {
        entry.fail(format!("\"{text}\" is no crash budget"), hint);
        return None;
    };
    let crashes = crashes.trim().parse::<u32>().ok().filter(|crashes| (1..=1000).contains(crashes));
    match (crashes, quantity::parse_duration(window.trim())) {
        (Some(crashes), Ok(window)) if !window.is_zero() => Some(Budget { crashes, window }),
        (_, Err(error)) => {
            entry.fail(error.what, error.hint);
            None
        }
        (_, Ok(_)) => {
            entry.fail(format!("\"{text}\" is no crash budget"), hint);
            None
        }
    }
}

pub(super) fn drain(section: &Section<'_>) -> Drain {
    Drain { grace: section.duration("grace", minutes(2)) }
}

pub(super) fn queue(section: &Section<'_>) -> Queue {
    let max_waiting = section.whole("max_waiting", 1..=1_000_000, 256);
    Queue {
        max_waiting: usize::try_from(max_waiting).unwrap_or(256),
        max_bytes: section.size("max_bytes", 256 << 20),
        max_wait: section.period("max_wait", minutes(30)),
        keepalive: section.period("keepalive", seconds(15)),
        keepalive_plain: section.period_or("keepalive_plain", "off", Some(seconds(60))),
        per_client_share: section.fraction("per_client_share", 0.0, 1.0).unwrap_or(0.5),
    }
}

pub(super) fn log(section: &Section<'_>) -> Log {
    Log {
        level: section.one_of("level", LEVELS, LogLevel::Info),
        format: section.one_of("format", FORMATS, LogFormat::Text),
        keep: section.whole32("keep", 1..=1000, 5),
        rotate_at: section.size("rotate_at", 10 << 20),
    }
}
