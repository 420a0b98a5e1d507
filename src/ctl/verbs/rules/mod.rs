//! `mlxsupctl rules`: the memory rules, their states and what they see, what they are for, or what they would have done.

mod explain;
mod in_force;
mod replay;

use crate::config;
use crate::control::view::RuleView;
use crate::ctl::args::RulesArgs;
use crate::ctl::control::Control;
use crate::ctl::failure::{ExitStatus, Failure, Kind};
use crate::ctl::home::Home;
use crate::ctl::render::{human, json};
use crate::ctl::terminal::Terminal;

/// Prints one line per rule, a paragraph per rule, or one line per time that it would have acted.
pub async fn run(
    args: &RulesArgs,
    control: &Control,
    home: &Home,
    terminal: &mut Terminal,
) -> Result<ExitStatus, Failure> {
    if let Some(since) = args.replay {
        return replay::run(since, args.facts, home, control, terminal).await;
    }
    let answer = control.facts::<Vec<RuleView>>("/v1/rules").await?;
    if args.facts.json {
        terminal.print(json::pretty(&answer.text))?;
    } else if answer.value.is_empty() {
        terminal.say("There are no rules; add a [[rule]] to mlxsup.toml")?;
    } else if args.explain {
        let config = config::load(&home.config_file())
            .map_err(|error| Failure::new(Kind::Configuration, error.to_string().trim_end()))?;
        let rules = in_force::rules(&config, control).await;
        terminal.print(explain::told(&rules, &answer.value, terminal.columns, terminal.out_paint))?;
    } else {
        let columns = terminal.columns;
        terminal.print(human::rules(&answer.value, columns))?;
    }
    Ok(ExitStatus::Ok)
}
