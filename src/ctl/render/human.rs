//! Verb replies, rules, schedules and events for people.

use serde_json::Value;

use super::quantity::{Now, count, keyed, phase_order};
use super::status::rule_state;
use super::table::{grid, wrap};
use crate::control::view::{ClientView, EventView, RuleView, ScheduleView, VerbReply, WaitingView};
use crate::ctl::terminal::Paint;

/// The sentence of a reply, and its facts below.
#[must_use]
pub fn reply(reply: &VerbReply, columns: Option<usize>) -> String {
    let mut text = wrap(&reply.message, columns, 2).join("\n");
    text.push('\n');
    text.push_str(&facts(reply));
    text
}

/// The facts of a reply, one line each; empty when it has none.
#[must_use]
pub fn facts(reply: &VerbReply) -> String {
    let mut lines = Vec::new();
    let mut facts: Vec<_> = reply.facts.iter().collect();
    facts.sort_by_key(|(key, _)| phase_order(key));
    for (key, value) in facts {
        flatten(key, value, &mut lines);
    }
    grid(&lines).into_iter().map(|line| format!("  {line}\n")).collect()
}

fn flatten(key: &str, value: &Value, lines: &mut Vec<Vec<String>>) {
    match value {
        Value::Null => {}
        Value::Number(number) => {
            let (name, text) = keyed(key, number.as_f64().unwrap_or(f64::NAN));
            lines.push(vec![name, text]);
        }
        Value::String(text) => lines.push(vec![key.replace('_', " "), text.clone()]),
        Value::Bool(yes) => lines.push(vec![key.replace('_', " "), if *yes { "yes" } else { "no" }.to_owned()]),
        Value::Array(items) => {
            let words = items.iter().map(|item| item.as_str().map_or_else(|| item.to_string(), str::to_owned));
            let words: Vec<_> = words.collect();
            let mut label = key.replace('_', " ");
            if words.iter().any(|word| word.contains(' ')) {
                lines.extend(words.into_iter().map(|word| vec![std::mem::take(&mut label), word]));
            } else {
                lines.push(vec![label, words.join(", ")]);
            }
        }
        Value::Object(members) => {
            for (inner, value) in members {
                flatten(&format!("{key}.{inner}"), value, lines);
            }
        }
    }
}

/// One line per rule.
#[must_use]
pub fn rules(rules: &[RuleView], columns: Option<usize>) -> String {
    let lines: Vec<_> = rules
        .iter()
        .map(|rule| vec![rule.name.clone(), rule_state(rule.state).to_owned(), rule.explain.clone()])
        .collect();
    let hang = |column: usize| lines.iter().map(|line| line[column].chars().count() + 2).max().unwrap_or(0);
    let hang = hang(0) + hang(1);
    grid(&lines).iter().flat_map(|line| wrap(line, columns, hang)).map(|line| line + "\n").collect()
}

/// What stands in place of a table without a line.
pub const NO_CLIENTS: &str = "No client has asked for anything since the daemon started";

/// One line per principal, those of its names below it.
#[must_use]
pub fn clients(clients: &[ClientView]) -> String {
    let heading = ["client", "waiting", "active", "prompts", "answers", "mean", "share", "counter"];
    let mut lines = vec![heading.map(str::to_owned).to_vec()];
    for principal in clients {
        lines.push(client(principal, ""));
        lines.extend(principal.clients.iter().map(|name| client(name, "  ")));
    }
    grid(&lines).into_iter().map(|line| line + "\n").collect()
}

fn client(client: &ClientView, lead: &str) -> Vec<String> {
    let WaitingView { interactive, normal, batch } = client.waiting;
    let classes = [(interactive, "interactive"), (normal, "normal"), (batch, "batch")];
    let waiting: Vec<_> =
        classes.iter().filter(|(count, _)| *count > 0).map(|(count, class)| format!("{count} {class}")).collect();
    vec![
        format!("{lead}{}", client.name.as_deref().unwrap_or("(no name)")),
        if waiting.is_empty() { "-".to_owned() } else { waiting.join(", ") },
        match client.max_active {
            Some(most) => format!("{} of {most}", client.active),
            None => client.active.to_string(),
        },
        count(client.served.prompt_tokens),
        count(client.served.completion_tokens),
        client.mean_answer_tokens.map_or_else(|| "-".to_owned(), |mean| format!("{mean:.0}")),
        format!("{:.0} %", client.share * 100.0),
        format!("+{}", count(client.counter)),
    ]
}

/// One line per firing, soonest first within each schedule.
#[must_use]
pub fn schedules(schedules: &[ScheduleView], now: Now) -> String {
    let mut lines = Vec::new();
    for schedule in schedules {
        let mut firings: Vec<&String> = schedule.upcoming.iter().collect();
        if firings.is_empty() {
            firings.extend(&schedule.next_at);
        }
        if firings.is_empty() {
            lines.push(vec![schedule.name.clone(), "never again".to_owned()]);
        }
        for at in firings {
            lines.push(vec![schedule.name.clone(), now.clock(at), now.distance(at)]);
        }
    }
    grid(&lines).into_iter().map(|line| line + "\n").collect()
}

/// One line per event: when, which, what.
#[must_use]
pub fn event(event: &EventView, now: Now, paint: Paint) -> String {
    format!("{}  {:<20}  {}\n", paint.dim(&now.stamp(&event.at)), event.kind, event.message)
}
