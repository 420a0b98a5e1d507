//! `mlxsupctl schedule`: when schedules fire next; `schedule run NAME` proves 4 AM at 4 PM.

use crate::control::view::{ScheduleView, VerbOptions};
use crate::ctl::args::{ScheduleAction, ScheduleArgs};
use crate::ctl::control::Control;
use crate::ctl::failure::{ExitStatus, Failure};
use crate::ctl::render::quantity::Now;
use crate::ctl::render::{human, json};
use crate::ctl::steer::{Order, steer};
use crate::ctl::terminal::Terminal;

/// Prints the next firings, or runs one schedule's action now.
pub async fn run(args: ScheduleArgs, control: &Control, terminal: &mut Terminal) -> Result<ExitStatus, Failure> {
    if let Some(ScheduleAction::Run { name, waiting }) = args.action {
        let options = VerbOptions { run: Some(name), ..VerbOptions::default() };
        let undo = "see `mlxsupctl status`";
        return steer(Order { verb: "schedule", options, waiting, undo }, control, terminal).await;
    }
    let answer = control.facts::<Vec<ScheduleView>>(&format!("/v1/schedule?next={}", args.next)).await?;
    if args.facts.json {
        terminal.print(json::pretty(&answer.text))?;
    } else if answer.value.is_empty() {
        terminal.say("There are no schedules; add a [[schedule]] to mlxsup.toml")?;
    } else {
        terminal.print(human::schedules(&answer.value, Now::of_machine()))?;
    }
    Ok(ExitStatus::Ok)
}
