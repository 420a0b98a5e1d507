//! One reading of the machine and the worker, with units.
//!
//! Owns the metric names and the probes; decides nothing: rules live in [`crate::supervisor`].
//!
//! ```text
//! probe ── host reading ──── linux (procfs; control groups: mlxsup_fit) · darwin (darwin_ffi, activity_monitor)
//!   │  └── worker reading ── linux · darwin, merged with what the worker says about itself
//!   └── rates of cumulative counters, footprint peak and growth
//! machine ── what limits depend on: memory, control group, working set, cores
//! process ── the same kernel facts for one pid, for identity, liveness and the stop ladder
//! ```

#[cfg(any(target_os = "macos", test))]
mod activity_monitor;
pub(crate) mod allocator_ffi;
#[cfg(target_os = "macos")]
mod darwin;
#[cfg(target_os = "macos")]
mod darwin_ffi;
#[cfg(target_os = "linux")]
mod linux;
pub mod machine;
#[cfg(feature = "fake-worker")]
pub mod pretence;
pub mod probe;
pub mod process;
#[cfg(target_os = "linux")]
mod procfs;
mod rates;

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

#[cfg(target_os = "macos")]
use darwin as platform;
#[cfg(target_os = "linux")]
use linux as platform;

pub use probe::{Probe, ProbeError, WorkerReading, machine_bytes};
pub use process::{
    ProcessUsage, StartId, footprint, group_footprint, group_lives_without, group_usage, host_wired,
    out_of_memory_kills, process_is_stopped, process_start_id, process_usage,
};

/// Names of everything a rule can look at (design: memory). The text form is the public name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[allow(missing_docs, reason = "the text form in `NAMES` says it, and the docs table explains each")]
pub enum Metric {
    SystemTotal,
    SystemUsed,
    SystemAvailable,
    SystemWired,
    SystemCompressed,
    SystemCompressedLogical,
    SystemCompressionRatio,
    SystemSwapUsed,
    SystemPressure,
    SystemFreePercent,
    SystemSwapinRate,
    SystemSwapoutRate,
    SystemCompressionRate,
    SystemDecompressionRate,
    SystemStall,
    WorkerFootprint,
    WorkerFootprintMax,
    WorkerCompressed,
    WorkerWired,
    WorkerUptime,
    WorkerGrowthRate,
    MlxActive,
    MlxCache,
    MlxPeak,
    KvBytes,
    PrefixCacheBytes,
    RequestsActive,
    RequestsWaiting,
    RequestsRate,
    LatencyTtftP50,
    LatencyTtftP99,
    LatencyTokenP50,
    SpeedDecode,
}

/// Unit of a metric's number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unit {
    /// Bytes.
    Bytes,
    /// Bytes per second.
    BytesPerSecond,
    /// 0–100.
    Percent,
    /// Seconds.
    Seconds,
    /// A plain number.
    Count,
    /// Events (or tokens) per second.
    PerSecond,
}

/// Public name and unit of every metric, in display order.
pub const METRICS: &[(Metric, &str, Unit)] = &[
    (Metric::SystemTotal, "system.total", Unit::Bytes),
    (Metric::SystemUsed, "system.used", Unit::Bytes),
    (Metric::SystemAvailable, "system.available", Unit::Bytes),
    (Metric::SystemWired, "system.wired", Unit::Bytes),
    (Metric::SystemCompressed, "system.compressed", Unit::Bytes),
    (Metric::SystemCompressedLogical, "system.compressed_logical", Unit::Bytes),
    (Metric::SystemCompressionRatio, "system.compression_ratio", Unit::Count),
    (Metric::SystemSwapUsed, "system.swap_used", Unit::Bytes),
    (Metric::SystemPressure, "system.pressure", Unit::Count),
    (Metric::SystemFreePercent, "system.free_percent", Unit::Percent),
    (Metric::SystemSwapinRate, "system.swapin_rate", Unit::BytesPerSecond),
    (Metric::SystemSwapoutRate, "system.swapout_rate", Unit::BytesPerSecond),
    (Metric::SystemCompressionRate, "system.compression_rate", Unit::BytesPerSecond),
    (Metric::SystemDecompressionRate, "system.decompression_rate", Unit::BytesPerSecond),
    (Metric::SystemStall, "system.stall", Unit::Percent),
    (Metric::WorkerFootprint, "worker.footprint", Unit::Bytes),
    (Metric::WorkerFootprintMax, "worker.footprint_max", Unit::Bytes),
    (Metric::WorkerCompressed, "worker.compressed", Unit::Bytes),
    (Metric::WorkerWired, "worker.wired", Unit::Bytes),
    (Metric::WorkerUptime, "worker.uptime", Unit::Seconds),
    (Metric::WorkerGrowthRate, "worker.growth_rate", Unit::BytesPerSecond),
    (Metric::MlxActive, "mlx.active", Unit::Bytes),
    (Metric::MlxCache, "mlx.cache", Unit::Bytes),
    (Metric::MlxPeak, "mlx.peak", Unit::Bytes),
    (Metric::KvBytes, "kv.bytes", Unit::Bytes),
    (Metric::PrefixCacheBytes, "prefix_cache.bytes", Unit::Bytes),
    (Metric::RequestsActive, "requests.active", Unit::Count),
    (Metric::RequestsWaiting, "requests.waiting", Unit::Count),
    (Metric::RequestsRate, "requests.rate", Unit::PerSecond),
    (Metric::LatencyTtftP50, "latency.ttft_p50", Unit::Seconds),
    (Metric::LatencyTtftP99, "latency.ttft_p99", Unit::Seconds),
    (Metric::LatencyTokenP50, "latency.token_p50", Unit::Seconds),
    (Metric::SpeedDecode, "speed.decode", Unit::PerSecond),
];

impl Metric {
    fn entry(self) -> &'static (Metric, &'static str, Unit) {
        // `METRICS` is in declaration order, which the test below holds.
        &METRICS[self as usize]
    }

    /// The public name, for example `worker.footprint`.
    #[must_use]
    pub fn name(self) -> &'static str {
        self.entry().1
    }

    /// The unit of its numbers.
    #[must_use]
    pub fn unit(self) -> Unit {
        self.entry().2
    }
}

impl fmt::Display for Metric {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The text is no metric's name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnknownMetric(pub String);

impl FromStr for Metric {
    type Err = UnknownMetric;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        METRICS
            .iter()
            .find(|(_, name, _)| *name == text)
            .map(|(metric, _, _)| *metric)
            .ok_or_else(|| UnknownMetric(text.to_owned()))
    }
}

impl Serialize for Metric {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.name())
    }
}

impl<'de> Deserialize<'de> for Metric {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let name = String::deserialize(deserializer)?;
        name.parse().map_err(|_| D::Error::custom(format!("no metric is called {name}")))
    }
}

/// One reading of everything at one instant. A metric that could not be read is absent, never 0.
#[derive(Debug, Clone, PartialEq)]
pub struct Sample {
    values: [Option<f64>; METRICS.len()],
}

impl Default for Sample {
    fn default() -> Self {
        Self { values: [None; METRICS.len()] }
    }
}

impl Sample {
    /// The reading in the metric's unit.
    #[must_use]
    pub fn get(&self, metric: Metric) -> Option<f64> {
        self.values[metric as usize]
    }

    /// Records a reading in the metric's unit; `None` leaves it absent.
    pub fn set(&mut self, metric: Metric, value: Option<f64>) {
        self.values[metric as usize] = value;
    }

    /// All present readings in display order.
    pub fn present(&self) -> impl Iterator<Item = (Metric, f64)> + '_ {
        METRICS.iter().filter_map(|(metric, _, _)| self.get(*metric).map(|value| (*metric, value)))
    }
}

/// Readings by name, in the display's order. As text, because a number in JSON does not come back to the last bit.
impl Serialize for Sample {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.present().map(|(metric, value)| (metric.name(), value.to_string())))
    }
}

impl<'de> Deserialize<'de> for Sample {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut sample = Self::default();
        for (name, text) in BTreeMap::<String, String>::deserialize(deserializer)? {
            let metric = name.parse().map_err(|_| D::Error::custom(format!("no metric is called {name}")))?;
            let value = text.parse().map_err(|_| D::Error::custom(format!("{name} = {text} is no number")))?;
            sample.set(metric, Some(value));
        }
        Ok(sample)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_in_declaration_order() {
        for (index, (metric, name, _)) in METRICS.iter().enumerate() {
            assert_eq!(*metric as usize, index, "{name}");
            assert_eq!(name.parse(), Ok(*metric));
        }
    }
}
