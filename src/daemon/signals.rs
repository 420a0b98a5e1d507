//! Signals become requests: TERM and INT stop (again: skip the drain; a third time: exit now), HUP reloads, USR1 reopens
//! the logs, USR2 upgrades.
//!
//! They are blocked in every thread but the one that listens. So when that one blocks them too, right before another
//! image takes this one's place, a signal sent in between waits for the new image instead of being lost with the old.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, mpsc as channel};
use std::time::Duration;

use nix::sys::signal::{SigSet, SigmaskHow, Signal};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGUSR1, SIGUSR2};
use signal_hook::iterator::{Handle, Signals};
use tokio::sync::mpsc;

use super::driver::Request;

/// What the signal thread asks of the daemon.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Asked {
    /// HUP.
    Reload,
    /// USR1.
    ReopenLogs,
    /// USR2.
    Upgrade,
}

/// Exit status of a daemon that a third signal ended.
const FORCED_EXIT: i32 = 1;

/// For the signal thread to answer. It waits for nobody but the driver, who is the one that asks.
const PATIENCE: Duration = Duration::from_millis(500);

fn ours() -> SigSet {
    [Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP, Signal::SIGUSR1, Signal::SIGUSR2].into_iter().collect()
}

/// Blocks our signals in this thread and in those it starts. To be called by the first thread, before there are others.
///
/// # Errors
/// When the system refuses, which it has no reason to.
pub fn hold() -> std::io::Result<()> {
    Ok(ours().thread_block()?)
}

/// Starts a child whom our signals reach: children inherit the mask of the thread that starts them.
pub(super) fn unheld<T>(start: impl FnOnce() -> T) -> T {
    let before = ours().thread_swap_mask(SigmaskHow::SIG_UNBLOCK);
    let started = start();
    if let Ok(before) = before {
        let _ = before.thread_set_mask();
    }
    started
}

/// The signal thread, seen from the one that execs.
#[derive(Debug)]
pub struct SignalGate {
    handle: Handle,
    shut: channel::Receiver<bool>,
    stop_asked: Arc<AtomicBool>,
    again: channel::Sender<channel::Sender<Handle>>,
    /// The thread was too busy to say that it listens again.
    reopening: Option<channel::Receiver<Handle>>,
}

impl SignalGate {
    /// Stops listening; signals wait from now on. False when one came first: it is being obeyed, and an exec would lose
    /// it.
    pub fn shut(&mut self) -> bool {
        if !self.is_open() {
            return false;
        }
        self.handle.close();
        // A stop may have been passed on already and wait for the driver, which is the one that execs.
        self.shut.recv_timeout(PATIENCE).unwrap_or(false) && !self.stop_asked.load(Ordering::SeqCst)
    }

    /// Listens again.
    pub fn open(&mut self) {
        let (reply, handle) = channel::channel();
        if self.again.send(reply).is_ok() {
            self.reopening = Some(handle);
            self.is_open();
        }
    }

    fn is_open(&mut self) -> bool {
        let Some(reopening) = &self.reopening else { return true };
        let Ok(handle) = reopening.recv_timeout(PATIENCE) else { return false };
        self.handle = handle;
        self.reopening = None;
        // An answer to an earlier question that came too late.
        while self.shut.try_recv().is_ok() {}
        true
    }
}

/// Installs the handlers and starts the thread that turns signals into requests.
///
/// # Errors
/// When a handler cannot be installed or the thread cannot be started.
pub fn listen(requests: mpsc::Sender<Request>, others: mpsc::Sender<Asked>) -> std::io::Result<SignalGate> {
    let impatient = Arc::new(AtomicBool::new(false));
    for signal in [SIGTERM, SIGINT] {
        // Registered before the iterator: once armed, the next signal exits in the handler itself, whatever the daemon
        // is doing.
        signal_hook::flag::register_conditional_shutdown(signal, FORCED_EXIT, Arc::clone(&impatient))?;
    }
    let signals = listening()?;
    let handle = signals.handle();
    let (told, shut) = channel::channel();
    let (again, reopened) = channel::channel();
    let stop_asked = Arc::new(AtomicBool::new(false));
    let mut ear = Ear { requests, others, impatient, stop_asked: Arc::clone(&stop_asked), stops: 0 };
    std::thread::Builder::new().name("signals".to_owned()).stack_size(128 << 10).spawn(move || {
        ear.listen(signals, &told, &reopened);
    })?;
    Ok(SignalGate { handle, shut, stop_asked, again, reopening: None })
}

fn listening() -> std::io::Result<Signals> {
    Signals::new([SIGTERM, SIGINT, SIGHUP, SIGUSR1, SIGUSR2])
}

/// The state of the signal thread.
struct Ear {
    requests: mpsc::Sender<Request>,
    others: mpsc::Sender<Asked>,
    impatient: Arc<AtomicBool>,
    stop_asked: Arc<AtomicBool>,
    stops: u32,
}

impl Ear {
    fn listen(
        &mut self,
        mut signals: Signals,
        told: &channel::Sender<bool>,
        reopened: &channel::Receiver<channel::Sender<Handle>>,
    ) {
        loop {
            let _ = ours().thread_unblock();
            for signal in &mut signals {
                if !self.obey(signal) {
                    return;
                }
            }
            let _ = ours().thread_block();
            // What came in before the block is in the iterator still.
            let late: Vec<i32> = signals.pending().collect();
            if told.send(late.is_empty()).is_err() || late.into_iter().any(|signal| !self.obey(signal)) {
                return;
            }
            let Ok(reply) = reopened.recv() else { return };
            signals = match listening() {
                Ok(signals) => signals,
                Err(error) => {
                    tracing::error!(%error, "signals are no longer heard; use mlxsupctl");
                    return;
                }
            };
            let _ = reply.send(signals.handle());
        }
    }

    /// False when nobody is left to ask.
    fn obey(&mut self, signal: i32) -> bool {
        let other = match signal {
            SIGTERM | SIGINT => {
                self.stops += 1;
                self.stop_asked.store(true, Ordering::SeqCst);
                self.impatient.store(self.stops >= 2, Ordering::SeqCst);
                tracing::info!(signal, "asked to stop");
                return self.requests.blocking_send(Request::Stop { keep_worker: false }).is_ok();
            }
            SIGHUP => Asked::Reload,
            SIGUSR1 => Asked::ReopenLogs,
            SIGUSR2 => Asked::Upgrade,
            _ => return true,
        };
        self.others.blocking_send(other).is_ok()
    }
}
