//! Waiting for a child's exit without reaping it.
//!
//! nix has `waitid` on Linux but not on macOS, so both go through libc: the call that tests run is the one macOS gets.

#![allow(unsafe_code, reason = "nix offers waitid on some systems only")]

use std::io;

use nix::unistd::Pid;

/// Blocks until this child has exited; it stays a zombie, so its pid cannot be anyone else's yet.
///
/// # Errors
/// When it is no child of ours, or already reaped.
pub fn wait_unreaped(pid: Pid) -> io::Result<()> {
    wait(pid, 0).map(drop)
}

/// Whether this child has exited, reaping nothing.
///
/// # Errors
/// When it is no child of ours, or already reaped.
pub fn has_exited(pid: Pid) -> io::Result<bool> {
    wait(pid, libc::WNOHANG)
}

fn wait(pid: Pid, flags: libc::c_int) -> io::Result<bool> {
    let id = libc::id_t::try_from(pid.as_raw())
        .map_err(|_| io::Error::new(io::ErrorKind::InvalidInput, format!("{pid} is no process id")))?;
    loop {
        let mut told = std::mem::MaybeUninit::<libc::siginfo_t>::zeroed();
        let flags = flags | libc::WEXITED | libc::WNOWAIT;
        // SAFETY: `told` is valid for writes of one siginfo_t for the length of the call.
        let failed = unsafe { libc::waitid(libc::P_PID, id, told.as_mut_ptr(), flags) };
        if failed == 0 {
            // SAFETY: it was zeroed, which is a valid siginfo_t, and the kernel wrote all of it or nothing.
            let told = unsafe { told.assume_init() };
            // Without an exit to tell of, the structure stays as it was.
            return Ok(told.si_signo != 0);
        }
        let error = io::Error::last_os_error();
        if error.kind() != io::ErrorKind::Interrupted {
            return Err(error);
        }
    }
}
