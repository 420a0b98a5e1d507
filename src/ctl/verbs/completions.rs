//! `mlxsupctl completions SHELL`: a script for the shell to source.

use clap::CommandFactory;

use crate::ctl::args::{Args, CompletionsArgs};
use crate::ctl::failure::{ExitStatus, Failure};
use crate::ctl::terminal::Terminal;

/// Prints the script.
pub fn run(args: &CompletionsArgs, terminal: &mut Terminal) -> Result<ExitStatus, Failure> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Args::command(), "mlxsupctl", &mut script);
    terminal.print(script)?;
    Ok(ExitStatus::Ok)
}
