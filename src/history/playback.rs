//! Recorded samples, one after the other, as a rule would have seen them: every sample of the last hour, before it the
//! means of ten seconds.

use rusqlite::Row;

use super::schema::{columns, tables};
use super::{HistoryError, Reader, Resolution, Span};
use crate::memory::{METRICS, Sample};
use crate::supervisor::Wall;

/// Rules start their dwell anew over a pause of more than 5 s, so a mean is given twice.
const TWICE_MS: u64 = 5000;

/// Hands over all samples of a span in order; those of means are given at the beginning and in the middle of their time.
/// Where nothing was recorded there is a pause.
///
/// # Errors
/// When the file cannot be read.
pub fn play(reader: &Reader, span: Span, mut take: impl FnMut(Wall, &Sample)) -> Result<(), HistoryError> {
    let begin = |resolution| rows(reader, resolution, span, &mut |_, _| false);
    let finest = begin(Resolution::Sample).map_err(|source| reader.failed(source))?;
    let until = Wall(finest.map_or(span.until.0, |first| first.0 / 10_000 * 10_000));
    let mut last = None;
    rows(reader, Resolution::TenSeconds, Span { until, ..span }, &mut |at, sample| {
        take(at, sample);
        take(Wall(at.0 + TWICE_MS), sample);
        last = Some(Wall(at.0 + 2 * TWICE_MS));
        true
    })
    .and_then(|_| {
        let from = Wall(last.map_or(span.from.0, |last| last.0.max(span.from.0)));
        rows(reader, Resolution::Sample, Span { from, ..span }, &mut |at, sample| {
            take(at, sample);
            true
        })
    })
    .map_err(|source| reader.failed(source))?;
    Ok(())
}

/// Hands over the rows of one resolution until `take` has enough. Returns when the first one was.
fn rows(
    reader: &Reader,
    resolution: Resolution,
    span: Span,
    take: &mut dyn FnMut(Wall, &Sample) -> bool,
) -> rusqlite::Result<Option<Wall>> {
    let names = columns().collect::<Vec<_>>().join(", ");
    let (table, _) = tables(resolution);
    let (key, unit) = match resolution {
        Resolution::Sample => ("at_ms", 1),
        Resolution::TenSeconds | Resolution::FiveMinutes => ("at", 1000),
    };
    let sql = format!("SELECT {key} * {unit}, {names} FROM {table} WHERE {key} >= ?1 AND {key} < ?2 ORDER BY {key}");
    let mut statement = reader.db.prepare(&sql)?;
    let mut found = statement.query((span.begin_ms().div_euclid(unit), span.end_ms().div_euclid(unit)))?;
    let mut first = None;
    while let Some(row) = found.next()? {
        let at = Wall(u64::try_from(row.get::<_, i64>(0)?).unwrap_or(0));
        first.get_or_insert(at);
        if !take(at, &sample(row)?) {
            break;
        }
    }
    Ok(first)
}

fn sample(row: &Row<'_>) -> rusqlite::Result<Sample> {
    let mut sample = Sample::default();
    for (index, (metric, _, _)) in METRICS.iter().enumerate() {
        sample.set(*metric, row.get(index + 1)?);
    }
    Ok(sample)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::history::store::Store;
    use crate::memory::Metric;

    const START_MS: u64 = 1_800_057_600_000;

    #[test]
    fn means_come_first_and_then_every_sample_and_no_time_is_told_twice() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("history.db");
        let mut store = Store::open(&path).unwrap();
        let sample = |second: u64| {
            let mut sample = Sample::default();
            sample.set(Metric::MlxCache, Some(second as f64));
            (Wall(START_MS + second * 1000), sample)
        };
        // Three hours, a pause, and some minutes.
        let seconds: Vec<u64> = (0..3 * 3600).chain(3 * 3600 + 900..3 * 3600 + 1200).collect();
        for some in seconds.chunks(600) {
            store.write(&some.iter().map(|second| sample(*second)).collect::<Vec<_>>(), &[]).unwrap();
        }
        store.settle().unwrap();
        let reader = Reader::open(&path).unwrap().unwrap();
        let span = Span { from: Wall(START_MS), until: Wall(START_MS + 86_400_000) };
        let mut told = Vec::new();
        play(&reader, span, |at, sample| told.push((at.0 - START_MS, sample.get(Metric::MlxCache)))).unwrap();
        assert_eq!(told[..3], [(0, Some(5.0)), (5000, Some(5.0)), (10_000, Some(15.0))]);
        assert_eq!(told.last(), Some(&((3 * 3600 + 1199) * 1000, Some(f64::from(3 * 3600 + 1199)))));
        let pauses: Vec<u64> = told.windows(2).map(|two| two[1].0 - two[0].0).filter(|pause| *pause > 5000).collect();
        assert_eq!(pauses, [901_000], "only the one that was");
        assert!(told.windows(2).all(|two| two[0].0 < two[1].0), "in order");
    }
}
