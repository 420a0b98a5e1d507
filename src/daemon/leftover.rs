//! A worker that outlived the last daemon: found by pid and start time, asked to end, and only then killed, so that two
//! models are never resident by accident.

use std::time::Duration;

use nix::sys::signal::{Signal, kill, killpg};
use nix::unistd::Pid;

use super::state_file::WorkerRecord;
use crate::memory::{footprint, process_start_id};

/// Between two looks at a process that is not our child (its exit cannot be waited for portably).
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// Patience after SIGTERM: the stop ladder's, 10 s and 1 s per 4 GiB of footprint.
fn patience(pid: u32) -> Duration {
    Duration::from_secs(10 + footprint(pid).unwrap_or(0).div_ceil(4 << 30))
}

/// True while the very process of the record runs.
#[must_use]
pub fn is_alive(record: &WorkerRecord) -> bool {
    record.start.is_some() && process_start_id(record.pid) == record.start
}

/// Ends the process of the record. Returns a sentence for the events, or `None` when there was nothing to end.
pub async fn end(record: &WorkerRecord) -> Option<String> {
    if !is_alive(record) {
        return None;
    }
    let pid = Pid::from_raw(i32::try_from(record.pid).ok()?);
    let patience = patience(record.pid);
    let _ = kill(pid, Signal::SIGTERM);
    let _ = kill(pid, Signal::SIGCONT);
    let gone = tokio::time::timeout(patience, gone(record)).await.is_ok();
    if !gone {
        let _ = killpg(pid, Signal::SIGKILL);
        let _ = tokio::time::timeout(patience, self::gone(record)).await;
    }
    let how = if gone { "stopped" } else { "killed" };
    Some(format!("worker {} (pid {}) had outlived the last daemon and was {how}", record.generation, record.pid))
}

async fn gone(record: &WorkerRecord) {
    while is_alive(record) {
        tokio::time::sleep(LOOK_EVERY).await;
    }
}
