//! Down-sampling and retention, in the database itself: what a bucket holds follows from the rows in the file alone.

use std::collections::BTreeSet;
use std::time::Duration;

use rusqlite::Connection;

use super::schema::{column, columns, tables};
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
                db.prepare_cached(&format!("DELETE FROM {means} WHERE at = ?1"))?.execute([filling])?;
            }
            buckets.retain(|bucket| *bucket == filling);
        }
        Ok(())
    }
}

const fn bucket(resolution: Resolution, at: i64) -> i64 {
    at.div_euclid(resolution.seconds()) * resolution.seconds()
}

/// Mean, lowest and highest of all samples of one bucket.
fn compute(db: &Connection, resolution: Resolution, bucket: i64) -> rusqlite::Result<()> {
    let (means, ranges) = tables(resolution);
    let window = format!("FROM sample WHERE at_ms >= ?1 * 1000 AND at_ms < (?1 + {}) * 1000", resolution.seconds());
    let names = columns().collect::<Vec<_>>().join(", ");
    let mean = |(metric, unit)| {
        let name = column(metric);
        // Whole bytes need half the room of fractions, and nobody measures less.
        let mean = match unit {
            Unit::Bytes | Unit::BytesPerSecond => format!("round(avg({name}))"),
            Unit::Percent | Unit::Seconds | Unit::Count | Unit::PerSecond => format!("avg({name})"),
        };
        // A sum and a division would turn a constant into its neighbour.
        format!("CASE WHEN min({name}) = max({name}) THEN min({name}) ELSE {mean} END")
    };
    let all: Vec<String> = METRICS.iter().map(|(metric, _, unit)| mean((*metric, *unit))).collect();
    db.prepare_cached(&format!(
        "INSERT OR REPLACE INTO {means} (at, samples, {names}) SELECT ?1, count(*), {} {window} HAVING count(*) > 0",
        all.join(", ")
    ))?
    .execute([bucket])?;
    let extremes = columns().map(|name| format!("{name}_lowest, {name}_highest")).collect::<Vec<_>>().join(", ");
    let values = columns()
        .zip(&all)
        .map(|(name, mean)| format!("nullif(min({name}), {mean}), nullif(max({name}), {mean})"))
        .collect::<Vec<_>>()
        .join(", ");
    let varies = columns().map(|name| format!("min({name}) <> max({name})")).collect::<Vec<_>>().join(" OR ");
    db.prepare_cached(&format!("DELETE FROM {ranges} WHERE at = ?1"))?.execute([bucket])?;
    db.prepare_cached(&format!("INSERT INTO {ranges} (at, {extremes}) SELECT ?1, {values} {window} HAVING {varies}"))?
        .execute([bucket])?;
    Ok(())
}

/// Removes what is older than its resolution is kept, and events beyond their number. What lies in the future stays: it is
/// the clock that was wrong, and nobody knows when.
pub fn prune(db: &Connection, now: Wall) -> rusqlite::Result<()> {
    let before = |age: Duration| i64::try_from(now.0.saturating_sub(millis(age))).unwrap_or(i64::MAX);
    // Whole buckets: what is computed once more must see all of its samples.
    let samples = bucket(Resolution::FiveMinutes, before(Resolution::Sample.kept()).div_euclid(1000));
    db.prepare_cached("DELETE FROM sample WHERE at_ms < ?1 * 1000")?.execute([samples])?;
    for resolution in THINNED {
        let (means, ranges) = tables(resolution);
        for table in [means, ranges] {
            let oldest = before(resolution.kept()).div_euclid(1000);
            db.prepare_cached(&format!("DELETE FROM {table} WHERE at < ?1"))?.execute([oldest])?;
        }
    }
    db.prepare_cached("DELETE FROM event WHERE at_ms < ?1")?.execute([before(EVENTS_AGE)])?;
    db.prepare_cached("DELETE FROM event WHERE id <= (SELECT max(id) FROM event) - ?1")?
        .execute([i64::try_from(EVENTS_KEPT).unwrap_or(i64::MAX)])?;
    Ok(())
}
