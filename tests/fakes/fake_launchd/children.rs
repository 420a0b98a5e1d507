//! Children, and the orphans that an init process inherits: noticing ends, reaping, and leaving nobody behind.

use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;
use signal_hook::consts::{SIGCHLD, SIGINT, SIGTERM};

static TOLD_TO_STOP: std::sync::OnceLock<Arc<AtomicBool>> = std::sync::OnceLock::new();

/// How a child ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    Code(i32),
    Signal(i32),
}

/// A stream that has something to read after every signal of ours.
pub fn wake_on_signals() -> Result<UnixStream, String> {
    let told = |why: std::io::Error| format!("watch signals: {why}");
    let (wake, sender) = UnixStream::pair().map_err(told)?;
    wake.set_nonblocking(true).map_err(told)?;
    let stop = TOLD_TO_STOP.get_or_init(Arc::default);
    for signal in [SIGTERM, SIGINT] {
        signal_hook::flag::register(signal, stop.clone()).map_err(told)?;
    }
    for signal in [SIGCHLD, SIGTERM, SIGINT] {
        signal_hook::low_level::pipe::register(signal, sender.try_clone().map_err(told)?).map_err(told)?;
    }
    Ok(wake)
}

pub fn is_told_to_stop() -> bool {
    TOLD_TO_STOP.get().is_some_and(|stop| stop.load(Ordering::Relaxed))
}

/// Makes us the parent of whatever our jobs leave behind, as the first process of a machine is.
pub fn adopt_orphans() -> Result<(), String> {
    #[cfg(target_os = "linux")]
    nix::sys::prctl::set_child_subreaper(true).map_err(|why| format!("become the reaper: {why}"))?;
    Ok(())
}

/// One child that has ended.
pub fn reap() -> Option<(Pid, Ending)> {
    match waitpid(None, Some(WaitPidFlag::WNOHANG)) {
        Ok(WaitStatus::Exited(pid, code)) => Some((pid, Ending::Code(code))),
        Ok(WaitStatus::Signaled(pid, signal, _)) => Some((pid, Ending::Signal(signal as i32))),
        _ => None,
    }
}

/// Kills whoever is left, until nobody is: workers live in sessions of their own and would outlive us.
pub fn end_orphans() {
    let deadline = Instant::now() + Duration::from_secs(5);
    while Instant::now() < deadline {
        while reap().is_some() {}
        let left = children();
        if left.is_empty() {
            return;
        }
        for child in left {
            let _ = kill(child, Signal::SIGKILL);
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Everybody whose parent we are; zombies of a moment included.
fn children() -> Vec<Pid> {
    let Ok(entries) = std::fs::read_dir("/proc") else { return Vec::new() };
    let own = std::process::id().to_string();
    entries
        .flatten()
        .filter_map(|entry| {
            let pid: i32 = entry.file_name().to_str()?.parse().ok()?;
            let stat = std::fs::read_to_string(entry.path().join("stat")).ok()?;
            // After the name, which may hold anything: state, parent.
            let parent = stat.rsplit_once(')')?.1.split_whitespace().nth(1)?.to_owned();
            (parent == own).then(|| Pid::from_raw(pid))
        })
        .collect()
}
