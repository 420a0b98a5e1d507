//! Watching and signalling a process that is not our child, on Linux: by process descriptor.
//!
//! The kernel tells such a watcher that the process ended, not how.

use std::io;
use std::os::fd::OwnedFd;

use nix::errno::Errno;
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;

use super::pidfd_ffi;
use super::process::Ended;
use crate::memory::StartId;
use crate::supervisor::event::ExitStatus;

/// One process, held fast.
#[derive(Debug)]
pub(super) struct ExitWatch {
    pid: Pid,
    pidfd: OwnedFd,
}

impl ExitWatch {
    /// Holds whatever process has this pid now; who that is, the caller finds out afterwards.
    ///
    /// # Errors
    /// When there is no such process.
    pub(super) fn open(pid: Pid) -> io::Result<Self> {
        Ok(Self { pid, pidfd: pidfd_ffi::open(pid)? })
    }

    /// True once it has exited, reaped or not.
    pub(super) fn is_over(&self) -> bool {
        pidfd_ffi::is_over(&self.pidfd, false).unwrap_or(false)
    }

    /// Blocks until it has exited.
    pub(super) fn wait(&self) -> Ended {
        if let Err(error) = pidfd_ffi::is_over(&self.pidfd, true) {
            tracing::error!(%error, pid = %self.pid, "a worker's exit cannot be watched");
        }
        Ended { status: ExitStatus::Unknown, out_of_memory: false }
    }

    /// Signals it, and nobody else: the descriptor stays with the process, whatever becomes of its pid.
    pub(super) fn signal(&self, _start: &StartId, signal: Signal) {
        let _ = pidfd_ffi::signal(&self.pidfd, signal, false);
    }

    /// Signals its whole group, which it leads.
    pub(super) fn signal_group(&self, start: &StartId, signal: Signal) {
        let Err(error) = pidfd_ffi::signal(&self.pidfd, signal, true) else { return };
        match error.raw_os_error().map(Errno::from_raw) {
            // An older kernel: a running process holds its own pid, and with it the group's.
            Some(Errno::EINVAL) if !self.is_over() => {
                let _ = killpg(self.pid, signal);
            }
            // It leads no group, so it is alone.
            Some(Errno::ESRCH) => self.signal(start, signal),
            _ => {}
        }
    }
}

/// Whether this child was ended for want of memory: Linux counts such ends for the machine and tells nobody of one.
pub(super) fn child_ended_for_memory(_pid: Pid) -> bool {
    false
}
