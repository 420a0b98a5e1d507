//! The command line `mlxsupctl`: parses, asks the daemon, renders, and ends with a documented exit status.
//!
//! ```text
//! args ─▶ verbs/<name> ─▶ control (control.sock) ─▶ render/{human,status,json} ─▶ terminal
//!                    ├──▶ steer: order, progress, outcome          failure ─▶ stderr and exit status
//!                    └──▶ service_control: launchctl, systemctl
//! ```
//! `top` alone goes its own way to the terminal. `init`, `models`, `tune` and `config` need no daemon: shelf, `crate::limits` and `crate::config` answer them.
//! Owns no state and decides nothing about the service: every fact printed comes from the daemon or a file of the home.

pub mod args;
mod connection;
mod control;
mod differences;
mod error_object;
mod failure;
mod home;
mod interrupt;
mod picture;
mod render;
mod reported;
mod service_control;
mod shelf;
mod sse;
mod steer;
mod tail;
mod terminal;
#[cfg(feature = "top")]
mod top;
mod verbs;

use std::ffi::OsString;
use std::process::ExitCode;

use clap::Parser;

use failure::{ExitStatus, Failure, Kind};
use terminal::Terminal;

/// Runs one command line, program name first. Never panics on any input; output goes to the process's own streams.
#[must_use]
pub fn run(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let args = match args::Args::try_parse_from(arguments) {
        Ok(args) => args,
        // Help and version arrive here too, with status 0. A reader that has gone needs no message.
        Err(error) => {
            let _ = error.print();
            return ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(ExitStatus::Usage as u8));
        }
    };
    let mut terminal = Terminal::of_process();
    let status = match carry_out(args, &mut terminal) {
        Ok(status) => status,
        Err(failure) => {
            // When not even the failure can be told, its exit status still is.
            let _ = failure.report(&mut terminal);
            failure.status()
        }
    };
    ExitCode::from(status as u8)
}

fn carry_out(args: args::Args, terminal: &mut Terminal) -> Result<ExitStatus, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::new(Kind::Internal, "cannot start the runtime").caused_by(error))?;
    let outcome = runtime.block_on(verbs::dispatch(args, terminal));
    // A thread may still wait for a line of standard input; it must not hold the exit.
    runtime.shutdown_background();
    let settled = terminal.settle();
    let status = outcome?;
    settled?;
    Ok(status)
}
