//! The Mach and libproc calls behind [`super::darwin`], and nothing else.
//!
//! Owns every `unsafe` line of this folder and the layouts they rely on. Returns plain numbers; interprets none.
#![allow(unsafe_code, reason = "these facts exist only behind C interfaces; each call carries its argument")]

use std::ffi::CStr;
use std::mem::{MaybeUninit, offset_of, size_of};
use std::sync::OnceLock;

use libc::{c_int, c_void, mach_port_t, proc_bsdinfo, rusage_info_v4, vm_statistics64};

// The kernel fills these structures by offset. If a later libc lays them out differently, the build stops here.
const _: () = {
    assert!(size_of::<rusage_info_v4>() == 296);
    assert!(offset_of!(rusage_info_v4, ri_pageins) == 48);
    assert!(offset_of!(rusage_info_v4, ri_wired_size) == 56);
    assert!(offset_of!(rusage_info_v4, ri_resident_size) == 64);
    assert!(offset_of!(rusage_info_v4, ri_phys_footprint) == 72);
    assert!(offset_of!(rusage_info_v4, ri_lifetime_max_phys_footprint) == 240);

    assert!(offset_of!(vm_statistics64, wire_count) == 12);
    assert!(offset_of!(vm_statistics64, purgeable_count) == 88);
    assert!(offset_of!(vm_statistics64, speculative_count) == 92);
    assert!(offset_of!(vm_statistics64, decompressions) == 96);
    assert!(offset_of!(vm_statistics64, swapins) == 112);
    assert!(offset_of!(vm_statistics64, compressor_page_count) == 128);
    assert!(offset_of!(vm_statistics64, external_page_count) == 136);
    assert!(offset_of!(vm_statistics64, internal_page_count) == 140);
    assert!(offset_of!(vm_statistics64, total_uncompressed_pages_in_compressor) == 144);
    // `host_statistics64` counts in 32-bit words.
    assert!(size_of::<vm_statistics64>() == libc::HOST_VM_INFO64_COUNT as usize * 4);

    assert!(size_of::<proc_bsdinfo>() == 136);
    assert!(offset_of!(proc_bsdinfo, pbi_start_tvsec) == 120);
    assert!(offset_of!(proc_bsdinfo, pbi_start_tvusec) == 128);
};

/// Most processes of one worker that are looked at.
const GROUP_LIMIT: usize = 256;

/// Words of the oldest revision that has every counter we read; later revisions only append.
const VM_INFO64_REV1_COUNT: u32 = 38;

/// The host's statistics port. Asked for once: every call of `mach_host_self` adds a reference that nobody returns.
fn host_port() -> mach_port_t {
    static PORT: OnceLock<mach_port_t> = OnceLock::new();
    *PORT.get_or_init(|| {
        #[allow(deprecated, reason = "libc points to another crate for this one function")]
        // SAFETY: takes no argument and has no precondition.
        unsafe {
            libc::mach_host_self()
        }
    })
}

/// The machine's page counters.
///
/// # Errors
/// The kernel's return code, or -1 when it filled less than the first revision.
pub(super) fn vm_statistics() -> Result<vm_statistics64, i32> {
    let mut out = MaybeUninit::<vm_statistics64>::zeroed();
    let mut count = libc::HOST_VM_INFO64_COUNT;
    // SAFETY: `out` is writable for `count` 32-bit words (asserted above), and the kernel writes at most that many and
    // lowers `count` to what it wrote. The structure is plain integers, for which all-zero bytes are valid.
    let code = unsafe {
        libc::host_statistics64(
            host_port(),
            libc::HOST_VM_INFO64,
            out.as_mut_ptr().cast::<libc::integer_t>(),
            &mut count,
        )
    };
    if code != libc::KERN_SUCCESS {
        return Err(code);
    }
    if count < VM_INFO64_REV1_COUNT {
        return Err(-1);
    }
    // SAFETY: zeroed at first, then written by the kernel; every bit pattern of integers is valid.
    Ok(unsafe { out.assume_init() })
}

/// What the kernel charges to a process; works on an unreaped zombie. `None` when there is none or it is not ours.
pub(super) fn rusage(pid: u32) -> Option<rusage_info_v4> {
    let pid = c_int::try_from(pid).ok()?;
    let mut out = MaybeUninit::<rusage_info_v4>::zeroed();
    // SAFETY: for flavour V4 the kernel writes one `rusage_info_v4` (296 bytes, asserted above) at the address given; the
    // parameter's C type is `void **` for historical reasons, but it takes the structure's address itself.
    let code =
        unsafe { libc::proc_pid_rusage(pid, libc::RUSAGE_INFO_V4, out.as_mut_ptr().cast::<libc::rusage_info_t>()) };
    // SAFETY: zeroed at first, and on success written by the kernel; plain integers.
    (code == 0).then(|| unsafe { out.assume_init() })
}

/// Processes of a group, at most [`GROUP_LIMIT`] of them.
pub(super) fn group(leader: u32) -> Vec<u32> {
    let Ok(leader) = libc::pid_t::try_from(leader) else { return Vec::new() };
    let mut pids: [libc::pid_t; GROUP_LIMIT] = [0; GROUP_LIMIT];
    let Ok(size) = c_int::try_from(size_of_val(&pids)) else { return Vec::new() };
    // SAFETY: the buffer is writable for `size` bytes, and the call writes at most that many. How many pids it wrote is
    // read from the buffer itself, which was zero before: no process has pid 0 in a group of a leader above it.
    unsafe { libc::proc_listpgrppids(leader, pids.as_mut_ptr().cast::<c_void>(), size) };
    pids.iter().filter_map(|pid| u32::try_from(*pid).ok()).filter(|pid| *pid > 0).collect()
}

/// Seconds and microseconds of the wall clock at which a process started.
pub(super) fn start_time(pid: u32) -> Option<(u64, u64)> {
    bsd_info(pid).map(|info| (info.pbi_start_tvsec, info.pbi_start_tvusec))
}

/// Whether a process is stopped (`SSTOP` of `sys/proc.h`).
pub(super) fn is_stopped(pid: u32) -> Option<bool> {
    const SSTOP: u32 = 4;
    bsd_info(pid).map(|info| info.pbi_status == SSTOP)
}

fn bsd_info(pid: u32) -> Option<proc_bsdinfo> {
    let pid = c_int::try_from(pid).ok()?;
    let mut out = MaybeUninit::<proc_bsdinfo>::zeroed();
    let size = c_int::try_from(size_of::<proc_bsdinfo>()).ok()?;
    // SAFETY: the buffer is writable for `size` bytes, and the call writes at most `size` bytes and returns how many.
    let written =
        unsafe { libc::proc_pidinfo(pid, libc::PROC_PIDTBSDINFO, 0, out.as_mut_ptr().cast::<c_void>(), size) };
    if written != size {
        return None;
    }
    // SAFETY: zeroed at first, then written whole by the kernel; integers and character arrays.
    Some(unsafe { out.assume_init() })
}

/// A 32-bit control value; `None` when it is missing or of another size.
pub(super) fn sysctl_i32(name: &CStr) -> Option<i32> {
    sysctl(name, 0_i32)
}

/// A 64-bit control value; `None` when it is missing or of another size.
pub(super) fn sysctl_u64(name: &CStr) -> Option<u64> {
    sysctl(name, 0_u64)
}

fn sysctl<T: Copy + Integer>(name: &CStr, mut value: T) -> Option<T> {
    let mut size = size_of::<T>();
    // SAFETY: `name` ends with a nul; `value` is writable for `size` bytes, which the kernel does not exceed; nothing is
    // set, so the new value is null with length 0. `T` is an integer (sealed below): any bytes written are valid.
    let code = unsafe {
        libc::sysctlbyname(name.as_ptr(), (&raw mut value).cast::<c_void>(), &mut size, std::ptr::null_mut(), 0)
    };
    (code == 0 && size == size_of::<T>()).then_some(value)
}

/// Types whose every bit pattern is a value.
trait Integer {}
impl Integer for i32 {}
impl Integer for u64 {}

/// Numerator and denominator that turn Mach time units into nanoseconds (125/3 on Apple silicon).
#[allow(deprecated, reason = "libc points to another crate for this one function")]
pub(super) fn timebase() -> (u32, u32) {
    let mut out = libc::mach_timebase_info { numer: 0, denom: 0 };
    // SAFETY: `out` is a writable structure of the type the call fills.
    let code = unsafe { libc::mach_timebase_info(&mut out) };
    if code == 0 && out.numer > 0 && out.denom > 0 { (out.numer, out.denom) } else { (1, 1) }
}
