//! The memory of a machine, as far as limits depend on it.
//!
//! Owns the reserve and the two automatic limits that need no model. Asks nobody: the worker fills it in from MLX, the
//! daemon from the system.

use serde::{Deserialize, Serialize};

use crate::derivation::{Derivation, Term, spoken};

const GIB: u64 = 1 << 30;

/// Memory and device.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Machine {
    /// The model runs on a GPU.
    pub gpu: bool,
    /// Model and system share one memory.
    pub unified: bool,
    /// Weights can be kept resident: by a residency budget, or by locking pages.
    pub can_wire: bool,
    /// Memory the model lives in: the machine's, or what its control group allows of it.
    pub total_bytes: u64,
    /// What the machine has beyond that, out of the control group's reach; 0 where no group sets a limit.
    #[serde(default)]
    pub outside_bytes: u64,
    /// The device's largest recommended working set (Metal).
    pub working_set: Option<WorkingSet>,
}

/// What the GPU may keep resident at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct WorkingSet {
    /// Bytes.
    pub bytes: u64,
    /// How it is known.
    pub source: Source,
}

/// How a working set is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Source {
    /// The device said so.
    Reported,
    /// Somebody set `iogpu.wired_limit_mb`.
    Sysctl,
    /// The smallest share of memory that any macOS is known to give; a running worker knows the real one.
    Assumed,
}

impl WorkingSet {
    /// What a Mac of this memory gives at least: macOS 14 and before two thirds up to 36 GiB, else three quarters.
    #[must_use]
    pub const fn assumed(total_bytes: u64) -> Self {
        let bytes = if total_bytes <= 36 * GIB { total_bytes / 3 * 2 } else { total_bytes / 4 * 3 };
        Self { bytes, source: Source::Assumed }
    }
}

impl Machine {
    /// Bytes left to the system and everything else. The system lives outside a control group, so what is there counts as
    /// left to it.
    #[must_use]
    pub fn reserve_bytes(&self) -> u64 {
        (8 * GIB).saturating_sub(self.outside_bytes).max(self.total_bytes / 100 * 12)
    }

    /// Bytes of the working set, if the device has such a thing.
    #[must_use]
    pub fn working_set_bytes(&self) -> Option<u64> {
        self.working_set.map(|set| set.bytes)
    }

    /// `memory_limit = "auto"`: all but the reserve, on small machines at least half, and never more than 95 % of what
    /// the device recommends.
    #[must_use]
    pub fn memory_limit(&self) -> u64 {
        self.memory_limit_sum().bytes
    }

    /// [`Self::memory_limit`] with its sum.
    #[must_use]
    pub fn memory_limit_sum(&self) -> Derivation {
        if !self.unified {
            let most = self.total_bytes / 100 * 95;
            return Derivation::of("memory_limit", most, vec![Term::plus("95 % of the device's memory", most)]);
        }
        let total = self.total_bytes;
        let left = total.saturating_sub(self.reserve_bytes());
        let of_machine = if left >= total / 2 {
            let terms = vec![Term::plus(self.memory_word(), total), Term::minus("reserve", total - left)];
            Derivation::of("memory_limit", left, terms)
        } else {
            Derivation::of("memory_limit", total / 2, vec![Term::plus("half of a small memory", total / 2)])
        };
        match self.working_set {
            Some(set) if set.bytes / 100 * 95 < of_machine.bytes => {
                let most = set.bytes / 100 * 95;
                let word = format!("95 % of the {} working set", spoken(set.bytes));
                Derivation::of("memory_limit", most, vec![Term::plus(word, most)])
            }
            _ => of_machine,
        }
    }

    /// Most that may be wired: what the device recommends, and never the reserve.
    #[must_use]
    pub fn wired_cap(&self) -> u64 {
        let cap = self.total_bytes.saturating_sub(self.reserve_bytes());
        cap.min(self.working_set_bytes().unwrap_or(u64::MAX))
    }

    /// `wired_limit = "auto"` for a model of `resident` bytes (weights and fixed state): no more than the device
    /// recommends, and never into the reserve.
    #[must_use]
    pub fn wired_limit(&self, resident: u64) -> u64 {
        resident.min(self.wired_cap())
    }

    /// What [`Self::wired_cap`] is called: the bound that binds.
    #[must_use]
    pub fn wired_cap_word(&self) -> &'static str {
        match self.working_set_bytes() {
            Some(set) if set == self.wired_cap() => "working set",
            _ => "memory less the reserve",
        }
    }

    /// `memory`, or what limits it.
    #[must_use]
    pub const fn memory_word(&self) -> &'static str {
        if self.outside_bytes > 0 { "memory of the control group" } else { "memory" }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use proptest::prelude::*;

    use super::*;

    pub(crate) fn mac(total_gib: f64, recommended_gib: f64) -> Machine {
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "numbers of a test")]
        let bytes = |gib: f64| (gib * GIB as f64) as u64;
        Machine {
            gpu: true,
            unified: true,
            can_wire: true,
            total_bytes: bytes(total_gib),
            outside_bytes: 0,
            working_set: Some(WorkingSet { bytes: bytes(recommended_gib), source: Source::Reported }),
        }
    }

    pub(crate) fn linux(total_gib: u64) -> Machine {
        Machine { gpu: false, working_set: None, ..mac(total_gib as f64, 0.0) }
    }

    #[test]
    fn the_automatic_wired_limit_is_the_smallest_of_three() {
        assert_eq!(mac(64.0, 51.0).wired_limit(34 * GIB), 34 * GIB);
        assert_eq!(mac(64.0, 51.0).wired_limit(60 * GIB), 51 * GIB);
        assert_eq!(mac(36.0, 30.0).wired_limit(34 * GIB), 28 * GIB);
        assert_eq!(mac(8.0, 6.0).wired_limit(3 * GIB), 0);
    }

    #[test]
    fn the_reserve_grows_with_the_machine() {
        assert_eq!(linux(64).reserve_bytes(), 8 * GIB);
        assert!(linux(512).reserve_bytes() > 61 * GIB);
        assert_eq!(linux(64).memory_limit(), 56 * GIB);
        assert_eq!(linux(8).memory_limit(), 4 * GIB);
    }

    #[test]
    fn a_control_group_need_not_keep_what_the_system_has_outside() {
        let group = |gib, outside| Machine { outside_bytes: outside * GIB, ..linux(gib) };
        assert_eq!(group(2, 22).wired_limit(GIB), GIB);
        assert_eq!(
            group(2, 22).memory_limit_sum().to_string(),
            "memory_limit 1.8 GiB = memory of the control group 2.0 − reserve 0.2"
        );
        // Nearly all of the machine: the system still needs its part.
        assert_eq!(group(20, 4).reserve_bytes(), 4 * GIB);
        assert_eq!(group(64, 1).reserve_bytes(), 64 * GIB / 100 * 12);
    }

    #[test]
    fn a_macs_memory_limit_stays_within_its_working_set() {
        let article = mac(64.0, 51.84).memory_limit_sum();
        assert_eq!(article.to_string(), "memory_limit 49.2 GiB = 95 % of the 51.8 GiB working set");
        assert_eq!(linux(64).memory_limit_sum().to_string(), "memory_limit 56.0 GiB = memory 64.0 − reserve 8.0");
    }

    proptest! {
        #[test]
        fn more_memory_never_gives_smaller_limits(small in 1u64..1 << 42, more in 0u64..1 << 42, resident in 0u64..1 << 42) {
            for unified in [true, false] {
                let sized = |total_bytes| Machine {
                    total_bytes, unified, working_set: Some(WorkingSet::assumed(total_bytes)), ..mac(1.0, 1.0)
                };
                let (less, more) = (sized(small), sized(small + more));
                prop_assert!(less.memory_limit() <= more.memory_limit());
                prop_assert!(less.wired_limit(resident) <= more.wired_limit(resident));
                prop_assert!(less.wired_limit(resident) <= less.working_set_bytes().unwrap());
                prop_assert!(!unified || less.memory_limit() <= less.working_set_bytes().unwrap());
            }
        }
    }
}
