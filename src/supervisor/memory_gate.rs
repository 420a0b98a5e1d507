//! What a start needs, what the machine has, and whether the one fits into the other.
//!
//! Every start passes [`Supervisor::gate`]; a planned stop is only begun when [`Supervisor::would_come_back`] says that
//! the next worker would pass it too; two workers at once must pass the planner (planner.rs). Unknown numbers forbid
//! nothing: an engine or system that does not report is not refused service.

use super::conditions::bytes;
use super::time::Mono;
use super::{Appetite, Generation, Supervisor};
use crate::memory::{Metric, Sample};

const GIB: u64 = 1 << 30;

/// The system warns of memory pressure from this level on; 4 is critical.
const PRESSURE_WARNING: u64 = 2;

/// Memory of the machine at the last sample, bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Machine {
    /// Installed.
    pub total: u64,
    /// What a new process could get without anything being swapped or compressed.
    pub available: u64,
    /// Pages that cannot be paged out.
    pub wired: Option<u64>,
    /// 1 normal, 2 warning, 4 critical.
    pub pressure: Option<u64>,
    /// When it was read.
    pub at: Mono,
}

impl Machine {
    /// The machine in a sample, if it has the two numbers that matter.
    #[must_use]
    pub fn of(sample: &Sample, now: Mono) -> Option<Self> {
        let whole = |metric| sample.get(metric).map(whole);
        Some(Self {
            total: whole(Metric::SystemTotal)?,
            available: whole(Metric::SystemAvailable)?,
            wired: whole(Metric::SystemWired),
            pressure: whole(Metric::SystemPressure),
            at: now,
        })
    }

    /// The level, when the system warns of pressure: no second model is loaded then, and samples come faster.
    #[must_use]
    pub fn pressed(&self) -> Option<u64> {
        self.pressure.filter(|level| *level >= PRESSURE_WARNING)
    }

    /// What a start must leave to everybody else: 6 % of the machine, at least 1 and at most 8 GiB. Less, and the system
    /// compresses or swaps what was just loaded.
    #[must_use]
    pub fn reserve(&self) -> u64 {
        (self.total / 100 * 6).clamp(GIB, 8 * GIB)
    }
}

/// Metrics are floating-point numbers; these are counts of bytes.
#[must_use]
pub fn whole(value: f64) -> u64 {
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "clamped to the range first")]
    let whole = value.clamp(0.0, 9.0e15) as u64;
    whole
}

/// Bytes for people.
#[must_use]
pub fn spoken_bytes(count: u64) -> String {
    #[expect(clippy::cast_precision_loss, reason = "for people")]
    bytes(count as f64)
}

impl Supervisor {
    /// What the next worker will need, bytes: what the last one of this model weighed right after loading, else a guess
    /// from the model's size on disk (1.1 times, and half a GiB for the process). `None` when nothing is known.
    #[must_use]
    pub fn need(&self) -> Option<u64> {
        let known = self.kept.appetite.as_ref().filter(|appetite| appetite.model == self.config.worker.model);
        let guess = || self.model_bytes.map(|size| size.saturating_add(size / 10).saturating_add(GIB / 2));
        known.map(|appetite| appetite.loaded_bytes).or_else(guess)
    }

    /// Whether a worker may be started now; the arithmetic when not.
    pub(super) fn gate(&self) -> Result<(), String> {
        let (Some(machine), Some(need)) = (self.machine, self.need()) else { return Ok(()) };
        let reserve = machine.reserve();
        if machine.available >= need.saturating_add(reserve) {
            return Ok(());
        }
        Err(format!(
            "needs {} and {} in reserve, finds {} available of {}",
            spoken_bytes(need),
            spoken_bytes(reserve),
            spoken_bytes(machine.available),
            spoken_bytes(machine.total)
        ))
    }

    /// Whether a worker that is stopped now could be started again; the arithmetic when not.
    pub(super) fn would_come_back(&self) -> Result<(), String> {
        let (Some(machine), Some(need)) = (self.machine, self.need()) else { return Ok(()) };
        let held = self.worker.as_ref().and_then(|worker| worker.footprint_bytes).unwrap_or(0);
        let found = machine.available.saturating_add(held);
        let reserve = machine.reserve();
        if found >= need.saturating_add(reserve) {
            return Ok(());
        }
        Err(format!(
            "would not come back: needs {} and {} in reserve, would find {} ({} available, {} held by the worker)",
            spoken_bytes(need),
            spoken_bytes(reserve),
            spoken_bytes(found),
            spoken_bytes(machine.available),
            spoken_bytes(held)
        ))
    }

    /// A worker has just become ready: what it weighs at the first look is what the next one will need.
    pub(super) fn learn_appetite(&mut self, generation: Generation) {
        let Some(worker) = self.worker_mut(generation) else { return };
        if !worker.is_ready() || worker.loaded_bytes.is_some() {
            return;
        }
        worker.loaded_bytes = worker.footprint_bytes.filter(|bytes| *bytes > 0);
        let Some(loaded_bytes) = worker.loaded_bytes else { return };
        let model = self.config.worker.model.clone();
        let before = self.kept.appetite.as_ref().filter(|appetite| appetite.model == model);
        // The highest seen: a start that found the page cache warm must not lower what the next one is asked to prove.
        let loaded_bytes = before.map_or(loaded_bytes, |before| before.loaded_bytes.max(loaded_bytes));
        if before.is_none_or(|before| before.loaded_bytes != loaded_bytes) {
            self.kept.appetite = Some(Appetite { model, loaded_bytes });
            self.persist();
        }
    }
}
