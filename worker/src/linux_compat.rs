//! The one symbol of macOS that `mlx-rs` expects on every platform.
#![cfg(target_os = "linux")]
#![allow(unsafe_code, reason = "exports a C symbol")]

use std::time::{SystemTime, UNIX_EPOCH};

/// A clock reading of arbitrary origin. `mlx-rs` seeds its random state with it, which the worker never draws from.
// SAFETY: the name exists in no Linux library, and the signature is the one that `mlx-rs` declares.
#[unsafe(no_mangle)]
pub extern "C" fn mach_approximate_time() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
}
