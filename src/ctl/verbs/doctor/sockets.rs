//! Sockets that nobody serves, a lock whose holder is gone, workers that outlived their daemon.
//!
//! A socket that an init system holds is never connected to while no daemon answers: that would start one.

use std::io::ErrorKind;
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::net::UnixStream;

use super::finding::{Area, Finding, Level};
use crate::ctl::render::quantity::size;
use crate::daemon::{leftover, state_file};
use crate::memory::footprint;

/// Whoever listens answers a connect at once.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);

/// What was read.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Sockets {
    /// The home.
    pub home: PathBuf,
    /// A daemon answers on the control socket.
    pub daemon: Option<u32>,
    /// `control.sock`.
    pub control: Condition,
    /// The stable socket, where it was looked at.
    pub client: Option<(PathBuf, Condition)>,
    /// Sockets of workers, by name.
    pub workers: Vec<(String, Condition)>,
    /// The pid in the lock file, and the name of its process, if there is one.
    pub lock: Option<(u32, Option<String>)>,
    /// Workers of the state file that live.
    pub left: Vec<Left>,
    /// Why the state file could not be understood.
    pub state_problem: Option<String>,
}

/// What is at a socket's path.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Condition {
    /// Nothing.
    #[default]
    Nothing,
    /// Something that is no socket.
    NoSocket,
    /// A socket, and nobody took the connection.
    Refused,
    /// A socket that we may not connect to.
    Closed,
    /// Somebody listens.
    Served,
    /// A socket that was left alone.
    NotTried,
}

/// A worker of the state file whose process is there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Left {
    /// Which worker.
    pub generation: u64,
    /// Its process.
    pub pid: u32,
    /// What it holds.
    pub bytes: Option<u64>,
}

/// Looks. `client`: the stable socket, and whether it may be connected to.
pub async fn gather(root: &Path, daemon: Option<u32>, client: Option<(PathBuf, bool)>) -> Sockets {
    let mut sockets = Sockets { home: root.to_owned(), daemon, ..Sockets::default() };
    sockets.control = condition(&root.join("control.sock"), true).await;
    if let Some((path, may_connect)) = client {
        let found = condition(&path, may_connect).await;
        sockets.client = Some((path, found));
    }
    let listing = std::fs::read_dir(root).into_iter().flatten().flatten();
    let mut names: Vec<String> = listing.filter_map(|entry| entry.file_name().into_string().ok()).collect();
    names.retain(|name| name.starts_with("worker-") && name.ends_with(".sock"));
    names.sort();
    for name in names {
        let found = condition(&root.join(&name), true).await;
        sockets.workers.push((name, found));
    }
    let lock = std::fs::read_to_string(root.join("mlxsupd.lock")).ok();
    sockets.lock = lock.and_then(|text| text.trim().parse().ok()).map(|pid| (pid, process_name(pid)));
    match state_file::look(&root.join("state.json")) {
        Ok(state) => {
            let living = state.workers.iter().filter(|record| leftover::is_alive(record));
            let left = |record: &state_file::WorkerRecord| (record.generation, record.pid, footprint(record.pid));
            sockets.left = living.map(left).map(|(generation, pid, bytes)| Left { generation, pid, bytes }).collect();
        }
        Err(problem) => sockets.state_problem = Some(problem),
    }
    sockets
}

async fn condition(path: &Path, may_connect: bool) -> Condition {
    match path.metadata() {
        Ok(found) if !found.file_type().is_socket() => return Condition::NoSocket,
        Ok(_) => {}
        Err(error) if error.kind() == ErrorKind::PermissionDenied => return Condition::Closed,
        Err(_) => return Condition::Nothing,
    }
    if !may_connect {
        return Condition::NotTried;
    }
    match tokio::time::timeout(CONNECT_TIMEOUT, UnixStream::connect(path)).await {
        // A full backlog makes a connect wait on Linux: somebody holds the socket.
        Ok(Ok(_)) | Err(_) => Condition::Served,
        Ok(Err(error)) if error.kind() == ErrorKind::PermissionDenied => Condition::Closed,
        Ok(Err(error)) if error.kind() == ErrorKind::WouldBlock => Condition::Served,
        Ok(Err(_)) => Condition::Refused,
    }
}

/// The program a process runs, by its short name.
fn process_name(pid: u32) -> Option<String> {
    let output = std::process::Command::new("ps").args(["-o", "comm=", "-p", &pid.to_string()]).output().ok()?;
    let text = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    // macOS tells the whole path.
    (!text.is_empty()).then(|| text.rsplit('/').next().unwrap_or_default().to_owned())
}

/// Judges them.
#[must_use]
pub fn judge(sockets: &Sockets, start: &str) -> Vec<Finding> {
    let finding = |level, code, what: String| Finding::new(Area::Sockets, level, code, what);
    let root = sockets.home.display();
    let mut findings = Vec::new();
    let stale = |what: String, why: &str| finding(Level::Problem, "socket_stale", what).because(why).mended_by(start);
    let no_socket = |path: &str| {
        finding(Level::Problem, "no_socket", format!("{path} is no socket"))
            .because("the daemon does not remove what is not its own, and cannot bind there")
            .mended_by(format!("mv {path} {path}.aside"))
    };
    match (&sockets.control, sockets.daemon) {
        (Condition::Refused, None) => findings.push(stale(
            "control.sock is there, but nobody serves it".to_owned(),
            "the daemon died without a word; the next one takes the socket over",
        )),
        (Condition::NoSocket, _) => findings.push(no_socket(&format!("{root}/control.sock"))),
        _ => {}
    }
    if let Some((path, condition)) = &sockets.client {
        let shown = path.display().to_string();
        match (condition, sockets.daemon) {
            (Condition::Refused, Some(_)) => findings.push(stale(
                format!("the daemon runs, but nobody serves {shown}"),
                "clients are refused: the file belongs to an earlier daemon, or launchd's queue of 128 is full",
            )),
            (Condition::Refused, None) => findings.push(stale(
                format!("{shown} is there, but nobody serves it"),
                "clients are refused until a daemon takes the socket over",
            )),
            (Condition::Nothing, Some(_)) => findings.push(stale(
                format!("the daemon runs, but {shown} is gone"),
                "somebody removed the file; new clients find nothing until the daemon is started again",
            )),
            (Condition::NoSocket, _) => findings.push(no_socket(&shown)),
            (Condition::Closed, _) => findings.push(
                finding(Level::Note, "socket_closed", format!("{shown} is closed to this user"))
                    .because("clients of this user are refused; listen.mode and allow_uids open it"),
            ),
            (Condition::Served, _) => {
                findings.push(finding(Level::Ok, "client_socket", format!("{shown} is served")));
            }
            (Condition::Nothing | Condition::NotTried, _) => {}
        }
    }
    let dead: Vec<&str> =
        sockets.workers.iter().filter(|(_, at)| *at == Condition::Refused).map(|(n, _)| n.as_str()).collect();
    if !dead.is_empty() && sockets.daemon.is_none() {
        findings.push(
            finding(
                Level::Note,
                "worker_socket_stale",
                format!("sockets of workers that are gone: {}", dead.join(", ")),
            )
            .because("the next daemon removes them"),
        );
    }
    findings.extend(lock(sockets));
    for worker in sockets.left.iter().filter(|_| sockets.daemon.is_none()) {
        let holds = worker.bytes.map(|bytes| format!(" and holds {}", size(bytes as f64))).unwrap_or_default();
        let what = format!("worker {} (pid {}) runs without a daemon{holds}", worker.generation, worker.pid);
        findings.push(
            finding(Level::Warning, "worker_left", what)
                .because("the next daemon adopts it; without one it ends itself after 15 minutes")
                .mended_by(start),
        );
    }
    if let Some(problem) = &sockets.state_problem {
        findings.push(
            finding(Level::Warning, "state_unreadable", format!("state.json cannot be understood: {problem}"))
                .because("the next daemon sets it aside, ends every worker it finds, and starts afresh")
                .mended_by(format!("cp {root}/state.json {root}/state.json.copy")),
        );
    }
    if findings.is_empty() {
        findings.push(finding(Level::Ok, "sockets", "no socket, lock or worker was left behind".to_owned()));
    }
    findings
}

/// Another process than an answering daemon that has the lock.
fn lock(sockets: &Sockets) -> Option<Finding> {
    let (pid, name) = sockets.lock.as_ref()?;
    let holder = name.as_deref().filter(|name| name.starts_with("mlxsupd"))?;
    if sockets.daemon.is_some() {
        return None;
    }
    let finding = Finding::new(
        Area::Sockets,
        Level::Problem,
        "lock_held",
        format!("{holder} (pid {pid}) holds the home and does not answer"),
    );
    Some(
        finding
            .because("no other daemon can start here while it lives; it may be starting, or stuck")
            .mended_by(format!("mlxsupctl --home {} logs", sockets.home.display())),
    )
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixListener;

    use super::*;

    const START: &str = "mlxsupctl start";

    fn judged(sockets: &Sockets) -> Vec<(Level, &'static str)> {
        judge(sockets, START).iter().map(|finding| (finding.level, finding.code)).collect()
    }

    #[test]
    fn nothing_left_behind_is_one_line() {
        assert_eq!(judged(&Sockets::default()), [(Level::Ok, "sockets")]);
    }

    #[test]
    fn a_daemon_that_died_leaves_traces() {
        let sockets = Sockets {
            control: Condition::Refused,
            client: Some((PathBuf::from("/h/mlxsup.sock"), Condition::Refused)),
            workers: vec![("worker-3.sock".to_owned(), Condition::Refused)],
            lock: Some((12, None)),
            left: vec![Left { generation: 4, pid: 99, bytes: Some(35 << 30) }],
            state_problem: Some("no JSON".to_owned()),
            ..Sockets::default()
        };
        let expected = [
            (Level::Problem, "socket_stale"),
            (Level::Problem, "socket_stale"),
            (Level::Note, "worker_socket_stale"),
            (Level::Warning, "worker_left"),
            (Level::Warning, "state_unreadable"),
        ];
        assert_eq!(judged(&sockets), expected);
        assert!(judge(&sockets, START)[3].what.ends_with("holds 35.0 GiB"));
    }

    #[test]
    fn with_a_daemon_its_worker_is_no_leftover_and_its_socket_must_be_there() {
        let left = vec![Left { generation: 4, pid: 99, bytes: None }];
        let client = |condition| Some((PathBuf::from("/h/mlxsup.sock"), condition));
        let with = |condition| {
            judged(&Sockets { daemon: Some(1), left: left.clone(), client: client(condition), ..Sockets::default() })
        };
        assert_eq!(with(Condition::Served), [(Level::Ok, "client_socket")]);
        assert_eq!(with(Condition::Nothing), [(Level::Problem, "socket_stale")]);
        assert_eq!(with(Condition::Closed), [(Level::Note, "socket_closed")]);
        assert_eq!(with(Condition::NotTried), [(Level::Ok, "sockets")]);
    }

    #[test]
    fn a_lock_is_only_told_when_a_daemon_really_has_it() {
        let held = |name: Option<&str>, daemon| {
            judged(&Sockets { lock: Some((12, name.map(str::to_owned))), daemon, ..Sockets::default() })
        };
        assert_eq!(held(Some("mlxsupd"), None), [(Level::Problem, "lock_held")]);
        assert_eq!(held(Some("mlxsupd"), Some(12)), [(Level::Ok, "sockets")]);
        assert_eq!(held(Some("bash"), None), [(Level::Ok, "sockets")]);
        assert_eq!(held(None, None), [(Level::Ok, "sockets")]);
    }

    #[tokio::test]
    async fn a_real_home_is_read() {
        let folder = tempfile::Builder::new().prefix("doc").tempdir_in("/tmp").unwrap();
        let at = |name: &str| folder.path().join(name);
        let _served = UnixListener::bind(at("mlxsup.sock")).unwrap();
        drop(UnixListener::bind(at("control.sock")).unwrap());
        std::fs::write(at("worker-1.sock"), "").unwrap();
        std::fs::write(at("mlxsupd.lock"), format!("{}\n", std::process::id())).unwrap();
        std::fs::write(at("state.json"), "{").unwrap();
        let found = gather(folder.path(), None, Some((at("mlxsup.sock"), true))).await;
        assert_eq!(found.control, Condition::Refused);
        assert_eq!(found.client, Some((at("mlxsup.sock"), Condition::Served)));
        assert_eq!(found.workers, [("worker-1.sock".to_owned(), Condition::NoSocket)]);
        assert!(found.lock.is_some_and(|(_, name)| name.is_some()) && found.state_problem.is_some());
        assert!(at("control.sock").exists() && at("state.json").exists(), "nothing is changed");
        let untouched = gather(folder.path(), None, Some((at("mlxsup.sock"), false))).await;
        assert_eq!(untouched.client, Some((at("mlxsup.sock"), Condition::NotTried)));
    }
}
