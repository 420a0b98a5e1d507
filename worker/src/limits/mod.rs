//! The three memory limits: what they are by default, and setting them before any weight is read.
//!
//! | limit | means |
//! |---|---|
//! | wired | bytes of weights kept resident: a residency budget on Metal, locked pages on the Linux CPU backend |
//! | cache | freed buffers MLX may keep for reuse |
//! | memory | MLX's back-pressure (it never refuses because of it), and the engine's own admission budget |
//!
//! Automatic values depend on machine and model only, never on what happens to be free. Does not own admission: the
//! engine compares sequences with the memory limit.

mod device;
mod lock;

use mlx_rs::{Array, memory};
use mlxsup_worker_api::settings::Device;
use mlxsup_worker_api::{MemoryFacts, Settings, WiredLimit};

pub use device::Machine;

const GIB: u64 = 1 << 30;

/// Why limits or device could not be set.
#[derive(Debug, thiserror::Error)]
pub enum LimitsError {
    /// The configuration asks for a GPU that MLX does not have.
    #[error("`device = \"gpu\"`, but this MLX library has no usable GPU; set `device = \"auto\"` or \"cpu\"")]
    NoGpu,
    /// MLX refused.
    #[error("MLX refused {what}: {message}")]
    Mlx {
        /// Which call, with its value.
        what: String,
        /// MLX's own words.
        message: String,
    },
}

/// The limits MLX runs with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Cache limit in bytes.
    pub cache_bytes: u64,
    /// Memory limit in bytes.
    pub memory_bytes: u64,
    /// Residency budget in bytes; `None` where it is off or the device has no such thing.
    pub wired_bytes: Option<u64>,
}

impl Machine {
    /// Makes the configured device MLX's default and asks it about memory. Call on the engine thread, first of all.
    ///
    /// # Errors
    /// [`LimitsError::NoGpu`], or MLX's own.
    pub fn select(wanted: Device) -> Result<Self, LimitsError> {
        let failed = |error: mlx_rs::error::Exception| LimitsError::Mlx {
            what: "to name its device".to_owned(),
            message: error.what().to_owned(),
        };
        // Also installs mlx-rs's error handler; mlx-c's own would end the process.
        memory::active_memory().map_err(failed)?;
        let has_gpu = device::default_is_gpu().map_err(failed)?;
        let gpu = match wanted {
            Device::Gpu if !has_gpu => return Err(LimitsError::NoGpu),
            Device::Gpu | Device::Auto => has_gpu,
            Device::Cpu => false,
        };
        mlx_rs::Device::set_default(&if gpu { mlx_rs::Device::gpu() } else { mlx_rs::Device::cpu() });
        Ok(Self::ask(gpu))
    }

    /// Bytes left to the system and everything else.
    #[must_use]
    pub fn reserve_bytes(&self) -> u64 {
        (8 * GIB).max(self.total_bytes / 100 * 12)
    }

    /// `memory_limit = "auto"`: all but the reserve, and on small machines at least half of it.
    #[must_use]
    pub fn memory_limit(&self) -> u64 {
        let left = self.total_bytes.saturating_sub(self.reserve_bytes());
        let most = left.max(self.total_bytes / 2);
        if self.unified { most } else { self.total_bytes / 100 * 95 }
    }

    /// `wired_limit = "auto"` for a model of `resident` bytes (weights and fixed state): no more than the device
    /// recommends, and never into the reserve.
    #[must_use]
    pub fn wired_limit(&self, resident: u64) -> u64 {
        let cap = self.total_bytes.saturating_sub(self.reserve_bytes());
        resident.min(cap).min(self.recommended_working_set_bytes.unwrap_or(u64::MAX))
    }
}

impl Limits {
    /// The memory limit that `settings` mean on `machine`, whatever the model.
    #[must_use]
    pub fn memory_bytes(settings: &Settings, machine: &Machine) -> u64 {
        settings.memory_limit_bytes.unwrap_or_else(|| machine.memory_limit())
    }

    /// What `settings` mean on `machine` for a model of `resident` bytes. Calls nothing.
    #[must_use]
    pub fn new(settings: &Settings, machine: &Machine, resident: u64) -> Self {
        let recommended = machine.recommended_working_set_bytes.unwrap_or(u64::MAX);
        let wired_bytes = match settings.wired_limit {
            _ if !machine.can_wire => None,
            WiredLimit::Off => None,
            WiredLimit::Auto => Some(machine.wired_limit(resident)),
            WiredLimit::Bytes(bytes) => {
                if bytes > recommended {
                    tracing::warn!(
                        bytes,
                        recommended,
                        "the wired limit is above what the device allows; lowered to it"
                    );
                }
                Some(bytes.min(recommended))
            }
        };
        Self {
            cache_bytes: settings.cache_limit_bytes,
            memory_bytes: Self::memory_bytes(settings, machine),
            wired_bytes,
        }
    }

    /// Hands the limits to MLX. Must happen before any weight is read, so that weights come first into the residency
    /// budget.
    ///
    /// # Errors
    /// MLX's refusal, naming the limit.
    pub fn apply(&self, machine: &Machine) -> Result<(), LimitsError> {
        set_memory_limit(self.memory_bytes)?;
        set_cache_limit(self.cache_bytes)?;
        if let Some(bytes) = self.wired_bytes.filter(|_| machine.gpu) {
            memory::set_wired_limit(size(bytes)).map_err(refused(format!("a wired limit of {bytes} bytes")))?;
        }
        Ok(())
    }

    /// On the Linux CPU backend: locks the buffers of `weights` in memory, up to the wired limit. A shortage is logged
    /// with its remedy and is no failure. Returns the bytes locked, or nothing where locking is not how wiring works.
    #[must_use]
    pub fn lock<'a>(&self, machine: &Machine, weights: impl Iterator<Item = &'a Array>) -> Option<u64> {
        let budget = self.wired_bytes.filter(|_| machine.locks_pages())?;
        let locked = lock::lock(weights, budget);
        if let Some(shortage) = locked.shortage {
            tracing::warn!(locked_bytes = locked.bytes, budget_bytes = budget, "{shortage}");
        }
        Some(locked.bytes)
    }
}

/// Changes MLX's memory limit.
///
/// # Errors
/// MLX's refusal.
pub fn set_memory_limit(bytes: u64) -> Result<(), LimitsError> {
    memory::set_memory_limit(size(bytes)).map(drop).map_err(refused(format!("a memory limit of {bytes} bytes")))
}

/// Changes MLX's cache limit.
///
/// # Errors
/// MLX's refusal.
pub fn set_cache_limit(bytes: u64) -> Result<(), LimitsError> {
    memory::set_cache_limit(size(bytes)).map(drop).map_err(refused(format!("a cache limit of {bytes} bytes")))
}

/// Fills in MLX's own counters; a counter MLX does not give stays as it was.
pub fn read_counters(facts: &mut MemoryFacts) {
    let bytes = |reading: mlx_rs::error::Result<usize>| reading.ok().map(|bytes| bytes as u64);
    facts.mlx_active_bytes = bytes(memory::active_memory());
    facts.mlx_cache_bytes = bytes(memory::cache_memory());
    facts.mlx_peak_bytes = bytes(memory::peak_memory());
}

fn refused(what: String) -> impl FnOnce(mlx_rs::error::Exception) -> LimitsError {
    |error| LimitsError::Mlx { what, message: error.what().to_owned() }
}

fn size(bytes: u64) -> usize {
    usize::try_from(bytes).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mac(total_gib: u64, recommended_gib: u64) -> Machine {
        Machine {
            gpu: true,
            unified: true,
            can_wire: true,
            total_bytes: total_gib * GIB,
            recommended_working_set_bytes: Some(recommended_gib * GIB),
        }
    }

    #[test]
    fn the_automatic_wired_limit_is_the_smallest_of_three() {
        assert_eq!(mac(64, 51).wired_limit(34 * GIB), 34 * GIB);
        assert_eq!(mac(64, 51).wired_limit(60 * GIB), 51 * GIB);
        assert_eq!(mac(36, 30).wired_limit(34 * GIB), 28 * GIB);
        assert_eq!(mac(8, 6).wired_limit(3 * GIB), 0);
    }

    #[test]
    fn the_reserve_grows_with_the_machine() {
        assert_eq!(mac(64, 51).reserve_bytes(), 8 * GIB);
        assert!(mac(512, 460).reserve_bytes() > 61 * GIB);
        assert_eq!(mac(64, 51).memory_limit(), 56 * GIB);
        assert_eq!(mac(8, 6).memory_limit(), 4 * GIB);
    }

    #[test]
    fn settings_win_within_what_the_device_allows() {
        let mut settings = Settings::default();
        let limits = Limits::new(&settings, &mac(64, 51), 10 * GIB);
        assert_eq!((limits.cache_bytes, limits.wired_bytes), (512 << 20, Some(10 * GIB)));
        settings.wired_limit = WiredLimit::Bytes(60 * GIB);
        settings.memory_limit_bytes = Some(GIB);
        let limits = Limits::new(&settings, &mac(64, 51), 10 * GIB);
        assert_eq!((limits.memory_bytes, limits.wired_bytes), (GIB, Some(51 * GIB)));
        settings.wired_limit = WiredLimit::Off;
        assert_eq!(Limits::new(&settings, &mac(64, 51), 10 * GIB).wired_bytes, None);
        settings.wired_limit = WiredLimit::Auto;
        let cuda = Machine { unified: false, can_wire: false, ..mac(80, 80) };
        assert_eq!(Limits::new(&settings, &cuda, 10 * GIB).wired_bytes, None);
        assert_eq!(cuda.memory_limit(), 80 * GIB / 100 * 95);
    }

    #[test]
    fn an_mlx_error_is_a_result_and_does_not_end_the_process() {
        Machine::select(Device::Cpu).unwrap();
        let array = Array::from_slice(&[1.0_f32; 6], &[2, 3]);
        let error = array.matmul(&array).unwrap_err();
        assert!(error.what().contains("matmul"), "{}", error.what());
    }

    #[test]
    fn this_machine_answers() {
        let machine = Machine::select(Device::Cpu).unwrap();
        assert!(machine.total_bytes > GIB && !machine.gpu);
        let mut facts = MemoryFacts::default();
        read_counters(&mut facts);
        assert!(facts.mlx_active_bytes.is_some() && facts.mlx_peak_bytes.is_some());
        assert!(set_cache_limit(1 << 20).is_ok());
    }
}
