//! Recorded and written-down days, played to the rules that mlxsup brings along: what would have happened when.

#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used, reason = "a test says so when its surroundings fail")]

use std::collections::BTreeMap;
use std::path::Path;

use mlxsup::config;
use mlxsup::memory::{Metric, Sample};
use mlxsup::supervisor::Mono;
use mlxsup::supervisor::rules::RuleBook;

/// The article's machine under mlxsup's defaults, with the limit its author had guessed.
const ARTICLE: &str = "[worker]\nmodel = \"m\"\n[worker.memory]\nmemory_limit = \"48GiB\"\n";

/// The small worker of the recorded hour, with a rule of its size: `benches/memory/record.py`.
const RECORDED: &str = r#"
[worker]
model = "m"
[[rule]]
name = "cold-weights"
when = [{ metric = "worker.compressed", above = "128MiB", clear_below = "64MiB" }]
for = "10s"
action = ["warn"]
cooldown = "1m"
"#;

/// Instants in seconds, each with what is known from there on; `-` in the file is what is known no more.
type Trace = Vec<(u64, BTreeMap<Metric, f64>)>;

fn read(name: &str) -> Trace {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/traces").join(name);
    let text = std::fs::read_to_string(path).unwrap();
    let lines = text.lines().filter(|line| !line.trim().is_empty() && !line.starts_with('#'));
    let mut known = BTreeMap::new();
    lines
        .map(|line| {
            let (at, values) = line.split_once(' ').unwrap();
            let parts: Vec<u64> = at.split(':').map(|part| part.parse().unwrap()).collect();
            for value in values.split_whitespace() {
                let (metric, number) = value.split_once('=').unwrap();
                let metric = metric.parse::<Metric>().unwrap_or_else(|why| panic!("{why:?}"));
                if number == "-" {
                    known.remove(&metric);
                    continue;
                }
                let number = match number.strip_suffix("GB") {
                    // As Activity Monitor counts them.
                    Some(gigabytes) => gigabytes.parse::<f64>().unwrap() * f64::from(1 << 30),
                    None => number.parse().unwrap(),
                };
                known.insert(metric, number);
            }
            (parts[0] * 3600 + parts[1] * 60 + parts[2], known.clone())
        })
        .collect()
}

/// A sample a second, on the straight lines between the instants.
fn samples(trace: &Trace) -> impl Iterator<Item = (u64, Sample)> + '_ {
    trace.windows(2).flat_map(|pair| {
        let ((begin, from), (end, to)) = (&pair[0], &pair[1]);
        (*begin..*end).map(move |second| {
            let share = (second - begin) as f64 / (end - begin) as f64;
            let mut sample = Sample::default();
            for (metric, value) in from {
                let next = to.get(metric).unwrap_or(value);
                sample.set(*metric, Some(value + (next - value) * share));
            }
            (second, sample)
        })
    })
}

/// What the rules would have done, one line each.
fn played(name: &str, config: &str) -> String {
    let config = config::parse(config, Path::new("mlxsup.toml")).unwrap();
    let mut book =
        RuleBook::new(&config.rules, &RuleBook::default()).with_cache_limit(config.worker.memory.cache_limit);
    let mut lines = Vec::new();
    for (second, sample) in samples(&read(name)) {
        let clock = format!("{:02}:{:02}:{:02}", second / 3600, second / 60 % 60, second % 60);
        for fired in book.evaluate(&sample, Mono(second * 1000)) {
            lines.push(format!("{clock} {} {}: {}", fired.rule, config::action_name(fired.action), fired.why));
        }
        for parked in book.take_parked() {
            lines.push(format!("{clock} {} parked", parked.rule));
        }
    }
    lines.extend(book.views().map(|(name, state, explain)| format!("at the end {name} is {state:?}: {explain}")));
    lines.join("\n")
}

#[test]
fn the_articles_day_is_noticed_in_the_morning() {
    insta::assert_snapshot!(played("the-day.trace", ARTICLE));
}

#[test]
fn the_day_after_is_a_quiet_one() {
    insta::assert_snapshot!(played("the-day-after.trace", ARTICLE));
}

/// Nothing was wired. A neighbour wanted the memory from minute 20 on and was gone at 54:40, as the remarks in the file say.
#[test]
fn a_recorded_hour_warns_while_the_neighbour_is_there_and_not_before() {
    let played = played("linux-hour.trace", RECORDED);
    insta::assert_snapshot!(played);
    let warned: Vec<&str> =
        played.lines().filter(|line| line.contains(" cold-weights warn: ")).map(|line| &line[..8]).collect();
    assert!(!warned.is_empty() && warned.iter().all(|at| ("00:20:22".."00:56:00").contains(at)), "{warned:?}");
}
