//! Metrics in the words people know from Activity Monitor, their numbers with units, and scales with round numbers.

use super::quantity::{size, span};
use crate::memory::{Metric, Unit};

/// What Activity Monitor, or a person, would call it.
#[must_use]
pub const fn words(metric: Metric) -> &'static str {
    match metric {
        Metric::SystemTotal => "Physical Memory",
        Metric::SystemUsed => "Memory Used",
        Metric::SystemAvailable => "memory a new program could have",
        Metric::SystemWired => "Wired Memory",
        Metric::SystemCompressed => "Compressed",
        Metric::SystemCompressedLogical => "what is compressed, at its full size",
        Metric::SystemCompressionRatio => "compression ratio",
        Metric::SystemSwapUsed => "Swap Used",
        Metric::SystemPressure => "Memory Pressure",
        Metric::SystemFreePercent => "free memory",
        Metric::SystemSwapinRate => "swapped in",
        Metric::SystemSwapoutRate => "swapped out",
        Metric::SystemCompressionRate => "compressed per second",
        Metric::SystemDecompressionRate => "decompressed per second",
        Metric::SystemStall => "time lost waiting for memory",
        Metric::WorkerFootprint => "Memory of the worker",
        Metric::WorkerFootprintMax => "most Memory of the worker so far",
        Metric::WorkerCompressed => "Compressed Memory of the worker",
        Metric::WorkerWired => "Wired Memory of the worker",
        Metric::WorkerUptime => "age of the worker",
        Metric::WorkerGrowthRate => "growth of the worker",
        Metric::MlxActive => "MLX active",
        Metric::MlxCache => "MLX cache",
        Metric::MlxPeak => "MLX peak",
        Metric::KvBytes => "KV cache",
        Metric::PrefixCacheBytes => "prefix cache",
        Metric::RequestsActive => "requests running",
        Metric::RequestsWaiting => "requests waiting",
        Metric::RequestsRate => "requests answered",
        Metric::LatencyTtftP50 => "time to first token, median",
        Metric::LatencyTtftP99 => "time to first token, 99th percentile",
        Metric::LatencyTokenP50 => "time between tokens, median",
        Metric::SpeedDecode => "tokens generated",
    }
}

/// The system's own level of Memory Pressure, in a word.
#[must_use]
pub fn pressure(level: f64) -> &'static str {
    // 1, 2 and 4, as macOS counts; the daemon gives Linux the same numbers.
    if level >= 4.0 {
        "critical"
    } else if level >= 2.0 {
        "raised"
    } else {
        "normal"
    }
}

/// A number of this unit.
#[must_use]
pub fn number(value: f64, unit: Unit) -> String {
    match unit {
        Unit::Bytes if value < 0.0 => format!("-{}", size(-value)),
        Unit::Bytes => size(value),
        Unit::BytesPerSecond => format!("{}/s", number(value, Unit::Bytes)),
        Unit::Percent => format!("{value:.1} %"),
        Unit::Seconds => span(value),
        Unit::Count => plain(value),
        Unit::PerSecond => format!("{}/s", plain(value)),
    }
}

fn plain(value: f64) -> String {
    if (value - value.round()).abs() < 0.005 { format!("{value:.0}") } else { format!("{value:.2}") }
}

/// A scale from one round number to another, with round numbers between.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Scale {
    /// Its foot.
    pub low: f64,
    /// Its head.
    pub high: f64,
    /// Between two numbers.
    pub step: f64,
}

impl Scale {
    /// A scale that shows everything between two values, from 0 where that does not flatten the curve.
    #[must_use]
    pub fn of(lowest: f64, highest: f64, unit: Unit, ticks: usize) -> Self {
        let low = if lowest >= 0.0 && lowest <= highest / 2.0 { 0.0 } else { lowest };
        let least: f64 = match unit {
            Unit::Bytes | Unit::BytesPerSecond => 1_048_576.0,
            Unit::Percent | Unit::Seconds | Unit::Count | Unit::PerSecond => 1.0,
        };
        // A constant has no range of its own.
        let range = if highest > low { highest - low } else { least.max(highest.abs() / 10.0) };
        let ground = match unit {
            Unit::Bytes | Unit::BytesPerSecond => 1024_f64.powf((low + range).abs().max(1.0).log(1024.0).floor()),
            Unit::Percent | Unit::Seconds | Unit::Count | Unit::PerSecond => 1.0,
        };
        let step = round_up(range / ticks.max(1) as f64 / ground) * ground;
        let low = (low / step).floor() * step;
        let high = ((highest.max(low + range) / step).ceil() * step).max(low + step);
        Self { low, high, step }
    }

    /// Its numbers, lowest first.
    pub fn ticks(self) -> impl Iterator<Item = f64> {
        let count = ((self.high - self.low) / self.step).round() as u32;
        (0..=count).map(move |index| self.low + f64::from(index) * self.step)
    }

    /// Where a value lies: 0 at the foot, 1 at the head.
    #[must_use]
    pub fn share(self, value: f64) -> f64 {
        ((value - self.low) / (self.high - self.low)).clamp(0.0, 1.0)
    }
}

/// The next of …, 1, 2, 5, 10, 20, ….
fn round_up(value: f64) -> f64 {
    let decade = 10_f64.powf(value.log10().floor());
    let next = [1.0, 2.0, 5.0, 10.0].into_iter().find(|factor| factor * decade >= value * (1.0 - 1e-9));
    next.unwrap_or(10.0) * decade
}

#[cfg(test)]
mod tests {
    use super::*;

    const GIB: f64 = (1u64 << 30) as f64;

    #[test]
    fn scales_have_round_ends() {
        let scale = Scale::of(35.2 * GIB, 39.8 * GIB, Unit::Bytes, 4);
        assert_eq!((scale.low / GIB, scale.high / GIB, scale.step / GIB), (34.0, 40.0, 2.0));
        let scale = Scale::of(0.2 * GIB, 1.7 * GIB, Unit::Bytes, 4);
        assert_eq!((scale.low, scale.high / GIB), (0.0, 2.0));
        let scale = Scale::of(0.0, 0.0, Unit::Bytes, 4);
        assert_eq!((scale.low, scale.high), (0.0, 1_048_576.0));
        assert_eq!(Scale::of(0.0, 7.0, Unit::Count, 4).ticks().collect::<Vec<_>>(), [0.0, 2.0, 4.0, 6.0, 8.0]);
    }

    proptest::proptest! {
        #[test]
        fn a_scale_holds_what_it_is_made_for(one in -1e12f64..1e12, other in -1e12f64..1e12, ticks in 1usize..9) {
            let (lowest, highest) = (one.min(other), one.max(other));
            for unit in [Unit::Bytes, Unit::Count] {
                let scale = Scale::of(lowest, highest, unit, ticks);
                let slack = scale.step * 1e-6;
                proptest::prop_assert!(scale.low <= lowest + slack && scale.high >= highest - slack, "{scale:?}");
                proptest::prop_assert!(scale.ticks().count() <= ticks + 3, "{scale:?}");
            }
        }
    }
}
