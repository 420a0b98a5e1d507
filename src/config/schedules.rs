//! Reads `[[schedule]]`, and the actions that schedules and rules share.
//!
//! Owns the list of action names. What cron text means is [`crate::schedule`]'s part.

use std::collections::BTreeMap;
use std::ops::Range;
use std::time::Duration;

use toml::de::DeValue;

use super::raw::{Entry, Section};
use super::report::Report;
use super::{Action, Engine, IfBusy, Missed, RestartMode, Schedule};
use super::{keys, sections};
use crate::schedule::{Expression, ScheduleError, Zone};

/// Longest name of a schedule or rule; they are shown in tables and labels.
const LONGEST_NAME: usize = 64;

const CRON_HINT: &str = "minute, hour, day of month, month, weekday: cron = \"0 4 * * *\" is every day at 4:00";
const NAME_HINT: &str = "give it a short name: status, events and `mlxsupctl` use it";

pub(super) const IF_BUSY: &[(&str, IfBusy)] = &[("run", IfBusy::Run), ("skip", IfBusy::Skip)];
pub(super) const MISSED: &[(&str, Missed)] = &[("skip", Missed::Skip), ("run-once", Missed::RunOnce)];

/// The names in the order messages list them; `restart` takes its mode from elsewhere.
const ACTIONS: &[(&str, Action)] = &[
    ("warn", Action::Warn),
    ("clear-cache", Action::ClearCache),
    ("trim-prefix-cache", Action::TrimPrefixCache),
    ("refuse", Action::Refuse),
    ("restart", Action::Restart(RestartMode::Auto)),
    ("unload", Action::Unload),
    ("load", Action::Load),
    ("canary", Action::Canary),
];

/// The action's name in the file; all modes of `restart` share one.
#[must_use]
pub fn action_name(action: Action) -> &'static str {
    match action {
        Action::Warn => "warn",
        Action::ClearCache => "clear-cache",
        Action::TrimPrefixCache => "trim-prefix-cache",
        Action::Refuse => "refuse",
        Action::Restart(_) => "restart",
        Action::Unload => "unload",
        Action::Load => "load",
        Action::Canary => "canary",
    }
}

/// Names seen in one list, so that the second of a kind can point at the first.
#[derive(Default)]
pub(super) struct Names {
    seen: BTreeMap<String, Range<usize>>,
}

impl Names {
    /// The entry's unique name; empty when there is none.
    pub fn take(&mut self, section: &Section<'_>) -> String {
        let Some(entry) = section.required("name", NAME_HINT) else { return String::new() };
        let Some(name) = entry.text() else { return String::new() };
        let plain = name.chars().all(|letter| letter.is_ascii_alphanumeric() || "._-".contains(letter));
        if !plain || name.len() > LONGEST_NAME {
            entry.fail(format!("\"{name}\" cannot be a name"), "up to 64 of the letters A–Z a–z 0–9 . _ -");
        } else if let Some(first) = self.seen.get(name) {
            let what = format!("the name \"{name}\" is used twice");
            let hint = "names must be unique in their list".to_owned();
            let report = section.report;
            let problem = {
                let source = report.source();
                let problem = source.problem_at(Some(&entry.path), entry.span.clone(), what, Some(hint));
                source.with_also(problem, "first used here", first)
            };
            report.push(problem);
        } else {
            self.seen.insert(name.to_owned(), entry.span.clone());
        }
        name.to_owned()
    }
}

pub(super) fn read(root: &Section<'_>, engine: Engine, mode: RestartMode) -> Vec<Schedule> {
    let mut names = Names::default();
    root.tables("schedule").iter().filter_map(|section| schedule(section, &mut names, engine, mode)).collect()
}

/// `None` without a valid expression or action, which is then a reported problem.
fn schedule(section: &Section<'_>, names: &mut Names, engine: Engine, mode: RestartMode) -> Option<Schedule> {
    let name = names.take(section);
    let zone = section.entry("timezone").and_then(|entry| zone(&entry));
    let cron = section.required("cron", CRON_HINT);
    let when = cron.and_then(|entry| {
        let text = entry.text()?;
        let parsed = Expression::parse(text, zone.unwrap_or(Zone::Local));
        parsed.map_err(|error| fail_inside(&entry, text, error)).ok()
    });
    let action = section
        .required("action", "say what to do, for example action = \"restart\"")
        .and_then(|entry| action(&entry, mode).map(|action| (entry, action)));
    if let Some((entry, Action::Refuse)) = &action {
        entry.fail(
            "a schedule cannot `refuse`: nothing would end it",
            "use it in a [[rule]], or schedule \"unload\" and \"load\"",
        );
    }
    let action = action.map(|(_, action)| action);
    // Where the worker was replaced this recently, replacing it again gains nothing; other actions cost nothing.
    let settles = match action {
        Some(Action::Restart(_)) => Duration::from_secs(6 * 3600),
        _ => Duration::ZERO,
    };
    // Streams continue over a hand-over in the native engine alone, and over an unload nowhere; other actions end none.
    let if_busy = match (action, engine) {
        (Some(Action::Unload), _) | (Some(Action::Restart(_)), Engine::MlxLm | Engine::OpenAi) => IfBusy::Skip,
        _ => IfBusy::Run,
    };
    let (min_uptime, jitter) = (section.duration("min_uptime", settles), section.duration("jitter", Duration::ZERO));
    let wait_for_idle = section.duration("wait_for_idle", Duration::from_secs(3600));
    let if_busy = section.one_of("if_busy", IF_BUSY, if_busy);
    let missed = section.one_of("missed", MISSED, Missed::Skip);
    Some(Schedule { name, when: when?, action: action?, min_uptime, jitter, wait_for_idle, if_busy, missed })
}

fn zone(entry: &Entry<'_>) -> Option<Zone> {
    let text = entry.text()?;
    text.parse().map_err(|error| fail_inside(entry, text, error)).ok()
}

/// Underlines the part of the text at fault, where the text stands in the file as it reads.
fn fail_inside(entry: &Entry<'_>, text: &str, error: ScheduleError) {
    let report: &Report = entry.report;
    let inner = entry.span.start + 1..entry.span.end.saturating_sub(1).max(entry.span.start + 1);
    let verbatim = report.source().slice(inner.clone()) == text;
    let span = if verbatim && !error.span.is_empty() {
        inner.start + error.span.start..inner.start + error.span.end
    } else {
        entry.span.clone()
    };
    report.fail_at(Some(&entry.path), span, error.what, Some(error.hint));
}

/// `"restart"`, or `{ action = "restart", mode = "overlap" }`.
pub(super) fn action(entry: &Entry<'_>, default_mode: RestartMode) -> Option<Action> {
    let hint = "write a name like \"restart\", or { action = \"restart\", mode = \"overlap\" }";
    match entry.value {
        DeValue::String(_) => named_action(entry, default_mode),
        DeValue::Table(_) => {
            let section = entry.clone().into_section()?;
            let inner = section.required("action", "name what to do: { action = \"restart\", mode = \"overlap\" }")?;
            let action = named_action(&inner, default_mode)?;
            let Some(mode) = section.entry("mode") else { return Some(action) };
            let mode_given = mode.one_of(sections::RESTART_MODES)?;
            match action {
                Action::Restart(_) => Some(Action::Restart(mode_given)),
                other => {
                    mode.fail(
                        format!("`{}` takes no mode", action_name(other)),
                        "leave `mode` out; only restart has one",
                    );
                    None
                }
            }
        }
        _ => {
            entry.wrong_type("an action", hint);
            None
        }
    }
}

fn named_action(entry: &Entry<'_>, default_mode: RestartMode) -> Option<Action> {
    let text = entry.text()?;
    match ACTIONS.iter().find(|(name, _)| *name == text) {
        Some((_, Action::Restart(_))) => Some(Action::Restart(default_mode)),
        Some((_, action)) => Some(*action),
        None => {
            let all = ACTIONS.iter().map(|(name, _)| *name);
            let hint = match keys::nearest(text, all.clone()) {
                Some(name) => format!("did you mean \"{name}\"?"),
                None => format!("the actions are {}", all.collect::<Vec<_>>().join(", ")),
            };
            entry.fail(format!("there is no action \"{text}\""), hint);
            None
        }
    }
}
