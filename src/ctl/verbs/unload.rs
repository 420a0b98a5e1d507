//! `mlxsupctl unload`: the worker is stopped, which is the only proof that its memory came back.

use crate::control::view::VerbOptions;
use crate::ctl::args::UnloadArgs;
use crate::ctl::control::Control;
use crate::ctl::failure::{ExitStatus, Failure};
use crate::ctl::steer::{Order, steer};
use crate::ctl::terminal::Terminal;

/// Waits until the memory was seen to come back.
pub async fn run(args: &UnloadArgs, control: &Control, terminal: &mut Terminal) -> Result<ExitStatus, Failure> {
    let options = VerbOptions { now: args.now, ..VerbOptions::default() };
    let undo = "`mlxsupctl load` starts the worker again";
    steer(Order { verb: "unload", options, waiting: args.waiting, undo }, control, terminal).await
}
