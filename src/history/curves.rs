//! Curves of metrics over a span of time, in steps, each with its mean, lowest and highest value.
//!
//! The coarsest resolution that is fine enough is read; what it does not hold yet comes from the finer ones. A step in
//! which nothing was recorded has no point: nobody knows what was there.

use std::time::Duration;

use super::schema::{column, tables};
use super::{HistoryError, Reader, Resolution};
use crate::memory::Metric;
use crate::supervisor::Wall;
use crate::supervisor::time::millis;

/// From one instant to another, the latter not in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Span {
    /// First instant.
    pub from: Wall,
    /// First instant after it.
    pub until: Wall,
}

impl Span {
    /// The last so much before `now`, and now.
    #[must_use]
    pub fn last(length: Duration, now: Wall) -> Self {
        Self { from: Wall(now.0.saturating_sub(millis(length))), until: Wall(now.0.saturating_add(1)) }
    }

    pub(super) fn begin_ms(self) -> i64 {
        i64::try_from(self.from.0).unwrap_or(i64::MAX)
    }

    pub(super) fn end_ms(self) -> i64 {
        i64::try_from(self.until.0).unwrap_or(i64::MAX)
    }
}

/// What is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Query {
    /// In the answer's order.
    pub metrics: Vec<Metric>,
    /// When.
    pub span: Span,
    /// Steps at most; `None`: as finely as it is kept.
    pub steps: Option<u32>,
}

/// One step of a curve.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Point {
    /// Its beginning, Unix seconds.
    pub at: i64,
    /// In the metric's unit, as the others.
    pub lowest: f64,
    /// Over the step's samples.
    pub mean: f64,
    /// Never below the lowest.
    pub highest: f64,
}

/// The curves of a query.
#[derive(Debug, Clone, PartialEq)]
pub struct Curves {
    /// Seconds between two points.
    pub step: i64,
    /// In the query's order; gaps are left out.
    pub curves: Vec<(Metric, Vec<Point>)>,
}

#[derive(Debug, Clone, Copy)]
struct Bin {
    lowest: f64,
    sum: f64,
    weight: f64,
    highest: f64,
}

impl Query {
    /// Which rows to begin with, and seconds per step.
    fn plan(&self, now: Wall) -> (Resolution, i64) {
        let age = now.0.saturating_sub(self.span.from.0);
        let kept = Resolution::ALL.into_iter().find(|resolution| age <= millis(resolution.kept()));
        let kept = kept.unwrap_or(Resolution::FiveMinutes);
        let Some(steps) = self.steps else { return (kept, kept.seconds()) };
        let length = self.span.until.0.saturating_sub(self.span.from.0).div_ceil(1000);
        let wanted = i64::try_from(length.div_ceil(u64::from(steps.max(1)))).unwrap_or(i64::MAX);
        let fine_enough = Resolution::ALL.into_iter().rev().find(|resolution| resolution.seconds() <= wanted);
        let resolution = fine_enough.unwrap_or(Resolution::Sample).max(kept);
        let width = resolution.seconds();
        (resolution, wanted.max(1).saturating_add(width - 1) / width * width)
    }
}

/// Reads the curves. `now` decides which resolutions still reach back so far.
///
/// # Errors
/// When the file cannot be read.
pub fn read(reader: &Reader, query: &Query, now: Wall) -> Result<Curves, HistoryError> {
    let (resolution, step) = query.plan(now);
    let (from, until) =
        (query.span.begin_ms().div_euclid(1000), query.span.end_ms().saturating_add(999).div_euclid(1000));
    let start = from.div_euclid(step) * step;
    let count = usize::try_from((until - start).max(0).div_euclid(step) + 1).unwrap_or(0);
    let mut bins: Vec<Vec<Option<Bin>>> = query.metrics.iter().map(|_| vec![None; count]).collect();
    let mut begin = from;
    for source in Resolution::ALL.into_iter().rev().filter(|source| *source <= resolution) {
        let end = fill(reader, source, query, (begin, until), |index, at, bin| {
            let slot = usize::try_from((at - start).div_euclid(step)).ok();
            if let Some(slot) = slot.and_then(|slot| bins[index].get_mut(slot)) {
                *slot = Some(slot.map_or(bin, |before| before.with(bin)));
            }
        });
        begin = end.map_err(|source| reader.failed(source))?.unwrap_or(begin);
    }
    let point = |(index, bin): (usize, Option<Bin>)| {
        let at = start + i64::try_from(index).unwrap_or(0) * step;
        bin.map(|bin| Point { at, lowest: bin.lowest, mean: bin.sum / bin.weight, highest: bin.highest })
    };
    let curves = query
        .metrics
        .iter()
        .zip(bins)
        .map(|(metric, bins)| (*metric, bins.into_iter().enumerate().filter_map(point).collect()))
        .collect();
    Ok(Curves { step, curves })
}

impl Bin {
    fn with(self, other: Self) -> Self {
        Self {
            lowest: self.lowest.min(other.lowest),
            sum: self.sum + other.sum,
            weight: self.weight + other.weight,
            highest: self.highest.max(other.highest),
        }
    }
}

/// Hands over every value of one resolution between two instants, in seconds. Returns where its last row ends.
fn fill(
    reader: &Reader,
    source: Resolution,
    query: &Query,
    (begin, until): (i64, i64),
    mut take: impl FnMut(usize, i64, Bin),
) -> rusqlite::Result<Option<i64>> {
    let names = query.metrics.iter().map(|metric| column(*metric));
    let (means, ranges) = tables(source);
    let sql = match source {
        Resolution::Sample => {
            let values: String = names.map(|name| format!(", {name}, {name}, {name}")).collect();
            format!(
                "SELECT at_ms / 1000, 1{values} FROM {means} WHERE at_ms >= ?1 * 1000 AND at_ms < ?2 * 1000 ORDER BY at_ms"
            )
        }
        Resolution::TenSeconds | Resolution::FiveMinutes => {
            let value =
                |name| format!(", coalesce(r.{name}_lowest, m.{name}), m.{name}, coalesce(r.{name}_highest, m.{name})");
            let values: String = names.map(value).collect();
            format!(
                "SELECT m.at, m.samples{values} FROM {means} AS m LEFT JOIN {ranges} AS r ON r.at = m.at \
                 WHERE m.at >= ?1 AND m.at < ?2 ORDER BY m.at"
            )
        }
    };
    // A row that began before the span still says something about its first instant.
    let first = begin - source.seconds() + 1;
    let mut statement = reader.db.prepare(&sql)?;
    let mut rows = statement.query((first, until))?;
    let mut end = None;
    while let Some(row) = rows.next()? {
        let (at, samples): (i64, f64) = (row.get(0)?, row.get(1)?);
        for index in 0..query.metrics.len() {
            let (lowest, mean, highest): (Option<f64>, Option<f64>, Option<f64>) =
                (row.get(2 + 3 * index)?, row.get(3 + 3 * index)?, row.get(4 + 3 * index)?);
            if let (Some(lowest), Some(mean), Some(highest)) = (lowest, mean, highest) {
                take(index, at.max(begin), Bin { lowest, sum: mean * samples, weight: samples, highest });
            }
        }
        end = Some(at + source.seconds());
    }
    Ok(end)
}

#[cfg(test)]
#[path = "curves_tests.rs"]
mod tests;
