//! A worker that outlived the last daemon: found by pid and start time, or by its socket where the record was lost; asked
//! to end, and only then killed, so that two models are never resident by accident.

use std::path::Path;
use std::time::Duration;

use nix::sys::signal::{Signal, kill, killpg};
use nix::unistd::Pid;
use tokio::net::UnixStream;

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

/// Workers of whom nothing is known but that they listen in this home under our uid. Sockets that nobody serves are
/// removed: the caller holds the home's lock, so no living daemon needs them.
pub async fn listening(home: &Path) -> Vec<WorkerRecord> {
    let Ok(entries) = std::fs::read_dir(home) else { return Vec::new() };
    let mut found = Vec::new();
    for entry in entries.flatten() {
        let Some(generation) = entry.file_name().to_str().and_then(generation_of) else { continue };
        match UnixStream::connect(entry.path()).await {
            Ok(stream) => found.extend(record_of(&stream, generation)),
            Err(error) if error.kind() == std::io::ErrorKind::ConnectionRefused => {
                let _ = std::fs::remove_file(entry.path());
            }
            Err(error) => tracing::warn!(%error, socket = %entry.path().display(), "a worker's socket does not answer"),
        }
    }
    found
}

/// `N` of `worker-N.sock`.
fn generation_of(name: &str) -> Option<u64> {
    name.strip_prefix("worker-")?.strip_suffix(".sock")?.parse().ok()
}

fn record_of(stream: &UnixStream, generation: u64) -> Option<WorkerRecord> {
    let peer = stream.peer_cred().ok()?;
    let pid = peer.pid().and_then(|pid| u32::try_from(pid).ok())?;
    if peer.uid() != nix::unistd::geteuid().as_raw() || pid == std::process::id() {
        return None;
    }
    Some(WorkerRecord { pid, start: process_start_id(pid), generation, nonce: String::new() })
}

async fn gone(record: &WorkerRecord) {
    while is_alive(record) {
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixListener;

    use super::*;

    #[test]
    fn only_sockets_of_workers_are_looked_at() {
        assert_eq!(generation_of("worker-17.sock"), Some(17));
        for other in ["worker-.sock", "worker-x.sock", "mlxsup.sock", "worker-1.sock.old", "worker.log"] {
            assert_eq!(generation_of(other), None, "{other}");
        }
    }

    #[tokio::test]
    async fn a_socket_nobody_serves_goes_and_our_own_is_no_leftover() {
        let home = tempfile::tempdir().unwrap();
        let (dead, ours) = (home.path().join("worker-1.sock"), home.path().join("worker-2.sock"));
        drop(UnixListener::bind(&dead).unwrap());
        let _served = UnixListener::bind(&ours).unwrap();
        assert_eq!(listening(home.path()).await, []);
        assert!(!dead.exists() && ours.exists());
    }
}
