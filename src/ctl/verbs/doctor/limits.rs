//! What the kernel allows one process: descriptors, threads, locked memory, the length of a socket's path.
//!
//! The limits are those of the running daemon where the system tells them, else those of this very program, from whose
//! session a daemon started by hand would get the same.

use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use nix::sys::resource::{RLIM_INFINITY, Resource, getrlimit};

use super::finding::{Area, Finding, Level};
use crate::config::longest_socket_path;
use crate::ctl::render::quantity::{count, size};

/// Descriptors that the daemon keeps for itself; each connection may need two.
const OWN: u64 = 128;
/// `SoftResourceLimits` of `launchd/io.github.mlxsup.mlxsupd.plist.in`.
const FILES_OF_JOB: u64 = 4096;
/// Fewer clients than this are soon reached by a few agents.
const FEW_CONNECTIONS: u64 = 256;
/// Threads of a worker with its libraries, and room for the daemon.
const FEW_PROCESSES: u64 = 512;

/// What was read. Numbers are the soft limits but for descriptors, of which the daemon takes all it may.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Limits {
    /// Descriptors; `None` is no limit.
    pub files: Option<u64>,
    /// Processes and threads of this user.
    pub processes: Option<u64>,
    /// Bytes that may be locked.
    pub locked: Option<u64>,
    /// True when they are the daemon's own.
    pub of_daemon: bool,
    /// Bytes that the worker will lock, where it does so by mlock.
    pub to_lock: Option<u64>,
    /// The longest path a socket of this home gets.
    pub longest_socket: PathBuf,
}

/// Reads the limits of this process. `installed`: a service manager gives the daemon limits of its own.
#[must_use]
pub fn gather(longest_socket: PathBuf, to_lock: Option<u64>, daemon: Option<u32>, installed: bool) -> Limits {
    let mut limits = Limits { files: files(installed), of_daemon: false, to_lock, longest_socket, ..Limits::default() };
    #[cfg(target_os = "linux")]
    {
        limits.processes = soft(Resource::RLIMIT_NPROC);
        limits.locked = soft(Resource::RLIMIT_MEMLOCK);
    }
    // Linux only; elsewhere there are no such files.
    let process = daemon.map_or_else(|| "self".to_owned(), |pid| pid.to_string());
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).unwrap_or_default();
    let text = daemon.and_then(|pid| std::fs::read_to_string(format!("/proc/{pid}/limits")).ok());
    if let Some(text) = text {
        let read = |name: &str, column: usize| read_limit(&text, name, column);
        if let (Some(files), Some(processes), Some(locked)) =
            (read("Max open files", 1), read("Max processes", 0), read("Max locked memory", 0))
        {
            limits = Limits { files, processes, locked, of_daemon: true, ..limits };
        }
    }
    if may_lock_all(&status) {
        limits.locked = None;
    }
    limits
}

/// `CAP_IPC_LOCK` passes over the limit.
fn may_lock_all(status: &str) -> bool {
    const IPC_LOCK: u32 = 14;
    let mask = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).is_some_and(|mask| mask >> IPC_LOCK & 1 == 1)
}

fn finite(limit: u64) -> Option<u64> {
    (limit != RLIM_INFINITY).then_some(limit)
}

#[cfg(target_os = "linux")]
fn soft(resource: Resource) -> Option<u64> {
    getrlimit(resource).ok().and_then(|(soft, _)| finite(soft))
}

/// What a daemon can have. macOS calls the hard limit infinite and does not grant it; there the soft one counts, which in
/// our launchd job is a number of its own.
fn files(installed: bool) -> Option<u64> {
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE).ok()?;
    if cfg!(target_os = "macos") {
        return if installed { Some(FILES_OF_JOB) } else { finite(soft) };
    }
    finite(hard)
}

/// One line of `/proc/PID/limits`: name, soft limit, hard limit, unit.
fn read_limit(text: &str, name: &str, column: usize) -> Option<Option<u64>> {
    let word = text.lines().find_map(|line| line.strip_prefix(name))?.split_whitespace().nth(column)?;
    if word == "unlimited" { Some(None) } else { word.parse().ok().map(Some) }
}

/// Judges them.
#[must_use]
pub fn judge(limits: &Limits) -> Vec<Finding> {
    let finding = |level, code, what: String| Finding::new(Area::Limits, level, code, what);
    let whose = if limits.of_daemon { "the daemon" } else { "a daemon started from here" };
    let mut findings = Vec::new();
    let connections = limits.files.map(|files| files.saturating_sub(OWN) / 2);
    findings.push(match connections {
        Some(connections) if connections < FEW_CONNECTIONS => finding(
            Level::Warning,
            "few_files",
            format!("{whose} serves {} connections at once", count(connections.max(16))),
        )
        .because("its limit of open files allows no more; further clients wait in the socket's backlog")
        .mended_by(if cfg!(target_os = "macos") {
            "ulimit -n 4096"
        } else {
            "echo \"$USER hard nofile 65536\" | sudo tee -a /etc/security/limits.d/mlxsup.conf, then log in again"
        }),
        Some(connections) => {
            finding(Level::Ok, "files", format!("open files suffice for {} connections at once", count(connections)))
        }
        None => finding(Level::Ok, "files", "open files are not limited".to_owned()),
    });
    if let Some(processes) = limits.processes.filter(|processes| *processes < FEW_PROCESSES) {
        findings.push(
            finding(Level::Warning, "few_processes", format!("{whose} may have {} processes", count(processes)))
                .because("threads count too; a worker that cannot start its threads dies while loading")
                .mended_by("ulimit -u 2048"),
        );
    }
    if let (Some(locked), Some(to_lock)) = (limits.locked, limits.to_lock)
        && locked < to_lock
    {
        let what = format!("{} may be locked, the weights are {}", size(locked as f64), size(to_lock as f64));
        findings.push(
            finding(Level::Warning, "few_locked", what)
                .because("on the CPU the wired limit is locked memory: the rest can be compressed or swapped while idle")
                .mended_by(
                    "echo \"$USER - memlock unlimited\" | sudo tee -a /etc/security/limits.d/mlxsup.conf, then log in again",
                ),
        );
    }
    let (length, longest) = (limits.longest_socket.as_os_str().as_bytes().len(), longest_socket_path());
    if length > longest {
        let what =
            format!("the socket path {} has {length} bytes, {longest} are allowed", limits.longest_socket.display());
        findings.push(
            finding(Level::Problem, "socket_path", what)
                .because("the kernel takes no longer path, so the daemon does not start")
                .mended_by("export MLXSUP_HOME=\"$HOME/.mlxsup\""),
        );
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judged(limits: &Limits) -> Vec<(Level, &'static str)> {
        judge(limits).iter().map(|finding| (finding.level, finding.code)).collect()
    }

    #[test]
    fn enough_of_everything_is_one_line() {
        let limits = Limits { files: Some(524_288), processes: Some(62_000), ..Limits::default() };
        assert_eq!(judged(&limits), [(Level::Ok, "files")]);
        assert_eq!(judged(&Limits::default()), [(Level::Ok, "files")]);
    }

    #[test]
    fn each_shortage_is_named() {
        let limits = Limits {
            files: Some(256),
            processes: Some(100),
            locked: Some(8 << 20),
            to_lock: Some(4 << 30),
            of_daemon: true,
            longest_socket: PathBuf::from(format!("/{}", "x".repeat(120))),
        };
        let expected = [
            (Level::Warning, "few_files"),
            (Level::Warning, "few_processes"),
            (Level::Warning, "few_locked"),
            (Level::Problem, "socket_path"),
        ];
        assert_eq!(judged(&limits), expected);
        assert_eq!(judge(&limits)[0].what, "the daemon serves 64 connections at once");
    }

    #[test]
    fn who_may_lock_all_is_read() {
        assert!(may_lock_all("Name:\tx\nCapEff:\t000001ffffffffff\n"));
        assert!(!may_lock_all("CapEff:\t0000000000000000\n"));
        assert!(!may_lock_all(""));
    }

    #[test]
    fn the_kernels_table_is_read() {
        let text = "Limit                     Soft Limit           Hard Limit           Units     \n\
                    Max processes             unlimited            unlimited            processes \n\
                    Max open files            1024                 524288               files     \n";
        assert_eq!(read_limit(text, "Max open files", 1), Some(Some(524_288)));
        assert_eq!(read_limit(text, "Max processes", 0), Some(None));
        assert_eq!(read_limit(text, "Max locked memory", 0), None);
    }
}
