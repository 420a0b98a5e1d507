//! `mlxsupctl rules`: the memory rules, their states and what they see.

use crate::control::view::RuleView;
use crate::ctl::args::Facts;
use crate::ctl::control::Control;
use crate::ctl::failure::{ExitStatus, Failure};
use crate::ctl::render::{human, json};
use crate::ctl::terminal::Terminal;

/// Prints one line per rule.
pub async fn run(facts: Facts, control: &Control, terminal: &mut Terminal) -> Result<ExitStatus, Failure> {
    let answer = control.facts::<Vec<RuleView>>("/v1/rules").await?;
    if facts.json {
        terminal.print(json::pretty(&answer.text))?;
    } else if answer.value.is_empty() {
        terminal.say("There are no rules; add a [[rule]] to mlxsup.toml")?;
    } else {
        let columns = terminal.columns;
        terminal.print(human::rules(&answer.value, columns))?;
    }
    Ok(ExitStatus::Ok)
}
