//! Watching and signalling a process that is not our child, on macOS: by kernel queue.
//!
//! The kernel tells a watcher of the same user how the process ended, and whether it did so for want of memory. It has
//! nothing that holds a pid, so who has it is looked up anew right before every signal.

use std::io;
use std::os::unix::process::ExitStatusExt;
use std::sync::atomic::{AtomicBool, Ordering};

use nix::errno::Errno;
use nix::sys::event::{EvFlags, EventFilter, FilterFlag, KEvent, Kqueue};
use nix::sys::signal::{Signal, kill, killpg};
use nix::unistd::Pid;

use super::process::Ended;
use crate::memory::{StartId, process_start_id};
use crate::supervisor::event::ExitStatus;

/// One process, watched from before its end.
#[derive(Debug)]
pub(super) struct ExitWatch {
    pid: Pid,
    queue: Kqueue,
    over: AtomicBool,
}

impl ExitWatch {
    /// Watches whatever process has this pid now; who that is, the caller finds out afterwards.
    ///
    /// # Errors
    /// When there is no such process (`ESRCH`, also for one that has exited), or it is not ours to watch.
    pub(super) fn open(pid: Pid) -> io::Result<Self> {
        let queue = Kqueue::new()?;
        let ident = usize::try_from(pid.as_raw()).map_err(io::Error::other)?;
        let wanted =
            FilterFlag::NOTE_EXIT | FilterFlag::NOTE_EXITSTATUS | FilterFlag::from_bits_retain(libc::NOTE_EXIT_DETAIL);
        let watch = KEvent::new(ident, EventFilter::EVFILT_PROC, EvFlags::EV_ADD | EvFlags::EV_ONESHOT, wanted, 0, 0);
        queue.kevent(&[watch], &mut [], None)?;
        Ok(Self { pid, queue, over: AtomicBool::new(false) })
    }

    /// True once its exit was seen. A process that had exited before cannot be opened.
    pub(super) fn is_over(&self) -> bool {
        self.over.load(Ordering::SeqCst)
    }

    /// Blocks until it has exited.
    pub(super) fn wait(&self) -> Ended {
        let unknown = Ended { status: ExitStatus::Unknown, out_of_memory: false };
        let empty = KEvent::new(0, EventFilter::EVFILT_PROC, EvFlags::empty(), FilterFlag::empty(), 0, 0);
        let mut events = [empty];
        let ended = loop {
            match self.queue.kevent(&[], &mut events, None) {
                Ok(0) | Err(Errno::EINTR) => {}
                Ok(_) => break told(&events[0]),
                Err(error) => {
                    tracing::error!(%error, pid = %self.pid, "a worker's exit cannot be watched");
                    break unknown;
                }
            }
        };
        self.over.store(true, Ordering::SeqCst);
        ended
    }

    /// Signals it if it is still there.
    pub(super) fn signal(&self, start: &StartId, signal: Signal) {
        if self.is_still(start) {
            let _ = kill(self.pid, signal);
        }
    }

    /// Signals its whole group, which it leads, if it is still there.
    pub(super) fn signal_group(&self, start: &StartId, signal: Signal) {
        if self.is_still(start) {
            let _ = killpg(self.pid, signal);
        }
    }

    fn is_still(&self, start: &StartId) -> bool {
        !self.is_over() && process_start_id(self.pid.as_raw().unsigned_abs()).as_ref() == Some(start)
    }
}

/// What the kernel says of an exit: `data` is a wait status, the flags hold the detail.
fn told(event: &KEvent) -> Ended {
    let out_of_memory = event.fflags().bits() & libc::NOTE_EXIT_MEMORY != 0;
    let Ok(raw) = i32::try_from(event.data()) else { return Ended { status: ExitStatus::Unknown, out_of_memory } };
    let status = std::process::ExitStatus::from_raw(raw);
    let status = match (status.code(), status.signal()) {
        (Some(code), _) => ExitStatus::Code(code),
        (None, Some(signal)) => ExitStatus::Signal(signal),
        (None, None) => ExitStatus::Unknown,
    };
    Ended { status, out_of_memory }
}

/// Blocks until this child has exited, and tells whether the kernel ended it for want of memory: `waitpid` would only say
/// SIGKILL. The child stays to be reaped.
pub(super) fn child_ended_for_memory(pid: Pid) -> bool {
    ExitWatch::open(pid).is_ok_and(|watch| watch.wait().out_of_memory)
}
