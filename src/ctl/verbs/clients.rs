//! `mlxsupctl clients`: who has how much waiting and running, and who was given how much.

use crate::control::view::ClientView;
use crate::ctl::args::Facts;
use crate::ctl::control::Control;
use crate::ctl::failure::{ExitStatus, Failure};
use crate::ctl::render::{human, json};
use crate::ctl::terminal::Terminal;

/// Prints one line per principal, and one per name inside it.
pub async fn run(facts: Facts, control: &Control, terminal: &mut Terminal) -> Result<ExitStatus, Failure> {
    let answer = control.facts::<Vec<ClientView>>("/v1/clients").await?;
    if facts.json {
        terminal.print(json::pretty(&answer.text))?;
    } else if answer.value.is_empty() {
        terminal.say(human::NO_CLIENTS)?;
    } else {
        terminal.print(human::clients(&answer.value))?;
    }
    Ok(ExitStatus::Ok)
}
