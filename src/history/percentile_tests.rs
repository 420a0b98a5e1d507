use std::time::Instant;

use proptest::prelude::*;

use super::*;
use crate::config::{Condition, Side};
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
        let of = Duration::from_secs(values.len() as u64 * 10);
        let wanted = Wanted { metric: Metric::RequestsActive, percentile: percent, of };
        let learned = percentile(&reader, wanted, at(values.len())).unwrap();
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
    let asked = |metric, percent| {
        let wanted = Wanted { metric, percentile: percent, of: Duration::from_secs(100) };
        percentile(&reader, wanted, Wall(START_MS + 999_999)).unwrap()
    };
    let learned = asked(Metric::RequestsActive, 50.0);
    assert_eq!((learned.value, learned.recorded), (Some(94.0), Duration::from_secs(100)));
    let nothing = asked(Metric::WorkerFootprint, 99.0);
    assert_eq!((nothing.value, nothing.recorded), (None, Duration::ZERO));
}

#[test]
fn rules_name_what_they_want_to_know_and_a_missing_file_knows_nothing() {
    let threshold = |percentile| Threshold::Percentile { percentile, of: WEEK, factor: 1.1, at_least: None };
    let condition = |metric, threshold, clear| Condition { metric, side: Side::Above, threshold, clear };
    let rule = Rule {
        name: "unusual".to_owned(),
        when: vec![
            condition(Metric::MlxCache, threshold(99.0), Some(threshold(50.0))),
            condition(Metric::MlxCache, threshold(99.0), None),
            condition(Metric::KvBytes, Threshold::Fixed(1.0), None),
        ],
        dwell: Duration::ZERO,
        actions: Vec::new(),
        cooldown: Duration::ZERO,
        break_streams_after: None,
        built_in: false,
    };
    let wanted = named_by(&[rule.clone(), rule]);
    let expected = [99.0, 50.0].map(|percentile| Wanted { metric: Metric::MlxCache, percentile, of: WEEK });
    assert_eq!(wanted, expected);
    let home = tempfile::tempdir().unwrap();
    let learned = look_up(&home.path().join("history.db"), &wanted, Wall(START_MS)).unwrap();
    assert_eq!(
        learned.iter().map(|learned| (learned.value, learned.recorded)).collect::<Vec<_>>(),
        [(None, Duration::ZERO); 2]
    );
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
    let now = Wall(START_MS + 60_480 * 10_000);
    for metric in [Metric::SystemUsed, Metric::WorkerFootprint, Metric::SpeedDecode] {
        let begin = Instant::now();
        let reader = Reader::open(&path).unwrap().unwrap();
        let learned = percentile(&reader, Wanted { metric, percentile: 99.0, of: WEEK }, now).unwrap();
        let took = begin.elapsed();
        assert_eq!(learned.recorded, WEEK);
        println!(
            "99th percentile of {metric} over 7 days, 60,480 rows, file opened: {:.1} ms",
            took.as_secs_f64() * 1e3
        );
    }
}
