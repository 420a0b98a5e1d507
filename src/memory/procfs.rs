//! Parsers of the Linux kernel's text files, as pure functions.
//!
//! Owns formats only: which file is read when is [`super::linux`]'s affair. Unknown lines are skipped, a number that does
//! not parse is absent, nothing panics: kernels add lines, and containers serve odd ones.

/// The part of `/proc/meminfo` we use, in bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Meminfo {
    pub total: Option<u64>,
    /// The kernel's own estimate of what can be had without swapping.
    pub available: Option<u64>,
    /// Pages that can be neither paged out nor compressed, locked ones included.
    pub unevictable: Option<u64>,
    pub locked: Option<u64>,
    /// RAM that zswap occupies.
    pub zswap: Option<u64>,
    /// What it holds, before compression.
    pub zswapped: Option<u64>,
}

/// Reads `/proc/meminfo`.
pub(super) fn meminfo(text: &str) -> Meminfo {
    let mut out = Meminfo::default();
    for (key, rest) in keyed(text) {
        let slot = match key {
            "MemTotal" => &mut out.total,
            "MemAvailable" => &mut out.available,
            "Unevictable" => &mut out.unevictable,
            "Mlocked" => &mut out.locked,
            "Zswap" => &mut out.zswap,
            "Zswapped" => &mut out.zswapped,
            _ => continue,
        };
        *slot = kibibytes(rest);
    }
    out
}

/// The part of `/proc/vmstat` we use: events since boot, pages.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Vmstat {
    pub swapped_in: Option<u64>,
    pub swapped_out: Option<u64>,
    /// Loaded from zswap (not counted as swapped in).
    pub zswap_in: Option<u64>,
    /// Stored to zswap.
    pub zswap_out: Option<u64>,
    /// Processes ended for want of memory; a count, not pages.
    pub out_of_memory_kills: Option<u64>,
}

/// Reads `/proc/vmstat`.
pub(super) fn vmstat(text: &str) -> Vmstat {
    let mut out = Vmstat::default();
    for line in text.lines() {
        let Some((key, value)) = line.split_once(' ') else { continue };
        let slot = match key {
            "pswpin" => &mut out.swapped_in,
            "pswpout" => &mut out.swapped_out,
            "zswpin" => &mut out.zswap_in,
            "zswpout" => &mut out.zswap_out,
            "oom_kill" => &mut out.out_of_memory_kills,
            _ => continue,
        };
        *slot = value.trim().parse().ok();
    }
    out
}

/// `/proc/pressure/memory`: how much of the time tasks waited for memory.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(super) struct Pressure {
    /// Percent of the last 10 s in which some task waited.
    pub some_avg10: Option<f64>,
    /// Microseconds since boot in which some task waited.
    pub some_total_us: Option<u64>,
    /// Percent of the last 10 s in which all tasks waited.
    pub full_avg10: Option<f64>,
}

/// Reads a PSI file.
pub(super) fn pressure(text: &str) -> Pressure {
    let mut out = Pressure::default();
    for line in text.lines() {
        let mut words = line.split_ascii_whitespace();
        let kind = words.next();
        for (key, value) in words.filter_map(|word| word.split_once('=')) {
            match (kind, key) {
                (Some("some"), "avg10") => out.some_avg10 = percent(value),
                (Some("some"), "total") => out.some_total_us = value.parse().ok(),
                (Some("full"), "avg10") => out.full_avg10 = percent(value),
                _ => {}
            }
        }
    }
    out
}

/// First columns of a zram device's `mm_stat`, bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct MmStat {
    /// What it holds, before compression.
    pub original: u64,
    /// RAM it occupies, bookkeeping and fragmentation included.
    pub used: u64,
}

/// Reads `/sys/block/zramN/mm_stat`.
pub(super) fn mm_stat(text: &str) -> Option<MmStat> {
    let mut columns = text.split_ascii_whitespace();
    let original = columns.next()?.parse().ok()?;
    let used = columns.nth(1)?.parse().ok()?;
    Some(MmStat { original, used })
}

/// Bytes read from and written to a block device since it was set up, out of `/sys/block/DEV/stat`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct BlockStat {
    pub read: u64,
    pub written: u64,
}

/// Reads `/sys/block/DEV/stat`; sectors are 512 bytes whatever the device says.
pub(super) fn block_stat(text: &str) -> Option<BlockStat> {
    let mut columns = text.split_ascii_whitespace();
    let read: u64 = columns.nth(2)?.parse().ok()?;
    let written: u64 = columns.nth(3)?.parse().ok()?;
    Some(BlockStat { read: read.saturating_mul(512), written: written.saturating_mul(512) })
}

/// The memory lines of `/proc/PID/status`, bytes. A zombie has none of them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct ProcessStatus {
    pub rss_anon: Option<u64>,
    pub swap: Option<u64>,
    pub locked: Option<u64>,
}

/// Reads `/proc/PID/status`.
pub(super) fn process_status(text: &str) -> ProcessStatus {
    let mut out = ProcessStatus::default();
    for (key, rest) in keyed(text) {
        let slot = match key {
            "RssAnon" => &mut out.rss_anon,
            "VmSwap" => &mut out.swap,
            "VmLck" => &mut out.locked,
            _ => continue,
        };
        *slot = kibibytes(rest);
    }
    out
}

impl ProcessStatus {
    /// What the process costs: its own pages wherever they are, the clean file cache left out.
    pub(super) fn footprint(&self) -> Option<u64> {
        Some(self.rss_anon?.saturating_add(self.swap.unwrap_or(0)))
    }
}

/// `Locked` of `/proc/PID/smaps_rollup`: bytes that are locked and resident.
pub(super) fn rollup_locked(text: &str) -> Option<u64> {
    keyed(text).find(|(key, _)| *key == "Locked").and_then(|(_, rest)| kibibytes(rest))
}

/// What we use of `/proc/PID/stat`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct ProcessStat {
    /// Held by a signal or a debugger.
    pub stopped: bool,
    /// It has ended, and only its parent's interest is awaited.
    pub ended: bool,
    /// Its process group.
    pub group: u32,
    /// Pages that had to be read from a disk or a compressor.
    pub major_faults: u64,
    /// User and system time, clock ticks.
    pub cpu_ticks: u64,
    /// Clock ticks between boot and the process's start.
    pub started: u64,
}

/// Reads `/proc/PID/stat`. The command name may hold spaces and parentheses, so counting starts after the last `)`.
pub(super) fn process_stat(text: &str) -> Option<ProcessStat> {
    let (_, rest) = text.rsplit_once(')')?;
    // Field 3 (state) is number 0 from here on.
    let mut fields = rest.split_ascii_whitespace();
    let state = fields.next()?;
    let (stopped, ended) = (matches!(state, "T" | "t"), matches!(state, "Z" | "X" | "x"));
    let group = fields.nth(5 - 3 - 1)?.parse().ok()?;
    let major_faults = fields.nth(12 - 5 - 1)?.parse().ok()?;
    let user: u64 = fields.nth(14 - 12 - 1)?.parse().ok()?;
    let system: u64 = fields.next()?.parse().ok()?;
    let started = fields.nth(22 - 15 - 1)?.parse().ok()?;
    Some(ProcessStat { stopped, ended, group, major_faults, cpu_ticks: user.saturating_add(system), started })
}

/// `Key: rest` lines.
fn keyed(text: &str) -> impl Iterator<Item = (&str, &str)> {
    text.lines().filter_map(|line| line.split_once(':'))
}

/// `  123 kB` in bytes. The kernel writes kB and means KiB.
fn kibibytes(rest: &str) -> Option<u64> {
    let number = rest.trim().strip_suffix("kB")?.trim_end();
    number.parse::<u64>().ok()?.checked_mul(1024)
}

fn percent(value: &str) -> Option<f64> {
    value.parse::<f64>().ok().filter(|percent| (0.0..=100.0).contains(percent))
}

#[cfg(test)]
mod tests;
