//! `mlxsupctl drain`: requests in flight finish, later ones wait or are refused.

use crate::control::view::VerbOptions;
use crate::ctl::args::DrainArgs;
use crate::ctl::control::Control;
use crate::ctl::failure::{ExitStatus, Failure};
use crate::ctl::steer::{Order, steer};
use crate::ctl::terminal::Terminal;

/// Waits until everything from before the order is answered.
pub async fn run(args: &DrainArgs, control: &Control, terminal: &mut Terminal) -> Result<ExitStatus, Failure> {
    let options = VerbOptions {
        deadline_s: args.deadline.map(|deadline| deadline.as_secs_f64()),
        refuse: args.refuse,
        ..VerbOptions::default()
    };
    let undo = "`mlxsupctl resume` takes it back";
    steer(Order { verb: "drain", options, waiting: args.waiting, undo }, control, terminal).await
}
