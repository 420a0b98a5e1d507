//! What is asked of the C library's allocator.
//!
//! glibc gives every thread a heap of its own and keeps free pages in the middle of heaps until it is told otherwise.
//! Other allocators share one heap and give pages back by themselves (macOS when the system wants them), and are left alone.
#![allow(
    unsafe_code,
    reason = "two C functions without wrappers; they take numbers and touch only the allocator's own state"
)]

/// Keeps all threads to one heap: the relay moves between threads when something blocks, and would leave memory behind on
/// each of their heaps (38 KiB for every waiting client instead of 23). For the start, before there are other threads.
pub fn keep_one_heap() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    // SAFETY: mallopt changes a parameter of the allocator under the allocator's own lock; a number it does not like is
    // refused.
    unsafe {
        libc::mallopt(libc::M_ARENA_MAX, 1);
    }
}

/// Gives free memory of this process back to the system.
pub fn give_back() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    // SAFETY: malloc_trim takes the allocator's own locks, touches only free memory and may be called from any thread.
    unsafe {
        libc::malloc_trim(0);
    }
}
