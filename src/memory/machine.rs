//! The machine as limits see it: memory, control group, working set, cores. Read without MLX, once.
//!
//! Owns where each fact comes from. What follows from them is `mlxsup_fit`'s. The working set of a Mac is known to its
//! Metal device alone: a worker reports it; until one has, an administrator's `iogpu.wired_limit_mb` counts, else the least
//! that any macOS gives is assumed.

use mlxsup_fit::{Machine, Source, WorkingSet};
use mlxsup_worker_api::settings::Device;

use super::probe::machine_bytes;

/// What a worker has said about its device.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Reported {
    /// The largest recommended working set, bytes.
    pub working_set: Option<u64>,
    /// True when the model runs on a GPU.
    pub gpu: Option<bool>,
}

/// Processor cores by kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
pub struct Cores {
    /// All of them.
    pub all: u32,
    /// Fast ones, where there are two kinds.
    pub performance: Option<u32>,
    /// Slow ones, where there are two kinds.
    pub efficiency: Option<u32>,
}

/// Why the machine's memory is not known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum MachineError {
    /// The system does not tell.
    #[error("this system does not tell how much memory it has")]
    Unreadable,
    /// A GPU with memory of its own: only MLX can ask it.
    #[error("the GPU's own memory is known to the worker alone; logs/worker.log has its limits")]
    OwnMemory,
}

/// The machine for a model on `device`.
///
/// # Errors
/// [`MachineError`].
pub fn machine(device: Device, reported: Reported) -> Result<Machine, MachineError> {
    let facts = facts();
    let gpu = match device {
        Device::Cpu => false,
        Device::Gpu => true,
        Device::Auto => reported.gpu.unwrap_or(facts.gpu),
    };
    if gpu && !cfg!(target_os = "macos") && !facts.pretended {
        return Err(MachineError::OwnMemory);
    }
    let total = facts.total.ok_or(MachineError::Unreadable)?;
    let allowed = facts.group_limit.filter(|limit| *limit < total);
    let told = reported.working_set.map(|bytes| WorkingSet { bytes, source: Source::Reported });
    let set = told
        .or_else(|| facts.working_set.map(|bytes| WorkingSet { bytes, source: Source::Sysctl }))
        .unwrap_or_else(|| WorkingSet::assumed(total));
    Ok(Machine {
        gpu,
        unified: true,
        can_wire: true,
        total_bytes: allowed.unwrap_or(total),
        outside_bytes: allowed.map_or(0, |limit| total - limit),
        working_set: gpu.then_some(set),
    })
}

/// The cores of this machine.
#[must_use]
pub fn cores() -> Option<Cores> {
    let all = std::thread::available_parallelism().ok().and_then(|count| u32::try_from(count.get()).ok())?;
    let (performance, efficiency) = core_kinds();
    Some(Cores { all, performance, efficiency })
}

/// What the system says, or what a test pretends it says.
#[derive(Debug, Default)]
struct Facts {
    total: Option<u64>,
    group_limit: Option<u64>,
    /// Set by an administrator.
    working_set: Option<u64>,
    gpu: bool,
    pretended: bool,
}

fn facts() -> Facts {
    #[cfg(feature = "fake-worker")]
    if let Some(told) = super::pretence::machine() {
        return Facts {
            total: Some(told.total),
            group_limit: None,
            working_set: told.working_set,
            gpu: told.gpu,
            pretended: true,
        };
    }
    let total = machine_bytes();
    Facts {
        total,
        group_limit: total.and_then(mlxsup_fit::group_limit),
        working_set: working_set(),
        gpu: has_gpu(),
        pretended: false,
    }
}

/// Every Mac that MLX runs on has one; elsewhere MLX is built for the CPU, unless a worker says otherwise.
const fn has_gpu() -> bool {
    cfg!(target_os = "macos")
}

#[cfg(target_os = "macos")]
fn working_set() -> Option<u64> {
    let mib = super::darwin_ffi::sysctl_i32(c"iogpu.wired_limit_mb")?;
    u64::try_from(mib).ok().filter(|mib| *mib > 0).map(|mib| mib << 20)
}

#[cfg(not(target_os = "macos"))]
const fn working_set() -> Option<u64> {
    None
}

#[cfg(target_os = "macos")]
fn core_kinds() -> (Option<u32>, Option<u32>) {
    let count = |name| super::darwin_ffi::sysctl_i32(name).and_then(|count| u32::try_from(count).ok());
    (count(c"hw.perflevel0.logicalcpu"), count(c"hw.perflevel1.logicalcpu"))
}

#[cfg(not(target_os = "macos"))]
const fn core_kinds() -> (Option<u32>, Option<u32>) {
    (None, None)
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn this_machine_is_understood() {
        let machine = machine(Device::Auto, Reported::default()).unwrap();
        assert!(machine.total_bytes > 1 << 28 && !machine.gpu && machine.working_set.is_none());
        assert!(cores().is_some_and(|cores| cores.all > 0));
        assert_eq!(super::machine(Device::Gpu, Reported::default()), Err(MachineError::OwnMemory));
    }
}
