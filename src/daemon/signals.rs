//! Signals become requests: TERM and INT stop (again: skip the drain; a third time: exit now), HUP reloads, USR1 reopens
//! the logs.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGUSR1};
use signal_hook::iterator::Signals;
use tokio::sync::mpsc;

use super::driver::Request;

/// What the signal thread asks of the daemon.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Asked {
    /// HUP.
    Reload,
    /// USR1.
    ReopenLogs,
}

/// Exit status of a daemon that a third signal ended.
const FORCED_EXIT: i32 = 1;

/// Installs the handlers and starts the thread that turns signals into requests.
///
/// # Errors
/// When a handler cannot be installed or the thread cannot be started.
pub fn listen(requests: mpsc::Sender<Request>, others: mpsc::Sender<Asked>) -> std::io::Result<()> {
    let impatient = Arc::new(AtomicBool::new(false));
    for signal in [SIGTERM, SIGINT] {
        // Registered before the iterator: once armed, the next signal exits in the handler itself, whatever the daemon
        // is doing.
        signal_hook::flag::register_conditional_shutdown(signal, FORCED_EXIT, Arc::clone(&impatient))?;
    }
    let mut signals = Signals::new([SIGTERM, SIGINT, SIGHUP, SIGUSR1])?;
    std::thread::Builder::new().name("signals".to_owned()).stack_size(128 << 10).spawn(move || {
        let mut stops = 0_u32;
        for signal in &mut signals {
            match signal {
                SIGTERM | SIGINT => {
                    stops += 1;
                    impatient.store(stops >= 2, Ordering::SeqCst);
                    tracing::info!(signal, "asked to stop");
                    if requests.blocking_send(Request::Stop { keep_worker: false }).is_err() {
                        return;
                    }
                }
                SIGHUP => {
                    let _ = others.blocking_send(Asked::Reload);
                }
                SIGUSR1 => {
                    let _ = others.blocking_send(Asked::ReopenLogs);
                }
                _ => {}
            }
        }
    })?;
    Ok(())
}
