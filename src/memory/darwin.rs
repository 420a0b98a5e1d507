//! macOS: Mach host statistics, sysctls and libproc.
//!
//! Owns which call answers which question; the arithmetic is [`super::activity_monitor`]'s. Type-checked on other systems,
//! never run there.

use std::time::Duration;

use nix::unistd::{SysconfVar, sysconf};

use super::activity_monitor::{self, Levels, Pages};
use super::darwin_ffi as ffi;
use super::probe::{HostReading, MemoryReading, ProbeError};
use super::process::{ProcessUsage, StartId};
use crate::supervisor::Mono;

/// Reads the machine.
#[derive(Debug)]
pub(super) struct Host {
    page: u64,
    total: Option<u64>,
}

impl Host {
    pub(super) fn new() -> Result<Self, ProbeError> {
        ffi::vm_statistics().map_err(|code| ProbeError::Refused { call: "host_statistics64", code })?;
        Ok(Self { page: page_size(), total: ffi::sysctl_u64(c"hw.memsize") })
    }

    pub(super) fn read(&mut self, _at: Mono) -> HostReading {
        let small = |value: i32| u8::try_from(value).ok();
        let levels = Levels {
            total: self.total,
            pressure: ffi::sysctl_i32(c"kern.memorystatus_vm_pressure_level").and_then(small),
            free_percent: ffi::sysctl_i32(c"kern.memorystatus_level").and_then(small),
        };
        activity_monitor::reading(pages(), self.page, levels)
    }
}

/// The counters, copied out: the structure is packed, so its fields must not be borrowed.
fn pages() -> Option<Pages> {
    let all = ffi::vm_statistics().ok()?;
    Some(Pages {
        free: u64::from(all.free_count),
        speculative: u64::from(all.speculative_count),
        purgeable: u64::from(all.purgeable_count),
        external: u64::from(all.external_page_count),
        internal: u64::from(all.internal_page_count),
        wired: u64::from(all.wire_count),
        compressor: u64::from(all.compressor_page_count),
        in_compressor: all.total_uncompressed_pages_in_compressor,
        compressions: all.compressions,
        decompressions: all.decompressions,
        swapins: all.swapins,
        swapouts: all.swapouts,
    })
}

fn page_size() -> u64 {
    let size = sysconf(SysconfVar::PAGE_SIZE).ok().flatten().and_then(|size| u64::try_from(size).ok());
    // Apple silicon's; an Intel Mac answers 4096 itself.
    size.filter(|size| *size > 0).unwrap_or(16_384)
}

/// Reads one process. libproc goes by pid alone, so the start time is compared on every reading.
#[derive(Debug)]
pub(super) struct Process {
    pid: u32,
    started: Option<(u64, u64)>,
}

impl Process {
    pub(super) fn open(pid: u32) -> Self {
        Self { pid, started: ffi::start_time(pid) }
    }

    pub(super) fn read(&mut self, _at: Mono) -> MemoryReading {
        if self.started.is_none() || ffi::start_time(self.pid) != self.started {
            return MemoryReading::default();
        }
        let Some(charged) = ffi::rusage(self.pid) else { return MemoryReading::default() };
        MemoryReading {
            footprint: Some(charged.ri_phys_footprint),
            footprint_max: Some(charged.ri_lifetime_max_phys_footprint),
            // Only the process itself may see this (task_info needs its port): the worker reports it.
            compressed: None,
            // mlock only: what the GPU keeps resident is not charged here, and 0 would read as "nothing is wired".
            wired: Some(charged.ri_wired_size).filter(|bytes| *bytes > 0),
        }
    }
}

/// What the process costs now; Activity Monitor's "Memory".
pub(super) fn footprint(pid: u32) -> Option<u64> {
    ffi::rusage(pid).map(|charged| charged.ri_phys_footprint)
}

/// Memory of the machine that can be neither paged out nor compressed, the GPU's residency included.
pub(super) fn host_wired() -> Option<u64> {
    pages().map(|pages| pages.wired.saturating_mul(page_size()))
}

/// Not counted here: the exit of the process itself tells.
pub(super) fn out_of_memory_kills() -> Option<u64> {
    None
}

/// Start time to the microsecond.
pub(super) fn start_id(pid: u32) -> Option<StartId> {
    let (seconds, micros) = ffi::start_time(pid)?;
    Some(StartId::new(&format!("{seconds}.{micros:06}")))
}

/// Whether a signal or a debugger holds the process.
pub(super) fn is_stopped(pid: u32) -> Option<bool> {
    ffi::is_stopped(pid)
}

/// The running processes of a group.
pub(super) fn group(leader: u32) -> Vec<u32> {
    ffi::group(leader)
}

/// Processor time and page-ins so far.
pub(super) fn usage(pid: u32) -> Option<ProcessUsage> {
    let charged = ffi::rusage(pid)?;
    // Reported in Mach time units, which are nanoseconds on Intel only.
    let (numer, denom) = ffi::timebase();
    let units = u128::from(charged.ri_user_time) + u128::from(charged.ri_system_time);
    let nanos = units.saturating_mul(u128::from(numer)) / u128::from(denom.max(1));
    let cpu = Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX));
    Some(ProcessUsage { cpu, page_ins: charged.ri_pageins })
}
