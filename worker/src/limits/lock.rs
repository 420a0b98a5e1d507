//! Locking weight buffers in memory: what wiring means on the Linux CPU backend.
#![allow(unsafe_code, reason = "locking needs the address of an array's buffer")]

use mlx_rs::Array;

/// What was locked.
pub(super) struct Locked {
    pub(super) bytes: u64,
    /// Why it is less than wanted, with the remedy.
    pub(super) shortage: Option<String>,
}

/// Locks the buffers of evaluated `arrays` one by one until `budget` bytes are locked or the system refuses.
#[cfg(target_os = "linux")]
pub(super) fn lock<'a>(arrays: impl Iterator<Item = &'a Array>, budget: u64) -> Locked {
    use std::ffi::c_void;
    use std::ptr::NonNull;

    use nix::sys::mman::mlock;
    use nix::sys::resource::{Resource, getrlimit, setrlimit};

    // The soft limit may be raised to the hard one without privileges.
    let limit = getrlimit(Resource::RLIMIT_MEMLOCK).unwrap_or((0, 0));
    if limit.0 < limit.1 && setrlimit(Resource::RLIMIT_MEMLOCK, limit.1, limit.1).is_err() {
        tracing::debug!("the soft limit for locked memory could not be raised");
    }
    let mut bytes = 0;
    for array in arrays {
        let length = array.nbytes();
        if bytes + length as u64 > budget {
            return Locked {
                bytes,
                shortage: Some("the wired limit is smaller than the weights; the rest may be paged out".to_owned()),
            };
        }
        // SAFETY: the array is evaluated, so its buffer exists; the accessor reads a pointer and checks no type.
        let data = unsafe { mlx_sys::mlx_array_data_uint8(array.as_ptr()) };
        let Some(data) = NonNull::new(data.cast_mut()) else { continue };
        // SAFETY: the range is the array's own buffer; locking changes no content. Freeing it later is allowed: the
        // kernel drops a lock with its mapping.
        if let Err(errno) = unsafe { mlock(data.cast::<c_void>(), length) } {
            let shortage = format!(
                "weights could not be locked in memory: {errno}; the limit for locked memory is {} bytes. Raise it \
                 (systemd: LimitMEMLOCK=infinity; shell: ulimit -l unlimited) or set wired_limit = \"off\"",
                limit.1
            );
            return Locked { bytes, shortage: Some(shortage) };
        }
        bytes += length as u64;
    }
    Locked { bytes, shortage: None }
}

/// Locks what else the process has in memory: tables, code, stacks, the tokenizer. Pages it does not have yet are locked
/// when first touched, as far as they lie in what is mapped by now; later mappings stay pageable.
#[cfg(target_os = "linux")]
pub(super) fn lock_process() -> nix::Result<()> {
    use nix::sys::mman::{MlockAllFlags, mlockall};

    // nix has no name for the flag. Without it every reserved page would be faulted in.
    mlockall(MlockAllFlags::MCL_CURRENT | MlockAllFlags::from_bits_retain(libc::MCL_ONFAULT))
}

/// Other systems do not wire by locking.
#[cfg(not(target_os = "linux"))]
pub(super) fn lock_process() -> nix::Result<()> {
    Ok(())
}

/// Other systems do not wire by locking.
#[cfg(not(target_os = "linux"))]
pub(super) fn lock<'a>(_arrays: impl Iterator<Item = &'a Array>, _budget: u64) -> Locked {
    Locked { bytes: 0, shortage: None }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn what_fits_the_budget_is_locked() {
        let arrays = [Array::from_slice(&[1.0_f32; 256], &[256]), Array::from_slice(&[1.0_f32; 256], &[256])];
        for array in &arrays {
            array.eval().unwrap();
        }
        let all = lock(arrays.iter(), 4096);
        assert_eq!((all.bytes, all.shortage.is_none()), (2048, true));
        let one = lock(arrays.iter(), 1500);
        assert_eq!((one.bytes, one.shortage.is_some()), (1024, true));
    }
}
