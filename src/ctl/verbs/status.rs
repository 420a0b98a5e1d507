//! `mlxsupctl status`: what the service is doing; the exit status says whether requests are answered.

use crate::control::view::State;
use crate::ctl::args::Facts;
use crate::ctl::control::Control;
use crate::ctl::failure::{ExitStatus, Failure};
use crate::ctl::home::Home;
use crate::ctl::render::quantity::Now;
use crate::ctl::render::{json, status};
use crate::ctl::terminal::Terminal;

/// Prints the status. Not serving is no failure of this verb: nothing is said on stderr, only the exit status tells.
pub async fn run(facts: Facts, home: &Home, control: &Control, terminal: &mut Terminal) -> Result<ExitStatus, Failure> {
    let answer = control.status().await?;
    if facts.json {
        terminal.print(json::pretty(&answer.text))?;
    } else {
        let (paint, columns) = (terminal.out_paint, terminal.columns);
        terminal.print(status::table(&answer.value, &home.path, Now::of_machine(), paint, columns))?;
    }
    Ok(exit_of(answer.value.state))
}

fn exit_of(state: State) -> ExitStatus {
    match state {
        State::Serving | State::Handover | State::Asleep => ExitStatus::Ok,
        State::Starting
        | State::Draining
        | State::Drained
        | State::Unloaded
        | State::Parked
        | State::Stranded
        | State::Stopping => ExitStatus::NotServing,
    }
}
