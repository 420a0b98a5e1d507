//! The sums, as somebody would write them on a sheet of paper.

use mlxsup_fit::Advice;
use mlxsup_fit::advice::{RuleAdvice, count};
use mlxsup_fit::derivation::spoken;

use super::change::Change;
use crate::config::Config;
use crate::ctl::render::table::Sheet;
use crate::ctl::terminal::Paint;
use crate::limits::{Resolved, words};

/// The whole sheet.
pub(super) fn paper(config: &Config, resolved: &Resolved, advice: &Advice, changes: &[Change], paint: Paint) -> String {
    let (model, budget) = (&resolved.model, &advice.budget);
    // Sums are compared line by line: they are never wrapped.
    let mut sheet = Sheet::new(paint, None);
    sheet.row("model", format!("{} ({}, {})", config.worker.model, model.precision, config.worker.engine.as_str()));
    sheet.row("machine", words::machine(&resolved.machine));
    sheet.row("", "");
    sheet.row("memory", advice.memory_limit.to_string());
    sheet.row("", budget.pool.to_string());
    if let Some(wired) = &advice.wired_limit {
        sheet.row("wired", wired.to_string());
    } else {
        sheet.row("wired", "wired_limit off");
    }
    sheet.row("cache", advice.cache_limit.to_string());
    sheet.row("", "");
    let state = match budget.state_bytes {
        0 => String::new(),
        bytes => format!(", a request {} besides", spoken(bytes)),
    };
    sheet.row("requests", format!("a token costs {} KiB{state}", kib(budget.kv_bytes_per_token)));
    let rooms = budget.rooms.iter().map(|room| format!("{} × {}", room.slots, count(room.context)));
    match rooms.collect::<Vec<_>>().as_slice() {
        [] => sheet.row("", "none fits"),
        rooms => sheet.row("", format!("at once fit {} tokens", rooms.join(", "))),
    }
    sheet.row("slots", format!("{}: {}", advice.slots.value, advice.slots.because));
    sheet.row("context", format!("{}: {}", count(advice.context.value), advice.context.because));
    sheet.row("chunk", format!("{} tokens: {}", count(advice.chunk.value), advice.chunk.because));
    sheet.row("", "");
    let lines: Vec<Vec<String>> = advice.rules.iter().map(rule_line).collect();
    sheet.grid("rules", &lines);
    let now: Vec<Vec<String>> = changes
        .iter()
        .map(|change| vec![change.key.clone(), change.from.clone(), format!("→ {}", change.to)])
        .collect();
    if !now.is_empty() {
        sheet.row("", "");
        sheet.grid("change", &now);
    }
    sheet.finish()
}

fn rule_line(rule: &RuleAdvice) -> Vec<String> {
    let sum = rule.above.to_string();
    let sum = sum.strip_prefix(rule.name).unwrap_or(&sum).trim_start();
    let acts = match &rule.never {
        Some(why) => format!("never: {why}"),
        None => format!("acts above {sum}"),
    };
    vec![rule.name.to_owned(), rule.metric.to_owned(), acts]
}

/// Tenths below ten: most models cost a few KiB a token, small ones a fraction.
fn kib(bytes: u64) -> String {
    let tenths = (bytes * 10 + 512) / 1024;
    if tenths < 100 { format!("{}.{}", tenths / 10, tenths % 10) } else { (tenths / 10).to_string() }
}
