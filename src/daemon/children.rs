//! Children that the last image of this process started for a while and could not reap any more.
//!
//! Only on Linux are there any: `systemd-inhibit`, which ends with the image that held the machine awake.

use nix::sys::wait::waitpid;
use nix::unistd::Pid;

use super::state_file::WorkerRecord;

/// Waits, on threads of their own, for every child but the workers. To be called before anything is spawned.
pub fn reap_others(workers: &[WorkerRecord]) {
    for child in children() {
        let is_worker = workers.iter().any(|worker| i32::try_from(worker.pid) == Ok(child.as_raw()));
        if is_worker {
            continue;
        }
        let reaper = std::thread::Builder::new().name(format!("reaper-{child}")).stack_size(64 << 10);
        if let Err(error) = reaper.spawn(move || waitpid(child, None)) {
            tracing::warn!(%error, pid = %child, "a child of the last image will not be reaped");
        }
    }
}

/// Our children. Whoever cannot be listed is not reaped, which costs a line in the process table.
fn children() -> Vec<Pid> {
    let us = std::process::id();
    let list = std::fs::read_to_string(format!("/proc/self/task/{us}/children")).unwrap_or_default();
    list.split_whitespace().filter_map(|pid| pid.parse().ok()).map(Pid::from_raw).collect()
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn a_child_that_nobody_waits_for_is_reaped() {
        #[expect(clippy::zombie_processes, reason = "reaped by the code under test")]
        let child = std::process::Command::new("true").spawn().unwrap();
        let pid = Pid::from_raw(i32::try_from(child.id()).unwrap());
        // Other tests' children are theirs.
        let others = children().into_iter().filter(|other| *other != pid);
        let known = |other: Pid| WorkerRecord { pid: other.as_raw().unsigned_abs(), ..WorkerRecord::default() };
        reap_others(&others.map(known).collect::<Vec<_>>());
        // Listed or not is the kernel's choice; reaped it is in any case.
        let _ = waitpid(pid, None);
        assert!(!children().contains(&pid));
    }
}
