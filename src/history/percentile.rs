//! Percentiles of what this machine has seen, for thresholds such as "above the 99th percentile of 7 days".

use std::time::Duration;

use super::schema::column;
use super::{HistoryError, Reader, Resolution, Span};
use crate::config::Threshold;
use crate::memory::Metric;
use crate::supervisor::Wall;

/// One part of so many of a span has to be recorded.
const LEARNT_FRACTION: u32 = 4;

/// What the history knows about one metric.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Learned {
    /// The percentile, in the metric's unit; `None` while nothing is recorded.
    pub value: Option<f64>,
    /// How much of the span is recorded. Below a quarter of it a rule still learns.
    pub recorded: Duration,
}

/// The smallest of the span's 10 s means such that at least `percentile` percent (0–100) of them are not above it. Only
/// the last 8 days have such means.
///
/// # Errors
/// When the file cannot be read.
pub fn percentile(reader: &Reader, metric: Metric, percentile: f64, span: Span) -> Result<Learned, HistoryError> {
    let mut means = means(reader, metric, span).map_err(|source| reader.failed(source))?;
    let seconds = u64::try_from(Resolution::TenSeconds.seconds()).unwrap_or(0) * means.len() as u64;
    Ok(Learned { value: nearest_rank(&mut means, percentile), recorded: Duration::from_secs(seconds) })
}

/// What a threshold stands for at `now`, in the metric's unit: a percentile of the machine's own history once a quarter of
/// it is recorded, until then its `at_least`. `None` while there is neither, and for thresholds of other kinds.
///
/// # Errors
/// When the file cannot be read.
pub fn threshold(
    reader: &Reader,
    metric: Metric,
    threshold: &Threshold,
    now: Wall,
) -> Result<Option<f64>, HistoryError> {
    let Threshold::Percentile { percentile: wanted, of, factor, at_least } = threshold else { return Ok(None) };
    let learned = percentile(reader, metric, *wanted, Span::last(*of, now))?;
    let value = learned.value.filter(|_| learned.recorded * LEARNT_FRACTION >= *of).map(|value| value * factor);
    Ok(match (value, at_least) {
        (Some(value), Some(floor)) => Some(value.max(*floor)),
        (value, floor) => value.or(*floor),
    })
}

fn means(reader: &Reader, metric: Metric, span: Span) -> rusqlite::Result<Vec<f64>> {
    let name = column(metric);
    let sql = format!("SELECT {name} FROM mean_10s WHERE at >= ?1 AND at < ?2 AND {name} IS NOT NULL");
    let mut statement = reader.db.prepare(&sql)?;
    let rows =
        statement.query_map((span.begin_ms().div_euclid(1000), span.end_ms().div_euclid(1000)), |row| row.get(0))?;
    rows.collect()
}

fn nearest_rank(values: &mut [f64], percentile: f64) -> Option<f64> {
    let last = values.len().checked_sub(1)?;
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        clippy::cast_precision_loss,
        reason = "between 0 and the number of rows of a week"
    )]
    let rank = (percentile.clamp(0.0, 100.0) / 100.0 * values.len() as f64).ceil() as usize;
    let (_, value, _) = values.select_nth_unstable_by(rank.saturating_sub(1).min(last), f64::total_cmp);
    Some(*value)
}

#[cfg(test)]
#[path = "percentile_tests.rs"]
mod tests;
