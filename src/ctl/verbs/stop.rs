//! `mlxsupctl stop`: the daemon goes down, running requests finishing within the grace period.

use std::time::Duration;

use crate::control::view::VerbOptions;
use crate::ctl::args::StopArgs;
use crate::ctl::control::Control;
use crate::ctl::failure::{ExitStatus, Failure};
use crate::ctl::steer::{Order, steer};
use crate::ctl::terminal::Terminal;

/// Between two looks whether the socket still answers.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// Waits until nobody listens on the control socket any more.
pub async fn run(args: &StopArgs, control: &Control, terminal: &mut Terminal) -> Result<ExitStatus, Failure> {
    let options = VerbOptions { keep_worker: args.keep_worker, ..VerbOptions::default() };
    let undo = "see `mlxsupctl status`";
    let status = steer(Order { verb: "stop", options, waiting: args.waiting, undo }, control, terminal).await?;
    if !args.waiting.no_wait {
        // The reply is the daemon's last word, but a script that starts the next daemon needs the socket to be free.
        while tokio::net::UnixStream::connect(control.socket()).await.is_ok() {
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }
    Ok(status)
}
