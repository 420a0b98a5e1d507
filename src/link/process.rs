//! A worker process: exit watch and signals, without ever signalling a pid that is no longer it.
//!
//! ```text
//! child     a thread waits (`waitid` with `WNOWAIT`), takes the lock, reaps, and marks the process gone; signals take
//!           the same lock, so the pid is only signalled while the kernel still holds it for us
//! adopted   the child of a daemon that is gone: held by what the system has for strangers (pidfd.rs, kqueue.rs)
//! ```
//! After an upgrade in place a worker is still our child, and is treated as one.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill, killpg};
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::Pid;

#[cfg(target_os = "macos")]
use super::kqueue as platform;
#[cfg(target_os = "linux")]
use super::pidfd as platform;
use super::process_ffi::{has_exited, wait_unreaped};
use crate::memory::{StartId, group_lives_without, process_start_id};
use crate::supervisor::event::ExitStatus;

/// A worker in its own session and process group. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Process {
    pid: Pid,
    family: Family,
    /// It was asked to end.
    asked: Arc<AtomicBool>,
    hold: Arc<Hold>,
}

/// What keeps the pid from meaning somebody else.
#[derive(Debug)]
enum Hold {
    Child { alive: Mutex<bool> },
    Adopted { watch: platform::ExitWatch, start: StartId },
}

/// How a process ended, as far as anybody could tell.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ended {
    /// Code or signal.
    pub status: ExitStatus,
    /// True when the kernel says that it ended this very process for want of memory (macOS only).
    pub out_of_memory: bool,
}

/// Who else belongs to a worker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Family {
    /// Nobody: the process is the worker.
    Alone,
    /// Whatever processes it has started in its group: the worker is gone when they are.
    Group,
}

/// For the rest of a group whose leader was asked to end and has. Longer than servers take to close, and shorter than
/// anybody waits for a restart.
const GROUP_PATIENCE: Duration = Duration::from_secs(10);

/// Between two looks at a group that ends.
const GROUP_LOOK: Duration = Duration::from_millis(20);

impl Process {
    /// Takes charge of a child. `on_exit` runs once, on the watching thread, after the child is reaped.
    ///
    /// # Errors
    /// When no thread can be started; the child is then killed and reaped.
    pub fn watch(pid: Pid, family: Family, on_exit: impl FnOnce(Ended) + Send + 'static) -> std::io::Result<Self> {
        let hold = Hold::Child { alive: Mutex::new(true) };
        let process = Self { pid, family, asked: Arc::default(), hold: Arc::new(hold) };
        process.watched(on_exit).inspect_err(|_| {
            let _ = killpg(pid, Signal::SIGKILL);
            process.wait();
        })?;
        Ok(process)
    }

    /// Takes charge of the process that has this pid and began at `start`, whoever started it. `on_exit` runs once, on
    /// the watching thread.
    ///
    /// # Errors
    /// `NotFound` when it is gone, or the pid is somebody else's; the process is left alone in any case.
    pub fn adopt(
        pid: u32,
        start: &StartId,
        family: Family,
        on_exit: impl FnOnce(Ended) + Send + 'static,
    ) -> std::io::Result<Self> {
        let gone = || std::io::Error::new(std::io::ErrorKind::NotFound, format!("process {pid} is gone"));
        let it = Pid::from_raw(i32::try_from(pid).map_err(|_| gone())?);
        if has_exited(it).is_ok() {
            let hold = Hold::Child { alive: Mutex::new(true) };
            let process = Self { pid: it, family, asked: Arc::default(), hold: Arc::new(hold) };
            if process_start_id(pid).as_ref() != Some(start) {
                return Err(gone());
            }
            process.watched(on_exit)?;
            return Ok(process);
        }
        let watch =
            platform::ExitWatch::open(it).map_err(|error| if is_no_process(&error) { gone() } else { error })?;
        // The watch holds whatever had the pid when it was opened; only now can it be told who that is.
        if process_start_id(pid).as_ref() != Some(start) || watch.is_over() {
            return Err(gone());
        }
        let hold = Hold::Adopted { watch, start: start.clone() };
        let process = Self { pid: it, family, asked: Arc::default(), hold: Arc::new(hold) };
        process.watched(on_exit)?;
        Ok(process)
    }

    fn watched(&self, on_exit: impl FnOnce(Ended) + Send + 'static) -> std::io::Result<()> {
        let watched = self.clone();
        std::thread::Builder::new()
            .name(format!("exit-watch-{}", self.pid))
            .stack_size(64 << 10)
            .spawn(move || on_exit(watched.wait()))
            .map(drop)
    }

    fn wait(&self) -> Ended {
        match &*self.hold {
            Hold::Adopted { watch, start } => {
                let ended = watch.wait();
                self.end_family(|| watch.signal_group(start, Signal::SIGKILL));
                ended
            }
            Hold::Child { alive } => {
                let out_of_memory = platform::child_ended_for_memory(self.pid);
                // It fails only if somebody else reaped the child; what follows then says that its end is unknown.
                let _ = wait_unreaped(self.pid);
                // Unreaped, the leader still holds the group's number.
                self.end_family(|| {
                    let _ = killpg(self.pid, Signal::SIGKILL);
                });
                let mut alive = lock(alive);
                *alive = false;
                Ended { status: reap(self.pid), out_of_memory }
            }
        }
    }

    /// The leader has exited. The others of its group get time to follow if they were asked to, else none.
    fn end_family(&self, kill: impl FnOnce()) {
        if self.family == Family::Alone {
            return;
        }
        let patience = if self.asked.load(Ordering::SeqCst) { GROUP_PATIENCE } else { Duration::ZERO };
        let since = Instant::now();
        while group_lives_without(self.pid()) {
            if since.elapsed() >= patience {
                return kill();
            }
            std::thread::sleep(GROUP_LOOK);
        }
    }

    /// The process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.pid.as_raw().unsigned_abs()
    }

    /// Asks it, and its family, to end. SIGCONT follows, because a stopped process cannot take a signal.
    pub fn terminate(&self) {
        self.asked.store(true, Ordering::SeqCst);
        for signal in [Signal::SIGTERM, Signal::SIGCONT] {
            match (&*self.hold, self.family) {
                (Hold::Child { alive }, family) => {
                    let alive = lock(alive);
                    let _ = match family {
                        _ if !*alive => Ok(()),
                        Family::Alone => kill(self.pid, signal),
                        Family::Group => killpg(self.pid, signal),
                    };
                }
                (Hold::Adopted { watch, start }, Family::Alone) => watch.signal(start, signal),
                (Hold::Adopted { watch, start }, Family::Group) => watch.signal_group(start, signal),
            }
        }
    }

    /// Kills its whole group: a shell wrapper must not leave the real worker behind.
    pub fn kill_group(&self) {
        match &*self.hold {
            Hold::Child { alive } if *lock(alive) => {
                let _ = killpg(self.pid, Signal::SIGKILL);
            }
            Hold::Child { .. } => {}
            Hold::Adopted { watch, start } => watch.signal_group(start, Signal::SIGKILL),
        }
    }
}

/// How a process ended that nobody watched, `None` while it runs. A child is reaped by this; of another's child that
/// nobody reaps it is only known that it is no longer running.
#[must_use]
pub fn ended_unwatched(pid: u32) -> Option<ExitStatus> {
    let it = Pid::from_raw(i32::try_from(pid).ok()?);
    match has_exited(it) {
        Ok(exited) => exited.then(|| reap(it)),
        Err(_) => {
            let ended = match platform::ExitWatch::open(it) {
                Ok(watch) => watch.is_over(),
                Err(error) => is_no_process(&error),
            };
            ended.then_some(ExitStatus::Unknown)
        }
    }
}

fn is_no_process(error: &std::io::Error) -> bool {
    error.raw_os_error() == Some(nix::errno::Errno::ESRCH as i32)
}

fn reap(pid: Pid) -> ExitStatus {
    match waitpid(pid, None) {
        Ok(WaitStatus::Exited(_, code)) => ExitStatus::Code(code),
        Ok(WaitStatus::Signaled(_, signal, _)) => ExitStatus::Signal(signal as i32),
        Ok(_) | Err(_) => ExitStatus::Unknown,
    }
}

fn lock(alive: &Mutex<bool>) -> MutexGuard<'_, bool> {
    alive.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::CommandExt;
    use std::process::Command;
    use std::sync::mpsc;
    use std::time::Duration;

    use super::*;

    fn spawn(script: &str) -> (Process, mpsc::Receiver<ExitStatus>) {
        #[expect(clippy::zombie_processes, reason = "the exit watch reaps it")]
        let child = Command::new("sh").args(["-c", script]).process_group(0).spawn().unwrap();
        let (sender, receiver) = mpsc::channel();
        let pid = Pid::from_raw(i32::try_from(child.id()).unwrap());
        let process = Process::watch(pid, Family::Group, move |ended| sender.send(ended.status).unwrap()).unwrap();
        (process, receiver)
    }

    fn end(receiver: &mpsc::Receiver<ExitStatus>) -> ExitStatus {
        receiver.recv_timeout(Duration::from_secs(20)).unwrap()
    }

    #[test]
    fn exit_codes_and_signals_are_told_apart() {
        assert_eq!(end(&spawn("exit 7").1), ExitStatus::Code(7));
        assert_eq!(end(&spawn("kill -SEGV $$").1), ExitStatus::Signal(11));
    }

    #[test]
    fn a_stopped_process_can_be_terminated() {
        let (process, receiver) = spawn("kill -STOP $$; sleep 60");
        process.terminate();
        assert_eq!(end(&receiver), ExitStatus::Signal(15));
    }

    #[test]
    fn the_whole_group_is_killed_and_a_gone_process_is_left_alone() {
        let (process, receiver) = spawn("trap '' TERM; sleep 60 & wait");
        process.kill_group();
        assert_eq!(end(&receiver), ExitStatus::Signal(9));
        process.terminate();
        process.kill_group();
    }

    /// A shell whose child writes into a pipe when it has ended in its own time.
    fn family(script: &str) -> (Process, mpsc::Receiver<ExitStatus>, std::io::PipeReader) {
        let (reader, writer) = std::io::pipe().unwrap();
        #[expect(clippy::zombie_processes, reason = "the exit watch reaps it")]
        let child = Command::new("sh").args(["-c", script]).process_group(0).stdout(writer).spawn().unwrap();
        let (sender, receiver) = mpsc::channel();
        let pid = Pid::from_raw(i32::try_from(child.id()).unwrap());
        let process = Process::watch(pid, Family::Group, move |ended| sender.send(ended.status).unwrap()).unwrap();
        (process, receiver, reader)
    }

    fn said(pipe: &mut std::io::PipeReader, length: usize) -> String {
        let mut bytes = vec![0; length];
        std::io::Read::read_exact(pipe, &mut bytes).unwrap();
        String::from_utf8(bytes).unwrap()
    }

    #[test]
    fn a_wrapper_that_ends_first_leaves_its_server_time_to_close() {
        let server = "sh -c \"trap 'sleep 0.2; echo closed; exit 0' TERM; echo open; while :; do sleep 0.05; done\"";
        let (process, receiver, mut pipe) = family(&format!("{server} & wait"));
        assert_eq!(said(&mut pipe, 5), "open\n");
        process.terminate();
        assert_eq!(end(&receiver), ExitStatus::Signal(15));
        assert_eq!(said(&mut pipe, 7), "closed\n", "before the exit was told");
    }

    #[test]
    fn a_wrapper_that_dies_takes_its_server_along() {
        let (process, receiver, mut pipe) = family("sleep 60 & echo open; wait");
        assert_eq!(said(&mut pipe, 5), "open\n");
        kill(process.pid, Signal::SIGKILL).unwrap();
        assert_eq!(end(&receiver), ExitStatus::Signal(9));
        // Only the sleeper held the other end.
        assert_eq!(std::io::Read::read(&mut pipe, &mut [0]).unwrap(), 0);
    }

    #[cfg(target_os = "linux")]
    /// A process that is nobody's child here: its parent, a shell, has ended. Its pid is the shell's last word.
    fn orphan(script: &str) -> (u32, StartId) {
        let script = format!("setsid sh -c '{script}' </dev/null >/dev/null 2>&1 & echo $!");
        let output = Command::new("sh").args(["-c", &script]).output().unwrap();
        let pid: u32 = String::from_utf8(output.stdout).unwrap().trim().parse().unwrap();
        (pid, process_start_id(pid).unwrap())
    }

    fn adopted(pid: u32, start: &StartId) -> (Process, mpsc::Receiver<ExitStatus>) {
        let (sender, receiver) = mpsc::channel();
        let process =
            Process::adopt(pid, start, Family::Group, move |ended| sender.send(ended.status).unwrap()).unwrap();
        (process, receiver)
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn somebody_elses_child_is_watched_and_signalled() {
        for (script, kill) in [("sleep 60", false), ("trap \"\" TERM; sleep 60 & wait; sleep 60", true)] {
            let (pid, start) = orphan(script);
            let (process, receiver) = adopted(pid, &start);
            process.terminate();
            if kill {
                process.kill_group();
            }
            let status = end(&receiver);
            assert!(matches!(status, ExitStatus::Unknown | ExitStatus::Signal(9 | 15)), "{status:?}");
            process.terminate();
            process.kill_group();
            assert!(Process::adopt(pid, &start, Family::Alone, |_| {}).is_err() || process_start_id(pid).is_none());
        }
    }

    #[test]
    fn a_child_that_is_adopted_tells_its_exit_code() {
        #[expect(clippy::zombie_processes, reason = "the exit watch reaps it")]
        let child = Command::new("sh").args(["-c", "sleep 0.1; exit 7"]).process_group(0).spawn().unwrap();
        let start = process_start_id(child.id()).unwrap();
        assert_eq!(end(&adopted(child.id(), &start).1), ExitStatus::Code(7));
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn another_process_under_the_same_pid_is_left_alone() {
        let (pid, _) = orphan("sleep 60");
        // Not that of a process of these days: two may start within one tick.
        let other = serde_json::from_str("\"another start\"").unwrap();
        let error = Process::adopt(pid, &other, Family::Alone, |_| {}).unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::NotFound);
        assert_eq!(ended_unwatched(pid), None);
        kill(Pid::from_raw(i32::try_from(pid).unwrap()), Signal::SIGKILL).unwrap();
    }

    #[test]
    fn an_end_that_nobody_watched_is_found_out() {
        #[expect(clippy::zombie_processes, reason = "reaped by the call under test")]
        let child = Command::new("sh").args(["-c", "exit 7"]).spawn().unwrap();
        wait_unreaped(Pid::from_raw(i32::try_from(child.id()).unwrap())).unwrap();
        assert_eq!(ended_unwatched(child.id()), Some(ExitStatus::Code(7)));
        assert_eq!(ended_unwatched(child.id()), Some(ExitStatus::Unknown));
    }
}
