//! Being a service: sockets handed over by launchd or systemd, readiness, units and plists.
//!
//! Owns the conversation with the init system and the text of our unit files. Does not bind sockets itself, and does not
//! install anything: `mlxsupctl install` writes what [`units`] returns and loads it (`crate::ctl`).
//!
//! The environment is only read, never changed: removing variables is unsound once threads run, and an in-place upgrade
//! needs them again. Instead every child is spawned without [`INIT_VARIABLES`], and inherited descriptors are marked
//! close-on-exec the moment they are taken. What one image of the daemon leaves for the next is [`inheritance`].

mod descriptors;
pub mod inheritance;
#[cfg(target_os = "macos")]
mod launchd_ffi;
pub mod notify;
pub mod sockets;
pub mod starter;
pub mod units;

pub use notify::{Notifier, NotifyError, watchdog_interval};
pub use sockets::{ActivationError, Listeners, take_listeners};
pub use starter::is_started_by_init;
pub use units::{Owner, UnitError, UnitFacts};

/// Variables by which an init system speaks to its direct child only. Whoever spawns a process removes them
/// (`Command::env_remove`), so that a worker never takes our sockets for its own or reports readiness in our name.
pub const INIT_VARIABLES: &[&str] = &[
    "LISTEN_FDS",
    "LISTEN_PID",
    "LISTEN_FDNAMES",
    "LISTEN_PIDFDID",
    inheritance::VARIABLE,
    "NOTIFY_SOCKET",
    "WATCHDOG_USEC",
    "WATCHDOG_PID",
    "MANAGERPID",
    "INVOCATION_ID",
    "SYSTEMD_EXEC_PID",
    "JOURNAL_STREAM",
    "XPC_SERVICE_NAME",
];
