//! The command line: flags → one call → render → exit status.

use std::process::ExitCode;

fn main() -> ExitCode {
    mlxsup::ctl::run(std::env::args_os())
}
