//! What `GET /v1/history` and `mlxsupctl history --json` say. Fields may be added; names and meanings stay.

use serde::{Deserialize, Serialize};

use super::curves::{self, Point, Query};
use super::schema::unit_name;
use super::store::Happening;
use super::{HistoryError, Reader};
use crate::control::view::EventView;
use crate::daemon::clock::rfc3339;
use crate::memory::{METRICS, Metric};
use crate::supervisor::{RESTART_DONE, Wall};

/// Events that are marked on a curve.
pub const MARKED: [&str; 7] =
    [RESTART_DONE, "worker_crashed", "worker_dead", "parked", "rule_fired", "upgraded", "kernel_panic"];

/// Marked events in an answer at most, the newest.
const MARKS_MAX: usize = 1000;

/// What is shown where no metric is named.
pub const OVERVIEW: [Metric; 5] = [
    Metric::WorkerFootprint,
    Metric::WorkerCompressed,
    Metric::SystemUsed,
    Metric::SystemCompressed,
    Metric::SystemSwapUsed,
];

/// Curves of one span, and what happened in it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct HistoryView {
    /// Version of this document: 1.
    pub schema: u32,
    /// First instant.
    pub since: String,
    /// First instant after the span.
    pub until: String,
    /// Seconds between two points.
    pub step_s: i64,
    /// When the oldest sample of all was taken; `null` while there is none.
    pub recorded_since: Option<String>,
    /// In the order asked for.
    pub metrics: Vec<CurveView>,
    /// Restarts, failures and firings of rules, oldest first: the last thousand.
    pub events: Vec<EventView>,
}

/// One metric.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CurveView {
    /// Its name, for example `worker.footprint`.
    pub metric: String,
    /// `bytes`, `bytes_per_second`, `percent`, `seconds`, `count` or `per_second`.
    pub unit: String,
    /// `[at, lowest, mean, highest]`: Unix seconds of a step's beginning, then numbers in the metric's unit. Steps in which
    /// nothing was recorded are left out.
    pub points: Vec<(i64, f64, f64, f64)>,
}

/// Reads what a query asks for.
///
/// # Errors
/// When the file cannot be read.
pub fn read(reader: &Reader, query: &Query, now: Wall) -> Result<HistoryView, HistoryError> {
    let found = curves::read(reader, query, now)?;
    let quadruple = |point: Point| (point.at, point.lowest, point.mean, point.highest);
    let curve = |(metric, points): (Metric, Vec<Point>)| CurveView {
        metric: metric.name().to_owned(),
        unit: unit_name(metric.unit()).to_owned(),
        points: points.into_iter().map(quadruple).collect(),
    };
    Ok(HistoryView {
        step_s: found.step,
        recorded_since: reader.oldest()?.map(rfc3339),
        metrics: found.curves.into_iter().map(curve).collect(),
        events: reader.events(query.span, &MARKED, MARKS_MAX)?.into_iter().map(event).collect(),
        ..empty(query)
    })
}

/// The answer where nothing was ever recorded.
#[must_use]
pub fn empty(query: &Query) -> HistoryView {
    HistoryView {
        schema: 1,
        since: rfc3339(query.span.from),
        until: rfc3339(query.span.until),
        step_s: 1,
        recorded_since: None,
        metrics: Vec::new(),
        events: Vec::new(),
    }
}

/// An event as the control socket shows it.
#[must_use]
pub fn event(happening: Happening) -> EventView {
    EventView { at: rfc3339(happening.at), kind: happening.kind, message: happening.message }
}

/// The metrics of a comma-separated list of names.
///
/// # Errors
/// A sentence that names the first unknown one, and the names nearest to it.
pub fn metrics(names: &str) -> Result<Vec<Metric>, String> {
    names.split(',').map(metric).collect()
}

/// The metric of this name.
///
/// # Errors
/// A sentence with the names nearest to an unknown one.
pub fn metric(name: &str) -> Result<Metric, String> {
    let name = name.trim();
    name.parse().map_err(|_| unknown(name))
}

fn unknown(name: &str) -> String {
    let mut near: Vec<_> = METRICS.iter().map(|(_, known, _)| (distance(name, known), *known)).collect();
    near.sort_by_key(|(distance, _)| *distance);
    let near: Vec<_> = near.iter().take(3).map(|(_, known)| *known).collect();
    format!("there is no metric `{name}`; near it: {}", near.join(", "))
}

/// Letters to change, add or leave out; a name that contains the other is nearest.
fn distance(one: &str, other: &str) -> usize {
    if !one.is_empty() && other.contains(one) {
        return 0;
    }
    let other: Vec<char> = other.chars().collect();
    let mut row: Vec<usize> = (0..=other.len()).collect();
    for (index, letter) in one.chars().enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], index + 1);
        for (column, wanted) in other.iter().enumerate() {
            let changed = diagonal + usize::from(letter != *wanted);
            diagonal = row[column + 1];
            row[column + 1] = changed.min(diagonal + 1).min(row[column] + 1);
        }
    }
    row.last().copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_metric_is_told_with_its_neighbours() {
        assert_eq!(metrics("worker.footprint, system.used"), Ok(vec![Metric::WorkerFootprint, Metric::SystemUsed]));
        let told = metrics("worker.footprnt").unwrap_err();
        assert!(told.contains("`worker.footprnt`") && told.contains("worker.footprint"), "{told}");
        let told = metrics("swap").unwrap_err();
        assert!(told.contains("system.swap_used"), "{told}");
    }
}
