use std::time::Instant;

use proptest::prelude::*;

use super::*;
use crate::history::store::Store;
use crate::memory::Sample;

const START_MS: u64 = 1_800_000_000_000;
const WEEK: Duration = Duration::from_secs(7 * 86_400);

fn sample(value: Option<f64>) -> Sample {
    let mut sample = Sample::default();
    sample.set(Metric::RequestsActive, value);
    sample
}

/// By its definition: of the sorted values, the first that has enough of them at or below it.
fn naive(values: &[f64], percentile: f64) -> Option<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let enough = |value: &f64| sorted.iter().filter(|other| *other <= value).count() as f64;
    sorted.iter().copied().find(|value| enough(value) / values.len() as f64 * 100.0 >= percentile - 1e-9)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn they_are_what_a_naive_count_says(
        values in proptest::collection::vec(proptest::option::weighted(0.9, 0u32..50), 0..80),
        percent in 0u32..=1000,
    ) {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("history.db");
        let mut store = Store::open(&path).unwrap();
        let at = |index: usize| Wall(START_MS + index as u64 * 10_000);
        let samples: Vec<_> =
            values.iter().enumerate().map(|(index, value)| (at(index), sample(value.map(f64::from)))).collect();
        store.write(&samples, &[]).unwrap();
        store.settle().unwrap();
        let reader = Reader::open(&path).unwrap().unwrap();
        let percent = f64::from(percent) / 10.0;
        let span = Span { from: Wall(START_MS), until: at(values.len()) };
        let learned = percentile(&reader, Metric::RequestsActive, percent, span).unwrap();
        let present: Vec<f64> = values.iter().flatten().copied().map(f64::from).collect();
        prop_assert_eq!(learned.value, naive(&present, percent));
        prop_assert_eq!(learned.recorded.as_secs(), present.len() as u64 * 10);
    }
}

#[test]
fn only_the_span_counts() {
    let home = tempfile::tempdir().unwrap();
    let path = home.path().join("history.db");
    let mut store = Store::open(&path).unwrap();
    let samples: Vec<_> = (0..100).map(|index| (Wall(START_MS + index * 10_000), sample(Some(index as f64)))).collect();
    store.write(&samples, &[]).unwrap();
    store.settle().unwrap();
    let reader = Reader::open(&path).unwrap().unwrap();
    let last = Span::last(Duration::from_secs(100), Wall(START_MS + 999_999));
    let learned = percentile(&reader, Metric::RequestsActive, 50.0, last).unwrap();
    assert_eq!((learned.value, learned.recorded), (Some(94.0), Duration::from_secs(100)));
    let nothing = percentile(&reader, Metric::WorkerFootprint, 99.0, last).unwrap();
    assert_eq!((nothing.value, nothing.recorded), (None, Duration::ZERO));
}

#[test]
fn a_threshold_is_its_floor_until_a_quarter_is_recorded() {
    let home = tempfile::tempdir().unwrap();
    let path = home.path().join("history.db");
    let mut store = Store::open(&path).unwrap();
    let wanted =
        |at_least| Threshold::Percentile { percentile: 100.0, of: Duration::from_secs(400), factor: 1.5, at_least };
    let asked = |at_least, seconds: u64| {
        let reader = Reader::open(&path).unwrap().unwrap();
        threshold(&reader, Metric::RequestsActive, &wanted(at_least), Wall(START_MS + seconds * 1000)).unwrap()
    };
    let mut record = |seconds: std::ops::Range<u64>, value: f64| {
        let samples: Vec<_> = seconds.map(|second| (Wall(START_MS + second * 1000), sample(Some(value)))).collect();
        store.write(&samples, &[]).unwrap();
        store.settle().unwrap();
    };
    record(0..90, 40.0);
    assert_eq!((asked(None, 90), asked(Some(50.0), 90)), (None, Some(50.0)), "90 s of 400 are not a quarter");
    record(90..100, 40.0);
    assert_eq!((asked(None, 100), asked(Some(50.0), 100)), (Some(60.0), Some(60.0)));
    assert_eq!(asked(Some(100.0), 100), Some(100.0), "never below the floor");
    assert_eq!(asked(None, 1000), None, "what is older than the span is forgotten");
    let reader = Reader::open(&path).unwrap().unwrap();
    assert_eq!(threshold(&reader, Metric::RequestsActive, &Threshold::Fixed(7.0), Wall(START_MS)).unwrap(), None);
}

/// `make bench-history` prints what this takes; a machine that is busy with other tests says little.
#[test]
fn a_week_is_read_whole() {
    let home = tempfile::tempdir().unwrap();
    let path = home.path().join("history.db");
    drop(Store::open(&path).unwrap());
    let db = rusqlite::Connection::open(&path).unwrap();
    let names: Vec<String> = crate::history::schema::columns().collect();
    // Every metric in every row, of the size that bytes have: more than any engine reports.
    let values = vec!["abs(random() % 40000000000)"; names.len()].join(", ");
    db.execute_batch(&format!(
        "WITH RECURSIVE step(at) AS (SELECT 1800000000 UNION ALL SELECT at + 10 FROM step LIMIT 60480) \
         INSERT INTO mean_10s (at, samples, {}) SELECT at, 10, {values} FROM step",
        names.join(", ")
    ))
    .unwrap();
    drop(db);
    let span = Span::last(WEEK, Wall(START_MS + 60_480 * 10_000));
    for metric in [Metric::SystemUsed, Metric::WorkerFootprint, Metric::SpeedDecode] {
        let begin = Instant::now();
        let reader = Reader::open(&path).unwrap().unwrap();
        let learned = percentile(&reader, metric, 99.0, span).unwrap();
        let took = begin.elapsed();
        assert_eq!(learned.recorded, WEEK);
        println!(
            "99th percentile of {metric} over 7 days, 60,480 rows, file opened: {:.1} ms",
            took.as_secs_f64() * 1e3
        );
    }
}
