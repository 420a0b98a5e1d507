//! The sums, as somebody would write them on a sheet of paper.

use mlxsup_fit::advice::{RuleAdvice, count};
use mlxsup_fit::derivation::spoken;
use mlxsup_fit::{Advice, Observed};

use super::change::{Change, is_guess};
use crate::config::{Config, WiredLimit};
use crate::ctl::render::table::Sheet;
use crate::ctl::terminal::Paint;
use crate::limits::{Resolved, words};

/// The whole sheet.
pub(super) fn paper(
    config: &Config,
    resolved: &Resolved,
    advice: &Advice,
    observed: &Observed,
    changes: &[Change],
    paint: Paint,
) -> String {
    let (model, budget) = (&resolved.model, &advice.budget);
    // Sums are compared line by line: they are never wrapped.
    let mut sheet = Sheet::new(paint, None);
    sheet.row("model", format!("{} ({}, {})", config.worker.model, model.precision, config.worker.engine.as_str()));
    sheet.row("weights", words::weights(resolved));
    sheet.row("machine", words::machine(&resolved.machine));
    sheet.row("", "");
    sheet.row("memory", advice.memory_limit.to_string());
    if budget.too_big_by.is_some() {
        // Limits, slots and thresholds of a model that never starts would only hide that.
        sheet.row("", format!("the model {}", budget.need));
        return sheet.finish();
    }
    sheet.row("", budget.pool.to_string());
    if let Some(wired) = &advice.wired_limit {
        sheet.row("wired", wired.to_string());
        let auto = budget.wired_limit.as_ref().filter(|auto| auto.bytes != wired.bytes);
        if let (Some(auto), WiredLimit::Auto) = (auto, config.worker.memory.wired_limit)
            && is_guess(observed)
        {
            let auto = spoken(auto.bytes);
            sheet.row("", format!("left at \"auto\", {auto}, until a day of history tells the usual KV"));
        }
    } else {
        sheet.row("wired", "wired_limit off");
    }
    sheet.row("cache", advice.cache_limit.to_string());
    sheet.row("", "");
    let state = match budget.state_bytes {
        0 => String::new(),
        bytes => format!(", a request {} besides", spoken(bytes)),
    };
    let costs = format!("a token costs {} KiB of KV cache{state}", kib(budget.kv_bytes_per_token));
    sheet.row("requests", costs);
    let rooms = budget.rooms.iter().map(|room| format!("{} × {}", room.slots, count(room.context)));
    match rooms.collect::<Vec<_>>().as_slice() {
        [] => sheet.row("", "none fits"),
        rooms => sheet.row("", format!("at once fit {} tokens, the scratch of one included", rooms.join(", "))),
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
