//! One daemon per home: an advisory lock held for life. Only its holder may unlink sockets.

use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::fcntl::{Flock, FlockArg};
use nix::unistd::Pid;

/// How long a child of a dead daemon may hold the lock before its `exec` closes it.
const LEFT_BEHIND: Duration = Duration::from_secs(2);
const LOOK_EVERY: Duration = Duration::from_millis(5);

/// The lock. The descriptor is close-on-exec (std's default), so no worker ever holds it.
#[derive(Debug)]
pub struct InstanceLock {
    held: Flock<File>,
}

/// Why the lock was not taken.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// Another daemon serves this home.
    #[error(
        "another mlxsupd ({holder}) serves this home (lock {path}); stop it with `mlxsupctl stop`, or use another --home"
    )]
    Held {
        /// The lock file.
        path: PathBuf,
        /// `pid N`, as the holder wrote it.
        holder: String,
    },
    /// The file cannot be opened or written.
    #[error("cannot lock {path}: {source}; check the permissions of the home")]
    Io {
        /// The lock file.
        path: PathBuf,
        /// The system's word.
        source: std::io::Error,
    },
}

impl InstanceLock {
    /// Takes the lock and writes our pid into the file. Waits only for what a daemon that was killed has left: a child on
    /// its way from `fork` to `exec` has all descriptors for that moment.
    ///
    /// # Errors
    /// When another process holds it, or the file cannot be used.
    pub fn take(path: &Path) -> Result<Self, LockError> {
        let io = |source| LockError::Io { path: path.to_owned(), source };
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(path)
            .map_err(io)?;
        Self::lock(file, path)
    }

    /// Takes over the lock that the last image of this process left, without a moment in which nobody holds it.
    ///
    /// # Errors
    /// When it was not left locked after all, and another process holds it now.
    pub fn inherit(left: OwnedFd, path: &Path) -> Result<Self, LockError> {
        Self::lock(File::from(left), path)
    }

    /// The locked file.
    #[must_use]
    pub fn file(&self) -> &File {
        &self.held
    }

    fn lock(mut file: File, path: &Path) -> Result<Self, LockError> {
        let io = |source| LockError::Io { path: path.to_owned(), source };
        let give_up = Instant::now() + LEFT_BEHIND;
        loop {
            match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
                Ok(mut held) => {
                    held.set_len(0).map_err(io)?;
                    held.rewind().map_err(io)?;
                    writeln!(held, "{}", std::process::id()).map_err(io)?;
                    return Ok(Self { held });
                }
                Err((busy, nix::errno::Errno::EWOULDBLOCK)) => file = busy,
                Err((_, errno)) => return Err(io(errno.into())),
            }
            let holder = holder(&mut file);
            if holder.is_none_or(exists) || Instant::now() >= give_up {
                let holder = holder.map_or_else(|| "pid unknown".to_owned(), |pid| format!("pid {pid}"));
                return Err(LockError::Held { path: path.to_owned(), holder });
            }
            std::thread::sleep(LOOK_EVERY);
        }
    }
}

/// Who wrote the file.
fn holder(file: &mut File) -> Option<Pid> {
    let mut text = String::new();
    file.rewind().ok()?;
    file.read_to_string(&mut text).ok()?;
    text.trim().parse().ok().map(Pid::from_raw)
}

fn exists(pid: Pid) -> bool {
    nix::sys::signal::kill(pid, None) != Err(nix::errno::Errno::ESRCH)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_inherited_lock_is_never_free() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("mlxsupd.lock");
        let held = InstanceLock::take(&path).unwrap();
        let left = held.file().try_clone().unwrap();
        // Exec closes the descriptor without unlocking; dropping the guard would unlock.
        std::mem::forget(held);
        InstanceLock::take(&path).unwrap_err();
        let inherited = InstanceLock::inherit(left.into(), &path).unwrap();
        InstanceLock::take(&path).unwrap_err();
        drop(inherited);
        InstanceLock::take(&path).unwrap();
    }

    #[test]
    fn a_second_daemon_is_told_who_holds_the_lock() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("mlxsupd.lock");
        let held = InstanceLock::take(&path).unwrap();
        let error = InstanceLock::take(&path).unwrap_err().to_string();
        assert!(error.contains(&format!("pid {}", std::process::id())), "{error}");
        drop(held);
        InstanceLock::take(&path).unwrap();
    }

    #[test]
    fn what_a_dead_daemon_left_is_waited_for() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("mlxsupd.lock");
        let held = InstanceLock::take(&path).unwrap();
        let mut dead = std::process::Command::new("true").spawn().unwrap();
        dead.wait().unwrap();
        std::fs::write(&path, dead.id().to_string()).unwrap();
        let child = std::thread::spawn(move || {
            std::thread::sleep(LOOK_EVERY * 4);
            drop(held);
        });
        InstanceLock::take(&path).unwrap();
        child.join().unwrap();
    }
}
