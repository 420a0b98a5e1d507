//! Memory that a crowd leaves behind, given back to the system.
//!
//! Owns when to ask the allocator for it: thousands of clients at once leave pages that are free inside the process and
//! counted as its own, and the allocator gives back by itself only what happens to lie at an end.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use super::room::Room;
use crate::memory::allocator_ffi;

/// Between two looks.
const INTERVAL: Duration = Duration::from_secs(10);
/// Connections that must have ended since there were most: some tens of KiB each, below which it is not worth it.
const CROWD: usize = 500;

/// Looks from time to time whether a crowd has left.
pub(super) async fn give_back(room: Arc<Room>) -> Infallible {
    loop {
        tokio::time::sleep(INTERVAL).await;
        if room.has_lost(CROWD) {
            // Walks through all that is free, which takes milliseconds that no stream should wait for.
            let _ = tokio::task::spawn_blocking(allocator_ffi::give_back).await;
        }
    }
}
