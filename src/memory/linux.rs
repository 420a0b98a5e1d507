//! Linux: `/proc`, zram, zswap, PSI and the control group.
//!
//! Owns which file is read when. Files are opened once and read in place again; nothing here lists processes.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt;
use std::time::Duration;

use mlxsup_fit::cgroup::{self, Level};
use nix::unistd::{SysconfVar, sysconf};

use super::probe::{HostReading, MemoryReading, ProbeError};
use super::process::{ProcessUsage, StartId};
use super::procfs::{self, MmStat, Pressure};
use crate::supervisor::Mono;

/// Largest kernel file read; `/proc/vmstat` is about 5 KiB.
const LARGEST_FILE: usize = 64 * 1024;
/// Devices and limits come and go rarely; looking for them costs a directory listing.
const REDISCOVER: Duration = Duration::from_secs(60);
/// The rollup walks page tables (milliseconds per GiB) and holds the worker's map lock meanwhile.
const ROLLUP_INTERVAL: Duration = Duration::from_secs(10);
/// The same while the process locks what it did: pages of a locked range can only come.
const ROLLUP_AT_REST: Duration = Duration::from_secs(300);
/// Share of time some task waits for memory, percent, from which pressure is called warning.
const WARNING_SOME_AVG10: f64 = 10.0;
/// Share of time every task waits, percent, from which it is called critical.
const CRITICAL_FULL_AVG10: f64 = 10.0;

/// A kernel file that is read again and again through one descriptor.
#[derive(Debug)]
struct KernelFile(File);

impl KernelFile {
    fn open(path: &str) -> io::Result<Self> {
        File::open(path).map(Self)
    }

    /// The file's text now; `None` when it cannot be read (any more) or is no text.
    fn read<'b>(&self, buffer: &'b mut Vec<u8>) -> Option<&'b str> {
        buffer.resize(LARGEST_FILE, 0);
        let mut length = 0;
        while length < buffer.len() {
            match self.0.read_at(&mut buffer[length..], length as u64) {
                Ok(0) => break,
                Ok(more) => length += more,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => return None,
            }
        }
        std::str::from_utf8(&buffer[..length]).ok()
    }
}

/// A compressed block device.
#[derive(Debug)]
struct Zram {
    mm_stat: KernelFile,
    stat: KernelFile,
}

/// Reads the machine.
#[derive(Debug)]
pub(super) struct Host {
    meminfo: KernelFile,
    vmstat: Option<KernelFile>,
    pressure: Option<KernelFile>,
    zram: Vec<Zram>,
    groups: Vec<Level>,
    discovered: Option<Mono>,
    page: u64,
    buffer: Vec<u8>,
}

impl Host {
    pub(super) fn new() -> Result<Self, ProbeError> {
        let path = "/proc/meminfo";
        let meminfo = KernelFile::open(path).map_err(|source| ProbeError::Unreadable { path, source })?;
        Ok(Self {
            meminfo,
            vmstat: KernelFile::open("/proc/vmstat").ok(),
            pressure: KernelFile::open("/proc/pressure/memory").ok(),
            zram: Vec::new(),
            groups: Vec::new(),
            discovered: None,
            page: page_size(),
            buffer: Vec::new(),
        })
    }

    pub(super) fn read(&mut self, at: Mono) -> HostReading {
        let memory = self.meminfo.read(&mut self.buffer).map(procfs::meminfo).unwrap_or_default();
        if self.discovered.is_none_or(|then| at - then >= REDISCOVER) {
            self.discovered = Some(at);
            self.zram = zram_devices();
            self.groups = cgroup::limited_levels(memory.total.unwrap_or(u64::MAX));
        }
        let events = self.vmstat.as_ref().and_then(|file| file.read(&mut self.buffer)).map(procfs::vmstat);
        let events = events.unwrap_or_default();
        let waiting = self.pressure.as_ref().and_then(|file| file.read(&mut self.buffer)).map(procfs::pressure);
        let waiting = waiting.unwrap_or_default();

        // zswap and zram are two ways to the same thing; a machine may use both.
        let zswap = memory.zswap.zip(memory.zswapped).map(|(used, original)| MmStat { original, used });
        let mut held = zswap;
        let (mut stored, mut loaded) = (self.bytes(events.zswap_out), self.bytes(events.zswap_in));
        for device in &self.zram {
            if let Some(stat) = device.mm_stat.read(&mut self.buffer).and_then(procfs::mm_stat) {
                let sum = held.unwrap_or(MmStat { original: 0, used: 0 });
                held = Some(MmStat {
                    original: sum.original.saturating_add(stat.original),
                    used: sum.used.saturating_add(stat.used),
                });
            }
            if let Some(stat) = device.stat.read(&mut self.buffer).and_then(procfs::block_stat) {
                stored = Some(stored.unwrap_or(0).saturating_add(stat.written));
                loaded = Some(loaded.unwrap_or(0).saturating_add(stat.read));
            }
        }

        // Inside a limited group the group is the machine: what is there, and what is left of it.
        let bounds = cgroup::bounds(&self.groups);
        let total = memory.total.map(|bytes| bounds.map_or(bytes, |bounds| bytes.min(bounds.limit)));
        let available = memory.available.map(|bytes| bounds.map_or(bytes, |bounds| bytes.min(bounds.room)));

        HostReading {
            total,
            used: total.zip(available).map(|(total, available)| total.saturating_sub(available)),
            available,
            wired: memory.unevictable.or(memory.locked),
            compressed: held.map(|held| held.used),
            compressed_logical: held.map(|held| held.original),
            pressure: level(&waiting),
            free_percent: total
                .filter(|total| *total > 0)
                .zip(available)
                .map(|(total, available)| available as f64 / total as f64 * 100.0),
            swapped_in: self.bytes(events.swapped_in),
            swapped_out: self.bytes(events.swapped_out),
            compressed_in_all: stored,
            decompressed_in_all: loaded,
            stalled_us: waiting.some_total_us,
        }
    }

    fn bytes(&self, pages: Option<u64>) -> Option<u64> {
        pages.map(|pages| pages.saturating_mul(self.page))
    }
}

/// The pressure level in macOS's numbers: 1 normal, 2 warning, 4 critical; `None` without PSI.
fn level(waiting: &Pressure) -> Option<u8> {
    let some = waiting.some_avg10?;
    Some(match waiting.full_avg10 {
        Some(full) if full >= CRITICAL_FULL_AVG10 => 4,
        _ if some >= WARNING_SOME_AVG10 => 2,
        _ => 1,
    })
}

fn zram_devices() -> Vec<Zram> {
    let Ok(listing) = fs::read_dir("/sys/block") else { return Vec::new() };
    listing
        .flatten()
        .filter_map(|entry| entry.file_name().into_string().ok())
        .filter(|name| name.starts_with("zram"))
        .filter_map(|name| {
            let mm_stat = KernelFile::open(&format!("/sys/block/{name}/mm_stat")).ok()?;
            let stat = KernelFile::open(&format!("/sys/block/{name}/stat")).ok()?;
            Some(Zram { mm_stat, stat })
        })
        .collect()
}

fn page_size() -> u64 {
    positive(SysconfVar::PAGE_SIZE).unwrap_or(4096)
}

fn positive(name: SysconfVar) -> Option<u64> {
    sysconf(name).ok().flatten().and_then(|value| u64::try_from(value).ok()).filter(|value| *value > 0)
}

/// Reads one process. The descriptor names this very process: once it is gone, reads fail, even if its pid is reused.
#[derive(Debug)]
pub(super) struct Process {
    pid: u32,
    status: Option<KernelFile>,
    locked: Option<Locked>,
    buffer: Vec<u8>,
}

/// What the rollup said.
#[derive(Debug)]
struct Locked {
    at: Mono,
    /// `VmLck` then, bytes.
    asked: u64,
    resident: Option<u64>,
}

impl Process {
    pub(super) fn open(pid: u32) -> Self {
        let status = KernelFile::open(&format!("/proc/{pid}/status")).ok();
        Self { pid, status, locked: None, buffer: Vec::new() }
    }

    pub(super) fn read(&mut self, at: Mono) -> MemoryReading {
        let status = self.status.as_ref().and_then(|file| file.read(&mut self.buffer)).map(procfs::process_status);
        let Some(status) = status else { return MemoryReading::default() };
        let wired = status.locked.map(|asked| if asked == 0 { 0 } else { self.resident_part(asked, at) });
        MemoryReading { footprint: status.footprint(), footprint_max: None, compressed: status.swap, wired }
    }

    /// `VmLck` counts locked address ranges, faulted in or not; the rollup tells what is there. It walks through all pages of
    /// the process, so it is asked for when there is reason to: what is locked stays, and only more can come.
    fn resident_part(&mut self, asked: u64, at: Mono) -> u64 {
        let due = self.locked.as_ref().is_none_or(|last| {
            let interval = if asked.abs_diff(last.asked) > last.asked / 16 { ROLLUP_INTERVAL } else { ROLLUP_AT_REST };
            at - last.at >= interval
        });
        if due {
            let rollup = KernelFile::open(&format!("/proc/{}/smaps_rollup", self.pid)).ok();
            let resident = rollup.and_then(|file| file.read(&mut self.buffer).and_then(procfs::rollup_locked));
            self.locked = Some(Locked { at, asked, resident });
        }
        self.locked.as_ref().and_then(|last| last.resident).map_or(asked, |resident| resident.min(asked))
    }
}

/// What the process costs now.
pub(super) fn footprint(pid: u32) -> Option<u64> {
    procfs::process_status(&fs::read_to_string(format!("/proc/{pid}/status")).ok()?).footprint()
}

/// Memory of the machine that can be neither paged out nor compressed.
pub(super) fn host_wired() -> Option<u64> {
    let memory = procfs::meminfo(&fs::read_to_string("/proc/meminfo").ok()?);
    memory.unevictable.or(memory.locked)
}

/// OOM kills since boot, those inside cgroups included.
pub(super) fn out_of_memory_kills() -> Option<u64> {
    procfs::vmstat(&fs::read_to_string("/proc/vmstat").ok()?).out_of_memory_kills
}

/// Boot and ticks since it: unique even when pids are reused, and across boots.
pub(super) fn start_id(pid: u32) -> Option<StartId> {
    let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?;
    let stat = procfs::process_stat(&fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)?;
    Some(StartId::new(&format!("{}:{}", boot.trim(), stat.started)))
}

/// Whether a signal or a debugger holds the process.
pub(super) fn is_stopped(pid: u32) -> Option<bool> {
    procfs::process_stat(&fs::read_to_string(format!("/proc/{pid}/stat")).ok()?).map(|stat| stat.stopped)
}

/// The running processes of a group.
pub(super) fn group(leader: u32) -> Vec<u32> {
    let Ok(processes) = fs::read_dir("/proc") else { return Vec::new() };
    let member = |entry: fs::DirEntry| {
        let pid: u32 = entry.file_name().to_str()?.parse().ok()?;
        let stat = procfs::process_stat(&fs::read_to_string(entry.path().join("stat")).ok()?)?;
        (stat.group == leader && !stat.ended).then_some(pid)
    };
    processes.flatten().filter_map(member).collect()
}

/// Processor time and page-ins so far.
pub(super) fn usage(pid: u32) -> Option<ProcessUsage> {
    let stat = procfs::process_stat(&fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)?;
    let per_second = positive(SysconfVar::CLK_TCK).unwrap_or(100);
    let cpu = Duration::from_millis(stat.cpu_ticks.saturating_mul(1000) / per_second);
    Some(ProcessUsage { cpu, page_ins: stat.major_faults })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pressure_levels_follow_the_stall_shares() {
        let waiting = |some, full| Pressure { some_avg10: some, full_avg10: full, some_total_us: None };
        assert_eq!(level(&waiting(None, None)), None, "no PSI, no level");
        assert_eq!(level(&waiting(Some(1.0), Some(0.5))), Some(1));
        assert_eq!(level(&waiting(Some(30.0), Some(2.0))), Some(2));
        assert_eq!(level(&waiting(Some(30.0), Some(20.0))), Some(4));
    }

    #[test]
    fn this_machine_answers() {
        let mut host = Host::new().unwrap();
        let reading = host.read(Mono(0));
        assert!(reading.total.unwrap() > reading.used.unwrap());
        assert!(reading.available.unwrap() > 0);
        assert!(reading.swapped_in.is_some(), "every Linux counts its swap-ins");
    }

    #[test]
    fn an_ended_process_reads_as_nothing() {
        let mut child = std::process::Command::new("true").spawn().unwrap();
        let mut process = Process::open(child.id());
        child.wait().unwrap();
        assert_eq!(process.read(Mono(0)), MemoryReading::default());
        assert_eq!(footprint(child.id()), None);
    }
}
