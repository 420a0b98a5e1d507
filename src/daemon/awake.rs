//! Keeping the machine from idle sleep while there is work: `worker.keep_awake`.
//!
//! Owns one hold on the system and the thread that takes and releases it, because both may take milliseconds that the
//! driver does not have. A hold outlives its work by [`LINGER`], so that a series of short requests is one hold.
//!
//! - macOS: a power assertion against idle sleep, as `caffeinate -i` takes one; `pmset -g assertions` lists it.
//! - Linux: a child `systemd-inhibit` whose command reads a pipe of ours: it ends when we close the pipe, or die. Where
//!   there is no such program, or it is refused, that is said once and nothing else changes.
//!
//! Nothing here fails: a machine that sleeps all the same only makes requests wait.

use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::Duration;

#[cfg(target_os = "macos")]
use super::awake_ffi::Assertion as Hold;
#[cfg(not(target_os = "macos"))]
use inhibitor::Inhibitor as Hold;

/// How long a hold outlives the work.
const LINGER: Duration = Duration::from_secs(5);

/// What `pmset -g assertions` and `systemd-inhibit --list` show.
const WHY: &str = "requests run or wait";

/// Holds the machine awake while it is set. Dropping it lets go.
#[derive(Debug, Default)]
pub struct Awake {
    wanted: bool,
    keeper: Option<Keeper>,
}

/// The thread that owns the hold.
#[derive(Debug)]
struct Keeper {
    wishes: Sender<bool>,
    thread: JoinHandle<()>,
}

impl Awake {
    /// Holds nothing, and costs nothing until the first `set(true)`.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Carries out `Action::KeepAwake`. Returns at once; setting again what is set changes nothing.
    pub fn set(&mut self, on: bool) {
        if on == self.wanted {
            return;
        }
        self.wanted = on;
        if self.keeper.is_none() && on {
            self.keeper = Keeper::start(LINGER, system_hold());
        }
        if let Some(keeper) = &self.keeper {
            // A thread that is gone has let go and said why.
            let _ = keeper.wishes.send(on);
        }
    }
}

impl Awake {
    /// Lets go at once, and starts no process from here to [`Self::take_again`].
    pub fn let_go(&mut self) {
        if let Some(Keeper { wishes, thread }) = self.keeper.take() {
            drop(wishes);
            let _ = thread.join();
        }
    }

    /// Undoes [`Self::let_go`].
    pub fn take_again(&mut self) {
        if std::mem::take(&mut self.wanted) {
            self.set(true);
        }
    }
}

impl Drop for Awake {
    fn drop(&mut self) {
        self.let_go();
    }
}

impl Keeper {
    fn start<H>(linger: Duration, take: impl FnMut() -> Option<H> + Send + 'static) -> Option<Self> {
        let (wishes, wished) = channel();
        match std::thread::Builder::new().name("awake".to_owned()).spawn(move || keep(&wished, linger, take)) {
            Ok(thread) => Some(Self { wishes, thread }),
            Err(error) => {
                tracing::warn!(%error, "no thread to keep the machine awake; it may sleep while requests run");
                None
            }
        }
    }
}

/// Takes and releases the hold as wished, until nobody can wish any more.
fn keep<H>(wished: &Receiver<bool>, linger: Duration, mut take: impl FnMut() -> Option<H>) {
    let mut held: Option<H> = None;
    let mut lingering = false;
    loop {
        let wish = if lingering {
            wished.recv_timeout(linger)
        } else {
            wished.recv().map_err(|_| RecvTimeoutError::Disconnected)
        };
        match wish {
            Ok(true) => {
                lingering = false;
                if held.is_none() {
                    held = take();
                }
            }
            Ok(false) => lingering = held.is_some(),
            Err(RecvTimeoutError::Timeout) => (held, lingering) = (None, false),
            Err(RecvTimeoutError::Disconnected) => return,
        }
    }
}

/// How a hold is taken on this system; `None` from it means that there is none, and why has been said.
#[cfg(target_os = "macos")]
fn system_hold() -> impl FnMut() -> Option<Hold> + Send + 'static {
    let mut said = false;
    move || match Hold::against_idle_sleep(&format!("mlxsup: {WHY}")) {
        Ok(hold) => Some(hold),
        Err(code) => {
            if !std::mem::replace(&mut said, true) {
                tracing::warn!("macOS grants no power assertion (IOKit {code:#x}); worker.keep_awake has no effect");
            }
            None
        }
    }
}

/// How a hold is taken on this system; `None` from it means that there is none, and why has been said.
#[cfg(not(target_os = "macos"))]
fn system_hold() -> impl FnMut() -> Option<Hold> + Send + 'static {
    let mut inhibitors = inhibitor::Inhibitors::new(std::env::var_os("PATH").unwrap_or_default());
    move || inhibitors.take()
}

#[cfg(not(target_os = "macos"))]
mod inhibitor {
    //! logind's inhibitors, through the program that comes with it.

    use std::ffi::{OsStr, OsString};
    use std::os::unix::fs::PermissionsExt;
    use std::os::unix::process::CommandExt;
    use std::path::{Path, PathBuf};
    use std::process::{ChildStdin, Command, Stdio};
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::thread::JoinHandle;

    /// With the right to hold off every sleep, desktops are held too, which suspend by themselves; without it (a service
    /// without a session), at least logind's own idle action is.
    const SCRIPT: &str = r#"hold() { "$0" --what="$1" --who=mlxsup --why="$2" --mode=block cat; }
hold idle:sleep "$1" 2>/dev/null || hold idle "$1""#;

    /// The open end of the pipe that the child's command reads. Dropping it ends the child.
    #[derive(Debug)]
    #[cfg_attr(not(test), expect(dead_code, reason = "held, not used; only tests wait for the child's end"))]
    pub struct Inhibitor {
        pub pipe: ChildStdin,
        /// Waits for the child's end; left to itself, as it may take as long as logind likes.
        pub reaper: JoinHandle<()>,
    }

    /// Takes inhibitors with the `systemd-inhibit` of a search path. After a refusal it takes no more: the next would be
    /// refused too, for the price of two processes per burst of requests.
    #[derive(Debug)]
    pub struct Inhibitors {
        path: OsString,
        refused: Arc<AtomicBool>,
        is_missing: bool,
    }

    impl Inhibitors {
        pub fn new(path: OsString) -> Self {
            Self { path, refused: Arc::default(), is_missing: false }
        }

        /// `None` where there is none to be had, which is said once.
        pub fn take(&mut self) -> Option<Inhibitor> {
            if self.refused.load(Ordering::Relaxed) {
                return None;
            }
            let Some(program) = find(&self.path) else {
                if !std::mem::replace(&mut self.is_missing, true) {
                    tracing::info!("there is no systemd-inhibit; worker.keep_awake has no effect");
                }
                return None;
            };
            match start(&program, &self.refused) {
                Ok(inhibitor) => Some(inhibitor),
                Err(error) => {
                    self.refused.store(true, Ordering::Relaxed);
                    tracing::warn!(%error, program = %program.display(), "worker.keep_awake has no effect");
                    None
                }
            }
        }
    }

    fn find(path: &OsStr) -> Option<PathBuf> {
        let is_program =
            |file: &PathBuf| file.metadata().is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 != 0);
        std::env::split_paths(path).map(|dir| dir.join("systemd-inhibit")).find(is_program)
    }

    fn start(program: &Path, refused: &Arc<AtomicBool>) -> std::io::Result<Inhibitor> {
        let mut command = Command::new("/bin/sh");
        command
            .args(["-c", SCRIPT])
            .arg(program)
            .arg(super::WHY)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            // Ctrl-C in the terminal begins a drain, during which the machine is to stay awake.
            .process_group(0);
        let mut child = crate::daemon::signals::unheld(|| command.spawn())?;
        let pipe = child.stdin.take().ok_or_else(|| std::io::Error::other("no pipe to its standard input"))?;
        let refused = Arc::clone(refused);
        let reaper = std::thread::Builder::new().name("inhibitor".to_owned()).spawn(move || match child.wait_with_output() {
            Ok(end) if end.status.success() => {}
            Ok(end) => {
                refused.store(true, Ordering::Relaxed);
                let said = String::from_utf8_lossy(&end.stderr);
                tracing::warn!(status = %end.status, "systemd-inhibit: {}; worker.keep_awake has no effect", said.trim());
            }
            Err(error) => tracing::warn!(%error, "systemd-inhibit is out of sight"),
        })?;
        Ok(Inhibitor { pipe, reaper })
    }
}

#[cfg(test)]
#[path = "awake_tests.rs"]
mod tests;
