use std::collections::BTreeMap;
use std::fs::OpenOptions;
use std::io::{Seek, SeekFrom, Write};

use proptest::prelude::*;

use super::*;
use crate::history::curves::Span;
use crate::history::{EVENTS_KEPT, Reader, Resolution};
use crate::memory::Metric;

/// A Tuesday, at the beginning of a 5 min bucket.
const START_MS: u64 = 1_799_999_700_000;

fn sample(footprint: Option<f64>) -> Sample {
    let mut sample = Sample::default();
    sample.set(Metric::WorkerFootprint, footprint);
    sample.set(Metric::SystemTotal, Some(1024.0));
    sample
}

fn at(ms: u64) -> Wall {
    Wall(START_MS + ms)
}

fn happening(ms: u64, message: &str) -> Happening {
    Happening { at: at(ms), kind: "rule_fired".to_owned(), message: message.to_owned() }
}

struct Folder {
    folder: tempfile::TempDir,
}

impl Folder {
    fn new() -> Self {
        Self { folder: tempfile::tempdir().unwrap() }
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join("history.db")
    }

    fn store(&self) -> Store {
        Store::open(&self.path()).unwrap()
    }
}

/// At, mean, lowest, highest.
type Row = (i64, Option<f64>, Option<f64>, Option<f64>);

/// The worker's footprint in a view.
fn rows(store: &Store, view: &str) -> Vec<Row> {
    let sql = format!(
        "SELECT at, worker_footprint, worker_footprint_lowest, worker_footprint_highest FROM {view} ORDER BY at"
    );
    let mut statement = store.db.prepare(&sql).unwrap();
    let rows = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?))).unwrap();
    rows.collect::<Result<_, _>>().unwrap()
}

fn number(store: &Store, sql: &str) -> i64 {
    store.db.query_row(sql, [], |row| row.get(0)).unwrap()
}

/// What the view must hold, computed without a database.
fn naive(samples: &BTreeMap<u64, Option<f64>>, width_s: i64) -> Vec<Row> {
    let mut buckets: BTreeMap<i64, Vec<f64>> = BTreeMap::new();
    for (ms, value) in samples {
        let second = i64::try_from(START_MS + ms).unwrap() / 1000;
        buckets.entry(second / width_s * width_s).or_default().extend(value);
    }
    let row = |(at, values): (i64, Vec<f64>)| {
        if values.is_empty() {
            return (at, None, None, None);
        }
        let mean = (values.iter().sum::<f64>() / values.len() as f64).round();
        let lowest = values.iter().copied().fold(f64::INFINITY, f64::min);
        let highest = values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        (at, Some(mean), Some(lowest), Some(highest))
    };
    buckets.into_iter().map(row).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    /// Whatever the pace, the gaps, the clock's jumps, the batches and the restarts of the daemon.
    #[test]
    fn buckets_hold_mean_lowest_and_highest_of_their_samples(
        steps in proptest::collection::vec(
            (-40_000i64..90_000, proptest::option::weighted(0.9, 0u32..1_000_000), 0u8..20), 1..120),
    ) {
        let folder = Folder::new();
        let mut store = folder.store();
        let mut kept = BTreeMap::new();
        let (mut now, mut batch) = (200_000i64, Vec::new());
        for (step, value, fate) in steps {
            // Small steps mostly, as samples come.
            now = (now + if fate < 15 { step.rem_euclid(1500) } else { step }).max(0);
            let ms = u64::try_from(now).unwrap();
            let value = value.map(f64::from);
            kept.insert(ms, value);
            batch.push((at(ms), sample(value)));
            if fate % 4 == 0 {
                store.write(&batch, &[]).unwrap();
                batch.clear();
            }
            if fate == 19 {
                store.write(&batch, &[]).unwrap();
                batch.clear();
                // Stopped or killed, and started again.
                if value.is_some() {
                    store.settle().unwrap();
                }
                drop(store);
                store = folder.store();
            }
        }
        store.write(&batch, &[]).unwrap();
        store.settle().unwrap();
        prop_assert_eq!(rows(&store, "samples_10s"), naive(&kept, 10));
        prop_assert_eq!(rows(&store, "samples_5min"), naive(&kept, 300));
        prop_assert_eq!(number(&store, "SELECT count(*) FROM samples_1s"), i64::try_from(kept.len()).unwrap());
    }
}

#[test]
fn each_resolution_is_kept_as_long_as_promised_and_the_file_stops_growing() {
    const DAY_MS: u64 = 86_400_000;
    let folder = Folder::new();
    let mut store = folder.store();
    // A sample a minute tells the same story as one a second, in less time.
    let mut pages = Vec::new();
    for day in 0..12 {
        let of_day = |second: u64| (at(day * DAY_MS + second * 1000), sample(Some((day * 86_400 + second) as f64)));
        let samples: Vec<_> = (0..86_400).step_by(60).map(of_day).collect();
        for hour in samples.chunks(60) {
            store.write(hour, &[happening(day * DAY_MS, "daily")]).unwrap();
        }
        pages.push(store.pages());
    }
    let span = |table: &str| number(&store, &format!("SELECT CAST(max(at) - min(at) AS INTEGER) FROM {table}"));
    let slack = 1000;
    assert!((3600 - slack..3600 + slack).contains(&span("samples_1s")), "{}", span("samples_1s"));
    assert!((8 * 86_400 - slack..8 * 86_400 + slack).contains(&span("samples_10s")));
    assert!((12 * 86_400 - slack..12 * 86_400 + slack).contains(&span("samples_5min")), "90 days are not over");
    assert!(pages[11] - pages[10] < (pages[1] - pages[0]) / 2, "only the 5 min rows still come: {pages:?}");

    store.write(&[(at(100 * DAY_MS), sample(None))], &[happening(100 * DAY_MS, "late")]).unwrap();
    assert_eq!(number(&store, "SELECT count(*) FROM samples_10s"), 0, "all of it is old now");
    assert_eq!(
        number(&store, "SELECT min(at) FROM samples_5min"),
        i64::try_from((START_MS + 10 * DAY_MS) / 1000).unwrap()
    );
    assert_eq!(number(&store, "SELECT count(*) FROM events WHERE at < (SELECT max(at) FROM events) - 90 * 86400"), 0);
}

#[test]
fn events_are_bounded_in_number() {
    let folder = Folder::new();
    let mut store = folder.store();
    let many: Vec<_> = (0..EVENTS_KEPT + 500).map(|number| happening(number, "again")).collect();
    store.write(&[], &many).unwrap();
    assert_eq!(number(&store, "SELECT count(*) FROM events"), i64::try_from(EVENTS_KEPT).unwrap());
}

#[test]
fn what_is_not_reported_is_absent_and_never_zero() {
    let folder = Folder::new();
    let mut store = folder.store();
    store.write(&[(at(0), sample(None)), (at(10_000), sample(Some(7.0)))], &[]).unwrap();
    store.settle().unwrap();
    let second = i64::try_from(START_MS / 1000).unwrap();
    assert_eq!(
        rows(&store, "samples_10s"),
        [(second, None, None, None), (second + 10, Some(7.0), Some(7.0), Some(7.0))]
    );
}

#[test]
fn a_clock_that_was_far_ahead_costs_nothing_that_lies_in_the_future() {
    let folder = Folder::new();
    let mut store = folder.store();
    store.write(&[(at(40 * 86_400_000), sample(Some(1.0)))], &[]).unwrap();
    store.settle().unwrap();
    store.write(&[(at(0), sample(Some(2.0))), (at(10_000), sample(Some(3.0)))], &[]).unwrap();
    store.settle().unwrap();
    assert_eq!(rows(&store, "samples_10s").len(), 3);
}

#[test]
fn damage_is_found_when_the_file_is_opened() {
    let whole = Folder::new();
    let mut store = whole.store();
    let samples: Vec<_> = (0..3000).map(|second| (at(second * 1000), sample(Some(second as f64)))).collect();
    store.write(&samples, &[]).unwrap();
    drop(store);
    let bytes = std::fs::read(whole.path()).unwrap();

    let garbage = b"this is a text, and no database at all, however long one looks at it".repeat(40);
    let truncated = bytes[..bytes.len() / 2].to_vec();
    let mut torn = bytes;
    for page in (8..torn.len() / 4096).step_by(3) {
        torn[page * 4096..page * 4096 + 64].fill(0xa5);
    }
    for (name, damaged) in [("garbage", &garbage), ("truncated", &truncated), ("torn", &torn)] {
        let folder = Folder::new();
        std::fs::write(folder.path(), damaged).unwrap();
        let error = Store::open(&folder.path()).unwrap_err();
        assert!(matches!(error, HistoryError::Damaged { .. }), "{name}: {error}");
    }
    let empty = Folder::new();
    std::fs::write(empty.path(), b"").unwrap();
    empty.store();
}

#[test]
fn a_log_of_garbage_costs_its_content_and_nothing_else() {
    let folder = Folder::new();
    let mut store = folder.store();
    store.write(&[(at(0), sample(Some(1.0)))], &[happening(0, "first")]).unwrap();
    drop(store);
    std::fs::write(folder.path().with_file_name("history.db-wal"), vec![0x5a; 9000]).unwrap();
    let store = folder.store();
    assert_eq!(number(&store, "SELECT count(*) FROM events"), 1);
}

#[test]
fn a_log_cut_anywhere_leaves_whole_transactions() {
    let folder = Folder::new();
    let mut store = folder.store();
    for second in 0..40 {
        store.write(&[(at(second * 1000), sample(Some(1.0)))], &[happening(second * 1000, "one of two")]).unwrap();
    }
    // As after a power loss: neither the connection nor the log is closed.
    let log = std::fs::read(folder.path().with_file_name("history.db-wal")).unwrap();
    let file = std::fs::read(folder.path()).unwrap();
    assert!(log.len() > 40 * 4096, "{}", log.len());
    for cut in [0, 32, 5000, log.len() / 3, log.len() / 2, log.len() - 100] {
        let after = Folder::new();
        std::fs::write(after.path(), &file).unwrap();
        std::fs::write(after.path().with_file_name("history.db-wal"), &log[..cut]).unwrap();
        let store = after.store();
        let samples = number(&store, "SELECT count(*) FROM samples_1s");
        assert_eq!(samples, number(&store, "SELECT count(*) FROM events"), "cut at {cut}");
    }
}

#[test]
fn a_bit_that_fell_over_in_the_log_ends_it_there() {
    let folder = Folder::new();
    let mut store = folder.store();
    for second in 0..40 {
        store.write(&[(at(second * 1000), sample(Some(1.0)))], &[happening(second * 1000, "one of two")]).unwrap();
    }
    let after = Folder::new();
    let log = after.path().with_file_name("history.db-wal");
    std::fs::copy(folder.path(), after.path()).unwrap();
    std::fs::copy(folder.path().with_file_name("history.db-wal"), &log).unwrap();
    let mut file = OpenOptions::new().write(true).open(&log).unwrap();
    file.seek(SeekFrom::Start(60_000)).unwrap();
    file.write_all(&[0xff; 50]).unwrap();
    let store = after.store();
    assert_eq!(number(&store, "SELECT count(*) FROM samples_1s"), number(&store, "SELECT count(*) FROM events"));
}

#[test]
fn a_full_disk_refuses_a_batch_as_a_whole_and_takes_it_later() {
    let folder = Folder::new();
    let mut store = folder.store();
    store.set_pages_max(store.pages() + 2);
    let samples: Vec<_> = (0..3000).map(|second| (at(second * 1000), sample(Some(second as f64)))).collect();
    let error = store.write(&samples, &[happening(0, "too much")]).unwrap_err();
    assert!(matches!(error, HistoryError::Unusable { .. }) && error.to_string().contains("full"), "{error}");
    assert_eq!(number(&store, "SELECT count(*) FROM samples_1s"), 0);
    assert_eq!(number(&store, "SELECT count(*) FROM events"), 0);
    store.set_pages_max(10_000);
    store.write(&samples, &[happening(0, "enough room")]).unwrap();
    assert_eq!(number(&store, "SELECT count(*) FROM samples_1s"), 3000);
}

#[test]
fn only_its_owner_may_read_the_file() {
    use std::os::unix::fs::PermissionsExt;
    let folder = Folder::new();
    let mut store = folder.store();
    store.write(&[(at(0), sample(None))], &[]).unwrap();
    for name in ["history.db", "history.db-wal"] {
        let mode = std::fs::metadata(folder.path().with_file_name(name)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{name}");
    }
}

#[test]
fn readers_see_what_was_written_while_the_writer_goes_on() {
    let folder = Folder::new();
    assert!(Reader::open(&folder.path()).unwrap().is_none(), "nothing was recorded");
    let mut store = folder.store();
    store.write(&[(at(0), sample(Some(1.0)))], &[happening(5, "first"), happening(6, "second")]).unwrap();
    let reader = Reader::open(&folder.path()).unwrap().unwrap();
    let span = Span { from: at(0), until: at(1000) };
    let events = |kinds: &[&str], limit| reader.events(span, kinds, limit).unwrap();
    assert_eq!(events(&[], 10), [happening(5, "first"), happening(6, "second")]);
    assert_eq!(events(&["rule_fired"], 1), [happening(6, "second")]);
    assert_eq!(events(&["restart_done"], 10), []);
    store.write(&[(at(2000), sample(Some(1.0)))], &[happening(7, "third")]).unwrap();
    assert_eq!(events(&[], 10).len(), 3);
    assert_eq!(reader.oldest().unwrap(), Some(at(0)));
    assert_eq!(Resolution::ALL.map(Resolution::seconds), [1, 10, 300]);
}
