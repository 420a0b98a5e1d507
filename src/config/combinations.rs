//! What may not stand together: checks that need two keys.
//!
//! Owns the reasons. Everything here can be judged from the file alone; what needs the home is [`super::home`]'s part.

use std::path::Path;

use super::quantity::{format_duration, format_size};
use super::report::Report;
use super::{ApiKeyFile, Config, Engine, IdleKeepWarm, RestartMode, WiredLimit};
use mlxsup_worker_api::settings::Device;

pub(super) fn check(config: &Config, report: &Report) {
    listen(config, report);
    engine(config, report);
    times(config, report);
}

fn listen(config: &Config, report: &Report) {
    let listen = &config.listen;
    if listen.socket.is_relative() {
        reachable(config, report);
    }
    if !listen.allow_uids.is_empty() && listen.mode & 0o022 == 0 {
        report.fail(
            "listen.allow_uids",
            format!("mode \"{:04o}\" keeps every other user from connecting", listen.mode),
            "add mode = \"0666\" (uids are still checked), or \"0660\" with a common group",
        );
    }
    match (&listen.tcp, &listen.api_key_file) {
        (Some(address), None) => report.fail(
            "listen.tcp",
            format!("everyone who reaches {address} could use the model"),
            "add api_key_file = \"api.key\"; api_key_file = \"none\" is possible on loopback",
        ),
        (Some(address), Some(ApiKeyFile::Keyless)) if !address.ip().is_loopback() => report.fail(
            "listen.api_key_file",
            format!("\"none\" is only possible on loopback, and {address} is reached from outside"),
            "name a file: api_key_file = \"api.key\", with lines NAME KEY",
        ),
        (None, Some(_)) => report.fail(
            "listen.api_key_file",
            "`api_key_file` is only for TCP, and there is no `tcp`",
            "add tcp = \"127.0.0.1:11535\", or leave api_key_file out: the socket goes by user ids",
        ),
        (Some(_) | None, _) => {}
    }
}

/// A socket inside the home can be for the owner only.
fn reachable(config: &Config, report: &Report) {
    for (key, what, hint) in inside_home(config) {
        report.fail(key, what, hint);
    }
}

/// What is wrong with a socket inside the home that others are meant to use.
pub(super) fn inside_home(config: &Config) -> Vec<(&'static str, String, &'static str)> {
    let hint = "put the socket outside, for example socket = \"/var/run/mlxsup.sock\"";
    let inside = "nobody else gets into the home (mode 0700), where the socket lies";
    let mut found = Vec::new();
    if !config.listen.allow_uids.is_empty() {
        found.push(("listen.allow_uids", format!("`allow_uids` would be of no use: {inside}"), hint));
    }
    if config.listen.mode & 0o077 != 0 {
        found.push(("listen.mode", format!("mode \"{:04o}\" would be of no use: {inside}", config.listen.mode), hint));
    }
    found
}

fn engine(config: &Config, report: &Report) {
    let worker = &config.worker;
    let only_for = |key: &str, engine: &str| {
        let path = format!("worker.{key}");
        if report.gives(&path) {
            report.fail(
                &path,
                format!("`{key}` is only for engine = \"{engine}\""),
                "leave it out, or change `engine`",
            );
        }
    };
    match worker.engine {
        Engine::Native => {
            only_for("python", "mlx_lm");
            not_openai(&only_for);
        }
        Engine::MlxLm => {
            not_openai(&only_for);
            if worker.command.is_some() {
                report.fail(
                    "worker.command",
                    "engine = \"mlx_lm\" brings its own command",
                    "leave `command` out; `python` chooses the interpreter",
                );
            }
            if worker.device != Device::Auto {
                report.fail("worker.device", "mlx_lm chooses its device itself", "write device = \"auto\"");
            }
        }
        Engine::OpenAi => {
            only_for("python", "mlx_lm");
            openai(config, report);
        }
    }
}

fn not_openai(only_for: &impl Fn(&str, &str)) {
    for key in ["upstream", "health_path", "ready_path"] {
        only_for(key, "openai");
    }
}

fn openai(config: &Config, report: &Report) {
    let worker = &config.worker;
    let Some(command) = &worker.command else {
        report.fail(
            "worker.engine",
            "engine = \"openai\" needs a command to start",
            "add command = [\"server\", \"--model\", \"{model}\", \"--port\", \"{port}\"]",
        );
        return;
    };
    let mentions = |word: &str| command.iter().any(|text| text.contains(word));
    match worker.upstream.as_deref() {
        None => report.fail(
            "worker.command",
            "it is not said where the command will listen",
            "use {port} or {socket} in `command`, or add upstream = \"http://127.0.0.1:8080\"",
        ),
        Some(upstream) => upstream_fits(upstream, &mentions, report),
    }
    for (key, path) in [("worker.health_path", &worker.health_path), ("worker.ready_path", &worker.ready_path)] {
        if !path.starts_with('/') || path.contains(|letter: char| letter.is_whitespace() || letter.is_control()) {
            report.fail(key, format!("\"{path}\" is no path of a URL"), "it begins with a slash, like \"/health\"");
        }
    }
    if config.restart.mode == RestartMode::Overlap && !mentions("{port}") && !mentions("{socket}") {
        report.fail(
            "restart.mode",
            "two workers cannot overlap: the command has neither {port} nor {socket}, so both would listen at one place",
            "use {port} in `command`, or write mode = \"auto\"",
        );
    }
    let memory = &worker.memory;
    let out_of_reach = [
        ("worker.device", worker.device != Device::Auto),
        ("worker.memory.wired_limit", memory.wired_limit != WiredLimit::Auto),
        ("worker.memory.cache_limit", report.gives("worker.memory.cache_limit") && memory.cache_limit != 512 << 20),
        ("worker.memory.idle_keep_warm", !matches!(memory.idle_keep_warm, IdleKeepWarm::Auto | IdleKeepWarm::Off)),
    ];
    for (key, set) in out_of_reach {
        if set {
            let name = key.rsplit('.').next().unwrap_or(key);
            report.fail(
                key,
                format!("`{name}` cannot be set in a server mlxsup did not write"),
                "leave it out, and pass it in `command` if the server has such an option",
            );
        }
    }
}

fn upstream_fits(upstream: &str, mentions: &impl Fn(&str) -> bool, report: &Report) {
    let is_unix =
        upstream.strip_prefix("unix:").is_some_and(|path| path == "{socket}" || Path::new(path).is_absolute());
    let is_http =
        upstream.strip_prefix("http://").and_then(|rest| rest.rsplit_once(':')).is_some_and(|(host, port)| {
            let loopback = host == "localhost"
                || host.trim_matches(['[', ']']).parse().is_ok_and(|ip: std::net::IpAddr| ip.is_loopback());
            loopback && (port == "{port}" || port.parse::<u16>().is_ok_and(|port| port > 0))
        });
    if !is_unix && !is_http {
        report.fail(
            "worker.upstream",
            format!("\"{upstream}\" is no place on this machine"),
            "write \"unix:{socket}\" or \"http://127.0.0.1:{port}\"",
        );
        return;
    }
    for word in ["{port}", "{socket}"] {
        if upstream.contains(word) && !mentions(word) {
            report.fail(
                "worker.upstream",
                format!("the command would not know its {word}"),
                format!("use {word} in `command` too"),
            );
        }
    }
}

fn times(config: &Config, report: &Report) {
    let (queue, restart, health) = (&config.queue, &config.restart, &config.health);
    let needed = config.drain.grace.saturating_add(config.worker.start_timeout);
    if queue.max_wait < needed {
        report.fail(
            report.given(&["queue.max_wait", "worker.start_timeout", "drain.grace"]),
            format!(
                "requests would time out during a planned restart: max_wait is {}, but a restart may take {} \
                 (drain.grace {} + worker.start_timeout {})",
                format_duration(queue.max_wait),
                format_duration(needed),
                format_duration(config.drain.grace),
                format_duration(config.worker.start_timeout),
            ),
            format!("write queue.max_wait = \"{}\" or more, or shorten the other two", format_duration(needed)),
        );
    }
    if queue.max_bytes < config.listen.max_body {
        report.fail(
            report.given(&["queue.max_bytes", "listen.max_body"]),
            format!(
                "the largest request ({}) would not fit the queue ({})",
                format_size(config.listen.max_body),
                format_size(queue.max_bytes),
            ),
            format!("write queue.max_bytes = \"{}\" or more", format_size(config.listen.max_body)),
        );
    }
    if restart.backoff_max < restart.backoff_initial {
        let initial = format_duration(restart.backoff_initial);
        report.fail(
            report.given(&["restart.backoff_max", "restart.backoff_initial"]),
            format!(
                "`backoff_max` ({}) is shorter than `backoff_initial` ({initial})",
                format_duration(restart.backoff_max)
            ),
            format!("write backoff_max = \"{initial}\" or more"),
        );
    }
    if health.stall <= health.interval {
        report.fail(
            report.given(&["health.stall", "health.interval"]),
            format!("no probe would fall into `stall`: they come every {}", format_duration(health.interval)),
            "make `stall` longer than `interval`, several times so",
        );
    }
}
