//! When the kernel says that a process of somebody else's has ended: a pidfd becomes readable.
#![allow(unsafe_code, reason = "there is no wrapper for pidfd_open")]

use std::os::fd::{AsFd, FromRawFd, OwnedFd};
use std::sync::mpsc;
use std::time::{Duration, SystemTime};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::unistd::Pid;

/// A process being watched.
pub struct ExitWatch(mpsc::Receiver<SystemTime>);

impl ExitWatch {
    /// `None` when it is gone already.
    pub fn start(pid: Pid) -> Option<Self> {
        // SAFETY: the call takes two integers and returns a descriptor or -1; nothing is read or written through it.
        let number = unsafe { libc::syscall(libc::SYS_pidfd_open, pid.as_raw(), 0) };
        let number = i32::try_from(number).ok().filter(|number| *number >= 0)?;
        // SAFETY: the kernel has just made this descriptor for us alone.
        let pidfd = unsafe { OwnedFd::from_raw_fd(number) };
        let (sender, receiver) = mpsc::channel();
        std::thread::spawn(move || {
            let mut watched = [PollFd::new(pidfd.as_fd(), PollFlags::POLLIN)];
            while poll(&mut watched, PollTimeout::NONE) == Err(nix::errno::Errno::EINTR) {}
            // Nobody waits any more: the phase is over.
            let _ = sender.send(SystemTime::now());
        });
        Some(Self(receiver))
    }

    /// The time of its end, if that comes within `patience`.
    pub fn wait(&self, patience: Duration) -> Option<SystemTime> {
        self.0.recv_timeout(patience).ok()
    }
}
