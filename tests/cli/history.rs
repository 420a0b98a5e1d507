//! `mlxsupctl history`, from a file that a daemon might have left: one day in March, UTC.

use insta::assert_snapshot;
use mlxsup::history::store::{Happening, Store};
use mlxsup::memory::{Metric, Sample};
use mlxsup::supervisor::Wall;

use super::screen::Home;

/// 2026-03-04, midnight, UTC.
const DAY_MS: u64 = 1_772_582_400_000;
const GIB: f64 = (1u64 << 30) as f64;
const SPAN: [&str; 4] = ["--since", "2026-03-04T00:00:00Z", "--until", "2026-03-05T00:00:00Z"];

fn at(minutes: u64) -> Wall {
    Wall(DAY_MS + minutes * 60_000)
}

fn happening(minutes: u64, kind: &str, message: &str) -> Happening {
    Happening { at: at(minutes), kind: kind.to_owned(), message: message.to_owned() }
}

/// A worker that grows until a rule clears its cache, is replaced at four, and dies in the evening.
fn sample(minute: u64) -> Sample {
    let grown = (minute % 240) as f64 / 240.0;
    let mut sample = Sample::default();
    sample.set(Metric::SystemUsed, Some((58.0 + 4.0 * grown) * GIB));
    sample.set(Metric::SystemSwapUsed, Some(0.0));
    if !(1200..1230).contains(&minute) {
        sample.set(Metric::WorkerFootprint, Some((35.0 + 4.0 * grown) * GIB));
        sample.set(Metric::RequestsWaiting, Some((minute / 100 % 5) as f64));
    }
    sample
}

fn home() -> Home {
    let home = Home::new();
    let mut store = Store::open(&home.path().join("history.db")).unwrap();
    let samples: Vec<_> = (0..1440).map(|minute| (at(minute), sample(minute))).collect();
    let events = [
        happening(239, "rule_fired", "mlx-cache: mlx.cache 1.4 GiB, over 1.0 GiB for 60 s"),
        happening(240, "restart_done", "schedule nightly: 14.2 s, load 10.4 s"),
        happening(300, "cache_cleared", "0 B of 1.4 GiB left"),
        happening(1200, "worker_crashed", "generation 5: killed by signal 9"),
        happening(1201, "worker_spawned", "generation 6, pid 9377"),
    ];
    for hours in samples.chunks(60) {
        store.write(hours, &[]).unwrap();
    }
    store.write(&[], &events).unwrap();
    store.settle().unwrap();
    home
}

fn run(home: &Home, arguments: &[&str]) -> String {
    home.run(&[&["history"], arguments].concat())
}

#[test]
fn an_overview_of_a_day() {
    assert_snapshot!(run(&home(), &SPAN));
}

#[test]
fn one_metric_of_some_hours() {
    let span = ["--since", "2026-03-04 18:00", "--until", "2026-03-04 22:00", "--metric", "requests.waiting"];
    assert_snapshot!(run(&home(), &span));
}

#[test]
fn as_json() {
    let span =
        ["--since", "2026-03-04 20:00", "--until", "2026-03-04 20:40", "-m", "worker.footprint,mlx.cache", "--json"];
    assert_snapshot!(run(&home(), &span));
}

#[test]
fn as_a_table() {
    let span = ["--since", "2026-03-04 19:50", "--until", "2026-03-04 20:40", "-m", "worker.footprint", "--csv", "-"];
    assert_snapshot!(run(&home(), &span));
}

#[test]
fn as_pictures() {
    let home = home();
    let [png, svg] = ["day.png", "day.svg"].map(|name| home.path().join(name));
    let files = ["--png", png.to_str().unwrap(), "--svg", svg.to_str().unwrap()];
    assert_snapshot!(run(&home, &[&SPAN[..], &files].concat()));
    assert!(std::fs::read(png).unwrap().starts_with(b"\x89PNG\r\n"));
    assert!(std::fs::read_to_string(svg).unwrap().contains("worker died (1)"));
}

#[test]
fn nothing_in_this_time() {
    assert_snapshot!(run(&home(), &["--since", "2026-03-05 12:00", "--until", "2026-03-05 13:00"]));
}

#[test]
fn nothing_was_ever_recorded() {
    assert_snapshot!(run(&Home::new(), &[]));
}

#[test]
fn a_metric_that_does_not_exist() {
    assert_snapshot!(run(&home(), &["--metric", "worker.footprnt"]));
}

#[test]
fn an_instant_that_is_none() {
    assert_snapshot!(run(&home(), &["--since", "yesterday"]));
}

#[test]
fn a_damaged_file() {
    let home = Home::new();
    std::fs::write(home.path().join("history.db"), "no database ".repeat(1000)).unwrap();
    assert_snapshot!(run(&home, &[]));
}

#[test]
fn events_of_a_daemon_that_is_gone() {
    let home = home();
    assert_snapshot!(home.run(&["events", "-n", "2"]));
    assert_snapshot!(home.run(&["events", "--since", "2026-03-04T20:00:00Z", "--json"]));
}

#[test]
fn a_span_without_events_is_an_answer() {
    let home = home();
    assert_snapshot!(home.run(&["events", "--since", "2026-03-05T00:00:00Z"]));
    assert_snapshot!(home.run(&["events", "--since", "2026-03-05T00:00:00Z", "--json"]));
    // Neither a daemon nor a file is none.
    let screen = Home::new().run(&["events", "--since", "7d"]);
    assert!(screen.ends_with("--- exit 4\n"), "{screen}");
}

const RULES: &str = "\
[worker]
model = \"fake\"

[[rule]]
name = \"grown\"
when = [ { metric = \"worker.footprint\", above = \"38GiB\", clear_below = \"36GiB\" } ]
for = \"60s\"
action = [\"clear-cache\", \"restart\"]
cooldown = \"20m\"

[[rule]]
name = \"unusual\"
when = [ { metric = \"worker.footprint\", above = { percentile = 90, of = \"4h\" } } ]
for = \"30s\"
action = \"warn\"
cooldown = \"1h\"
";

/// Four hours that ended a moment ago: the worker grows from 35 to 39 GiB within two of them, twice.
fn recent() -> Home {
    let home = Home::new();
    std::fs::write(home.path().join("mlxsup.toml"), RULES).unwrap();
    let mut store = Store::open(&home.path().join("history.db")).unwrap();
    let now = mlxsup::daemon::clock::wall();
    let samples: Vec<_> = (30..4 * 720)
        .map(|step| {
            let at = Wall(now.0 - 1000 * (4 * 3600 - step * 5));
            let mut sample = Sample::default();
            sample.set(Metric::SystemTotal, Some(64.0 * GIB));
            sample.set(Metric::SystemUsed, Some(48.0 * GIB));
            sample.set(Metric::WorkerFootprint, Some((35.0 + 4.0 * (step % 1440) as f64 / 1440.0) * GIB));
            (at, sample)
        })
        .collect();
    for some in samples.chunks(120) {
        store.write(some, &[]).unwrap();
    }
    store.settle().unwrap();
    home
}

#[test]
fn rules_replayed() {
    let screen = recent().run(&["rules", "--replay", "5h"]);
    // Past midnight some times have their date before them, and columns are wider for it.
    let lines: Vec<String> = screen.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect();
    assert_snapshot!(lines.join("\n"));
}

#[test]
fn rules_replayed_as_json() {
    let home = recent();
    let output = home.command(&["rules", "--replay", "5h", "--json"]).output().unwrap();
    let replay: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let fired = replay["fired"].as_array().unwrap();
    let actions: Vec<_> = fired.iter().filter(|it| it["rule"] == "grown").map(|it| &it["action"]).collect();
    assert_eq!(actions, ["clear-cache", "restart", "clear-cache", "restart"], "{replay:#}");
    assert!(fired.iter().any(|it| it["rule"] == "unusual"), "{replay:#}");
}

#[test]
fn rules_replayed_where_nothing_was_recorded() {
    let home = Home::new();
    std::fs::write(home.path().join("mlxsup.toml"), RULES).unwrap();
    assert_snapshot!(home.run(&["rules", "--replay", "7d"]));
}
