//! `mlxsupctl models`: what lies in the hub cache, and how much of it this machine can hold. Needs no daemon.

use mlxsup_fit::resolve;

use crate::config;
use crate::ctl::args::Facts;
use crate::ctl::control::Control;
use crate::ctl::failure::{ExitStatus, Failure, Kind};
use crate::ctl::home::Home;
use crate::ctl::render::fits;
use crate::ctl::render::json::pretty;
use crate::ctl::reported;
use crate::ctl::shelf;
use crate::ctl::terminal::Terminal;
use crate::limits::words;
use crate::memory::machine;

/// Prints a line per model; the configured one comes first, wherever it lies.
pub async fn run(facts: Facts, home: &Home, control: &Control, terminal: &mut Terminal) -> Result<ExitStatus, Failure> {
    let configured = config::load(&home.config_file()).ok();
    let device = configured.as_ref().map_or(mlxsup_worker_api::settings::Device::Auto, |config| config.worker.device);
    let machine = machine::machine(device, reported::ask(control).await)
        .map_err(|error| Failure::new(Kind::Internal, error.to_string()))?;
    let hub_cache = resolve::hub_cache();
    let models = shelf::shelf(&machine, &hub_cache, configured.as_ref().map(|config| config.worker.model.as_str()));
    if facts.json {
        let all: Vec<_> = models.iter().map(shelf::Shelved::json).collect();
        let document = serde_json::json!({
            "schema": 1, "machine": machine, "memory_limit": machine.memory_limit_sum(), "hub_cache": hub_cache,
            "models": all
        });
        terminal.print(pretty(document.to_string().as_bytes()))?;
        return Ok(ExitStatus::Ok);
    }
    terminal.say(&format!("{}; a model and its requests get {}", words::machine(&machine), memory_limit(&machine)))?;
    if models.is_empty() {
        terminal.say(&format!("There are no models in {}", hub_cache.display()))?;
        terminal.say("Fetch one: `hf download mlx-community/Qwen3-4B-Instruct-2507-4bit`")?;
    } else {
        terminal.print(fits::table(&models))?;
    }
    Ok(ExitStatus::Ok)
}

fn memory_limit(machine: &mlxsup_fit::Machine) -> String {
    let sum = machine.memory_limit_sum();
    format!("{} = {}", mlxsup_fit::derivation::spoken(sum.bytes), sum.parts())
}
