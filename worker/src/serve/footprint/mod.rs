//! What the kernel charges this process.
//!
//! Owns the one reading per platform; the numbers go to the board by a timer, so that `/status` stays O(1) whatever the
//! kernel takes to answer.

#[cfg(target_os = "macos")]
mod darwin;
#[cfg(target_os = "linux")]
mod linux;

use std::sync::{Arc, PoisonError};
use std::time::Duration;

use tokio::time::MissedTickBehavior;

use crate::board::{Board, Footprint};

/// How old a footprint in `/status` may be.
const INTERVAL: Duration = Duration::from_secs(1);

/// Reads the footprint now; nothing where the platform does not tell.
fn read() -> Footprint {
    #[cfg(target_os = "linux")]
    return linux::read();
    #[cfg(target_os = "macos")]
    return darwin::read();
    #[cfg(not(any(target_os = "linux", target_os = "macos")))]
    return Footprint::default();
}

/// Keeps the board's footprint fresh; never returns.
pub(super) async fn watch(board: Arc<Board>) {
    let mut ticks = tokio::time::interval(INTERVAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let footprint = read();
        *board.footprint.lock().unwrap_or_else(PoisonError::into_inner) = footprint;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_has_a_footprint() {
        let total = read().total_bytes.expect("a number");
        assert!(total > 64 << 10, "{total} bytes");
    }
}
