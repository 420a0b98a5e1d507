//! `state.json`: what one daemon leaves for the next. Written atomically; a bad one is set aside, never overwritten.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::program::Program;
use crate::config::Engine;
use crate::link::endpoint::Endpoint;
use crate::link::foreign::Foreign;
use crate::memory::StartId;
use crate::supervisor::{Persistent, Wall};

/// Version of the document.
const SCHEMA: u32 = 1;

/// The document.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct State {
    schema: u32,
    /// Counts daemons of this home.
    pub epoch: u64,
    /// What the core wants kept.
    #[serde(default)]
    pub core: Persistent,
    /// The workers that run.
    #[serde(default)]
    pub workers: Vec<WorkerRecord>,
    /// Where earlier releases kept their only worker; read, never written.
    #[serde(default, rename = "worker", skip_serializing)]
    former: Option<WorkerRecord>,
}

/// Enough to know a worker again, and to go on watching it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct WorkerRecord {
    /// Process id.
    pub pid: u32,
    /// When that process started: a reused pid differs.
    pub start: Option<StartId>,
    /// Which worker.
    pub generation: u64,
    /// Its nonce.
    pub nonce: String,
    /// Where it listens; absent: the usual place for its generation.
    pub socket: Option<PathBuf>,
    /// When it was spawned.
    pub spawned_at: Option<Wall>,
    /// Until when it may load.
    pub ready_by: Option<Wall>,
    /// Length of its log when it was spawned, bytes: its own words begin there.
    pub log_from: u64,
    /// What it was started as.
    pub engine: Option<Engine>,
    /// Where it listens, if not at its socket.
    pub endpoint: Option<Endpoint>,
    /// How to deal with it, unless it is native.
    pub foreign: Option<Foreign>,
    /// The program it was started from.
    pub program: Option<Program>,
}

impl State {
    /// Adds a worker, in the place of one of the same generation.
    pub fn remember(&mut self, record: WorkerRecord) {
        self.forget(record.generation);
        self.workers.push(record);
    }

    /// Removes a worker; false when there was none.
    pub fn forget(&mut self, generation: u64) -> bool {
        let before = self.workers.len();
        self.workers.retain(|worker| worker.generation != generation);
        self.workers.len() < before
    }
}

impl Default for State {
    fn default() -> Self {
        Self { schema: SCHEMA, epoch: 0, core: Persistent::default(), workers: Vec::new(), former: None }
    }
}

/// Why the state could not be written.
#[derive(Debug, thiserror::Error)]
#[error(
    "cannot write {path}: {source}; free some disk space or mend its permissions, it is tried again with the next change"
)]
pub struct WriteError {
    path: PathBuf,
    source: std::io::Error,
}

/// Reads the state. A missing file is a first start; an unreadable or foreign one is moved to `state.json.bad-<pid>` and
/// reported as the second value.
#[must_use]
pub fn read(path: &Path) -> (State, Option<String>) {
    let problem = match look(path) {
        Ok(state) => return (state, None),
        Err(problem) => problem,
    };
    let aside = path.with_extension(format!("json.bad-{}", std::process::id()));
    let moved = match std::fs::rename(path, &aside) {
        Ok(()) => format!("set aside as {}", aside.display()),
        Err(error) => format!("it could not be set aside either: {error}"),
    };
    (State::default(), Some(format!("{} is unreadable ({problem}); {moved}; starting afresh", path.display())))
}

/// Reads the state and leaves the file alone, whatever it is. A missing one is a first start.
///
/// # Errors
/// What is wrong with it.
pub fn look(path: &Path) -> Result<State, String> {
    match std::fs::read(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(State::default()),
        Err(error) => Err(error.to_string()),
        Ok(bytes) => parse(&bytes),
    }
}

/// Understands the document.
///
/// # Errors
/// What is wrong with it.
pub fn parse(bytes: &[u8]) -> Result<State, String> {
    match serde_json::from_slice::<State>(bytes) {
        Ok(mut state) if state.schema == SCHEMA => {
            let former = state.former.take();
            state.workers.extend(former);
            Ok(state)
        }
        Ok(state) => Err(format!("its schema is {}, this daemon knows {SCHEMA}", state.schema)),
        Err(error) => Err(error.to_string()),
    }
}

/// Writes the state so that a crash at any moment leaves the old or the new one.
///
/// # Errors
/// When any of the steps fails; the old file is then still there.
pub fn write(path: &Path, state: &State) -> Result<(), WriteError> {
    let fail = |source| WriteError { path: path.to_owned(), source };
    let text = serde_json::to_vec_pretty(state).map_err(|error| fail(error.into()))?;
    let fresh = path.with_extension("json.new");
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&fresh).map_err(fail)?;
    file.write_all(&text).and_then(|()| file.sync_all()).map_err(fail)?;
    std::fs::rename(&fresh, path).map_err(fail)?;
    let directory = path.parent().unwrap_or(Path::new("."));
    File::open(directory).and_then(|directory| directory.sync_all()).map_err(fail)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::supervisor::Standing;

    #[test]
    fn what_is_written_is_read() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("state.json");
        assert_eq!(read(&path), (State::default(), None));
        let mut state = State { epoch: 7, ..State::default() };
        state.core.standing = Standing::Drained;
        write(&path, &state).unwrap();
        assert_eq!(read(&path), (state, None));
    }

    #[test]
    fn a_bad_file_is_set_aside() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("state.json");
        for bad in ["{", r#"{"schema": 99, "epoch": 1}"#] {
            std::fs::write(&path, bad).unwrap();
            let (state, problem) = read(&path);
            assert_eq!(state, State::default());
            assert!(problem.is_some_and(|problem| problem.contains("set aside")), "{bad}");
            assert!(!path.exists());
        }
    }

    #[test]
    fn unknown_fields_of_later_releases_are_ignored() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("state.json");
        std::fs::write(
            &path,
            r#"{"schema": 1, "epoch": 3, "core": {"generation": 9, "standing": "unloaded", "new": 1}, "later": {}}"#,
        )
        .unwrap();
        let (state, problem) = read(&path);
        assert_eq!((state.epoch, state.core.generation, state.core.standing), (3, 9, Standing::Unloaded));
        assert_eq!(problem, None);
    }

    #[test]
    fn the_only_worker_of_an_earlier_release_is_one_of_many_now() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("state.json");
        let worker = r#"{"pid": 7, "start": "x", "generation": 3, "nonce": "abc"}"#;
        std::fs::write(&path, format!(r#"{{"schema": 1, "epoch": 3, "worker": {worker}}}"#)).unwrap();
        let (state, problem) = read(&path);
        assert_eq!(problem, None);
        assert_eq!((state.workers.len(), state.workers[0].pid, state.workers[0].generation), (1, 7, 3));
        write(&path, &state).unwrap();
        assert_eq!(read(&path), (state, None));
    }

    #[test]
    fn a_worker_is_remembered_once_and_forgotten() {
        let mut state = State::default();
        for pid in [7, 8] {
            state.remember(WorkerRecord { pid, generation: 3, ..WorkerRecord::default() });
        }
        assert_eq!((state.workers.len(), state.workers[0].pid), (1, 8));
        assert!(state.forget(3) && !state.forget(3));
    }
}
