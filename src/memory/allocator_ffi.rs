//! The one thing asked of the C library's allocator.
//!
//! glibc keeps free pages in the middle of its heaps until it is told otherwise. Other allocators give them back by
//! themselves (macOS when the system wants them), and are left alone.
#![allow(unsafe_code, reason = "a C function without a wrapper; it takes a number and touches only what is free")]

/// Gives free memory of this process back to the system.
pub fn give_back() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    // SAFETY: malloc_trim takes the allocator's own locks, touches only free memory and may be called from any thread.
    unsafe {
        libc::malloc_trim(0);
    }
}
