//! The configuration and the status that tests start from.

use std::path::Path;

use mlxsup::config::{self, Config};
use mlxsup::control::view::{ConfigView, DaemonView, Ledger, QueueView, State, Status, WorkerView};

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
        last_failure: None,
        rules: Vec::new(),
        ledger: Ledger::default(),
        config: ConfigView::default(),
        drain: None,
        limits: None,
    }
}

/// A configuration in which nothing happens by itself.
pub fn config() -> Config {
    let text = r#"
        [listen]
        socket = "client.sock"
        max_body = "1MiB"
        [worker]
        model = "models/configured"
        keep_awake = "off"
        start_timeout = "1h"
        [health]
        interval = "30m"
        timeout = "10m"
        stall = "1h"
        [drain]
        grace = "1h"
        [queue]
        max_wait = "2h"
        keepalive = "1h"
        keepalive_plain = "off"
    "#;
    config::parse(text, Path::new("test.toml")).unwrap_or_else(|problems| panic!("{problems}"))
}
