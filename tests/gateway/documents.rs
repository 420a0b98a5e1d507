//! The configuration and the status that tests start from.

use std::time::Duration;

use mlxsup::config::{
    Budget, Config, Drain, Engine, Health, IdleKeepWarm, KeepAwake, Listen, Log, LogFormat, LogLevel, Queue, Recycle,
    Restart, RestartMode, WiredLimit, Worker, WorkerMemory,
};
use mlxsup::control::view::{ConfigView, DaemonView, Ledger, QueueView, State, Status, WorkerView};
use mlxsup_worker_api::settings::Device;

/// A status with one ready worker.
pub fn status(state: State) -> Status {
    Status {
        schema: 1,
        state,
        cause: None,
        daemon: DaemonView { pid: 1, version: "0".into(), uptime_s: 0, epoch: 1 },
        worker: Some(WorkerView {
            pid: 2,
            generation: 7,
            phase: "ready".into(),
            uptime_s: 0,
            model: "real-model".into(),
            engine: "native".into(),
            footprint_bytes: None,
            load: None,
            context_tokens: None,
        }),
        queue: QueueView::default(),
        handover: None,
        memory: Default::default(),
        schedules: Vec::new(),
        last_restart: None,
        rules: Vec::new(),
        ledger: Ledger::default(),
        config: ConfigView::default(),
        drain: None,
    }
}

/// A configuration in which nothing happens by itself.
pub fn config() -> Config {
    let hour = Duration::from_secs(3600);
    Config {
        listen: Listen {
            socket: "client.sock".into(),
            mode: 0o600,
            allow_uids: Vec::new(),
            tcp: None,
            api_key_file: None,
            max_body: 1 << 20,
        },
        worker: Worker {
            engine: Engine::Native,
            model: "models/configured".into(),
            served_names: Vec::new(),
            command: None,
            slots: None,
            context: None,
            default_max_tokens: 8192,
            device: Device::Auto,
            start_timeout: hour,
            idle_unload: None,
            keep_awake: KeepAwake::Off,
            env: Default::default(),
            memory: WorkerMemory {
                wired_limit: WiredLimit::Auto,
                cache_limit: 0,
                memory_limit: None,
                clear_cache_after_tokens: 0,
                idle_keep_warm: IdleKeepWarm::Off,
            },
        },
        health: Health { interval: hour, timeout: hour, failures: 3, stall: hour, canary_after_idle: hour },
        restart: Restart {
            mode: RestartMode::Auto,
            backoff_initial: hour,
            backoff_max: hour,
            budget: Budget { crashes: 5, window: hour },
            retry_parked: hour,
            recycle: Recycle::default(),
        },
        drain: Drain { grace: hour },
        queue: Queue {
            max_waiting: 256,
            max_bytes: 1 << 28,
            max_wait: hour,
            keepalive: hour,
            keepalive_plain: None,
            per_client_share: 0.5,
        },
        log: Log { level: LogLevel::Info, format: LogFormat::Text, keep: 1, rotate_at: 1 },
        schedules: Vec::new(),
        rules: Vec::new(),
        hash: String::new(),
    }
}
