//! Reads `[[rule]]`: conditions, thresholds in their metric's unit, the ladder of actions.
//!
//! Owns what a condition may say. Evaluating it is the supervisor's part.

use std::time::Duration;

use toml::de::DeValue;

use super::raw::{Entry, Section};
use super::schedules::{Names, action};
use super::{Action, Condition, RestartMode, Rule, Side, Threshold, Worker, builtin, keys, quantity};
use crate::memory::{METRICS, Metric, Unit};

/// Longest history a percentile can look at: what `history.db` keeps at 10 s resolution.
const LONGEST_HISTORY: Duration = Duration::from_secs(7 * 86_400);

/// Most steps of a ladder and conditions of a rule: more cannot be explained in one line.
const MOST_PARTS: usize = 8;

const WHEN_HINT: &str = "write when = [ { metric = \"worker.footprint\", above = \"40GiB\" } ]";

/// The file's rules in file order, then the built-in ones that none of them overrides.
pub(super) fn read(root: &Section<'_>, worker: &Worker, mode: RestartMode) -> Vec<Rule> {
    let mut built_in = builtin::rules(worker, mode);
    let mut names = Names::default();
    let mut all = Vec::new();
    for section in root.tables("rule") {
        let name = names.take(&section);
        let base = built_in.iter().position(|rule| rule.name == name).map(|at| built_in.remove(at));
        all.push(rule(&section, name, base.as_ref(), mode));
    }
    all.extend(built_in);
    all
}

/// Keys that the file leaves out come from the built-in rule of the same name, if there is one.
fn rule(section: &Section<'_>, name: String, base: Option<&Rule>, mode: RestartMode) -> Rule {
    let when = match base {
        Some(base) if section.entry("when").is_none() => base.when.clone(),
        Some(_) | None => conditions(section),
    };
    let actions = match (base, section.entry("action")) {
        (Some(base), None) => base.actions.clone(),
        (None, None) => {
            section.required("action", "say what to do, for example action = \"restart\"");
            Vec::new()
        }
        (_, Some(entry)) => ladder(&entry, mode),
    };
    let default = |get: fn(&Rule) -> Duration, plain: u64| base.map_or(Duration::from_secs(plain), get);
    let break_streams_after = base.and_then(|base| base.break_streams_after);
    Rule {
        name,
        when,
        dwell: section.duration("for", default(|rule| rule.dwell, 60)),
        actions,
        cooldown: section.period("cooldown", default(|rule| rule.cooldown, 1800)),
        break_streams_after: section.period_or("break_streams_after", "off", break_streams_after),
        built_in: false,
    }
}

/// One action or a list of them; an empty list watches without acting.
fn ladder(entry: &Entry<'_>, mode: RestartMode) -> Vec<Action> {
    let DeValue::Array(items) = entry.value else { return action(entry, mode).into_iter().collect() };
    if items.len() > MOST_PARTS {
        entry.fail(format!("a ladder of {} steps is too long", items.len()), "it can have up to 8");
    }
    let steps = items.iter().enumerate().map(|(index, item)| action(&entry.item(index, item), mode));
    steps.collect::<Vec<_>>().into_iter().flatten().collect()
}

fn conditions(section: &Section<'_>) -> Vec<Condition> {
    let Some(entry) = section.required("when", WHEN_HINT) else { return Vec::new() };
    if let DeValue::Table(_) = entry.value {
        entry.fail("`when` is a list of conditions that must all hold", WHEN_HINT);
        return Vec::new();
    }
    let parts = section.tables("when");
    if matches!(entry.value, DeValue::Array(items) if items.is_empty()) {
        entry.fail("a rule without a condition would always hold", WHEN_HINT);
    }
    if parts.len() > MOST_PARTS {
        entry.fail(format!("{} conditions are too many", parts.len()), "a rule can have up to 8");
    }
    // Every part is read, so that all its problems are found.
    parts.iter().map(condition).collect::<Vec<_>>().into_iter().flatten().collect()
}

fn condition(section: &Section<'_>) -> Option<Condition> {
    let metric = section.required("metric", "`mlxsupctl status` lists the metrics").and_then(|entry| metric(&entry));
    let (above, below) = (section.entry("above"), section.entry("below"));
    let (side, entry) = match (above, below) {
        (Some(above), None) => (Side::Above, above),
        (None, Some(below)) => (Side::Below, below),
        (Some(_), Some(below)) => {
            below.fail(
                "`above` and `below` cannot both be in one condition",
                "for a band write two conditions: all conditions of a rule must hold",
            );
            return None;
        }
        (None, None) => {
            section.report.fail_at(
                Some(&section.path),
                section.span.clone(),
                "the condition compares with nothing",
                Some("add above = \"2GiB\" or below = \"2GiB\"".to_owned()),
            );
            return None;
        }
    };
    let (clear_key, other_key) = match side {
        Side::Above => ("clear_below", "clear_above"),
        Side::Below => ("clear_above", "clear_below"),
    };
    if let Some(other) = section.entry(other_key) {
        let acts = if side == Side::Above { "above" } else { "below" };
        other.fail(format!("a condition with `{acts}` lets go with `{clear_key}`"), format!("write {clear_key} = …"));
    }
    let metric = metric?;
    let bound = threshold(&entry, metric);
    let clear_entry = section.entry(clear_key);
    let clear = clear_entry.as_ref().map(|entry| threshold(entry, metric));
    let (bound, clear) = match (bound?, clear) {
        (bound, None) => (bound, None),
        (bound, Some(clear)) => (bound, Some(clear?)),
    };
    if let (Some(clear), Some(entry)) = (&clear, &clear_entry) {
        let wrong = match (&bound, clear) {
            (Threshold::Fixed(bound), Threshold::Fixed(clear))
            | (Threshold::OfMemory(bound), Threshold::OfMemory(clear)) => match side {
                Side::Above => clear > bound,
                Side::Below => clear < bound,
            },
            _ => false,
        };
        if wrong {
            let (acts, lower) = if side == Side::Above { ("above", "greater") } else { ("below", "smaller") };
            entry.fail(
                format!("`{clear_key}` is {lower} than `{acts}`: the rule would let go before it acts"),
                format!("put it on the other side of the value of `{acts}`"),
            );
        }
    }
    Some(Condition { metric, side, threshold: bound, clear })
}

fn metric(entry: &Entry<'_>) -> Option<Metric> {
    let text = entry.text()?;
    if let Ok(metric) = text.parse() {
        return Some(metric);
    }
    let names = METRICS.iter().map(|(_, name, _)| *name);
    let group: Vec<&str> = match text.split_once('.') {
        Some((group, _)) => names.clone().filter(|name| name.split('.').next() == Some(group)).collect(),
        None => Vec::new(),
    };
    let hint = match (keys::nearest(text, names.clone()), group.is_empty()) {
        (Some(name), _) => format!("did you mean \"{name}\"?"),
        (None, false) => format!("the metrics of that group are {}", group.join(", ")),
        (None, true) => format!("the metrics are {}", names.collect::<Vec<_>>().join(", ")),
    };
    entry.fail(format!("there is no metric \"{text}\""), hint);
    None
}

fn threshold(entry: &Entry<'_>, metric: Metric) -> Option<Threshold> {
    if let DeValue::Table(_) = entry.value {
        if entry.name().starts_with("clear") {
            entry.wrong_type("a fixed value", "only `above` and `below` can be percentiles");
            return None;
        }
        return percentile(&entry.clone().into_section()?, metric);
    }
    if let (Unit::Bytes, DeValue::String(text)) = (metric.unit(), entry.value)
        && text.ends_with('%')
    {
        let percent = entry.quantity(quantity::parse_percent, "a percentage", "")?;
        if percent > 0.0 && percent <= 100.0 {
            return Some(Threshold::OfMemory(percent / 100.0));
        }
        entry.fail(format!("\"{text}\" is no share of the machine's memory"), "it can be above 0% and up to 100%");
        return None;
    }
    fixed(entry, metric).map(Threshold::Fixed)
}

/// A number in the metric's own unit.
#[allow(clippy::cast_precision_loss, reason = "sizes up to 8 PiB are exact")]
fn fixed(entry: &Entry<'_>, metric: Metric) -> Option<f64> {
    let name = metric.name();
    let say = |unit: &str, example: &str| (format!("{unit}, as `{name}` is"), format!("write it like {example}"));
    match metric.unit() {
        Unit::Bytes => {
            let (wanted, hint) = say("a size", "\"2GiB\", or \"90%\" of the machine's memory");
            entry.quantity(quantity::parse_size, &wanted, &hint).map(|bytes| bytes as f64)
        }
        Unit::BytesPerSecond => {
            let (wanted, hint) = say("a rate", "\"10MiB/s\"");
            entry.quantity(quantity::parse_rate, &wanted, &hint).map(|rate| rate as f64)
        }
        Unit::Seconds => {
            let (wanted, hint) = say("a duration", "\"2s\"");
            entry.quantity(quantity::parse_duration, &wanted, &hint).map(|duration| duration.as_secs_f64())
        }
        Unit::Percent => {
            let percent = match entry.value {
                DeValue::String(_) => {
                    entry.quantity(quantity::parse_percent, "a percentage", "write it like \"12%\"")?
                }
                _ => entry.number()?,
            };
            if (0.0..=100.0).contains(&percent) {
                return Some(percent);
            }
            entry.fail(format!("`{name}` is a percentage: {percent} is out of its range"), "it can be 0%–100%");
            None
        }
        Unit::Count | Unit::PerSecond => {
            if let DeValue::String(text) = entry.value {
                let (wanted, hint) = say("a plain number", "12, without quotes and unit");
                entry.fail(format!("`{}` must be {wanted}, not \"{text}\"", entry.name()), hint);
                return None;
            }
            entry.number()
        }
    }
}

fn percentile(section: &Section<'_>, metric: Metric) -> Option<Threshold> {
    let percentile = match section.required("percentile", "write { percentile = 99, of = \"7d\" }") {
        Some(_) => section.fraction("percentile", 0.0, 100.0),
        None => None,
    };
    let of = section.period("of", LONGEST_HISTORY);
    if of > LONGEST_HISTORY {
        let what = format!("history for percentiles reaches back {}", quantity::format_duration(LONGEST_HISTORY));
        section.report.fail(&format!("{}.of", section.path), what, "write of = \"7d\" or less");
    }
    let plus = section.entry("plus").map(|entry| {
        let percent = entry.quantity(quantity::parse_percent, "a percentage", "write plus = \"10%\"");
        percent.filter(|percent| {
            let sane = *percent <= 1000.0;
            if !sane {
                entry.fail("`plus` is more than ten times the percentile", "write plus = \"10%\"");
            }
            sane
        })
    });
    let at_least = section.entry("at_least").map(|entry| fixed(&entry, metric));
    Some(Threshold::Percentile {
        percentile: percentile?,
        of,
        factor: 1.0 + plus.map_or(Some(0.0), |plus| plus)? / 100.0,
        at_least: match at_least {
            None => None,
            Some(at_least) => Some(at_least?),
        },
    })
}
