//! The lease: a worker that hears from no daemon for long enough ends by itself.
//!
//! Owns the time of the last contact. Time is a monotonic clock that stops while the machine sleeps, so a closed lid
//! ends nobody.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

/// When the daemon was last heard.
#[derive(Debug)]
pub struct Lease {
    started: Instant,
    last_contact_ms: AtomicU64,
}

impl Default for Lease {
    fn default() -> Self {
        Self { started: Instant::now(), last_contact_ms: AtomicU64::new(0) }
    }
}

impl Lease {
    /// The daemon asked for something.
    pub(crate) fn renew(&self) {
        self.last_contact_ms.fetch_max(self.now_ms(), Relaxed);
    }

    /// Returns once nothing was heard for `length` and `is_idle` holds.
    pub async fn expired(&self, length: Duration, is_idle: impl Fn() -> bool) {
        loop {
            let silent = Duration::from_millis(self.now_ms().saturating_sub(self.last_contact_ms.load(Relaxed)));
            match length.checked_sub(silent) {
                Some(left) if !left.is_zero() => tokio::time::sleep(left).await,
                _ if is_idle() => return,
                // What runs is finished first.
                _ => tokio::time::sleep(Duration::from_secs(1)).await,
            }
        }
    }

    fn now_ms(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX)
    }
}
