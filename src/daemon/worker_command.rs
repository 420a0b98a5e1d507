//! What a native worker is started as: its program and its settings document.

use std::ffi::OsString;

use mlxsup_worker_api::Settings;

use super::panic_report;
use crate::config::{Config, Engine, IdleKeepWarm, WiredLimit};

/// A worker that hears from no daemon for so long finishes what it has and exits.
const LEASE_S: u64 = 15 * 60;

/// Program and arguments: `worker.command`, else the `mlxsup-worker` beside this very program.
///
/// # Errors
/// When the configured engine has no worker yet, or our own path is unknown.
pub fn command(config: &Config) -> Result<Vec<OsString>, String> {
    if let Some(command) = &config.worker.command {
        return Ok(command.iter().map(OsString::from).collect());
    }
    if config.worker.engine != Engine::Native {
        return Err("engine `mlx_lm` and `openai` come with a later release; set worker.engine = \"native\"".to_owned());
    }
    let own = std::env::current_exe().map_err(|error| format!("cannot find our own program: {error}"))?;
    Ok(vec![own.with_file_name("mlxsup-worker").into_os_string()])
}

/// Judges what can be known of the worker before anything is started: its program and its model.
///
/// # Errors
/// What is missing, and what mends it.
pub fn check(config: &Config) -> Result<(), String> {
    let command = command(config)?;
    if let Some(program) = command.first().map(std::path::Path::new)
        && program.is_absolute()
        && !program.exists()
    {
        return Err(format!(
            "there is no worker program at {}; build it (`make build`) or set worker.command",
            program.display()
        ));
    }
    let model = &config.worker.model;
    let looks_like_a_path = model.starts_with(['/', '.']) || model.ends_with(".gguf");
    if config.worker.engine == Engine::Native && looks_like_a_path && !std::path::Path::new(model).exists() {
        return Err(format!(
            "worker.model: there is no file or folder {model}; check the path, or fetch the model first"
        ));
    }
    Ok(())
}

/// The settings document of a native worker.
#[must_use]
pub fn settings(config: &Config) -> Settings {
    let worker = &config.worker;
    Settings {
        model: worker.model.clone(),
        device: worker.device,
        slots: worker.slots,
        context: worker.context,
        default_max_tokens: worker.default_max_tokens,
        wired_limit: match worker.memory.wired_limit {
            WiredLimit::Auto if panic_report::forbids_wiring() => WiredLimit::Off,
            limit => limit,
        },
        cache_limit_bytes: worker.memory.cache_limit,
        memory_limit_bytes: worker.memory.memory_limit,
        clear_cache_after_tokens: worker.memory.clear_cache_after_tokens,
        idle_keep_warm_ms: match worker.memory.idle_keep_warm {
            IdleKeepWarm::Every(interval) => Some(u64::try_from(interval.as_millis()).unwrap_or(u64::MAX)),
            // `auto` is on where macOS drops idle residency, which the worker itself can see.
            IdleKeepWarm::Auto | IdleKeepWarm::Off => None,
        },
        lease_s: LEASE_S,
        served_names: worker.served_names.clone(),
    }
}
