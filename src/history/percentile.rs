//! Percentiles of what this machine has seen, for thresholds such as "above the 99th percentile of 7 days".
//!
//! Owns the numbers. From when on they count, and what a threshold makes of them, the core decides.

use std::path::Path;
use std::time::Duration;

use super::schema::column;
use super::{HistoryError, Reader, Resolution, Span};
use crate::config::{Rule, Threshold};
use crate::memory::Metric;
use crate::supervisor::Wall;
use crate::supervisor::conditions::Learned;

/// One percentile that somebody wants to know.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Wanted {
    /// Of what.
    pub metric: Metric,
    /// 0–100.
    pub percentile: f64,
    /// How much history; only the last 8 days have the means it is taken of.
    pub of: Duration,
}

/// The percentiles that rules compare with, each once.
#[must_use]
pub fn named_by(rules: &[Rule]) -> Vec<Wanted> {
    let mut all = Vec::new();
    for condition in rules.iter().flat_map(|rule| &rule.when) {
        for threshold in std::iter::once(&condition.threshold).chain(&condition.clear) {
            if let Threshold::Percentile { percentile, of, .. } = threshold {
                let wanted = Wanted { metric: condition.metric, percentile: *percentile, of: *of };
                if !all.contains(&wanted) {
                    all.push(wanted);
                }
            }
        }
    }
    all
}

/// Looks percentiles up in a file. One that is not there has recorded nothing.
///
/// # Errors
/// When there is a file that cannot be read.
pub fn look_up(file: &Path, wanted: &[Wanted], now: Wall) -> Result<Vec<Learned>, HistoryError> {
    match Reader::open(file)? {
        Some(reader) => wanted.iter().map(|wanted| percentile(&reader, *wanted, now)).collect(),
        None => Ok(wanted.iter().map(|wanted| learned(*wanted, &mut [])).collect()),
    }
}

/// The smallest of the last 10 s means such that at least the wanted percent of them are not above it.
///
/// # Errors
/// When the file cannot be read.
pub fn percentile(reader: &Reader, wanted: Wanted, now: Wall) -> Result<Learned, HistoryError> {
    let span = Span::last(wanted.of, now);
    let mut means = means(reader, wanted.metric, span).map_err(|source| reader.failed(source))?;
    Ok(learned(wanted, &mut means))
}

fn learned(Wanted { metric, percentile, of }: Wanted, means: &mut [f64]) -> Learned {
    let seconds = u64::try_from(Resolution::TenSeconds.seconds()).unwrap_or(0) * means.len() as u64;
    let value = nearest_rank(means, percentile);
    Learned { metric, percentile, of, value, recorded: Duration::from_secs(seconds) }
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
