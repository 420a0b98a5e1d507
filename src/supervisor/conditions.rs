//! One condition of a rule against one sample, in numbers and in words.
//!
//! Owns what a threshold means: a number, a share of the machine's memory, or a percentile of its own history, which the
//! outside looks up now and then.

use std::cmp::Ordering;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::spoken;
use crate::config::{Condition, Side, Threshold};
use crate::memory::{Metric, Sample, Unit};

/// So many parts of a percentile's history have to be recorded, of which one is enough.
const LEARNT_FRACTION: u32 = 4;

/// A percentile of the machine's own history.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Learned {
    /// Of what.
    pub metric: Metric,
    /// 0–100.
    pub percentile: f64,
    /// How much history was asked for.
    pub of: Duration,
    /// In the metric's unit; `None` while nothing is recorded.
    pub value: Option<f64>,
    /// How much of that time is recorded.
    pub recorded: Duration,
}

/// What rules know besides the sample.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Known {
    /// MLX never keeps more free buffers than this, bytes.
    pub cache_limit: Option<u64>,
    /// Looked up for the percentiles that rules name.
    pub learned: Vec<Learned>,
}

impl Known {
    fn about(&self, metric: Metric, percentile: f64, of: Duration) -> Option<&Learned> {
        let same = |learned: &&Learned| {
            learned.metric == metric && learned.percentile.to_bits() == percentile.to_bits() && learned.of == of
        };
        self.learned.iter().find(same)
    }
}

/// What became of a condition.
pub(super) struct Judged {
    /// `None` when it cannot be judged.
    pub holds: Option<bool>,
    /// The arithmetic.
    pub words: String,
}

/// Compares a metric with its threshold; `engaged` rules let go at the clearing one.
pub(super) fn judge(condition: &Condition, sample: &Sample, known: &Known, engaged: bool) -> Judged {
    let metric = condition.metric;
    let Some(value) = sample.get(metric) else {
        return Judged { holds: None, words: format!("{metric} is not reported here") };
    };
    // Once a rule holds it lets go only at the clear threshold: that is the hysteresis.
    let (threshold, clearing) = match (&condition.clear, engaged) {
        (Some(clear), true) => (clear, true),
        _ => (&condition.threshold, false),
    };
    let limit = match resolve(threshold, metric, sample, known) {
        Ok(limit) => limit,
        Err(why) => return Judged { holds: None, words: format!("{metric}: {why}") },
    };
    let beyond = |limit: f64| match condition.side {
        Side::Above => value > limit,
        Side::Below => value < limit,
    };
    let holds = beyond(limit);
    // The one that lets go is only worth a word where the other would not hold.
    let acting = resolve(&condition.threshold, metric, sample, known).ok().filter(|acting| clearing && beyond(*acting));
    let (limit, clearing) = acting.map_or((limit, clearing), |acting| (acting, false));
    let order = value.partial_cmp(&limit);
    let relation = match (order, condition.side) {
        (Some(Ordering::Greater), _) => "over",
        (Some(Ordering::Less), _) => "under",
        // Neither side of the line counts as beyond it, which `at` would leave open.
        (Some(Ordering::Equal) | None, Side::Above) => "not over",
        (Some(Ordering::Equal) | None, Side::Below) => "not under",
    };
    let which = if clearing { "its clearing " } else { "" };
    let (told, bound) = (quantity(value, metric), quantity(limit, metric));
    // Rounding may leave no difference to be seen, and `10 MiB, over 10 MiB` reads like a mistake.
    let hair = if told == bound && matches!(order, Some(Ordering::Less | Ordering::Greater)) { "just " } else { "" };
    let words = format!("{metric} {told}, {hair}{relation} {which}{bound}");
    Judged { holds: Some(holds), words }
}

/// Why a condition that does not hold never will.
pub(super) fn unreachable(condition: &Condition, known: &Known) -> Option<String> {
    let Condition { metric: Metric::MlxCache, side: Side::Above, threshold: Threshold::Fixed(limit), .. } = condition
    else {
        return None;
    };
    #[expect(clippy::cast_precision_loss, reason = "bytes far below 2^52")]
    let most = known.cache_limit? as f64;
    (most <= *limit).then(|| format!("cache_limit is {}", bytes(most)))
}

/// The number a threshold stands for, or why there is none.
fn resolve(threshold: &Threshold, metric: Metric, sample: &Sample, known: &Known) -> Result<f64, String> {
    match threshold {
        Threshold::Fixed(value) => Ok(*value),
        Threshold::OfMemory(share) if metric.unit() == Unit::Bytes => {
            let total = sample.get(Metric::SystemTotal);
            total.map(|total| total * share).ok_or_else(|| "the machine's memory is not reported here".to_owned())
        }
        Threshold::OfMemory(_) => Err("a share of the machine's memory says nothing about it".to_owned()),
        Threshold::Percentile { percentile, of, factor, at_least } => {
            let learned = known.about(metric, *percentile, *of);
            let taught = learned.filter(|learned| learned.recorded * LEARNT_FRACTION >= *of);
            match (taught.and_then(|learned| learned.value).map(|value| value * factor), at_least) {
                (Some(value), Some(floor)) => Ok(value.max(*floor)),
                (Some(value), None) => Ok(value),
                (None, Some(floor)) => Ok(*floor),
                (None, None) => {
                    let recorded = learned.map(|learned| learned.recorded).unwrap_or_default();
                    let (recorded, needed) = (spoken(recorded), spoken(*of / LEARNT_FRACTION));
                    Err(format!("learning, {recorded} of the {needed} it needs are recorded, and it has no at_least"))
                }
            }
        }
    }
}

/// A number in a metric's unit, for people.
#[must_use]
pub fn quantity(value: f64, metric: Metric) -> String {
    match metric.unit() {
        Unit::Bytes => bytes(value),
        Unit::BytesPerSecond => format!("{}/s", bytes(value)),
        Unit::Percent => format!("{value:.1} %"),
        // What lasts longer than two minutes is told like every other span of time, what is shorter with its tenths.
        Unit::Seconds if value >= 120.0 => lasting(Duration::try_from_secs_f64(value).unwrap_or(Duration::MAX)),
        Unit::Seconds => format!("{value:.1} s"),
        Unit::Count => format!("{value}"),
        Unit::PerSecond => format!("{value:.1}/s"),
    }
}

/// `45 s`, `31 min`, `3 h 44 min`: a span of time in whole units, rounded down.
#[must_use]
pub fn lasting(span: Duration) -> String {
    let seconds = span.as_secs();
    match (seconds, seconds / 60 % 60) {
        (0..120, _) => format!("{seconds} s"),
        (120..7200, _) => format!("{} min", seconds / 60),
        (_, 0) => format!("{} h", seconds / 3600),
        (_, minutes) => format!("{} h {minutes} min", seconds / 3600),
    }
}

/// Bytes in the largest unit that leaves a number of at least 1, everywhere alike: `38.1 GiB`, `512 MiB`, `1.5 MiB`. GiB have
/// tenths; smaller units have them only below ten, and only where there are any.
#[must_use]
pub fn bytes(value: f64) -> String {
    const KIB: f64 = 1024.0;
    const MIB: f64 = 1024.0 * KIB;
    const GIB: f64 = 1024.0 * MIB;
    let fine = |number: f64, unit: &str| {
        let tenths = (number * 10.0).round();
        if tenths.abs() >= 100.0 || tenths % 10.0 == 0.0 {
            format!("{number:.0} {unit}")
        } else {
            format!("{number:.1} {unit}")
        }
    };
    // Thresholds a little below the unit, so that rounding never leads to `1024 MiB`.
    let size = value.abs();
    if size >= 1023.5 * MIB {
        format!("{:.1} GiB", value / GIB)
    } else if size >= 1023.5 * KIB {
        fine(value / MIB, "MiB")
    } else if size >= 1023.5 {
        fine(value / KIB, "KiB")
    } else {
        format!("{value:.0} B")
    }
}
