//! The footprint the fake reports, and the part of it that is real.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use crate::faults::Faults;

/// Touched and given back in pieces large enough that the allocator returns them to the kernel.
const PIECE: usize = 1 << 20;

/// Steps of a shrink.
const SHRINK_STEPS: u32 = 20;

/// What the worker weighs.
#[derive(Debug)]
pub struct Footprint {
    fixed_bytes: AtomicU64,
    growth_bytes_per_s: AtomicU64,
    growing_since: Mutex<Option<Instant>>,
    pieces: Mutex<Vec<Vec<u8>>>,
}

impl Footprint {
    pub fn of(faults: &Faults) -> Self {
        Self {
            fixed_bytes: AtomicU64::new(faults.footprint_bytes),
            growth_bytes_per_s: AtomicU64::new(faults.growth_bytes_per_s),
            growing_since: Mutex::new(None),
            pieces: Mutex::new(Vec::new()),
        }
    }

    /// The model is loaded: the real part is touched, growth begins.
    pub fn begin(&self, resident_bytes: u64) {
        let count = usize::try_from(resident_bytes).unwrap_or(0).div_ceil(PIECE);
        if let Ok(mut pieces) = self.pieces.lock() {
            // Not zeros, which the kernel would share.
            pieces.extend((0..count).map(|_| vec![1_u8; PIECE]));
        }
        if let Ok(mut since) = self.growing_since.lock() {
            *since = Some(Instant::now());
        }
    }

    /// Reported bytes.
    pub fn bytes(&self) -> u64 {
        let grown_ms = self
            .growing_since
            .lock()
            .ok()
            .and_then(|since| *since)
            .map_or(0, |since| u64::try_from(since.elapsed().as_millis()).unwrap_or(0));
        let growth = self.growth_bytes_per_s.load(Relaxed).saturating_mul(grown_ms) / 1000;
        self.fixed_bytes.load(Relaxed).saturating_add(growth)
    }

    /// Falls to nothing within `length`, in steps that a prober can follow.
    pub fn shrink(&self, length: Duration) {
        if length.is_zero() {
            return;
        }
        let from = self.bytes();
        self.growth_bytes_per_s.store(0, Relaxed);
        let pieces = self.pieces.lock().map_or(0, |pieces| pieces.len());
        for step in 1..=SHRINK_STEPS {
            std::thread::sleep(length / SHRINK_STEPS);
            let left = SHRINK_STEPS - step;
            self.fixed_bytes.store(from / u64::from(SHRINK_STEPS) * u64::from(left), Relaxed);
            if let Ok(mut now) = self.pieces.lock() {
                now.truncate(pieces * left as usize / SHRINK_STEPS as usize);
            }
        }
    }
}
