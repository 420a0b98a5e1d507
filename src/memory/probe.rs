//! One sample out of host, worker process and the worker's own report.
//!
//! Owns what is remembered between samples and how the three sources merge. Judges nothing. What the daemon alone knows
//! (`requests.*`, `latency.*`, `speed.*`) is left absent for the driver to fill in.

use std::io;
use std::time::Duration;

use mlxsup_worker_api::WorkerStatus;
use sysinfo::{MemoryRefreshKind, RefreshKind, System};

use super::rates::{Rate, Slope};
use super::{Metric, Sample, platform};
use crate::supervisor::Mono;

/// The machine cannot be read at all; single metrics that cannot be read are merely absent.
#[derive(Debug, thiserror::Error)]
pub enum ProbeError {
    /// A file every kernel has is missing: a container without `/proc`, most likely.
    #[error("cannot read {path}, so memory cannot be watched: {source}; mount /proc in this container")]
    Unreadable {
        /// Which file.
        path: &'static str,
        /// What the system said.
        source: io::Error,
    },
    /// The kernel refused its page counters.
    #[error(
        "the kernel does not tell its memory statistics ({call} answered {code}); report the system and its version"
    )]
    Refused {
        /// Which call.
        call: &'static str,
        /// Its return code.
        code: i32,
    },
    /// The sysinfo library found the system unsupported.
    #[error("cannot read the machine's memory and swap totals: {0}")]
    Totals(#[source] sysinfo::Error),
}

/// What is known about the worker when a sample is taken.
#[derive(Debug, Clone, Copy)]
pub struct WorkerReading<'a> {
    /// Its process.
    pub pid: u32,
    /// Its last report, if it is recent enough to stand for now; else its metrics are absent.
    pub status: Option<&'a WorkerStatus>,
    /// Time since it was spawned.
    pub uptime: Duration,
}

/// The machine at one instant; bytes and cumulative counters. What a system does not tell is `None`.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(super) struct HostReading {
    pub total: Option<u64>,
    pub used: Option<u64>,
    pub available: Option<u64>,
    pub wired: Option<u64>,
    pub compressed: Option<u64>,
    pub compressed_logical: Option<u64>,
    pub pressure: Option<u8>,
    pub free_percent: Option<f64>,
    /// Bytes since boot, like the three that follow.
    pub swapped_in: Option<u64>,
    pub swapped_out: Option<u64>,
    pub compressed_in_all: Option<u64>,
    pub decompressed_in_all: Option<u64>,
    /// Microseconds since boot in which some task waited for memory.
    pub stalled_us: Option<u64>,
}

/// A process's memory at one instant, bytes, as the kernel charges it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct MemoryReading {
    pub footprint: Option<u64>,
    /// The kernel's own high-water mark, where it keeps one.
    pub footprint_max: Option<u64>,
    /// Not resident because compressed or swapped.
    pub compressed: Option<u64>,
    /// Locked and resident.
    pub wired: Option<u64>,
}

/// The machine's memory in bytes; `None` where it cannot be read.
#[must_use]
pub fn machine_bytes() -> Option<u64> {
    let refresh = RefreshKind::nothing().with_memory(MemoryRefreshKind::nothing().with_ram());
    let totals = System::new_with_specifics(refresh).ok()?;
    Some(totals.total_memory()).filter(|total| *total > 0)
}

/// Takes samples. Keeps descriptors and previous counters; one per daemon.
#[derive(Debug)]
pub struct Probe {
    host: platform::Host,
    totals: System,
    refresh: MemoryRefreshKind,
    worker: Option<WorkerMemory>,
    swap_in: Rate,
    swap_out: Rate,
    compression: Rate,
    decompression: Rate,
    stall: Rate,
}

/// What is remembered about one worker.
#[derive(Debug)]
struct WorkerMemory {
    pid: u32,
    uptime: Duration,
    process: platform::Process,
    highest: Option<u64>,
    growth: Slope,
}

impl Probe {
    /// A probe of this machine.
    ///
    /// # Errors
    /// When the system's basic memory facts cannot be read at all.
    pub fn new() -> Result<Self, ProbeError> {
        let refresh = MemoryRefreshKind::nothing().with_ram().with_swap();
        let totals = System::new_with_specifics(RefreshKind::nothing().with_memory(refresh));
        Ok(Self {
            host: platform::Host::new()?,
            totals: totals.map_err(ProbeError::Totals)?,
            refresh,
            worker: None,
            swap_in: Rate::default(),
            swap_out: Rate::default(),
            compression: Rate::default(),
            decompression: Rate::default(),
            stall: Rate::default(),
        })
    }

    /// Reads everything now. Rates need a previous sample, growth ten seconds of samples. Blocks for a few file reads
    /// (well under a millisecond), never on the worker.
    pub fn sample(&mut self, worker: Option<WorkerReading<'_>>, at: Mono) -> Sample {
        let mut out = Sample::default();
        self.sample_host(at, &mut out);
        match worker {
            Some(reading) => self.sample_worker(reading, at, &mut out),
            None => self.worker = None,
        }
        out
    }

    fn sample_host(&mut self, at: Mono, out: &mut Sample) {
        let host = self.host.read(at);
        self.totals.refresh_memory_specifics(self.refresh);
        // Zero is sysinfo's word for "could not read"; no machine has no memory.
        let total = host.total.or_else(|| Some(self.totals.total_memory()).filter(|total| *total > 0));
        out.set(Metric::SystemTotal, bytes(total));
        out.set(Metric::SystemUsed, bytes(host.used));
        out.set(Metric::SystemAvailable, bytes(host.available));
        out.set(Metric::SystemWired, bytes(host.wired));
        out.set(Metric::SystemCompressed, bytes(host.compressed));
        out.set(Metric::SystemCompressedLogical, bytes(host.compressed_logical));
        let held = host.compressed.filter(|used| *used > 0).zip(host.compressed_logical);
        out.set(Metric::SystemCompressionRatio, held.map(|(used, logical)| logical as f64 / used as f64));
        out.set(Metric::SystemSwapUsed, bytes(Some(self.totals.used_swap())));
        out.set(Metric::SystemPressure, host.pressure.map(f64::from));
        out.set(Metric::SystemFreePercent, host.free_percent);
        out.set(Metric::SystemSwapinRate, self.swap_in.update(at, host.swapped_in));
        out.set(Metric::SystemSwapoutRate, self.swap_out.update(at, host.swapped_out));
        out.set(Metric::SystemCompressionRate, self.compression.update(at, host.compressed_in_all));
        out.set(Metric::SystemDecompressionRate, self.decompression.update(at, host.decompressed_in_all));
        // Microseconds per second, as a share of the time; rounding of the two clocks may exceed all of it.
        let stall = self.stall.update(at, host.stalled_us).map(|waited| (waited / 10_000.0).min(100.0));
        out.set(Metric::SystemStall, stall);
    }

    fn sample_worker(&mut self, reading: WorkerReading<'_>, at: Mono, out: &mut Sample) {
        // A shorter life under the same number is another process.
        let known = self.worker.take().filter(|known| known.pid == reading.pid && known.uptime <= reading.uptime);
        let mut worker = known.unwrap_or_else(|| WorkerMemory {
            pid: reading.pid,
            uptime: reading.uptime,
            process: platform::Process::open(reading.pid),
            highest: None,
            growth: Slope::default(),
        });
        worker.uptime = reading.uptime;
        let kernel = worker.process.read(at);
        let told = reading.status.map(|status| status.memory).unwrap_or_default();

        let footprint = kernel.footprint.or(told.footprint_bytes);
        worker.highest = worker.highest.max(footprint).max(kernel.footprint_max);
        out.set(Metric::WorkerFootprint, bytes(footprint));
        out.set(Metric::WorkerFootprintMax, bytes(worker.highest));
        // macOS tells the graphics part to the process itself only; Linux tells everybody.
        out.set(Metric::WorkerCompressed, bytes(kernel.compressed.or(told.graphics_compressed_bytes)));
        out.set(Metric::WorkerWired, bytes(kernel.wired.or(told.wired_bytes)));
        out.set(Metric::WorkerUptime, Some(reading.uptime.as_secs_f64()));
        out.set(Metric::WorkerGrowthRate, footprint.and_then(|level| worker.growth.update(at, level)));
        out.set(Metric::MlxActive, bytes(told.mlx_active_bytes));
        out.set(Metric::MlxCache, bytes(told.mlx_cache_bytes));
        out.set(Metric::MlxPeak, bytes(told.mlx_peak_bytes));
        out.set(Metric::KvBytes, bytes(told.kv_bytes));
        out.set(Metric::PrefixCacheBytes, bytes(told.prefix_cache_bytes));
        self.worker = Some(worker);
    }
}

fn bytes(value: Option<u64>) -> Option<f64> {
    value.map(|bytes| bytes as f64)
}

#[cfg(test)]
mod tests;
