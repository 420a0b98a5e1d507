//! A worker process of ours: exit watch and signals, without ever signalling a pid that is no longer it.
//!
//! A thread waits for the exit (`waitid` with `WNOWAIT`), takes the lock, reaps, and marks the process gone. Signals take
//! the same lock, so a pid is only signalled while the kernel still holds it for us.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use nix::sys::signal::{Signal, kill, killpg};
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::Pid;

use super::process_ffi::wait_unreaped;
use crate::supervisor::event::ExitStatus;

/// A child in its own session and process group.
#[derive(Debug, Clone)]
pub struct Process {
    pid: Pid,
    alive: Arc<Mutex<bool>>,
}

impl Process {
    /// Takes charge of a child just spawned. `on_exit` runs once, on the watching thread, after the child is reaped.
    ///
    /// # Errors
    /// When no thread can be started; the child is then killed and reaped.
    pub fn watch(pid: Pid, on_exit: impl FnOnce(ExitStatus) + Send + 'static) -> std::io::Result<Self> {
        let process = Self { pid, alive: Arc::new(Mutex::new(true)) };
        let watched = process.clone();
        let started = std::thread::Builder::new()
            .name(format!("exit-watch-{pid}"))
            .stack_size(64 << 10)
            .spawn(move || on_exit(watched.wait()));
        match started {
            Ok(_) => Ok(process),
            Err(error) => {
                let _ = killpg(pid, Signal::SIGKILL);
                process.wait();
                Err(error)
            }
        }
    }

    fn wait(&self) -> ExitStatus {
        // It fails only if somebody else reaped the child; what follows then says that its end is unknown.
        let _ = wait_unreaped(self.pid);
        let mut alive = self.lock();
        *alive = false;
        match waitpid(self.pid, None) {
            Ok(WaitStatus::Exited(_, code)) => ExitStatus::Code(code),
            Ok(WaitStatus::Signaled(_, signal, _)) => ExitStatus::Signal(signal as i32),
            Ok(_) | Err(_) => ExitStatus::Unknown,
        }
    }

    fn lock(&self) -> MutexGuard<'_, bool> {
        self.alive.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.pid.as_raw().unsigned_abs()
    }

    /// Asks it to end. SIGCONT follows, because a stopped process cannot take a signal.
    pub fn terminate(&self) {
        if *self.lock() {
            let _ = kill(self.pid, Signal::SIGTERM);
            let _ = kill(self.pid, Signal::SIGCONT);
        }
    }

    /// Kills its whole group: a shell wrapper must not leave the real worker behind.
    pub fn kill_group(&self) {
        if *self.lock() {
            let _ = killpg(self.pid, Signal::SIGKILL);
        }
    }
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
        let process = Process::watch(pid, move |status| sender.send(status).unwrap()).unwrap();
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
}
