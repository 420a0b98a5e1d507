//! `doctor --report`: everything that helps somebody else to help, in Markdown, with nothing private in it.
//!
//! ```text
//! private ─▶ what must go       parts of the bundle ─▶ redact ─▶ stdout
//! probes ─▶ evidence ─▶ questions (pure)
//! ```
//! Prompts and answers are never in it, because they are in none of its sources: findings, status, events, the daemon's own log,
//! the configuration in force.

mod private;
mod probes;
mod questions;
mod redact;

use std::fmt::Write as _;

use serde_json::Value;

use super::finding::Findings;
use super::gathering::Gathered;
use super::text;
use crate::config::{self, Config};
use crate::control::view::EventView;
use crate::ctl::control::Control;
use crate::ctl::home::{Home, Source};
use crate::ctl::tail::Tail;
use crate::ctl::terminal::{Paint, Terminal};
use crate::limits::{Resolved, Unknown, words};
use questions::Answered;
use redact::{redact, redact_value};

/// Events that are asked for.
const EVENTS: u32 = 50;
/// Lines of the log.
const LOG_LINES: u32 = 80;

/// What goes into a bundle besides the findings.
#[derive(Debug, Default)]
struct Parts {
    status: Option<Value>,
    events: Vec<EventView>,
    log: String,
    config: Option<String>,
    config_problems: Vec<String>,
    answers: Vec<Answered>,
}

/// The bundle.
pub async fn bundle(gathered: &Gathered, findings: &Findings, terminal: &mut Terminal) -> String {
    let root = &gathered.daemon.home;
    let config = gathered.configuration.config.as_ref();
    let private = private::gather(root, config);
    let mut parts = Parts {
        status: gathered.daemon.status().and_then(|status| serde_json::to_value(status).ok()),
        log: last_lines(root),
        config: config.zip(gathered.derived.as_ref()).map(|(config, derived)| shown(config, derived)),
        config_problems: gathered.configuration.problems.iter().map(|(problem, _)| problem.clone()).collect(),
        ..Parts::default()
    };
    if parts.status.is_some() {
        let control = Control::new(Home { path: root.clone(), source: Source::Flag });
        let lines = control.lines(&format!("/v1/events?limit={EVENTS}&follow=false")).await.unwrap_or_default();
        parts.events =
            lines.split(|byte| *byte == b'\n').filter_map(|line| serde_json::from_slice(line).ok()).collect();
    }
    // Elsewhere nobody asks them.
    if cfg!(target_os = "macos") {
        parts.answers = questions::answer(&probes::gather(gathered, terminal).await);
    }
    if let Some(status) = &mut parts.status {
        redact_value(status, &private);
    }
    redact(&written(&gathered.machine.system, findings, &parts), &private)
}

/// With what `auto` comes to, as in `config show`.
fn shown(config: &Config, derived: &Result<Resolved, Unknown>) -> String {
    config::show_with(config, &words::comments(config, derived))
}

fn last_lines(root: &std::path::Path) -> String {
    let tail = Tail::open(&root.join("logs/mlxsupd.log"), LOG_LINES);
    let bytes = tail.and_then(|mut tail| tail.fresh()).unwrap_or_default();
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Puts the parts together. Nothing is redacted here but the status, which is redacted before.
fn written(system: &str, findings: &Findings, parts: &Parts) -> String {
    let mut out = format!("# mlxsup report\n\nmlxsup {} on {system}.\n", env!("CARGO_PKG_VERSION"));
    let _ = writeln!(out, "Keys, names, home folders and addresses were taken out; read it before you paste it.");
    fenced(&mut out, "Findings", "", &text::table(findings, Paint::default(), None));
    if let Some(config) = &parts.config {
        fenced(&mut out, "Configuration", "toml", config);
    }
    if !parts.config_problems.is_empty() {
        let _ = writeln!(out, "\nThe file on disk is bad; the above was accepted last, if there is one.");
        fenced(&mut out, "Problems of the configuration", "", &parts.config_problems.join("\n"));
    }
    match parts.status.as_ref().and_then(|status| serde_json::to_string_pretty(status).ok()) {
        Some(status) => fenced(&mut out, "Status", "json", &status),
        None => out.push_str("\n## Status\n\nNo daemon answered.\n"),
    }
    let events: String =
        parts.events.iter().map(|event| format!("{} {} {}\n", event.at, event.kind, event.message)).collect();
    if !events.is_empty() {
        fenced(&mut out, "Last events", "", &events);
    }
    fenced(&mut out, "Last lines of mlxsupd.log", "", &parts.log);
    out.push_str("\n## Open questions about macOS\n\n");
    if parts.answers.is_empty() {
        out.push_str("They are for macOS; this is another system.\n");
    }
    for answered in &parts.answers {
        let _ = writeln!(out, "- **{}** {}", answered.question, answered.seen.replace('\n', "\n  "));
        if !answered.experiment.is_empty() {
            let _ = writeln!(out, "  To find out more: {}", answered.experiment);
        }
    }
    out
}

/// A fence longer than any in the text, so that nothing in it can end the block.
fn fenced(out: &mut String, title: &str, language: &str, text: &str) {
    let longest = text.split(|letter| letter != '`').map(str::len).max().unwrap_or(0);
    let fence = "`".repeat(longest.max(2) + 1);
    let text = text.trim_end();
    let text = if text.is_empty() { "(nothing)" } else { text };
    let _ = write!(out, "\n## {title}\n\n{fence}{language}\n{text}\n{fence}\n");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_text_can_end_its_block() {
        let mut out = String::new();
        fenced(&mut out, "Log", "", "a\n````\nb");
        assert_eq!(out, "\n## Log\n\n`````\na\n````\nb\n`````\n");
    }

    #[test]
    fn answers_are_listed_with_what_would_tell_more() {
        let answers = questions::answer(&questions::Evidence::default());
        let parts = Parts { answers, ..Parts::default() };
        let text = written("macOS 26.1", &Findings::sorted(Vec::new()), &parts);
        assert!(text.contains("- **Does launchd honour a ThrottleInterval below 10 s?** not seen"), "{text}");
        assert!(text.contains("  To find out more: kill -9"), "{text}");
        assert!(text.contains("No daemon answered."));
    }
}
