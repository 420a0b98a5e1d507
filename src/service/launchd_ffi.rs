//! `launch_activate_socket`, and nothing else.
//!
//! Owns the C call and the array it returns. May be called once per name in a process's life: launchd answers `EALREADY`
//! after that, so an upgraded image inherits the descriptors instead of asking again.
#![allow(unsafe_code, reason = "launchd hands sockets over through one C function")]

use std::ffi::{CStr, c_char, c_int};

use nix::errno::Errno;

use super::descriptors::{self, Inherited};

unsafe extern "C" {
    /// In libSystem. On success `*fds` is an array of `*count` descriptors that the caller frees.
    fn launch_activate_socket(name: *const c_char, fds: *mut *mut c_int, count: *mut usize) -> c_int;
}

/// The sockets launchd made for the plist's entry `name`, each taken over or described.
///
/// # Errors
/// `ESRCH`: not started by launchd. `ENOENT`: the plist has no such entry. `EALREADY`: asked before.
pub(super) fn activate(name: &CStr) -> Result<Vec<Result<Inherited, String>>, Errno> {
    let mut array: *mut c_int = std::ptr::null_mut();
    let mut count = 0_usize;
    // SAFETY: `name` ends with a nul, and both results are writable variables of the types the function fills.
    let code = unsafe { launch_activate_socket(name.as_ptr(), &mut array, &mut count) };
    if code != 0 {
        return Err(Errno::from_raw(code));
    }
    if array.is_null() {
        return Ok(Vec::new());
    }
    let out = (0..count)
        .map(|index| {
            // SAFETY: launchd returned `count` integers at `array`, which nobody has freed yet.
            let raw = unsafe { array.add(index).read() };
            // SAFETY: launchd gives each descriptor to the caller, and only on this call.
            unsafe { descriptors::take(raw) }
        })
        .collect();
    // SAFETY: allocated by the call above with malloc, not used afterwards.
    unsafe { libc::free(array.cast::<libc::c_void>()) };
    Ok(out)
}
