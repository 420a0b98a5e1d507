//! When the kernel says that a process of somebody else's has ended: a pidfd becomes readable.
#![allow(unsafe_code, reason = "there is no wrapper for pidfd_open")]

use std::cell::OnceCell;
use std::os::fd::{AsFd, FromRawFd, OwnedFd};
use std::sync::mpsc;
use std::time::{Duration, SystemTime};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::unistd::Pid;

/// A process being watched.
pub struct ExitWatch {
    news: mpsc::Receiver<SystemTime>,
    ended: OnceCell<SystemTime>,
}

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
        Some(Self { news: receiver, ended: OnceCell::new() })
    }

    /// The time of its end, if that comes within `patience`.
    pub fn wait(&self, patience: Duration) -> Option<SystemTime> {
        if self.ended.get().is_none()
            && let Ok(at) = self.news.recv_timeout(patience)
        {
            let _ = self.ended.set(at);
        }
        self.ended.get().copied()
    }

    pub fn has_ended(&self) -> bool {
        self.wait(Duration::ZERO).is_some()
    }
}
