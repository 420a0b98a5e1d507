//! The three memory limits: what they are by default, and setting them before any weight is read.
//!
//! | limit | means |
//! |---|---|
//! | wired | bytes of weights kept resident: a residency budget on Metal, locked pages on the Linux CPU backend, and there the rest of the process with them |
//! | cache | freed buffers MLX may keep for reuse |
//! | memory | MLX's back-pressure (it never refuses because of it), and the engine's own admission budget |
//!
//! Automatic values come from `mlxsup_fit`, which depends on machine and model only, never on what happens to be free. Does
//! not own admission: the engine compares sequences with the memory limit.

mod device;
mod lock;

use mlx_rs::{Array, memory};
use mlxsup_fit::{Budget, Engine, Machine, Question};
use mlxsup_worker_api::settings::Device;
use mlxsup_worker_api::{MemoryFacts, Settings, WiredLimit};

use device::locks_pages;

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

/// Makes the configured device MLX's default and asks it about memory. Call on the engine thread, first of all.
///
/// # Errors
/// [`LimitsError::NoGpu`], or MLX's own.
pub fn select(wanted: Device) -> Result<Machine, LimitsError> {
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
    Ok(device::ask(gpu))
}

/// What `settings` come to for a model on this machine: the same arithmetic as everywhere else.
#[must_use]
pub fn budget(settings: &Settings, machine: &Machine, costs: &mlxsup_fit::Model) -> Budget {
    Question {
        model: costs,
        machine,
        engine: Engine::Native,
        slots: settings.slots,
        context: settings.context,
        wired_limit: settings.wired_limit,
        memory_limit: settings.memory_limit_bytes,
    }
    .answer()
}

impl Limits {
    /// The limits of this budget. Calls nothing.
    #[must_use]
    pub fn new(settings: &Settings, budget: &Budget) -> Self {
        let wired_bytes = budget.wired_limit.as_ref().map(|limit| limit.bytes);
        if let (WiredLimit::Bytes(wanted), Some(allowed)) = (settings.wired_limit, wired_bytes)
            && wanted > allowed
        {
            tracing::warn!(wanted, allowed, "the wired limit is above what the device allows; lowered to it");
        }
        Self { cache_bytes: settings.cache_limit_bytes, memory_bytes: budget.memory_limit.bytes, wired_bytes }
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
        let budget = self.wired_bytes.filter(|_| locks_pages(machine))?;
        let locked = lock::lock(weights, budget);
        if let Some(shortage) = locked.shortage {
            tracing::warn!(locked_bytes = locked.bytes, budget_bytes = budget, "{shortage}");
        }
        Some(locked.bytes)
    }
}

/// What is locked besides the weights, where wiring means locking pages.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Rest {
    /// Nothing: locking is not how wiring works here, or it is off, or the limit did not cover all weights.
    NotAsked,
    /// All of it.
    Locked,
    /// The system refused; the weights stay locked.
    Refused(String),
}

/// Once everything is loaded and has run: locks the rest of the process as well. The next token needs the tokenizer, code
/// and scratch memory as much as the weights; of a small model they are a tenth. `locked` are the bytes of weights that
/// were locked.
#[must_use]
pub fn lock_the_rest(weights: u64, locked: Option<u64>) -> Rest {
    if locked != Some(weights) || weights == 0 {
        return Rest::NotAsked;
    }
    match lock::lock_process() {
        Ok(()) => Rest::Locked,
        Err(errno) => Rest::Refused(errno.to_string()),
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
    use mlxsup_fit::{Source, WorkingSet};

    use super::*;

    const GIB: u64 = 1 << 30;

    #[test]
    fn settings_win_within_what_the_device_allows() {
        let machine = Machine {
            gpu: true,
            unified: true,
            can_wire: true,
            total_bytes: 64 * GIB,
            outside_bytes: 0,
            working_set: Some(WorkingSet { bytes: 51 * GIB, source: Source::Reported }),
        };
        let reference = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/reference/tiny-4bit");
        let mut costs = mlxsup_fit::Model::open(reference).unwrap();
        costs.stored_bytes = 10 * GIB;
        let limits = |settings: &Settings, machine| Limits::new(settings, &budget(settings, machine, &costs));
        let mut settings = Settings::default();
        let found = limits(&settings, &machine);
        assert_eq!((found.cache_bytes, found.wired_bytes), (512 << 20, Some(10 * GIB)));
        settings.wired_limit = WiredLimit::Bytes(60 * GIB);
        settings.memory_limit_bytes = Some(GIB);
        let found = limits(&settings, &machine);
        assert_eq!((found.memory_bytes, found.wired_bytes), (GIB, Some(51 * GIB)));
        settings.wired_limit = WiredLimit::Off;
        assert_eq!(limits(&settings, &machine).wired_bytes, None);
        settings.wired_limit = WiredLimit::Auto;
        let cuda = Machine { unified: false, can_wire: false, working_set: None, ..machine };
        assert_eq!(limits(&settings, &cuda).wired_bytes, None);
        assert_eq!(cuda.memory_limit(), 64 * GIB / 100 * 95);
    }

    #[test]
    fn the_rest_is_locked_only_with_all_weights() {
        assert_eq!(lock_the_rest(500, None), Rest::NotAsked);
        assert_eq!(lock_the_rest(500, Some(400)), Rest::NotAsked);
        assert_eq!(lock_the_rest(0, Some(0)), Rest::NotAsked);
    }

    #[test]
    fn an_mlx_error_is_a_result_and_does_not_end_the_process() {
        select(Device::Cpu).unwrap();
        let array = Array::from_slice(&[1.0_f32; 6], &[2, 3]);
        let error = array.matmul(&array).unwrap_err();
        assert!(error.what().contains("matmul"), "{}", error.what());
    }

    #[test]
    fn this_machine_answers() {
        let machine = select(Device::Cpu).unwrap();
        assert!(machine.total_bytes > GIB && !machine.gpu);
        let mut facts = MemoryFacts::default();
        read_counters(&mut facts);
        assert!(facts.mlx_active_bytes.is_some() && facts.mlx_peak_bytes.is_some());
        assert!(set_cache_limit(1 << 20).is_ok());
    }
}
