//! The process around the supervisor: start order, stop order, and everything with a side effect.
//!
//! Start: home, configuration, lock, log, sockets, workers of the last daemon, driver, gateway, control, signals, ready.
//! Nothing is bound before a configuration is accepted, and nothing is unlinked before the lock is held.
//! An upgrade execs another image in this process: same order, lock and listeners inherited (`image_change.rs`).
//! Stop: the core drains and ends the worker, the driver leaves its loop, listeners close, own sockets are unlinked.

mod adoption;
pub mod awake;
#[cfg(target_os = "macos")]
mod awake_ffi;
pub mod boot_config;
mod children;
pub mod clock;
pub mod derived_limits;
pub mod door;
pub mod driver;
pub mod effects;
pub mod ends;
mod exec;
pub mod handle;
pub mod home;
pub mod image_change;
pub mod instance_lock;
pub mod journal;
mod learning;
pub mod leftover;
mod listeners;
pub mod mlx_lm;
mod outdated;
pub mod panic_report;
pub mod program;
pub mod publish;
pub mod recording;
pub mod reload;
pub mod sampling;
pub mod signals;
pub mod sockets;
mod start;
pub mod state_file;
pub mod state_writer;
pub mod timetable;
pub mod vetting;
pub mod worker_command;

use std::path::PathBuf;

pub use crate::memory::allocator_ffi::keep_one_heap;
pub use start::{check, default_home, run};

/// What the command line says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    /// The home directory.
    pub home: PathBuf,
    /// The configuration file, if not the home's `mlxsup.toml`.
    pub config: Option<PathBuf>,
    /// Where every event and decision is written, to be played again.
    pub record: Option<PathBuf>,
}

/// Why the daemon did not start, or ended badly.
#[derive(Debug, thiserror::Error)]
pub enum DaemonError {
    /// The configuration.
    #[error(transparent)]
    Config(#[from] crate::config::LoadError),
    /// The configuration does not fit the home; one rendered problem each.
    #[error("{0}")]
    ConfigHome(String),
    /// What the configuration names is not there.
    #[error("{0}")]
    Machine(String),
    /// The home directory.
    #[error(transparent)]
    Home(#[from] home::HomeError),
    /// Another daemon.
    #[error(transparent)]
    Lock(#[from] instance_lock::LockError),
    /// A socket of ours.
    #[error(transparent)]
    Bind(#[from] sockets::BindError),
    /// Sockets handed over by the init system.
    #[error(transparent)]
    Activation(#[from] crate::service::ActivationError),
    /// What the last image of this process left.
    #[error(transparent)]
    Inheritance(#[from] crate::service::inheritance::InheritanceError),
    /// The log.
    #[error(transparent)]
    Logging(#[from] crate::telemetry::LoggingError),
    /// The memory probes.
    #[error(transparent)]
    Probe(#[from] crate::memory::ProbeError),
    /// A system call that hardly ever fails.
    #[error("cannot {doing}: {source}")]
    System {
        /// What was tried.
        doing: &'static str,
        /// The system's word.
        source: std::io::Error,
    },
}

impl DaemonError {
    /// Exit status: 2 for what a user mends in configuration or usage, 5 for another daemon in the way, else 1.
    #[must_use]
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Config(_) | Self::ConfigHome(_) | Self::Machine(_) | Self::Home(_) | Self::Bind(_) => 2,
            Self::Lock(instance_lock::LockError::Held { .. }) => 5,
            Self::Lock(instance_lock::LockError::Io { .. })
            | Self::Activation(_)
            | Self::Inheritance(_)
            | Self::Logging(_)
            | Self::Probe(_)
            | Self::System { .. } => 1,
        }
    }
}
