//! Ending the process without the C library's exit handlers.
//!
//! Owns one call. Ordinary ends run the destructors of MLX's statics; under an engine thread that is still inside MLX
//! (a long prefill, the loading of weights) those crash, and a clean stop would look like a worker death.
#![allow(unsafe_code, reason = "`_exit` has no safe binding")]

/// Ends now with `code`. Only the very end of a process may call it: nothing is flushed, no destructor runs.
pub fn at_once(code: i32) -> ! {
    // SAFETY: `_exit` takes any number, touches no memory of ours and does not return.
    unsafe { libc::_exit(code) }
}
