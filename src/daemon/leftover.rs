//! Workers that outlived the last daemon: who still lives, and what it says.
//!
//! A process of the state's records is known by its pid and start time, and asked over its socket. A process of which
//! only its socket is left must prove over it that it is a worker. Everybody is asked at once and nobody for longer than
//! [`ANSWER`], so a daemon is back at work within that time. What becomes of them, the core decides.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use mlxsup_worker_api::{Phase, WorkerStatus};
use tokio::sync::oneshot;
use tokio::task::JoinSet;

use super::clock::wall;
use super::home::Home;
use super::state_file::WorkerRecord;
use crate::link::client::{Address, Call, LinkError};
use crate::link::endpoint::Endpoint;
use crate::link::foreign::{self, Condition};
use crate::link::probe::{facts, foreign_facts};
use crate::link::process::{Family, Process, ended_unwatched};
use crate::memory::{footprint, process_start_id};
use crate::supervisor::event::Inherited;
use crate::supervisor::worker_life::{StopLadder, StopReason};
use crate::supervisor::{Generation, Mono, Wall};

/// For a worker's answer to a new daemon.
const ANSWER: Duration = Duration::from_millis(250);

/// A worker that was spawned less long ago may not listen yet.
const BINDING: Duration = Duration::from_secs(60);

/// A worker that is there.
#[derive(Debug, Clone, PartialEq)]
pub struct Leftover {
    /// Who it is.
    pub record: WorkerRecord,
    /// For the core.
    pub found: Inherited,
    /// Its report, if it serves.
    pub status: Option<WorkerStatus>,
}

/// All that was found.
#[derive(Debug, Default)]
pub struct Survey {
    /// In order of generation.
    pub workers: Vec<Leftover>,
    /// Sentences for the events, of records and sockets that came to nothing.
    pub notes: Vec<String>,
}

/// True while the very process of the record is there (a zombie still is).
#[must_use]
pub fn is_alive(record: &WorkerRecord) -> bool {
    record.start.is_some() && process_start_id(record.pid) == record.start
}

/// Ends a worker whom no daemon will look after any more, by the stop ladder. Returns a sentence, or `None` when it was
/// gone. For an uninstall: where a daemon runs, the core decides.
pub async fn end(record: &WorkerRecord) -> Option<String> {
    let (gone_in, gone) = oneshot::channel();
    let start = record.start.as_ref()?;
    let process = Process::adopt(record.pid, start, family_of(record), move |_| {
        let _ = gone_in.send(());
    })
    .ok()?;
    let ladder = StopLadder::new(footprint(record.pid), StopReason::Planned, Mono(0));
    let patience = ladder.kill_at - ladder.since;
    tokio::pin!(gone);
    process.terminate();
    let obeyed = tokio::time::timeout(patience, &mut gone).await.is_ok();
    if !obeyed {
        process.kill_group();
        let _ = tokio::time::timeout(patience, &mut gone).await;
    }
    let how = if obeyed { "stopped" } else { "killed" };
    Some(format!("worker {} (pid {}) had outlived its daemon and was {how}", record.generation, record.pid))
}

/// The worker's own socket, where it has one.
#[must_use]
pub fn socket_of(record: &WorkerRecord, home: &Home) -> PathBuf {
    record.socket.clone().unwrap_or_else(|| home.worker_socket(Generation(record.generation)))
}

/// Who else belongs to a record's worker.
#[must_use]
pub fn family_of(record: &WorkerRecord) -> Family {
    if record.foreign.is_some() { Family::Group } else { Family::Alone }
}

/// How a record's worker is reached.
#[must_use]
pub fn address_of(record: &WorkerRecord, home: &Home, epoch: u64) -> Address {
    let endpoint = record.endpoint.clone().unwrap_or_else(|| Endpoint::Unix(socket_of(record, home)));
    let foreign = record.foreign.clone().map(Arc::new);
    Address { endpoint, foreign, nonce: record.nonce.clone(), epoch }
}

/// Looks for everybody. The caller holds the home's lock: sockets that nobody serves are removed.
pub async fn survey(home: &Home, records: Vec<WorkerRecord>, epoch: u64) -> Survey {
    let mut survey = Survey::default();
    let mut known = Vec::new();
    let mut asked = JoinSet::new();
    for record in records {
        let socket = socket_of(&record, home);
        match gone(&record) {
            Some(note) => survey.notes.push(note),
            None => {
                known.push(socket);
                let address = address_of(&record, home, epoch);
                asked.spawn(async move { Ok(ask(record, address).await) });
            }
        }
    }
    for (socket, generation) in worker_sockets(home.root()) {
        if !known.contains(&socket) {
            asked.spawn(stray(socket, generation, epoch));
        }
    }
    while let Some(answer) = asked.join_next().await {
        match answer {
            Ok(Ok(leftover)) => survey.workers.push(leftover),
            Ok(Err(Some(note))) => survey.notes.push(note),
            Ok(Err(None)) => {}
            Err(error) => survey.notes.push(format!("asking a worker of the last daemon failed: {error}")),
        }
    }
    survey.workers.sort_by_key(|leftover| leftover.record.generation);
    survey
}

/// Why there is nothing to adopt under this record, if so.
fn gone(record: &WorkerRecord) -> Option<String> {
    if !is_alive(record) {
        let now = match process_start_id(record.pid) {
            Some(_) => "its pid is another process's now, which is left alone",
            None => "it is gone",
        };
        return Some(ended_unseen(record, now));
    }
    ended_unwatched(record.pid).map(|status| ended_unseen(record, &status.to_string()))
}

/// The note about a worker that nobody saw end.
pub(super) fn ended_unseen(record: &WorkerRecord, what: &str) -> String {
    let WorkerRecord { pid, generation, .. } = record;
    format!("worker {generation} (pid {pid}) ended while no daemon ran: {what}")
}

/// Asks a process that is the record's own.
async fn ask(record: WorkerRecord, address: Address) -> Leftover {
    let introduced = tokio::time::timeout(ANSWER, introduce(&record, &address)).await;
    let (found, status) = match introduced.unwrap_or(Err(Silence::Useless(LinkError::TimedOut(ANSWER).to_string()))) {
        Ok(Condition::Answers) => match &record.foreign {
            Some(foreign) => (Inherited::Ready(foreign_facts(foreign)), None),
            None => (Inherited::Silent { why: "it makes no report".to_owned() }, None),
        },
        Ok(Condition::Told(status)) if status.phase == Phase::Ready => {
            (Inherited::Ready(facts(&status)), Some(*status))
        }
        Ok(Condition::Told(_)) | Err(Silence::NotYet) => {
            (Inherited::Loading { remaining: remaining(&record, wall()) }, None)
        }
        Err(Silence::Useless(why)) => (Inherited::Silent { why }, None),
    };
    Leftover { record, found, status }
}

/// Why a living worker gave no report.
enum Silence {
    /// It is so young that it may not listen yet.
    NotYet,
    /// It will not, or somebody else answers in its place.
    Useless(String),
}

async fn introduce(record: &WorkerRecord, address: &Address) -> Result<Condition, Silence> {
    let useless = |why: String| Err(Silence::Useless(why));
    if record.foreign.as_ref().is_some_and(|foreign| foreign.paths.is_some()) {
        // A server that makes no report is known by its process alone: whoever answers at its place is taken for it.
        return match foreign::condition(address, false, ANSWER).await {
            Ok(condition) => Ok(condition),
            // It may still load its model: until its time is over that is no fault.
            Err(_) if !remaining(record, wall()).is_zero() => Err(Silence::NotYet),
            Err(error) => useless(error.to_string()),
        };
    }
    let call = match Call::open(&address.endpoint).await {
        Ok(call) => call,
        Err(LinkError::Connect { source, .. })
            if matches!(source.kind(), ErrorKind::NotFound | ErrorKind::ConnectionRefused)
                && is_young(record, wall()) =>
        {
            return Err(Silence::NotYet);
        }
        Err(error) => return useless(error.to_string()),
    };
    match call.peer {
        Some((pid, _)) if pid == record.pid => {}
        Some((pid, _)) => return useless(format!("process {pid} answers at its socket")),
        None => return useless("nobody can tell who answers at its socket".to_owned()),
    }
    match call.status(address).await {
        Ok(status) if status.nonce == record.nonce && status.generation == record.generation => {
            Ok(Condition::Told(Box::new(status)))
        }
        Ok(_) => useless("it gives itself out for another worker".to_owned()),
        Err(error) => useless(error.to_string()),
    }
}

/// What is left of the time that a worker may load. A clock that was set back gives nobody more than all of it.
fn remaining(record: &WorkerRecord, now: Wall) -> Duration {
    let (Some(spawned), Some(until)) = (record.spawned_at, record.ready_by) else { return Duration::ZERO };
    let all = until.0.saturating_sub(spawned.0);
    Duration::from_millis(until.0.saturating_sub(now.0).min(all))
}

fn is_young(record: &WorkerRecord, now: Wall) -> bool {
    record.spawned_at.is_some_and(|spawned| now >= spawned && now < spawned + BINDING)
}

/// Asks whoever listens where a worker would, though no record explains it. `Err(None)`: nobody did.
async fn stray(socket: PathBuf, generation: u64, epoch: u64) -> Result<Leftover, Option<String>> {
    let name = socket.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let ignored = |why: String| Err(Some(format!("{name}: {why}; whoever it is, it is left alone")));
    let call = match tokio::time::timeout(ANSWER, Call::open(&Endpoint::Unix(socket.clone()))).await {
        Ok(Ok(call)) => call,
        Ok(Err(LinkError::Connect { source, .. })) if source.kind() == ErrorKind::ConnectionRefused => {
            let _ = std::fs::remove_file(&socket);
            return Err(None);
        }
        Ok(Err(error)) => return ignored(error.to_string()),
        Err(_) => return ignored(LinkError::TimedOut(ANSWER).to_string()),
    };
    let Some((pid, uid)) = call.peer else { return ignored("nobody can tell who listens there".to_owned()) };
    if uid != nix::unistd::geteuid().as_raw() || pid == std::process::id() {
        return ignored(format!("process {pid} of uid {uid} listens there"));
    }
    // Its start time first: should it end while it answers, its pid's next owner is not taken for it.
    let start = process_start_id(pid);
    let endpoint = Endpoint::Unix(socket.clone());
    let address = Address { endpoint, foreign: None, nonce: String::new(), epoch };
    match tokio::time::timeout(ANSWER, call.status(&address)).await {
        Ok(Ok(status)) if status.pid == pid && status.generation == generation => {
            let nonce = status.nonce;
            let record =
                WorkerRecord { pid, start, generation, nonce, socket: Some(socket), ..WorkerRecord::default() };
            let why = "its record was lost".to_owned();
            Ok(Leftover { record, found: Inherited::Silent { why }, status: None })
        }
        Ok(Ok(_)) => ignored(format!("process {pid} gives itself out for another worker")),
        Ok(Err(error)) => ignored(format!("process {pid} is no worker: {error}")),
        Err(_) => ignored(format!("process {pid} did not show that it is a worker within {} ms", ANSWER.as_millis())),
    }
}

/// Sockets where workers of this home listen, or did.
fn worker_sockets(home: &Path) -> Vec<(PathBuf, u64)> {
    let Ok(entries) = std::fs::read_dir(home) else { return Vec::new() };
    let socket = |entry: std::fs::DirEntry| Some((entry.path(), generation_of(entry.file_name().to_str()?)?));
    entries.flatten().filter_map(socket).collect()
}

/// `N` of `worker-N.sock`.
fn generation_of(name: &str) -> Option<u64> {
    name.strip_prefix("worker-")?.strip_suffix(".sock")?.parse().ok()
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
        let folder = tempfile::tempdir().unwrap();
        let home = Home::open(folder.path()).unwrap();
        let (dead, ours) = (home.root().join("worker-1.sock"), home.root().join("worker-2.sock"));
        drop(UnixListener::bind(&dead).unwrap());
        let _served = UnixListener::bind(&ours).unwrap();
        let survey = survey(&home, Vec::new(), 1).await;
        assert_eq!(survey.workers, []);
        assert!(survey.notes.len() == 1 && survey.notes[0].contains("left alone"), "{:?}", survey.notes);
        assert!(!dead.exists() && ours.exists());
    }

    #[tokio::test]
    async fn records_without_their_process_are_notes() {
        let folder = tempfile::tempdir().unwrap();
        let home = Home::open(folder.path()).unwrap();
        let reused = WorkerRecord { pid: std::process::id(), generation: 1, ..WorkerRecord::default() };
        let gone = WorkerRecord { pid: u32::MAX - 1, start: process_start_id(1), generation: 2, ..reused.clone() };
        let survey = survey(&home, vec![reused, gone], 1).await;
        assert_eq!(survey.workers, []);
        assert!(survey.notes[0].contains("another process's now"), "{:?}", survey.notes);
        assert!(survey.notes[1].contains("it is gone"), "{:?}", survey.notes);
    }

    #[test]
    fn the_time_left_to_load_survives_a_clock_that_jumps() {
        let record =
            WorkerRecord { spawned_at: Some(Wall(1000)), ready_by: Some(Wall(5000)), ..WorkerRecord::default() };
        let left = |now| remaining(&record, Wall(now)).as_millis();
        assert_eq!((left(2000), left(9000), left(0)), (3000, 0, 4000));
        assert_eq!(remaining(&WorkerRecord::default(), Wall(0)), Duration::ZERO);
    }
}
