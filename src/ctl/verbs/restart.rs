//! `mlxsupctl restart`: the worker is replaced, or with `--plan` only the arithmetic is printed.

use crate::control::view::VerbOptions;
use crate::ctl::args::RestartArgs;
use crate::ctl::control::Control;
use crate::ctl::failure::{ExitStatus, Failure};
use crate::ctl::steer::{Order, steer};
use crate::ctl::terminal::Terminal;

/// Waits until the next worker serves.
pub async fn run(args: &RestartArgs, control: &Control, terminal: &mut Terminal) -> Result<ExitStatus, Failure> {
    let options = VerbOptions { mode: Some(args.mode.as_str().to_owned()), plan: args.plan, ..VerbOptions::default() };
    let undo = "see `mlxsupctl status`";
    steer(Order { verb: "restart", options, waiting: args.waiting, undo }, control, terminal).await
}
