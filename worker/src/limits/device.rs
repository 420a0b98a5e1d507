//! What MLX's device and the machine say about memory.
#![allow(unsafe_code, reason = "device facts are in mlx-c, but not in mlx-rs; physical memory is in libc")]

use std::ffi::CStr;

use mlx_rs::error::Exception;
use mlxsup_fit::{Machine, Source, WorkingSet};

/// The device's memory and the machine's.
pub(super) fn ask(gpu: bool) -> Machine {
    let recommended = gpu.then(|| device_fact(c"max_recommended_working_set_size")).flatten();
    let unified = !gpu || recommended.is_some();
    let device_total = gpu.then(|| device_fact(if unified { c"memory_size" } else { c"total_memory" })).flatten();
    let total = device_total.or_else(physical_memory).unwrap_or(0);
    let allowed = if unified { mlxsup_fit::group_limit(total) } else { None };
    Machine {
        gpu,
        unified,
        can_wire: unified && (gpu || cfg!(target_os = "linux")),
        total_bytes: allowed.unwrap_or(total),
        outside_bytes: allowed.map_or(0, |limit| total.saturating_sub(limit)),
        working_set: recommended.map(|bytes| WorkingSet { bytes, source: Source::Reported }),
    }
}

/// Wiring means locking pages here.
#[must_use]
pub const fn locks_pages(machine: &Machine) -> bool {
    !machine.gpu && cfg!(target_os = "linux")
}

/// True when MLX's default device is a GPU. Asked before anything changes the default.
pub(super) fn default_is_gpu() -> Result<bool, Exception> {
    let kind = mlx_rs::Device::try_default()?.get_type()?;
    Ok(matches!(kind, mlx_rs::DeviceType::Gpu))
}

/// A number from the GPU's device facts; `None` when it has no such key.
fn device_fact(key: &CStr) -> Option<u64> {
    // SAFETY: handles are created here, used only by these calls and freed below; `key` is NUL-terminated and outlives
    // them; the out-parameters are valid for writes. mlx-c catches its exceptions and reports them as a status.
    unsafe {
        let device = mlx_sys::mlx_device_new_type(mlx_sys::mlx_device_type__MLX_GPU, 0);
        let mut info = mlx_sys::mlx_device_info_new();
        let mut exists = false;
        let mut value = 0;
        let found = mlx_sys::mlx_device_info_get(&mut info, device) == 0
            && mlx_sys::mlx_device_info_has_key(&mut exists, info, key.as_ptr()) == 0
            && exists
            && mlx_sys::mlx_device_info_get_size(&mut value, info, key.as_ptr()) == 0;
        mlx_sys::mlx_device_info_free(info);
        mlx_sys::mlx_device_free(device);
        found.then_some(value as u64)
    }
}

fn physical_memory() -> Option<u64> {
    // SAFETY: sysconf only reads its argument and has no other preconditions.
    let (pages, page) = unsafe { (libc::sysconf(libc::_SC_PHYS_PAGES), libc::sysconf(libc::_SC_PAGESIZE)) };
    u64::try_from(pages).ok()?.checked_mul(u64::try_from(page).ok()?)
}
