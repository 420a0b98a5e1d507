//! `mlxsupctl rules --explain`: what each rule watches, when it acts, what it does, and what it means when it does.

use crate::config::{Action, Condition, Rule, Side, Threshold, action_name};
use crate::control::view::RuleView;
use crate::ctl::render::metric::words;
use crate::ctl::render::status::rule_state;
use crate::ctl::render::table::Sheet;
use crate::ctl::terminal::Paint;
use crate::memory::Metric;
use crate::supervisor::conditions::{lasting, quantity};

/// A paragraph per rule of the daemon; of one that the file does not have (any more) only what the daemon says.
pub(super) fn told(rules: &[Rule], views: &[RuleView], columns: Option<usize>, paint: Paint) -> String {
    let paragraph = |view: &RuleView| {
        let mut sheet = Sheet::new(paint, columns);
        if let Some(rule) = rules.iter().find(|rule| rule.name == view.name) {
            for (index, condition) in rule.when.iter().enumerate() {
                let metric = condition.metric;
                sheet.row(if index == 0 { "  watches" } else { "" }, format!("{metric}: {}", words(metric)));
            }
            sheet.row("  acts", when(rule));
            for (index, action) in rule.actions.iter().enumerate() {
                let order = if index == 0 { "" } else { "then " };
                sheet.row(if index == 0 { "  does" } else { "" }, format!("{order}{}", deed(*action)));
            }
            if let Some(meaning) = meaning(&rule.name) {
                sheet.row("  means", meaning);
            }
        } else {
            sheet.row("  note", "mlxsup.toml has no such rule; `mlxsupctl reload` takes the file as it is into use");
        }
        sheet.row("  now", format!("{}: {}", rule_state(view.state), view.explain));
        format!("{}\n{}", paint.bold(&view.name), sheet.finish())
    };
    views.iter().map(paragraph).collect::<Vec<_>>().join("\n")
}

/// `above 2.0 GiB for 60 s; lets go below 1.0 GiB; again after 30 min at the earliest`.
fn when(rule: &Rule) -> String {
    let alone = rule.when.len() == 1;
    let each = |condition: &Condition| {
        let side = side(condition.side);
        let beyond = format!("{side} {}", threshold(&condition.threshold, condition.metric));
        if alone { beyond } else { format!("{} {beyond}", condition.metric) }
    };
    let mut text = rule.when.iter().map(each).collect::<Vec<_>>().join(" and ");
    text.push_str(&format!(" for {}", lasting(rule.dwell)));
    for condition in &rule.when {
        if let Some(clear) = &condition.clear {
            let side = side(match condition.side {
                Side::Above => Side::Below,
                Side::Below => Side::Above,
            });
            text.push_str(&format!("; lets go {side} {}", threshold(clear, condition.metric)));
        }
    }
    let later = lasting(rule.cooldown);
    text.push_str(&match rule.actions.len() {
        0 | 1 => format!("; again {later} later at the earliest"),
        _ => format!("; its next step {later} later, if that did not help"),
    });
    if let Some(after) = rule.break_streams_after {
        text.push_str(&format!("; ends streams that cannot be continued {} after that", lasting(after)));
    }
    text
}

const fn side(side: Side) -> &'static str {
    match side {
        Side::Above => "above",
        Side::Below => "below",
    }
}

fn threshold(threshold: &Threshold, metric: Metric) -> String {
    match threshold {
        Threshold::Fixed(value) => quantity(*value, metric),
        Threshold::OfMemory(share) => format!("{:.0} % of this machine's memory", share * 100.0),
        Threshold::Percentile { percentile, of, factor, at_least } => {
            let mut text = format!("percentile {percentile} of the last {}", lasting(*of));
            if (factor - 1.0).abs() > f64::EPSILON {
                text.push_str(&format!(" and {:.0} %", (factor - 1.0) * 100.0));
            }
            match at_least {
                Some(floor) => format!("{text}, at least {}", quantity(*floor, metric)),
                None => text,
            }
        }
    }
}

/// An action by its name, and what it comes to.
fn deed(action: Action) -> String {
    let what = match action {
        Action::Warn => "says so in `mlxsupctl events` and the log, nothing else",
        Action::ClearCache => "gives back the buffers that MLX keeps for reuse",
        Action::TrimPrefixCache => "forgets prompts kept for the next request that begins alike",
        Action::Refuse => "answers new requests with 503 memory_pressure until the rule lets go",
        Action::Restart(_) => "replaces the worker; its memory goes back to the system, requests wait or go on",
        Action::Unload => "stops the worker; requests are refused until it is loaded again",
        Action::Load => "starts the worker again",
        Action::Canary => "generates one token, which brings back the weights that it reads",
    };
    format!("{}: {what}", action_name(action))
}

/// What it means when one of mlxsup's own rules acts, and what to do about it.
fn meaning(name: &str) -> Option<&'static str> {
    Some(match name {
        "mlx-cache" => "freed buffers that MLX keeps are memory nobody uses; `cache_limit` caps them",
        "system-memory" => {
            "the machine is nearly full, perhaps with other programs: `mlxsupctl history` shows whether the worker grew too"
        }
        "cold-weights" => {
            "the system compressed weights that lay idle; the next answer waits until they are decompressed. \
             `wired_limit` keeps them from it: `mlxsupctl tune`"
        }
        "footprint-over-budget" => {
            "the worker's Memory has outgrown its limits and would take the machine along; `mlxsupctl tune` shows the sum"
        }
        "swap-rate" => {
            "memory is read back from the disk, which slows everything down; Swap Used that only lies there is harmless"
        }
        "refusing-without-progress" => "requests wait and none runs, though the worker is up: it is stuck",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::config;
    use crate::control::view::RuleState;

    #[test]
    fn every_rule_that_is_brought_along_says_what_it_means() {
        let config = config::parse("[worker]\nmodel = \"m\"\n", Path::new("mlxsup.toml")).unwrap();
        for rule in &config.rules {
            assert!(meaning(&rule.name).is_some(), "{}", rule.name);
        }
    }

    #[test]
    fn a_rule_in_full_and_one_that_the_file_does_not_have() {
        let config = config::parse("[worker]\nmodel = \"m\"\n", Path::new("mlxsup.toml")).unwrap();
        let view = |name: &str, explain: &str| RuleView {
            name: name.to_owned(),
            state: RuleState::Inactive,
            explain: explain.to_owned(),
        };
        let views = [view("cold-weights", "worker.compressed 0 B, under 2.0 GiB"), view("gone", "no sample yet")];
        insta::assert_snapshot!(told(&config.rules, &views, None, Paint::default()), @r"
        cold-weights
          watches   worker.compressed: Compressed Memory of the worker
          acts      above 2.0 GiB for 60 s; lets go below 1.0 GiB; its next step 30 min later, if that did not help
          does      canary: generates one token, which brings back the weights that it reads
                    then trim-prefix-cache: forgets prompts kept for the next request that begins alike
                    then restart: replaces the worker; its memory goes back to the system, requests wait or go on
          means     the system compressed weights that lay idle; the next answer waits until they are decompressed. `wired_limit` keeps them from it: `mlxsupctl tune`
          now       inactive: worker.compressed 0 B, under 2.0 GiB

        gone
          note      mlxsup.toml has no such rule; `mlxsupctl reload` takes the file as it is into use
          now       inactive: no sample yet
        ");
        let views: Vec<RuleView> = config.rules.iter().map(|rule| view(&rule.name, "")).collect();
        let all = told(&config.rules, &views, None, Paint::default());
        assert!(
            all.contains(
                "acts      requests.waiting above 0 and requests.active below 1 and worker.uptime above 10 min"
            ),
            "{all}"
        );
    }
}
