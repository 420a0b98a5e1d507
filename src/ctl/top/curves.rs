//! The last minutes of the metrics that tell whether a model is being compressed away: what the daemon recorded, then what
//! was seen live.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::ctl::render::chart::Stretch;
use crate::ctl::render::metric::Scale;
use crate::history::view::HistoryView;
use crate::memory::Metric;

/// What is drawn, in this order: the article's two numbers, and what they lead to.
pub const SHOWN: [Metric; 4] =
    [Metric::WorkerFootprint, Metric::WorkerCompressed, Metric::SystemCompressed, Metric::SystemSwapUsed];

/// How far back a curve reaches.
pub const WINDOW_MINUTES: u32 = 10;

const WINDOW_MS: i64 = WINDOW_MINUTES as i64 * 60_000;

/// A hole longer than this is filled from what the daemon has recorded. It writes every five seconds, so a shorter one may
/// not be there yet.
const HOLE_MS: i64 = 8000;

/// A scale shows at least this part of its highest value …
const RANGE_MIN: f64 = 0.02;

/// … and at least so many bytes.
const RANGE_MIN_BYTES: f64 = (8 << 20) as f64;

/// Instants of a curve, each until its next, in milliseconds.
type Row = BTreeMap<i64, Part>;

#[derive(Debug, Clone, Copy, PartialEq)]
struct Part {
    until: i64,
    lowest: f64,
    mean: f64,
    highest: f64,
}

/// The curves.
#[derive(Debug)]
pub struct Curves {
    rows: [Row; SHOWN.len()],
    /// Between two live readings.
    step_ms: i64,
    newest: Option<i64>,
}

impl Curves {
    /// Without a point; live readings come at this interval.
    #[must_use]
    pub fn new(interval: Duration) -> Self {
        let step_ms = i64::try_from(interval.as_millis()).unwrap_or(i64::MAX);
        Self { rows: Default::default(), step_ms, newest: None }
    }

    /// True when the last minutes are not known by now.
    #[must_use]
    pub fn have_hole(&self, now_ms: i64) -> bool {
        self.newest.is_none_or(|newest| now_ms - newest > self.step_ms.saturating_add(HOLE_MS))
    }

    /// Adds what was read now. A metric that is not reported leaves a gap.
    pub fn add(&mut self, now_ms: i64, memory: &BTreeMap<String, f64>) {
        let until = now_ms.saturating_add(self.step_ms);
        for (row, metric) in self.rows.iter_mut().zip(SHOWN) {
            if let Some(value) = memory.get(metric.name()) {
                // A reading may come a little late; neighbours are to be seen as such.
                if let Some(mut last) = row.last_entry()
                    && now_ms - *last.key() < self.step_ms.saturating_mul(3)
                {
                    last.get_mut().until = now_ms;
                }
                row.insert(now_ms, Part { until, lowest: *value, mean: *value, highest: *value });
            }
            // The clock may have been set back: what lies in the future is of no use either.
            row.retain(|at, part| part.until > now_ms - WINDOW_MS && *at <= now_ms);
        }
        self.newest = Some(now_ms);
    }

    /// Adds what the daemon has recorded, wherever nothing was seen live.
    pub fn fill(&mut self, past: &HistoryView) {
        for curve in &past.metrics {
            let Some(index) = SHOWN.iter().position(|metric| metric.name() == curve.metric) else { continue };
            for (at, lowest, mean, highest) in &curve.points {
                let (from, until) = (at * 1000, (at + past.step_s) * 1000);
                if self.rows[index].range(from..until).next().is_none() {
                    let part = Part { until, lowest: *lowest, mean: *mean, highest: *highest };
                    self.rows[index].insert(from, part);
                }
            }
        }
    }

    /// One of [`SHOWN`] as it is drawn, the window ending now.
    #[must_use]
    pub fn stretches(&self, index: usize, now_ms: i64) -> Vec<Stretch> {
        let begin = now_ms - WINDOW_MS;
        let share = |at: i64| (at - begin) as f64 / WINDOW_MS as f64;
        let inside = self.rows[index].iter().filter(|(at, part)| part.until > begin && **at <= now_ms);
        inside
            .map(|(at, part)| Stretch {
                from: share(*at).max(0.0),
                until: share(part.until).min(1.0),
                lowest: part.lowest,
                mean: part.mean,
                highest: part.highest,
            })
            .collect()
    }

    /// A scale with round ends that holds all of a curve, and does not make a mountain of what hardly moves.
    #[must_use]
    pub fn scale(index: usize, curve: &[Stretch]) -> Scale {
        let lowest = curve.iter().map(|part| part.lowest).fold(f64::INFINITY, f64::min);
        let highest = curve.iter().map(|part| part.highest).fold(f64::NEG_INFINITY, f64::max);
        let range = (highest * RANGE_MIN).max(RANGE_MIN_BYTES);
        Scale::of(lowest, highest.max(lowest + range), SHOWN[index].unit(), 2)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ctl::render::quantity::size;
    use crate::history::view::CurveView;

    fn memory(value: f64) -> BTreeMap<String, f64> {
        BTreeMap::from([("worker.footprint".to_owned(), value)])
    }

    #[test]
    fn what_was_recorded_comes_before_what_is_seen_and_never_over_it() {
        let mut curves = Curves::new(Duration::from_secs(1));
        assert!(curves.have_hole(600_000));
        curves.add(600_000, &memory(7.0));
        let points = (590..=600).map(|at| (at, 1.0, 2.0, 3.0)).collect();
        let curve = CurveView { metric: "worker.footprint".to_owned(), unit: "bytes".to_owned(), points };
        let past = HistoryView {
            schema: 1,
            since: String::new(),
            until: String::new(),
            step_s: 1,
            recorded_since: None,
            metrics: vec![curve],
            events: vec![],
        };
        curves.fill(&past);
        let drawn = curves.stretches(0, 600_000);
        assert_eq!(drawn.len(), 11);
        assert_eq!((drawn[0].lowest, drawn[0].highest, drawn[10].mean), (1.0, 3.0, 7.0));
        assert!(drawn.windows(2).all(|two| two[0].until >= two[1].from), "{drawn:?}");
        assert!(!curves.have_hole(601_000) && curves.have_hole(660_000));
    }

    #[test]
    fn a_scale_has_two_different_ends() {
        let flat = |value: f64| {
            let part = Stretch { from: 0.0, until: 1.0, lowest: value, mean: value, highest: value };
            let scale = Curves::scale(0, &[part]);
            (size(scale.low), size(scale.high))
        };
        assert_eq!(flat(0.0), ("0 B".to_owned(), "10 MiB".to_owned()));
        assert_eq!(flat(37e6), ("35 MiB".to_owned(), "45 MiB".to_owned()));
        assert_eq!(flat(38.13 * f64::from(1 << 30)), ("38.0 GiB".to_owned(), "39.0 GiB".to_owned()));
    }

    #[test]
    fn only_the_window_is_kept_and_a_late_reading_joins_the_one_before() {
        let mut curves = Curves::new(Duration::from_secs(1));
        for second in 0..2000 {
            curves.add(second * 1200, &memory(1.0));
        }
        let drawn = curves.stretches(0, 1999 * 1200);
        assert_eq!(drawn.len(), 501);
        assert!(drawn.windows(2).all(|two| (two[0].until - two[1].from).abs() < 1e-9));
        curves.add(0, &memory(1.0));
        assert_eq!(curves.stretches(0, 0).len(), 1, "the clock was set back");
    }
}
