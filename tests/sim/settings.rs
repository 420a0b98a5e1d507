//! The configuration that stories and simulation start from: the documented defaults, without rules and schedules.
//!
//! Shared by the unit tests of `src/supervisor` and by this simulation, so it names the library's modules through the
//! crate root of either.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::config::{
    Action, Budget, Condition, Config, Drain, Engine, Health, IdleKeepWarm, IfBusy, KeepAwake, Listen, Log, LogFormat,
    LogLevel, Missed, Queue, Recycle, Restart, RestartMode, Rule, Schedule, Side, Threshold, WiredLimit, Worker,
    WorkerMemory,
};
use crate::memory::Metric;
use crate::schedule::{Expression, Zone};

/// `[worker] model = "m"` and nothing else.
pub fn defaults() -> Config {
    Config {
        listen: Listen {
            socket: "mlxsup.sock".into(),
            mode: 0o600,
            allow_uids: Vec::new(),
            tcp: None,
            api_key_file: None,
            max_body: 32 << 20,
        },
        worker: worker(),
        health: Health {
            interval: Duration::from_secs(5),
            timeout: Duration::from_secs(2),
            failures: 3,
            stall: Duration::from_secs(120),
            canary_after_idle: Duration::from_secs(300),
        },
        restart: Restart {
            mode: RestartMode::Auto,
            backoff_initial: Duration::from_secs(1),
            backoff_max: Duration::from_secs(300),
            budget: Budget { crashes: 5, window: Duration::from_secs(1800) },
            retry_parked: Duration::from_secs(1800),
            recycle: Recycle::default(),
        },
        drain: Drain { grace: Duration::from_secs(120) },
        queue: Queue {
            max_waiting: 256,
            max_bytes: 256 << 20,
            max_wait: Duration::from_secs(1800),
            keepalive: Duration::from_secs(15),
            keepalive_plain: Some(Duration::from_secs(60)),
            per_client_share: 0.5,
        },
        log: Log { level: LogLevel::Info, format: LogFormat::Text, keep: 5, rotate_at: 10 << 20 },
        schedules: Vec::new(),
        rules: Vec::new(),
        hash: String::new(),
    }
}

fn worker() -> Worker {
    Worker {
        engine: Engine::Native,
        model: "m".to_owned(),
        served_names: Vec::new(),
        command: None,
        slots: None,
        context: None,
        default_max_tokens: 8192,
        device: mlxsup_worker_api::settings::Device::Auto,
        start_timeout: Duration::from_secs(600),
        idle_unload: None,
        keep_awake: KeepAwake::Busy,
        env: BTreeMap::new(),
        memory: WorkerMemory {
            wired_limit: WiredLimit::Auto,
            cache_limit: 512 << 20,
            memory_limit: None,
            clear_cache_after_tokens: 500,
            idle_keep_warm: IdleKeepWarm::Auto,
        },
    }
}

/// A schedule; its expression is never evaluated here, because nominal times arrive as events.
pub fn schedule(name: &str, action: Action) -> Schedule {
    Schedule {
        name: name.to_owned(),
        when: Expression::parse("0 4 * * *", Zone::Local).expect("a valid expression"),
        action,
        min_uptime: Duration::ZERO,
        jitter: Duration::ZERO,
        wait_for_idle: Duration::from_secs(3600),
        if_busy: IfBusy::Run,
        missed: Missed::Skip,
    }
}

/// A rule over one metric with a dwell of 3 s and a cooldown of a minute.
pub fn rule(name: &str, metric: Metric, above: f64, actions: Vec<Action>) -> Rule {
    Rule {
        name: name.to_owned(),
        when: vec![Condition { metric, side: Side::Above, threshold: Threshold::Fixed(above), clear: None }],
        dwell: Duration::from_secs(3),
        actions,
        cooldown: Duration::from_secs(60),
        break_streams_after: None,
        built_in: false,
    }
}
