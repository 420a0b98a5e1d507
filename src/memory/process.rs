//! Kernel facts about one process: who it is, whether it moves, what it costs.
//!
//! Owns what identity, liveness and the stop ladder ask outside of sampling. Signals nothing and waits for nothing.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::platform;

/// When a process started, precise enough that a reused pid never shows the same. Compare only; the text is opaque.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct StartId(String);

impl StartId {
    pub(super) fn new(text: &str) -> Self {
        Self(text.to_owned())
    }
}

impl fmt::Display for StartId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The third witness of life: both numbers only ever grow, and a stopped process moves neither.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ProcessUsage {
    /// User and system time since the process started.
    pub cpu: Duration,
    /// Pages that had to be fetched from a disk or a compressor: a worker that swaps in works, though it burns no CPU.
    pub page_ins: u64,
}

/// Identity of the process behind `pid`, beside the pid itself. `None` when there is no such process or it is not ours to
/// look at; an exited child that has not been reaped still answers.
#[must_use]
pub fn process_start_id(pid: u32) -> Option<StartId> {
    platform::start_id(pid)
}

/// Processor time and page-ins of `pid`; `None` when there is no such process or it is not ours to look at.
#[must_use]
pub fn process_usage(pid: u32) -> Option<ProcessUsage> {
    platform::usage(pid)
}

/// The same of all processes in the group that `leader` leads: a server may do its work in processes of its own. Falls
/// when one of them ends; only growth between two looks means anything.
#[must_use]
pub fn group_usage(leader: u32) -> Option<ProcessUsage> {
    platform::group(leader)
        .into_iter()
        .filter_map(process_usage)
        .reduce(|sum, one| ProcessUsage { cpu: sum.cpu + one.cpu, page_ins: sum.page_ins.saturating_add(one.page_ins) })
}

/// True while any process of the group that `leader` leads, or led, runs besides it.
#[must_use]
pub fn group_lives_without(leader: u32) -> bool {
    platform::group(leader).into_iter().any(|pid| pid != leader)
}

/// Memory charged to all processes in the group that `leader` leads, bytes.
#[must_use]
pub fn group_footprint(leader: u32) -> Option<u64> {
    platform::group(leader).into_iter().filter_map(footprint).reduce(u64::saturating_add)
}

/// Whether `pid` is held by SIGSTOP or a debugger; `None` when there is no such process or it is not ours to look at.
#[must_use]
pub fn process_is_stopped(pid: u32) -> Option<bool> {
    platform::is_stopped(pid)
}

/// Memory charged to `pid`, compressed and swapped parts included, bytes. `None` when there is no such process; on Linux
/// also once it has exited, on macOS an unreaped one still answers.
#[must_use]
pub fn footprint(pid: u32) -> Option<u64> {
    platform::footprint(pid)
}

/// Memory of the whole machine that can be neither paged out nor compressed, bytes. Compared before a spawn and after an
/// exit, to see that a dead worker's memory came back.
#[must_use]
pub fn host_wired() -> Option<u64> {
    platform::host_wired()
}

/// Processes the kernel has ended for want of memory since boot. Compared before a worker's spawn and after its death by
/// SIGKILL. `None` where the system keeps no such count (macOS tells it with the exit itself).
#[must_use]
pub fn out_of_memory_kills() -> Option<u64> {
    platform::out_of_memory_kills()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Larger than any pid a kernel hands out.
    const NOBODY: u32 = u32::MAX - 1;

    #[test]
    fn a_group_is_counted_with_all_its_processes() {
        use std::os::unix::process::CommandExt;
        let script = "sleep 60 & x=0; while [ $x -lt 20000 ]; do x=$((x + 1)); done; echo done; wait";
        let mut shell = std::process::Command::new("/bin/sh");
        let mut leader =
            shell.args(["-c", script]).process_group(0).stdout(std::process::Stdio::piped()).spawn().unwrap();
        let mut said = [0; 5];
        std::io::Read::read_exact(leader.stdout.as_mut().unwrap(), &mut said).unwrap();
        let alone = footprint(leader.id()).unwrap();
        assert!(group_footprint(leader.id()).unwrap() > alone, "the sleeper weighs something");
        assert!(group_usage(leader.id()).unwrap().cpu >= process_usage(leader.id()).unwrap().cpu);
        nix::sys::signal::killpg(
            nix::unistd::Pid::from_raw(i32::try_from(leader.id()).unwrap()),
            nix::sys::signal::Signal::SIGKILL,
        )
        .unwrap();
        leader.wait().unwrap();
        assert_eq!(group_usage(NOBODY), None);
    }

    #[test]
    fn a_process_has_one_identity_and_two_have_two() {
        let own = process_start_id(std::process::id()).unwrap();
        assert_eq!(process_start_id(std::process::id()).as_ref(), Some(&own));
        let text = serde_json::to_string(&own).unwrap();
        assert_eq!(serde_json::from_str::<StartId>(&text).unwrap(), own);
        assert_ne!(process_start_id(1), Some(own));
        assert_eq!(process_start_id(NOBODY), None);
    }

    #[test]
    fn usage_grows_with_work() {
        let before = process_usage(std::process::id()).unwrap();
        let mut sum = 0_u64;
        // Works until the kernel has charged one clock tick.
        while process_usage(std::process::id()).unwrap().cpu == before.cpu {
            sum = std::hint::black_box((0..1_000_000_u64).fold(sum, |sum, n| sum.wrapping_mul(31).wrapping_add(n)));
        }
        assert_eq!(process_usage(NOBODY), None);
    }

    #[test]
    fn footprint_sees_what_is_touched() {
        // Other tests allocate and free meanwhile; what this one holds is a floor under all of it.
        let held = std::hint::black_box(vec![1_u8; 64 << 20]);
        let charged = footprint(std::process::id()).unwrap();
        assert!(charged >= 64 << 20, "{charged}");
        drop(held);
        assert_eq!(footprint(NOBODY), None);
    }

    #[test]
    fn the_machine_says_what_is_wired() {
        assert!(host_wired().is_some());
    }
}
