//! Starting a worker: its own session, files for its words, an inherited ready pipe, and nothing else of ours.
#![allow(unsafe_code, reason = "pre_exec runs between fork and exec; see the argument there")]

use std::ffi::OsString;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use mlxsup_worker_api::Settings;
use mlxsup_worker_api::settings::env;
use nix::fcntl::{FcntlArg, FdFlag, OFlag, fcntl};
use nix::sys::signal::{SigSet, SigmaskHow, sigprocmask};
use nix::unistd::{Pid, setsid};

use crate::supervisor::Generation;

/// Everything a worker is born with.
#[derive(Debug, Clone)]
pub struct Birth {
    /// Program and arguments.
    pub command: Vec<OsString>,
    /// Additions to the environment.
    pub env: Vec<(String, String)>,
    /// Which worker.
    pub generation: Generation,
    /// Its identity, 32 hexadecimal digits.
    pub nonce: String,
    /// Ours.
    pub epoch: u64,
    /// Where it listens.
    pub socket: PathBuf,
    /// Where its standard output and error go.
    pub log: PathBuf,
    /// What it runs with.
    pub settings: Settings,
}

/// Why there is no process.
#[derive(Debug, thiserror::Error)]
pub enum SpawnError {
    /// An empty command.
    #[error("worker.command is empty; name a program")]
    NoCommand,
    /// The program cannot be run.
    #[error("cannot run `{program}`: {source}; {}", advice(.source))]
    Program {
        /// Which one.
        program: String,
        /// The system's word.
        source: io::Error,
    },
    /// Its log cannot be opened.
    #[error("cannot open {path} for the worker's output: {source}; check the permissions of the home")]
    Log {
        /// Which file.
        path: PathBuf,
        /// The system's word.
        source: io::Error,
    },
    /// No pipe.
    #[error("cannot make the ready pipe: {0}; the process is out of file descriptors")]
    Pipe(#[source] io::Error),
    /// The settings cannot be written down.
    #[error("cannot write the worker's settings: {0}")]
    Settings(#[source] serde_json::Error),
}

fn advice(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::NotFound => "build it (`make build`) or set worker.command",
        io::ErrorKind::PermissionDenied => "make it executable, or set worker.command",
        _ => "set worker.command to a program that runs here",
    }
}

/// A process just started.
#[derive(Debug)]
pub struct Spawned {
    /// Its id; also its session and process group.
    pub pid: Pid,
    /// Our end of the ready pipe: one newline means ready, end-of-file that it never will be.
    pub ready: OwnedFd,
}

/// Starts a worker.
///
/// # Errors
/// See [`SpawnError`]; nothing is left behind.
pub fn spawn(birth: &Birth) -> Result<Spawned, SpawnError> {
    let [program, arguments @ ..] = birth.command.as_slice() else { return Err(SpawnError::NoCommand) };
    let log = open_log(&birth.log)?;
    let also_log = log.try_clone().map_err(|source| SpawnError::Log { path: birth.log.clone(), source })?;
    let (ready, ready_writer) = ready_pipe().map_err(SpawnError::Pipe)?;
    let settings = serde_json::to_string(&birth.settings).map_err(SpawnError::Settings)?;
    let writer: RawFd = ready_writer.as_raw_fd();
    let mut command = Command::new(program);
    command
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(log)
        .stderr(also_log)
        .env(env::READY_FD, writer.to_string())
        .env(env::SOCKET, &birth.socket)
        .env(env::GENERATION, birth.generation.to_string())
        .env(env::NONCE, &birth.nonce)
        .env(env::EPOCH, birth.epoch.to_string())
        .env(env::SETTINGS, settings)
        .envs(birth.env.iter().map(|(name, value)| (name, value)));
    // These belong to the daemon: a worker that answered its watchdog or took its sockets would confuse the init system.
    for name in crate::service::INIT_VARIABLES {
        command.env_remove(name);
    }
    // SAFETY: between fork and exec only async-signal-safe calls are allowed. The closure makes three system calls
    // (setsid, sigprocmask, fcntl) through thin wrappers that allocate nothing; `writer` is open in the child because
    // `ready_writer` outlives the spawn.
    unsafe {
        command.pre_exec(move || {
            setsid()?;
            sigprocmask(SigmaskHow::SIG_SETMASK, Some(&SigSet::empty()), None)?;
            fcntl(BorrowedFd::borrow_raw(writer), FcntlArg::F_SETFD(FdFlag::empty()))?;
            Ok(())
        });
    }
    let child = command
        .spawn()
        .map_err(|source| SpawnError::Program { program: program.to_string_lossy().into_owned(), source })?;
    drop(ready_writer);
    let pid = Pid::from_raw(i32::try_from(child.id()).unwrap_or(i32::MAX));
    Ok(Spawned { pid, ready })
}

fn open_log(path: &Path) -> Result<File, SpawnError> {
    OpenOptions::new()
        .create(true)
        .append(true)
        .mode(0o600)
        .open(path)
        .map_err(|source| SpawnError::Log { path: path.to_owned(), source })
}

/// A pipe whose both ends are close-on-exec (the child's end is opened up in the child only), ours non-blocking.
fn ready_pipe() -> io::Result<(OwnedFd, OwnedFd)> {
    let (reader, writer) = io::pipe()?;
    fcntl(&reader, FcntlArg::F_SETFL(OFlag::O_NONBLOCK))?;
    Ok((reader.into(), writer.into()))
}
