//! The configuration that stories and simulation start from: the documented defaults, without rules and schedules.
//!
//! Shared by the unit tests of `src/supervisor` and by this simulation, so it names the library's modules through the
//! crate root of either.

use std::path::Path;
use std::time::Duration;

use crate::config::{self, Action, Condition, Config, IfBusy, Missed, Rule, Schedule, Side, Threshold};
use crate::memory::Metric;
use crate::schedule::{Expression, Zone};

/// `[worker] model = "m"` and nothing else, the built-in rules taken out.
pub fn defaults() -> Config {
    let config = config::parse("[worker]\nmodel = \"m\"\n", Path::new("mlxsup.toml")).expect("a valid configuration");
    Config { rules: Vec::new(), ..config }
}

/// A schedule; its expression is never evaluated here, because nominal times arrive as events.
pub fn schedule(name: &str, action: Action) -> Schedule {
    Schedule {
        name: name.to_owned(),
        when: Expression::parse("0 4 * * *", Zone::Local).expect("a valid expression"),
        action,
        min_uptime: Duration::ZERO,
        jitter: Duration::ZERO,
        wait_for_idle: Duration::from_secs(3600),
        if_busy: IfBusy::Run,
        missed: Missed::Skip,
    }
}

/// A rule over one metric with a dwell of 3 s and a cooldown of a minute.
pub fn rule(name: &str, metric: Metric, above: f64, actions: Vec<Action>) -> Rule {
    Rule {
        name: name.to_owned(),
        when: vec![Condition { metric, side: Side::Above, threshold: Threshold::Fixed(above), clear: None }],
        dwell: Duration::from_secs(3),
        actions,
        cooldown: Duration::from_secs(60),
        break_streams_after: None,
        built_in: false,
    }
}
