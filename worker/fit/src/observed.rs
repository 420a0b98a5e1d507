//! What a machine's own history says, where there is one.

use serde::{Deserialize, Serialize};

/// Percentiles of recorded samples. What was not recorded is `None`; an empty one changes no result.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Observed {
    /// Seconds of history behind these numbers.
    pub seconds: u64,
    /// `kv.bytes`, 99th percentile.
    pub kv_bytes: Option<u64>,
    /// `mlx.cache`, 99th percentile.
    pub cache_bytes: Option<u64>,
    /// `worker.footprint`, 99th percentile.
    pub footprint_bytes: Option<u64>,
    /// `worker.compressed`, 99th percentile.
    pub compressed_bytes: Option<u64>,
    /// `system.used`, 99th percentile.
    pub used_bytes: Option<u64>,
    /// `requests.active`, 99th percentile.
    pub active: Option<f64>,
}

/// Less history than this is no evidence: it has not seen a working day.
pub const LEAST_SECONDS: u64 = 24 * 3600;

impl Observed {
    /// True when there is at least a day of it.
    #[must_use]
    pub const fn is_evidence(&self) -> bool {
        self.seconds >= LEAST_SECONDS
    }

    /// A percentile, if there is evidence behind it.
    #[must_use]
    pub fn trusted<T>(&self, value: Option<T>) -> Option<T> {
        value.filter(|_| self.is_evidence())
    }
}
