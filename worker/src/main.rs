//! The worker process: command line and environment in, exit code out.

use std::io::{self, IsTerminal, Write};
use std::process::ExitCode;

use clap::Parser;
use mlxsup_worker::launch::{Args, Mode};
use tracing_subscriber::EnvFilter;

fn main() -> ExitCode {
    let mode = match Mode::choose(Args::parse(), |name| std::env::var(name).ok()) {
        Ok(mode) => mode,
        Err(error) => return failed(&error.to_string(), error.exit_code()),
    };
    log_to_stderr(if matches!(mode, Mode::Prompt(..) | Mode::Machine(_)) { "warn" } else { "info" });
    match mode.run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => failed(&error.to_string(), error.exit_code()),
    }
}

/// Plain lines; `RUST_LOG` changes what is shown.
fn log_to_stderr(default: &str) {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(default));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(io::stderr)
        .with_ansi(io::stderr().is_terminal())
        .init();
}

/// One clear line: the daemon shows it to people.
fn failed(message: &str, code: u8) -> ExitCode {
    // Nobody to read it is no second failure.
    let _ = writeln!(io::stderr(), "mlxsup-worker: {message}");
    ExitCode::from(code)
}
