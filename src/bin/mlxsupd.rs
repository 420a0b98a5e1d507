//! The daemon: flags → `daemon::run` → exit status.

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use mlxsup::daemon::{self, DaemonError, Options};

/// Supervise an MLX worker and serve its clients at a stable socket
#[derive(Debug, Parser)]
#[command(name = "mlxsupd", version)]
struct Arguments {
    /// Serve this home [default: ~/.mlxsup]
    #[arg(long, value_name = "DIR", env = "MLXSUP_HOME")]
    home: Option<PathBuf>,
    /// Read this configuration instead of the home's mlxsup.toml
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Judge configuration and machine, then exit
    #[arg(long)]
    check: bool,
    /// Write every event and decision to FILE, to be played again (docs/simulation.md)
    #[arg(long, value_name = "FILE", hide = true)]
    record: Option<PathBuf>,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let Some(home) = arguments.home.or_else(daemon::default_home) else {
        return fail("there is no HOME in the environment; name a home with --home", 2);
    };
    let options = Options { home, config: arguments.config, record: arguments.record };
    let result = if arguments.check { daemon::check(&options).map(|_| ()) } else { serve(options) };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(&error.to_string(), error.exit_code()),
    }
}

fn serve(options: Options) -> Result<(), DaemonError> {
    daemon::keep_one_heap();
    daemon::signals::hold().map_err(|source| DaemonError::System { doing: "hold signals back", source })?;
    // One thread relays: every word between a session and the driver stays on it, where a second one would have to be
    // woken for each. What may block goes aside (`tokio::task::block_in_place`), which this kind of runtime can do.
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .map_err(|source| DaemonError::System { doing: "start the runtime", source })?
        .block_on(daemon::run(options))
}

fn fail(message: &str, code: u8) -> ExitCode {
    // Nothing is left to do about a closed stderr.
    let _ = writeln!(std::io::stderr(), "mlxsupd: {message}");
    ExitCode::from(code)
}
