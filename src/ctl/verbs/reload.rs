//! `mlxsupctl reload`: the daemon reads its configuration again and says per key what becomes of it.

use crate::ctl::args::Waiting;
use crate::ctl::control::Control;
use crate::ctl::failure::{ExitStatus, Failure};
use crate::ctl::steer::{Order, steer};
use crate::ctl::terminal::Terminal;

/// Orders it and prints the outcome.
pub async fn run(waiting: Waiting, control: &Control, terminal: &mut Terminal) -> Result<ExitStatus, Failure> {
    steer(Order::plain("reload", waiting), control, terminal).await
}
