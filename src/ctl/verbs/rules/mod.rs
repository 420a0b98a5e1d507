//! `mlxsupctl rules`: the memory rules, their states and what they see, or what they would have done.

mod replay;

use crate::control::view::RuleView;
use crate::ctl::args::RulesArgs;
use crate::ctl::control::Control;
use crate::ctl::failure::{ExitStatus, Failure};
use crate::ctl::home::Home;
use crate::ctl::render::{human, json};
use crate::ctl::terminal::Terminal;

/// Prints one line per rule, or one per time that it would have acted.
pub async fn run(
    args: &RulesArgs,
    control: &Control,
    home: &Home,
    terminal: &mut Terminal,
) -> Result<ExitStatus, Failure> {
    if let Some(since) = args.replay {
        return replay::run(since, args.facts, home, terminal);
    }
    let answer = control.facts::<Vec<RuleView>>("/v1/rules").await?;
    if args.facts.json {
        terminal.print(json::pretty(&answer.text))?;
    } else if answer.value.is_empty() {
        terminal.say("There are no rules; add a [[rule]] to mlxsup.toml")?;
    } else {
        let columns = terminal.columns;
        terminal.print(human::rules(&answer.value, columns))?;
    }
    Ok(ExitStatus::Ok)
}
