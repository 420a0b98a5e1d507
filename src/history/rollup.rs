//! Down-sampling and retention: what a bucket holds follows from the samples in the file alone.

use std::collections::BTreeSet;
use std::time::Duration;

use rusqlite::types::Value;
use rusqlite::{Connection, params_from_iter};

use super::schema::{columns, tables};
use super::{EVENTS_AGE, EVENTS_KEPT, Resolution};
use crate::memory::{METRICS, Unit};
use crate::supervisor::Wall;
use crate::supervisor::time::millis;

/// The two resolutions that are computed.
const THINNED: [Resolution; 2] = [Resolution::TenSeconds, Resolution::FiveMinutes];

/// Buckets that got samples since they were last computed. The one that is filling is left for later.
#[derive(Debug, Default)]
pub struct Touched {
    buckets: [BTreeSet<i64>; 2],
    newest: i64,
}

impl Touched {
    /// A sample was stored.
    pub fn add(&mut self, at_ms: i64) {
        let at = at_ms.div_euclid(1000);
        self.newest = at;
        for (resolution, buckets) in THINNED.iter().zip(&mut self.buckets) {
            buckets.insert(bucket(*resolution, at));
        }
    }

    /// What an earlier daemon left uncomputed, or computed before the last of its samples came.
    pub fn left_behind(db: &Connection) -> rusqlite::Result<Self> {
        let mut touched = Self::default();
        for (resolution, buckets) in THINNED.iter().zip(&mut touched.buckets) {
            let (means, _) = tables(*resolution);
            let width = resolution.seconds();
            let query = format!(
                "SELECT bucket FROM (SELECT at_ms / ({width} * 1000) * {width} AS bucket, count(*) AS found FROM sample \
                 GROUP BY bucket) LEFT JOIN {means} ON at = bucket WHERE samples IS NOT found"
            );
            *buckets = db.prepare(&query)?.query_map([], |row| row.get(0))?.collect::<rusqlite::Result<_>>()?;
        }
        touched.newest = touched.buckets[0].last().copied().unwrap_or(0);
        Ok(touched)
    }

    /// Computes the buckets that are over; with `all` the ones that are filling too, which stay touched.
    pub fn roll_up(&mut self, db: &Connection, all: bool) -> rusqlite::Result<()> {
        for (resolution, buckets) in THINNED.iter().zip(&mut self.buckets) {
            let filling = bucket(*resolution, self.newest);
            for bucket in buckets.iter().filter(|bucket| all || **bucket != filling) {
                compute(db, *resolution, *bucket)?;
            }
            if !all {
                // An earlier daemon has computed it half full. Until it is over, the samples themselves say more.
                let (means, _) = tables(*resolution);
                db.prepare(&format!("DELETE FROM {means} WHERE at = ?1"))?.execute([filling])?;
            }
            buckets.retain(|bucket| *bucket == filling);
        }
        Ok(())
    }
}

const fn bucket(resolution: Resolution, at: i64) -> i64 {
    at.div_euclid(resolution.seconds()) * resolution.seconds()
}

/// Mean, lowest and highest of a metric's samples.
#[derive(Debug, Clone, Copy)]
struct Summary {
    lowest: f64,
    sum: f64,
    count: f64,
    highest: f64,
}

impl Summary {
    fn with(before: Option<Self>, value: f64) -> Self {
        let Some(Self { lowest, sum, count, highest }) = before else {
            return Self { lowest: value, sum: value, count: 1.0, highest: value };
        };
        Self { lowest: lowest.min(value), sum: sum + value, count: count + 1.0, highest: highest.max(value) }
    }

    /// Whole bytes need half the room of fractions, and nobody measures less.
    fn mean(self, unit: Unit) -> f64 {
        // A sum and a division would turn a constant into its neighbour.
        let mean = if self.lowest < self.highest { self.sum / self.count } else { self.lowest };
        match unit {
            Unit::Bytes | Unit::BytesPerSecond => mean.round(),
            Unit::Percent | Unit::Seconds | Unit::Count | Unit::PerSecond => mean,
        }
    }
}

/// Writes the summaries of one bucket. Statements are made anew each time: kept, they would take more memory than rows.
fn compute(db: &Connection, resolution: Resolution, bucket: i64) -> rusqlite::Result<()> {
    let (means, ranges) = tables(resolution);
    let names = columns().collect::<Vec<_>>().join(", ");
    let mut summaries: [Option<Summary>; METRICS.len()] = [None; METRICS.len()];
    let mut samples = 0_i64;
    {
        let mut statement =
            db.prepare(&format!("SELECT {names} FROM sample WHERE at_ms >= ?1 * 1000 AND at_ms < ?2 * 1000"))?;
        let mut rows = statement.query((bucket, bucket + resolution.seconds()))?;
        while let Some(row) = rows.next()? {
            samples += 1;
            for (index, summary) in summaries.iter_mut().enumerate() {
                if let Some(value) = row.get::<_, Option<f64>>(index)? {
                    *summary = Some(Summary::with(*summary, value));
                }
            }
        }
    }
    db.prepare(&format!("DELETE FROM {ranges} WHERE at = ?1"))?.execute([bucket])?;
    if samples == 0 {
        return Ok(());
    }
    let all = || summaries.iter().zip(METRICS.iter().map(|(_, _, unit)| *unit));
    let mut values = vec![Value::Integer(bucket), Value::Integer(samples)];
    values.extend(all().map(|(summary, unit)| Value::from(summary.map(|summary| summary.mean(unit)))));
    insert(db, &format!("INSERT OR REPLACE INTO {means} (at, samples, {names}) VALUES"), values)?;
    if summaries.iter().flatten().any(|summary| summary.lowest < summary.highest) {
        let extremes = columns().map(|name| format!("{name}_lowest, {name}_highest")).collect::<Vec<_>>().join(", ");
        let mut values = vec![Value::Integer(bucket)];
        for (summary, unit) in all() {
            let other = |value: f64, mean: f64| Some(value).filter(|value| *value != mean);
            let extremes = summary.map_or([None; 2], |summary| {
                let mean = summary.mean(unit);
                [other(summary.lowest, mean), other(summary.highest, mean)]
            });
            values.extend(extremes.map(Value::from));
        }
        insert(db, &format!("INSERT INTO {ranges} (at, {extremes}) VALUES"), values)?;
    }
    Ok(())
}

fn insert(db: &Connection, head: &str, values: Vec<Value>) -> rusqlite::Result<()> {
    let places = vec!["?"; values.len()].join(", ");
    db.prepare(&format!("{head} ({places})"))?.execute(params_from_iter(values)).map(drop)
}

/// Removes what is older than its resolution is kept, and events beyond their number. What lies in the future stays: it is
/// the clock that was wrong, and nobody knows when.
pub fn prune(db: &Connection, now: Wall) -> rusqlite::Result<()> {
    let before = |age: Duration| i64::try_from(now.0.saturating_sub(millis(age))).unwrap_or(i64::MAX);
    // Whole buckets: what is computed once more must see all of its samples.
    let samples = bucket(Resolution::FiveMinutes, before(Resolution::Sample.kept()).div_euclid(1000));
    db.prepare("DELETE FROM sample WHERE at_ms < ?1 * 1000")?.execute([samples])?;
    for resolution in THINNED {
        let (means, ranges) = tables(resolution);
        for table in [means, ranges] {
            let oldest = before(resolution.kept()).div_euclid(1000);
            db.prepare(&format!("DELETE FROM {table} WHERE at < ?1"))?.execute([oldest])?;
        }
    }
    db.prepare("DELETE FROM event WHERE at_ms < ?1")?.execute([before(EVENTS_AGE)])?;
    db.prepare("DELETE FROM event WHERE id <= (SELECT max(id) FROM event) - ?1")?
        .execute([i64::try_from(EVENTS_KEPT).unwrap_or(i64::MAX)])?;
    Ok(())
}
