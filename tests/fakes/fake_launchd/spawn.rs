//! From a job file to a process with the sockets in its hands.
#![allow(unsafe_code, reason = "pre_exec runs between fork and exec; see the argument there")]

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, RawFd};
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};

use nix::unistd::{Pid, setsid};

use crate::job_file::JobFile;
use crate::listeners::Held;

/// The first descriptor of the systemd protocol.
const FIRST: RawFd = 3;

/// More would reach descriptors that std's own exec needs: 3 and 4 are this program's control socket and signal pipe.
const MOST: usize = 2;

/// Puts the process's own id where the protocol wants it, which only the process itself can do.
const TRAMPOLINE: &str = "LISTEN_PID=$$ exec \"$0\" \"$@\"";

/// Starts the job in a session of its own.
pub fn start(file: &JobFile, held: &[Held]) -> Result<Pid, String> {
    if held.len() > MOST {
        return Err(format!("more than {MOST} sockets"));
    }
    let names: Vec<&str> = held.iter().map(|held| held.name.as_str()).collect();
    let sources: Vec<RawFd> = held.iter().map(|held| held.as_fd().as_raw_fd()).collect();
    let mut command = Command::new("/bin/sh");
    command.args(["-c", TRAMPOLINE]).args(&file.arguments).stdin(Stdio::null()).stdout(Stdio::null());
    if let Some(path) = &file.stderr {
        let stderr = File::options().create(true).append(true).open(path);
        command.stderr(stderr.map_err(|why| format!("{}: {why}", path.display()))?);
    }
    command
        .env("XPC_SERVICE_NAME", &file.label)
        .env("LISTEN_FDS", held.len().to_string())
        .env("LISTEN_FDNAMES", names.join(":"))
        .envs(file.environment.iter().map(|(name, value)| (name, value)));
    // SAFETY: the closure makes only the async-signal-safe calls setsid, dup and dup2 on descriptors that are open in the
    // child because this process holds them, and reads memory allocated before the fork.
    unsafe {
        command.pre_exec(move || {
            setsid()?;
            for (source, target) in sources.iter().zip(FIRST..) {
                // Copies have no close-on-exec flag. No source is a target: the lowest two numbers were taken before.
                if libc::dup2(*source, target) < 0 {
                    return Err(io::Error::last_os_error());
                }
            }
            Ok(())
        });
    }
    #[allow(clippy::zombie_processes, reason = "the main loop reaps all children")]
    let child = command.spawn().map_err(|why| format!("{}: {why}", file.arguments[0]))?;
    Ok(Pid::from_raw(i32::try_from(child.id()).unwrap_or(i32::MAX)))
}
