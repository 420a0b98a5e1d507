//! Asking MLX about its device without loading MLX: the worker program says it and ends.
//!
//! On a Mac the working set is known to Metal alone, and a process that has asked it once carries the driver for ever. Other
//! systems have no working set to ask for.

use std::io::Read;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use mlxsup_fit::Machine;

use crate::memory::machine::Reported;

/// A worker that has not answered by then is not waited for: the numbers are then assumed.
const PATIENCE: Duration = Duration::from_secs(10);
/// Between two looks whether it has ended.
const LOOK_EVERY: Duration = Duration::from_millis(10);
/// Longest answer read.
const MOST_BYTES: u64 = 64 << 10;

/// What the device says, where it matters: on a Mac, from the worker beside this very program.
#[must_use]
pub fn reported() -> Reported {
    let own = std::env::current_exe().ok().filter(|_| cfg!(target_os = "macos"));
    let worker = own.map(|own| own.with_file_name("mlxsup-worker")).filter(|worker| worker.is_file());
    worker.and_then(|worker| ask(&worker)).unwrap_or_default()
}

/// Runs `worker --machine`; nothing when it fails, hangs or says something else.
fn ask(worker: &Path) -> Option<Reported> {
    let mut child = Command::new(worker)
        .arg("--machine")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .ok()?;
    let ended = ended_well(&mut child);
    if !ended {
        // It may have ended meanwhile; then there is nobody to kill, and the wait reaps it either way.
        let _ = child.kill();
        let _ = child.wait();
        return None;
    }
    let mut text = String::new();
    child.stdout.take()?.take(MOST_BYTES).read_to_string(&mut text).ok()?;
    let machine: Machine = serde_json::from_str(&text).ok()?;
    Some(Reported { working_set: machine.working_set_bytes(), gpu: Some(machine.gpu) })
}

fn ended_well(child: &mut Child) -> bool {
    let deadline = Instant::now() + PATIENCE;
    loop {
        match child.try_wait() {
            Ok(Some(status)) => return status.success(),
            Ok(None) if Instant::now() < deadline => std::thread::sleep(LOOK_EVERY),
            Ok(None) | Err(_) => return false,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;
    use std::path::PathBuf;

    use super::*;

    fn worker(script: &str) -> (tempfile::TempDir, PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("mlxsup-worker");
        std::fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
        (folder, path)
    }

    #[test]
    fn what_the_worker_says_is_taken_and_anything_else_is_nothing() {
        let machine = r#"{"gpu":true,"unified":true,"can_wire":true,"total_bytes":9,"outside_bytes":0,"working_set":{"bytes":7,"source":"reported"}}"#;
        let (_folder, good) = worker(&format!("[ \"$1\" = --machine ] && echo '{machine}'"));
        assert_eq!(ask(&good), Some(Reported { working_set: Some(7), gpu: Some(true) }));
        for script in ["echo nonsense", "exit 3", ":"] {
            let (_folder, bad) = worker(script);
            assert_eq!(ask(&bad), None, "{script}");
        }
        assert_eq!(ask(Path::new("/no/such/worker")), None);
    }
}
