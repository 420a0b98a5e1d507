//! `mlxsupctl tune [--apply]`: limits, slots and thresholds for this machine and model, with the sums; on request, written
//! into the configuration. Needs no daemon, but knows a Mac's working set only from one.

mod change;
mod evidence;
mod paper;
mod written;

use serde_json::json;

use crate::config::{self, Config, LoadError, edit};
use crate::ctl::args::TuneArgs;
use crate::ctl::control::Control;
use crate::ctl::differences::differences;
use crate::ctl::failure::{ExitStatus, Failure, Kind};
use crate::ctl::home::Home;
use crate::ctl::render::json::pretty;
use crate::ctl::reported;
use crate::ctl::terminal::Terminal;
use crate::limits::{self, Unknown};
use change::Change;

/// Prints the paper, and what would be changed; with `--apply` changes it.
pub async fn run(
    args: &TuneArgs,
    home: &Home,
    control: &Control,
    terminal: &mut Terminal,
) -> Result<ExitStatus, Failure> {
    let file = home.config_file();
    let config = config::load(&file).map_err(|error| unusable(&error))?;
    let resolved = limits::resolve(&config, reported::ask(control).await).map_err(|error| unknown(&error))?;
    let observed = evidence::observed(home, terminal)?;
    let circumstances = resolved.circumstances(&config, observed);
    let advice = circumstances.advice();
    let changes = change::changes(&config, &resolved, &advice, &observed);
    if args.facts.json {
        let document = json!({
            "schema": 1, "model": resolved.model.name, "machine": resolved.machine, "in_force": resolved.budget,
            "advice": advice, "changes": changes.iter().map(Change::json).collect::<Vec<_>>(),
            "applied": args.apply && !changes.is_empty(),
        });
        if args.apply && !changes.is_empty() {
            let (_, new) = written::edited(&file, &changes)?;
            written::replace(&file, &new)?;
        }
        terminal.print(pretty(document.to_string().as_bytes()))?;
        return Ok(ExitStatus::Ok);
    }
    terminal.print(paper::paper(&config, &resolved, &advice, &observed, &changes, terminal.out_paint))?;
    for warning in &advice.warnings {
        terminal.say(&format!("{} {warning}", terminal.err_paint.warn("warning:")))?;
    }
    if advice.budget.too_big_by.is_some() {
        terminal.say(match circumstances.decided_memory_limit() {
            Some(_) => {
                "Nothing is proposed for a model that does not fit into the memory_limit you set; `mlxsupctl models` shows what \
                 fits without it"
            }
            None => "Nothing is proposed for a model that does not fit; `mlxsupctl models` shows what does",
        })?;
        return Ok(ExitStatus::Ok);
    }
    if changes.is_empty() {
        terminal.say(&format!("Nothing to change in {}", file.display()))?;
        return Ok(ExitStatus::Ok);
    }
    let (old, new) = written::edited(&file, &changes)?;
    terminal.print(format!("\n{}", differences(&old, &new)))?;
    if !args.apply {
        terminal.say(&format!("`mlxsupctl tune --apply` writes that into {}", file.display()))?;
        return Ok(ExitStatus::Ok);
    }
    written::replace(&file, &new)?;
    terminal.say(&format!("{} is changed", file.display()))?;
    say_next(&config, &new, terminal)?;
    Ok(ExitStatus::Ok)
}

/// Says what brings the new values into force.
fn say_next(old: &Config, new: &str, terminal: &mut Terminal) -> Result<(), Failure> {
    let Ok(new) = config::parse(new, old.source.file()) else { return Ok(()) };
    let next_worker = config::diff(old, &new).iter().any(|change| change.when == config::When::NextWorker);
    terminal.say("`mlxsupctl reload` takes it into use")?;
    if next_worker {
        terminal.say("`mlxsupctl restart` starts a worker with the new limits; `--plan` says how")?;
    }
    Ok(())
}

fn unusable(error: &LoadError) -> Failure {
    let missing = matches!(error, LoadError::Missing { .. });
    let failure = Failure::new(Kind::Configuration, error.to_string().trim_end());
    if missing { failure.hint("`mlxsupctl init` writes one for this machine") } else { failure }
}

fn unknown(error: &Unknown) -> Failure {
    let kind = match error {
        Unknown::Model(_) | Unknown::OtherEngine => Kind::Configuration,
        Unknown::Machine(_) => Kind::Internal,
    };
    Failure::new(kind, format!("nothing to tune: {error}"))
}

/// The edits of these changes.
fn edits(changes: &[Change]) -> Vec<edit::Edit> {
    changes.iter().map(|change| change.edit.clone()).collect()
}
