//! Curves as a table for spreadsheets: one line per step, empty where nothing was recorded.

use std::collections::BTreeMap;

use chrono::{DateTime, SecondsFormat, Utc};

use super::history::seconds;
use crate::history::view::HistoryView;

/// Mean, lowest and highest of each metric, and what happened.
type Line = (Vec<Option<[f64; 3]>>, Vec<String>);

/// The table, heading first. Numbers are in the metrics' units, times in UTC; events stand beside the step they fell into.
#[must_use]
pub fn table(view: &HistoryView) -> String {
    let mut heading = vec!["time".to_owned(), "unix".to_owned()];
    for curve in &view.metrics {
        heading.extend(["", "_lowest", "_highest"].map(|part| format!("{}{part}", curve.metric)));
    }
    heading.push("events".to_owned());
    let columns = view.metrics.len();
    let mut lines: BTreeMap<i64, Line> = BTreeMap::new();
    for (index, curve) in view.metrics.iter().enumerate() {
        for (at, lowest, mean, highest) in &curve.points {
            let line = lines.entry(*at).or_insert_with(|| (vec![None; columns], Vec::new()));
            line.0[index] = Some([*mean, *lowest, *highest]);
        }
    }
    for event in &view.events {
        let at = (seconds(&event.at) as i64).div_euclid(view.step_s) * view.step_s;
        let line = lines.entry(at).or_insert_with(|| (vec![None; columns], Vec::new()));
        line.1.push(format!("{}: {}", event.kind, event.message));
    }
    let mut text = heading.join(",") + "\n";
    for (at, (values, events)) in lines {
        let time: Option<DateTime<Utc>> = DateTime::from_timestamp(at, 0);
        text.push_str(&time.map_or_else(String::new, |time| time.to_rfc3339_opts(SecondsFormat::Secs, true)));
        text.push_str(&format!(",{at}"));
        for value in values {
            match value {
                Some(numbers) => numbers.iter().for_each(|number| text.push_str(&format!(",{number}"))),
                None => text.push_str(",,,"),
            }
        }
        text.push_str(&format!(",{}\n", quoted(&events.join("; "))));
    }
    text
}

/// Quoted where the text would otherwise be taken for more than one cell.
fn quoted(text: &str) -> String {
    if text.contains([',', '"', '\n', '\r']) { format!("\"{}\"", text.replace('"', "\"\"")) } else { text.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::view::EventView;
    use crate::history::view::CurveView;

    #[test]
    fn a_table_of_two_metrics_and_an_event() {
        let curve = |metric: &str, points| CurveView { metric: metric.to_owned(), unit: "bytes".to_owned(), points };
        let at = |text: &str| text.to_owned();
        let view = HistoryView {
            schema: 1,
            since: at("2027-01-15T08:00:00Z"),
            until: at("2027-01-15T09:00:00Z"),
            step_s: 10,
            recorded_since: None,
            metrics: vec![
                curve("worker.footprint", vec![(1_800_000_000, 1.0, 2.5, 4.0), (1_800_000_010, 3.0, 3.0, 3.0)]),
                curve("mlx.cache", vec![(1_800_000_010, 0.0, 0.0, 0.0)]),
            ],
            events: vec![EventView {
                at: at("2027-01-15T08:00:19.5Z"),
                kind: at("rule_fired"),
                message: at("cold-weights: \"2 GiB\", for 60 s"),
            }],
        };
        let expected = "\
time,unix,worker.footprint,worker.footprint_lowest,worker.footprint_highest,mlx.cache,mlx.cache_lowest,mlx.cache_highest,events
2027-01-15T08:00:00Z,1800000000,2.5,1,4,,,,
2027-01-15T08:00:10Z,1800000010,3,3,3,0,0,0,\"rule_fired: cold-weights: \"\"2 GiB\"\", for 60 s\"
";
        assert_eq!(table(&view), expected);
    }
}
