//! What the operator of a world has written into `mlxsup.toml`.

use std::fmt::Write;
use std::path::Path;
use std::time::Duration;

use mlxsup::config::{self, Config};
use mlxsup::memory::Metric;

use crate::dice::Dice;

/// The models of these worlds; a change of model is a change of fingerprint.
pub const MODELS: [&str; 2] = ["plain", "other"];

/// How the worlds of one seed are configured, apart from the model.
#[derive(Debug, Clone)]
pub struct Settings {
    body: String,
    engine: &'static str,
}

impl Settings {
    /// Any legal configuration, far from the defaults too.
    pub fn any(dice: &mut Dice) -> Self {
        let engine = dice.weighted(&[
            (14, ""),
            (2, "engine = \"openai\"\ncommand = [\"server\", \"--port\", \"{port}\"]\n"),
            (2, "engine = \"openai\"\ncommand = [\"server\"]\nupstream = \"http://127.0.0.1:8080\"\n"),
        ]);
        let fixed_address = engine.contains("upstream");
        let mode = match fixed_address {
            true => dice.pick(&["auto", "sequential"]),
            false => dice.weighted(&[(5, "auto"), (2, "overlap"), (2, "sequential")]),
        };
        let grace = dice.pick(&[5_u64, 20, 60, 120]);
        let start_timeout = dice.pick(&[60_u64, 180, 600]);
        let max_wait = grace + start_timeout + dice.pick(&[0, 60, 900]);
        let stall = dice.pick(&[30_u64, 60, 120, 300]);
        let interval = dice.pick(&[2_u64, 5, 5, 5, 10]);
        let mut body = String::new();
        let _ = write!(
            body,
            "start_timeout = \"{start_timeout}s\"\nidle_unload = \"{}\"\nkeep_awake = \"{}\"\n\n[listen]\nmax_body = \
             \"1MiB\"\n\n[health]\ninterval = \"{interval}s\"\ntimeout = \"{}s\"\nfailures = {}\nstall = \
             \"{stall}s\"\ncanary_after_idle = \"{}\"\n\n[restart]\nmode = \"{mode}\"\nbackoff_initial = \
             \"1s\"\nbackoff_max = \"{}\"\nbudget = \"{}\"\nretry_parked = \"{}\"\n",
            dice.weighted(&[(6, "off"), (1, "10m"), (1, "90m")]),
            dice.weighted(&[(6, "busy"), (1, "always"), (1, "off")]),
            dice.pick(&[1_u64, 2]),
            dice.pick(&[2_u64, 3, 5]),
            dice.pick(&["1m", "5m", "5m", "30m"]),
            dice.pick(&["10s", "1m", "5m"]),
            dice.pick(&["2 in 10m", "5 in 30m", "5 in 30m"]),
            dice.pick(&["5m", "30m"]),
        );
        if dice.chance(250) {
            let _ = write!(
                body,
                "[restart.recycle]\nmax_age = \"{}\"\nmax_requests = \"off\"\n",
                dice.pick(&["off", "3h", "8h"])
            );
        } else if dice.chance(150) {
            let _ = write!(body, "[restart.recycle]\nmax_requests = {}\n", dice.between(20, 200));
        }
        let _ = write!(
            body,
            "\n[drain]\ngrace = \"{grace}s\"\n\n[queue]\nmax_waiting = {}\nmax_bytes = \"{}MiB\"\nmax_wait = \
             \"{max_wait}s\"\nper_client_share = {}\n",
            dice.pick(&[3_u64, 8, 24, 256]),
            dice.between(1, 4),
            dice.pick(&["0.5", "0.5", "0.2", "1.0"]),
        );
        schedules(dice, &mut body);
        rules(dice, &mut body);
        Self { body, engine }
    }

    /// The documented defaults, without rules that act.
    pub fn plain(stall: u64, interval: u64, failures: u64) -> Self {
        let body = format!("\n[health]\ninterval = \"{interval}s\"\nfailures = {failures}\nstall = \"{stall}s\"\n");
        Self { body, engine: "" }
    }

    /// The file's text for this model.
    pub fn text(&self, model: &str) -> String {
        format!("[worker]\nmodel = \"{model}\"\n{}{}", self.engine, self.body)
    }
}

fn schedules(dice: &mut Dice, body: &mut String) {
    let mut add = |name: &str, hour: u64, action: &str, dice: &mut Dice| {
        let _ = write!(
            body,
            "\n[[schedule]]\nname = \"{name}\"\ncron = \"{} {hour} * * *\"\ntimezone = \"UTC\"\naction = \
             \"{action}\"\nmin_uptime = \"{}\"\njitter = \"{}\"\nwait_for_idle = \"{}\"\nif_busy = \"{}\"\nmissed = \
             \"{}\"\n",
            dice.below(60),
            dice.pick(&["0s", "1h", "6h"]),
            dice.pick(&["0s", "0s", "5m"]),
            dice.pick(&["0s", "1m", "1h"]),
            dice.pick(&["run", "skip"]),
            dice.pick(&["skip", "run-once"]),
        );
    };
    if dice.chance(600) {
        let hour = dice.below(24);
        add("nightly", hour, "restart", dice);
    }
    if dice.chance(250) {
        let hour = dice.below(20);
        let action = dice.pick(&["unload", "clear-cache", "trim-prefix-cache", "canary"]);
        add("evening", hour, action, dice);
        if action == "unload" {
            add("morning", hour + 2, "load", dice);
        }
    }
}

/// What some worlds' rules compare with: the metric, the percentile, and of how much history.
pub const UNUSUAL: (Metric, f64, Duration) = (Metric::WorkerFootprint, 95.0, Duration::from_secs(86_400));

fn rules(dice: &mut Dice, body: &mut String) {
    let mut add = |name: &str, when: &str, dwell: &str, action: &str, cooldown: &str| {
        let _ = write!(
            body,
            "\n[[rule]]\nname = \"{name}\"\nwhen = [{when}]\nfor = \"{dwell}\"\naction = {action}\ncooldown = \
             \"{cooldown}\"\n"
        );
    };
    if dice.chance(300) {
        let action = dice.pick(&["[\"clear-cache\", \"unload\"]", "[\"restart\"]", "\"unload\""]);
        add("squeeze", "{ metric = \"system.pressure\", above = 1 }", "20s", action, dice.pick(&["2m", "10m"]));
    }
    if dice.chance(200) {
        let above = dice.pick(&["1GiB", "30GiB"]);
        let when = format!("{{ metric = \"system.available\", above = \"{above}\" }}");
        add("roomy", &when, "30s", "\"load\"", "10m");
    }
    if dice.chance(150) {
        let floor = dice.pick(&["", ", at_least = \"20GiB\""]);
        let (percentile, of) = (UNUSUAL.1, "1d");
        let above = format!("{{ percentile = {percentile}, of = \"{of}\", plus = \"10%\"{floor} }}");
        let when = format!("{{ metric = \"worker.footprint\", above = {above} }}");
        add(
            "unusual",
            &when,
            "30s",
            dice.pick(&["[\"clear-cache\", \"trim-prefix-cache\", \"restart\"]", "\"warn\""]),
            "10m",
        );
    }
    if dice.chance(250) {
        let when = "{ metric = \"system.available\", below = \"3GiB\", clear_above = \"5GiB\" }";
        add("door", when, "10s", "\"refuse\"", "5m");
    }
}

/// The configuration of this text.
pub fn parsed(text: &str) -> Config {
    match config::parse(text, Path::new("mlxsup.toml")) {
        Ok(config) => config,
        Err(problems) => panic!("the world's own configuration is bad: {problems}\n{text}"),
    }
}
