//! The machine's memory: who holds what, and what has not come back.

use mlxsup::memory::{Metric, Sample};

pub const GIB: u64 = 1 << 30;
pub const MIB: u64 = 1 << 20;

/// One machine.
#[derive(Debug, Clone)]
pub struct Machine {
    pub total: u64,
    /// Held by everybody but the workers.
    pub others: u64,
    /// Wired by everybody but the workers.
    pub others_wired: u64,
    /// Wired by workers that are gone.
    pub stranded: u64,
    /// The system's own word, when a fault says so.
    pub pressure: Option<u64>,
    /// True for a machine that reports wired memory and pressure.
    pub reports_wired: bool,
    pub compressed: u64,
    pub mlx_cache: u64,
    pub prefix_cache: u64,
    pub swapins: u64,
}

impl Machine {
    /// One that nobody uses.
    pub fn quiet() -> Self {
        Self {
            total: 64 * GIB,
            others: 0,
            others_wired: 0,
            stranded: 0,
            pressure: None,
            reports_wired: true,
            compressed: 0,
            mlx_cache: 0,
            prefix_cache: 0,
            swapins: 0,
        }
    }

    pub fn available(&self, workers: u64) -> u64 {
        self.total.saturating_sub(self.others).saturating_sub(workers).saturating_sub(self.stranded)
    }

    /// What a daemon would read now. `footprint` is the serving worker's, `wired` what living workers have wired.
    pub fn sample(&self, workers: u64, wired: u64, footprint: Option<u64>) -> Sample {
        #[expect(clippy::cast_precision_loss, reason = "bytes far below 2^52")]
        let number = |count: u64| Some(count as f64);
        let available = self.available(workers);
        let mut sample = Sample::default();
        sample.set(Metric::SystemTotal, number(self.total));
        sample.set(Metric::SystemAvailable, number(available));
        sample.set(Metric::SystemUsed, number(self.total - available));
        if self.reports_wired {
            sample.set(Metric::SystemWired, number(self.others_wired + self.stranded + wired));
            sample.set(Metric::SystemPressure, number(self.pressure.unwrap_or(1)));
        }
        sample.set(Metric::SystemSwapinRate, number(self.swapins));
        sample.set(Metric::WorkerFootprint, footprint.and_then(number));
        if footprint.is_some() {
            sample.set(Metric::WorkerCompressed, number(self.compressed));
            sample.set(Metric::MlxCache, number(self.mlx_cache));
            sample.set(Metric::PrefixCacheBytes, number(self.prefix_cache));
        }
        sample
    }
}
