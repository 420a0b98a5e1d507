//! How the worker process lives: spawned by the daemon, serving alone, or answering one prompt.
//!
//! Owns the command line, the environment of a spawned worker, and exit codes. Does not own what is served, nor MLX.

mod args;
mod life;
mod prompt_mode;
mod ready_pipe;

use std::io::Write;
use std::path::PathBuf;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use mlxsup_worker_api::Settings;
use mlxsup_worker_api::settings::{Device, env};

use crate::board::Board;
use crate::engine::{EngineError, LAST_WRITING};
use crate::limits;
use crate::serve::{Identity, ListenError};
use crate::text::TextError;

pub use args::Args;

/// How long a stopping worker waits for its engine thread to let go of the model in good order.
const ENGINE_GRACE: Duration = Duration::from_millis(700);

/// Why the worker ended otherwise than asked.
#[derive(Debug, thiserror::Error)]
pub enum LaunchError {
    /// The command line or the environment is not usable.
    #[error("{0}")]
    Usage(String),
    /// The model cannot be loaded.
    #[error("cannot load the model: {0}")]
    Load(String),
    /// The engine broke after it had been ready.
    #[error("the engine stopped: {0}")]
    Engine(String),
    /// The socket cannot be bound.
    #[error(transparent)]
    Listen(#[from] ListenError),
    /// The one prompt was refused or failed.
    #[error("{0}")]
    Prompt(String),
    /// Something of the system.
    #[error("{what}: {source}")]
    System {
        /// What was tried.
        what: &'static str,
        /// The system's reason.
        source: std::io::Error,
    },
}

impl LaunchError {
    /// The process's exit code: 2 usage, 70 the model or the engine, 71 the system, 1 a prompt.
    #[must_use]
    pub const fn exit_code(&self) -> u8 {
        match self {
            Self::Prompt(_) => 1,
            Self::Usage(_) => 2,
            Self::Load(_) | Self::Engine(_) => 70,
            Self::Listen(_) | Self::System { .. } => 71,
        }
    }
}

impl From<EngineError> for LaunchError {
    fn from(error: EngineError) -> Self {
        Self::Load(error.to_string())
    }
}

impl From<TextError> for LaunchError {
    fn from(error: TextError) -> Self {
        Self::Load(error.to_string())
    }
}

/// Where a serving worker listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Address {
    Unix(PathBuf),
    Tcp(String),
}

/// What this process is.
#[derive(Debug)]
pub enum Mode {
    /// It serves until told to stop.
    Serve(Service),
    /// It says what it would run on.
    Machine(Device),
    /// It answers one prompt on stdout.
    Prompt(Box<Settings>, args::Prompting),
}

/// A serving worker.
#[derive(Debug)]
pub struct Service {
    settings: Settings,
    identity: Identity,
    address: Address,
    /// The inherited pipe on which one newline means "ready".
    ready_fd: Option<i32>,
    /// It ends when no daemon is heard for so long; none when it runs alone.
    lease: Option<Duration>,
}

impl Mode {
    /// From the command line and, for a spawned worker, `MLXSUP_*`.
    ///
    /// # Errors
    /// [`LaunchError::Usage`], naming the argument or variable.
    pub fn choose(args: Args, variable: impl Fn(&str) -> Option<String>) -> Result<Self, LaunchError> {
        match variable(env::SOCKET) {
            Some(socket) if args.model.is_none() => Ok(Self::Serve(spawned(socket.into(), &variable)?)),
            _ => args.into_mode(),
        }
    }

    /// Lives it; returns when the worker has ended as it should.
    ///
    /// # Errors
    /// [`LaunchError`], to be told in one line.
    pub fn run(self) -> Result<(), LaunchError> {
        match self {
            Self::Serve(service) => life::run(service),
            Self::Machine(device) => tell_machine(device),
            Self::Prompt(settings, prompting) => prompt_mode::run(&settings, &prompting),
        }
    }
}

/// One JSON object on stdout: `mlxsupctl` and `mlxsupd` ask, who load no MLX themselves.
fn tell_machine(device: Device) -> Result<(), LaunchError> {
    let machine = limits::select(device).map_err(|error| LaunchError::Engine(error.to_string()))?;
    let text = serde_json::to_string(&machine).map_err(|error| LaunchError::Engine(error.to_string()))?;
    let what = "cannot write to stdout";
    writeln!(std::io::stdout(), "{text}").map_err(|source| LaunchError::System { what, source })
}

/// The life that the daemon's environment describes.
fn spawned(socket: PathBuf, variable: &impl Fn(&str) -> Option<String>) -> Result<Service, LaunchError> {
    let needed = |name: &str| variable(name).ok_or_else(|| LaunchError::Usage(format!("{name} is not set")));
    let number = |name: &str| {
        let text = needed(name)?;
        text.parse::<u64>().map_err(|_| LaunchError::Usage(format!("{name} is `{text}`, not a number")))
    };
    let settings: Settings = serde_json::from_str(&needed(env::SETTINGS)?)
        .map_err(|error| LaunchError::Usage(format!("{} was not understood: {error}", env::SETTINGS)))?;
    let ready_fd = match variable(env::READY_FD) {
        None => None,
        Some(text) => {
            let fd = text.parse::<i32>().ok().filter(|fd| *fd > 2);
            Some(fd.ok_or_else(|| LaunchError::Usage(format!("{} is `{text}`, not a descriptor", env::READY_FD)))?)
        }
    };
    let identity = Identity {
        generation: number(env::GENERATION)?,
        nonce: needed(env::NONCE)?,
        epoch: AtomicU64::new(number(env::EPOCH)?),
    };
    let lease = Some(Duration::from_secs(settings.lease_s));
    Ok(Service { settings, identity, address: Address::Unix(socket), ready_fd, lease })
}

/// Waits for the engine thread to end by itself, for longer while it leaves saved prompts to the next worker. True when it
/// has: then the process may end in the ordinary way, which tears down MLX, and must not do so under a running thread.
fn engine_ended(thread: JoinHandle<()>, board: &Board) -> bool {
    let told = Instant::now();
    while !thread.is_finished() {
        let saving = if board.saving.load(Relaxed) { LAST_WRITING } else { Duration::ZERO };
        if told.elapsed() >= ENGINE_GRACE + saving {
            return false;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    // A panic has been reported on the board.
    thread.join().is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    type Changes = &'static [(&'static str, Option<&'static str>)];

    fn environment(changes: Changes) -> impl Fn(&str) -> Option<String> {
        let mut variables: std::collections::BTreeMap<&str, &str> = [
            (env::SOCKET, "/run/w.sock"),
            (env::GENERATION, "3"),
            (env::NONCE, "n"),
            (env::EPOCH, "5"),
            (env::READY_FD, "7"),
            (env::SETTINGS, r#"{"model": "m", "lease_s": 9}"#),
        ]
        .into();
        for (name, value) in changes {
            match value {
                Some(value) => drop(variables.insert(name, value)),
                None => drop(variables.remove(name)),
            }
        }
        let variables: std::collections::BTreeMap<String, String> =
            variables.into_iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
        move |name| variables.get(name).cloned()
    }

    #[test]
    fn a_spawned_worker_is_told_everything_by_its_environment() {
        let args = Args::parse_from(["mlxsup-worker"]);
        let Ok(Mode::Serve(service)) = Mode::choose(args, environment(&[])) else { panic!("not a service") };
        assert_eq!((service.identity.generation, service.identity.nonce.as_str()), (3, "n"));
        assert_eq!((service.ready_fd, service.lease), (Some(7), Some(Duration::from_secs(9))));
        assert_eq!(service.address, Address::Unix("/run/w.sock".into()));
        assert_eq!(service.settings.model, "m");
    }

    #[test]
    fn a_bad_environment_is_named() {
        let wrong: [(Changes, &str); 4] = [
            (&[("MLXSUP_EPOCH", Some("x"))], env::EPOCH),
            (&[("MLXSUP_NONCE", None)], env::NONCE),
            (&[("MLXSUP_READY_FD", Some("1"))], env::READY_FD),
            (&[("MLXSUP_SETTINGS", Some(r#"{"modle": 1}"#))], env::SETTINGS),
        ];
        for (changes, name) in wrong {
            let error = Mode::choose(Args::parse_from(["mlxsup-worker"]), environment(changes)).expect_err("refused");
            assert!(error.to_string().contains(name), "{error}");
            assert_eq!(error.exit_code(), 2);
        }
    }
}
