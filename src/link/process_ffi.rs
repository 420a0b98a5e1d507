//! Waiting for a child's exit without reaping it. The only unsafe code of the link.
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
    let id = libc::id_t::try_from(pid.as_raw())
        .map_err(|_| io::Error::new(io::ErrorKind::InvalidInput, format!("{pid} is no process id")))?;
    loop {
        let mut told = std::mem::MaybeUninit::<libc::siginfo_t>::zeroed();
        // SAFETY: `told` is valid for writes of one siginfo_t for the length of the call and is not read afterwards.
        let failed = unsafe { libc::waitid(libc::P_PID, id, told.as_mut_ptr(), libc::WEXITED | libc::WNOWAIT) };
        if failed == 0 {
            return Ok(());
        }
        let error = io::Error::last_os_error();
        if error.kind() != io::ErrorKind::Interrupted {
            return Err(error);
        }
    }
}
