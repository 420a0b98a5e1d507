//! The footprint on macOS, from `task_info(TASK_VM_INFO)` on our own task.
//!
//! The kernel fills whole revisions of the structure up to the count given, so fields are read at their fixed offsets
//! from a plain buffer, and only when the returned count covers them.
#![allow(unsafe_code, reason = "Mach calls have no safe binding")]

use crate::board::Footprint;

/// Flavor number of `task_vm_info`.
const TASK_VM_INFO: u32 = 22;
/// Length of revision 7, in 32-bit words.
const WORDS: usize = 93;
/// Byte offsets within the packed structure.
const PHYS_FOOTPRINT: usize = 144;
const GRAPHICS_FOOTPRINT: usize = 272;
const GRAPHICS_FOOTPRINT_COMPRESSED: usize = 280;

unsafe extern "C" {
    /// Our own task port; set up by the C library before `main`.
    static mach_task_self_: u32;
    fn task_info(task: u32, flavor: u32, out: *mut i32, count: *mut u32) -> i32;
}

pub(super) fn read() -> Footprint {
    let mut words = [0_i32; WORDS];
    let mut count = WORDS as u32;
    // SAFETY: `words` has room for `count` words, which is what the kernel is told; both outlive the call. The task port
    // is our own and constant for the life of the process.
    let status = unsafe { task_info(mach_task_self_, TASK_VM_INFO, words.as_mut_ptr(), &raw mut count) };
    if status != 0 {
        return Footprint::default();
    }
    let filled = &words[..WORDS.min(count as usize)];
    Footprint {
        total_bytes: field(filled, PHYS_FOOTPRINT),
        graphics_bytes: field(filled, GRAPHICS_FOOTPRINT),
        graphics_compressed_bytes: field(filled, GRAPHICS_FOOTPRINT_COMPRESSED),
        locked_bytes: None,
    }
}

/// The 64-bit number at a byte offset, if the kernel filled it. The low word comes first on every Mac.
fn field(words: &[i32], offset: usize) -> Option<u64> {
    let low = *words.get(offset / 4)? as u32;
    let high = *words.get(offset / 4 + 1)? as u32;
    Some((u64::from(high) << 32) | u64::from(low))
}
