use super::*;
use crate::history::store::Store;
use crate::memory::Sample;

/// At the beginning of a day, in seconds.
const START: i64 = 1_800_057_600;

fn at(seconds: i64) -> Wall {
    Wall(u64::try_from((START + seconds) * 1000).unwrap())
}

fn sample(value: f64) -> Sample {
    let mut sample = Sample::default();
    sample.set(Metric::RequestsActive, Some(value));
    sample
}

struct Recorded {
    _home: tempfile::TempDir,
    store: Store,
    reader: Reader,
}

impl Recorded {
    /// The second as a number, at every `step`th second.
    fn new(seconds: i64, step: usize) -> Self {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("history.db");
        let mut store = Store::open(&path).unwrap();
        let samples: Vec<_> = (0..seconds).step_by(step).map(|second| (at(second), sample(second as f64))).collect();
        for some in samples.chunks(500) {
            store.write(some, &[]).unwrap();
        }
        let reader = Reader::open(&path).unwrap().unwrap();
        Self { _home: home, store, reader }
    }

    fn curve(&self, from: i64, until: i64, steps: Option<u32>, now: i64) -> (i64, Vec<Point>) {
        let query =
            Query { metrics: vec![Metric::RequestsActive], span: Span { from: at(from), until: at(until) }, steps };
        let mut curves = read(&self.reader, &query, at(now)).unwrap();
        (curves.step, curves.curves.remove(0).1)
    }
}

#[test]
fn the_last_minutes_come_from_finer_rows_than_the_rest() {
    let recorded = Recorded::new(3 * 3600 + 137, 1);
    let now = 3 * 3600 + 137;
    let (step, points) = recorded.curve(0, now, Some(20), now);
    assert_eq!(step, 600, "a multiple of the rows' width");
    assert_eq!(points.len(), 19, "{points:?}");
    for (index, point) in points.iter().enumerate() {
        let first = index as i64 * 600;
        let last = (first + 599).min(now - 1);
        assert_eq!((point.at, point.lowest, point.highest), (START + first, first as f64, last as f64));
        assert!((point.mean - (first + last) as f64 / 2.0).abs() < 0.01, "{point:?}");
    }
}

#[test]
fn without_a_number_of_steps_rows_come_as_they_are_kept() {
    let mut recorded = Recorded::new(7200, 1);
    recorded.store.settle().unwrap();
    let (step, points) = recorded.curve(6000, 7200, None, 7200);
    assert_eq!((step, points.len()), (1, 1200), "an hour back: every sample");
    let (step, points) = recorded.curve(0, 7200, None, 7200);
    assert_eq!((step, points.len()), (10, 720), "beyond it: ten seconds");
    let (step, points) = recorded.curve(0, 7200, None, 9 * 86_400);
    assert_eq!((step, points.len()), (300, 24), "a week later: five minutes");
}

#[test]
fn a_gap_stays_a_gap() {
    let mut recorded = Recorded::new(600, 1);
    recorded.store.write(&[(at(1500), sample(7.0))], &[]).unwrap();
    let (_, points) = recorded.curve(0, 1600, Some(16), 1600);
    let starts: Vec<_> = points.iter().map(|point| point.at - START).collect();
    assert_eq!(starts, [0, 100, 200, 300, 400, 500, 1500]);
}

#[test]
fn a_daemon_that_was_just_restarted_shows_its_last_minutes_too() {
    let mut recorded = Recorded::new(400, 1);
    recorded.store.settle().unwrap();
    // The next daemon goes on within the same five minutes.
    recorded.store.write(&[(at(410), sample(1000.0))], &[]).unwrap();
    let (_, points) = recorded.curve(0, 500, Some(1), 500);
    assert_eq!(points.iter().map(|point| point.highest).fold(0.0, f64::max), 1000.0);
}

#[test]
fn nothing_recorded_is_no_points() {
    let recorded = Recorded::new(10, 1);
    let (_, points) = recorded.curve(86_400, 2 * 86_400, Some(100), 2 * 86_400);
    assert_eq!(points, []);
}
