//! Process descriptors of Linux: they hold one process, whoever its parent is, and never its pid's next owner.
//!
//! Neither nix nor the C library's older releases wrap these calls, so they are made by number.
#![allow(unsafe_code, reason = "system calls without a wrapper; each takes plain numbers and null pointers")]

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::ptr;

use nix::sys::signal::Signal;
use nix::unistd::Pid;

/// `PIDFD_SIGNAL_PROCESS_GROUP`, from Linux 6.9 on.
const WHOLE_GROUP: libc::c_uint = 1 << 2;

/// A descriptor for whatever process has this pid now; close-on-exec.
///
/// # Errors
/// `ESRCH` when there is none, `ENOSYS` before Linux 5.3.
pub(super) fn open(pid: Pid) -> io::Result<OwnedFd> {
    // SAFETY: two integers go in, a new descriptor or -1 comes out; no memory is touched.
    let raw = unsafe { libc::syscall(libc::SYS_pidfd_open, pid.as_raw(), 0) };
    let raw = RawFd::try_from(raw).map_err(io::Error::other)?;
    if raw < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel has just made this descriptor for us, and nobody else knows it.
    Ok(unsafe { OwnedFd::from_raw_fd(raw) })
}

/// Signals the process, or its whole group.
///
/// # Errors
/// `ESRCH` once it is gone, `EINVAL` where the kernel cannot signal groups this way.
pub(super) fn signal(pidfd: &OwnedFd, signal: Signal, group: bool) -> io::Result<()> {
    let flags = if group { WHOLE_GROUP } else { 0 };
    // SAFETY: the descriptor is open for the length of the call; a null siginfo means the one `kill` would send.
    let failed = unsafe {
        libc::syscall(
            libc::SYS_pidfd_send_signal,
            pidfd.as_raw_fd(),
            signal as libc::c_int,
            ptr::null::<libc::siginfo_t>(),
            flags,
        )
    };
    if failed == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// True once the process has exited; waits for that if `wait`.
///
/// # Errors
/// When the kernel refuses to watch; nothing is known then.
pub(super) fn is_over(pidfd: &OwnedFd, wait: bool) -> io::Result<bool> {
    let mut watched = libc::pollfd { fd: pidfd.as_raw_fd(), events: libc::POLLIN, revents: 0 };
    loop {
        // SAFETY: `watched` is one valid pollfd for the length of the call.
        let ready = unsafe { libc::poll(&raw mut watched, 1, if wait { -1 } else { 0 }) };
        if ready >= 0 {
            return Ok(ready > 0);
        }
        let error = io::Error::last_os_error();
        if error.kind() != io::ErrorKind::Interrupted {
            return Err(error);
        }
    }
}
