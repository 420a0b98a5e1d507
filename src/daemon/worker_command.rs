//! What a worker is started as, per engine: its program, where it listens, and the settings document.

use std::ffi::OsString;
use std::net::TcpListener;
use std::path::Path;

use mlxsup_worker_api::Settings;

use super::mlx_lm;
use super::panic_report;
use crate::config::{Config, Engine, IdleKeepWarm, WiredLimit};
use crate::limits;
use crate::link::endpoint::Endpoint;
use crate::link::foreign::{self, Foreign, Paths};
use crate::memory::machine::Reported;
use crate::supervisor::Generation;

/// A worker that hears from no daemon for so long finishes what it has and exits.
const LEASE_S: u64 = 15 * 60;

/// How one worker is started.
#[derive(Debug, Clone, PartialEq)]
pub struct Start {
    /// Program and arguments.
    pub command: Vec<OsString>,
    /// Where it will listen.
    pub endpoint: Endpoint,
    /// How to deal with it, unless it is native.
    pub foreign: Option<Foreign>,
}

/// What the next worker is started as. `socket` is its place, `bridge` where the script for mlx-lm lies.
///
/// # Errors
/// When our own path is unknown, or no port can be had.
pub fn start(config: &Config, socket: &Path, bridge: &Path, generation: Generation) -> Result<Start, String> {
    let worker = &config.worker;
    let unix = || Endpoint::Unix(socket.to_owned());
    let foreign = |slots: u32, paths| Some(Foreign { model: worker.model.clone(), slots, paths });
    match worker.engine {
        Engine::Native => Ok(Start { command: native(config)?, endpoint: unix(), foreign: None }),
        Engine::MlxLm => {
            let command = mlx_lm::command(worker.python.as_deref(), bridge);
            // Its slots are in its own report.
            Ok(Start { command, endpoint: unix(), foreign: foreign(0, None) })
        }
        Engine::OpenAi => {
            let template = worker.command.as_deref().unwrap_or_default();
            let upstream = worker.upstream.as_deref().unwrap_or("unix:{socket}");
            let port = match template.iter().any(|word| word.contains("{port}")) {
                true => Some(free_port().map_err(|error| format!("no free port for {{port}}: {error}"))?),
                false => None,
            };
            let filled = |text: &str| {
                let text = text.replace("{socket}", &socket.to_string_lossy()).replace("{model}", &worker.model);
                let text = text.replace("{generation}", &generation.to_string());
                port.map_or(text.clone(), |port| text.replace("{port}", &port.to_string()))
            };
            let endpoint = Endpoint::parse(&filled(upstream))
                .ok_or_else(|| format!("worker.upstream: \"{upstream}\" is no place on this machine"))?;
            let paths = Paths { health: worker.health_path.clone(), ready: worker.ready_path.clone() };
            let slots = worker.slots.unwrap_or(foreign::SLOTS);
            let command = template.iter().map(|word| OsString::from(filled(word))).collect();
            Ok(Start { command, endpoint, foreign: foreign(slots, Some(paths)) })
        }
    }
}

/// `worker.command`, else the `mlxsup-worker` beside this very program.
fn native(config: &Config) -> Result<Vec<OsString>, String> {
    if let Some(command) = &config.worker.command {
        return Ok(command.iter().map(OsString::from).collect());
    }
    let own = std::env::current_exe().map_err(|error| format!("cannot find our own program: {error}"))?;
    Ok(vec![own.with_file_name("mlxsup-worker").into_os_string()])
}

/// A port nobody listens at. Somebody may take it before the worker does; then its start fails and is tried again with
/// another one.
fn free_port() -> std::io::Result<u16> {
    Ok(TcpListener::bind(("127.0.0.1", 0))?.local_addr()?.port())
}

/// The program that `config` names, if it names one: without `worker.python` it is looked for at each start.
///
/// # Errors
/// When our own path is unknown.
pub fn program(config: &Config) -> Result<Option<OsString>, String> {
    let worker = &config.worker;
    Ok(match worker.engine {
        Engine::Native => native(config)?.into_iter().next(),
        Engine::MlxLm => worker.python.clone().map(Into::into),
        Engine::OpenAi => worker.command.iter().flatten().next().map(OsString::from),
    })
}

/// Judges what can be known of the worker before anything is started: its program and its model.
///
/// # Errors
/// What is missing, and what mends it.
pub fn check(config: &Config) -> Result<(), String> {
    let program = program(config)?;
    if let Some(program) = program.as_deref().map(Path::new)
        && program.is_absolute()
        && !program.exists()
    {
        let remedy = match config.worker.engine {
            Engine::Native => "build it (`make build`) or set worker.command",
            Engine::MlxLm => "set worker.python to a Python that has mlx-lm",
            Engine::OpenAi => "set worker.command to a program that is there",
        };
        return Err(format!("there is no worker program at {}; {remedy}", program.display()));
    }
    let model = &config.worker.model;
    let looks_like_a_path = model.starts_with(['/', '.']) || model.ends_with(".gguf");
    if config.worker.engine != Engine::OpenAi && looks_like_a_path && !Path::new(model).exists() {
        return Err(format!(
            "worker.model: there is no file or folder {model}; check the path, or fetch the model first"
        ));
    }
    Ok(())
}

/// The settings document of a worker; `prefix_cache` is where saved prompts outlive it. For mlx-lm it reads the model's
/// headers, so it blocks.
#[must_use]
pub fn settings(config: &Config, prefix_cache: &Path) -> Settings {
    let mut settings = as_configured(config);
    match config.worker.engine {
        Engine::Native => settings.prefix_cache_dir = prefix_cache.to_str().map(str::to_owned),
        Engine::MlxLm => derive(&mut settings, config),
        Engine::OpenAi => {}
    }
    settings
}

/// The native worker derives what is `auto` itself. mlx-lm's bridge knows no arithmetic of slots and state: it is told, as
/// far as that does not depend on a working set that is only assumed.
fn derive(settings: &mut Settings, config: &Config) {
    let resolved = match limits::resolve(config, Reported::default()) {
        Ok(resolved) => resolved,
        Err(error) => {
            tracing::warn!(%error, "slots are left to mlx-lm");
            return;
        }
    };
    let slots = *settings.slots.get_or_insert(resolved.budget.slots);
    if settings.wired_limit == WiredLimit::Auto {
        // The bridge cuts it to the working set, which it knows.
        let state = u64::from(slots).saturating_mul(resolved.budget.state_bytes);
        let most = resolved.machine.total_bytes.saturating_sub(resolved.machine.reserve_bytes());
        settings.wired_limit = WiredLimit::Bytes(resolved.budget.weights_bytes.saturating_add(state).min(most));
    }
}

fn as_configured(config: &Config) -> Settings {
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
        prefix_cache_dir: None,
        lease_s: LEASE_S,
        served_names: worker.served_names.clone(),
    }
}
