//! From nothing to serving, and everything `status` promises on the way.

use serde_json::{Value, json};

use crate::service::Service;

/// The fields of `status --json` other people's scripts rely on.
const FIELDS: &[(&str, &[&str])] = &[
    ("", &["schema", "state", "cause", "memory", "schedules", "last_restart", "rules", "handover"]),
    ("/daemon", &["pid", "version", "uptime_s", "epoch"]),
    ("/worker", &["pid", "generation", "phase", "uptime_s", "model", "engine", "footprint_bytes"]),
    ("/queue", &["waiting", "active", "slots"]),
    ("/ledger", &["answered", "carried", "lost", "restarts", "longest_wait_s"]),
    ("/config", &["hash", "pending", "problems"]),
    ("/rules/0", &["name", "state", "explain"]),
    ("/schedules/0", &["name", "next_at"]),
];

const NIGHTLY: &str = "[[schedule]]\nname = \"nightly\"\ncron = \"0 4 * * *\"\naction = \"restart\"\n";

#[test]
fn a_first_start_ends_serving_and_status_has_every_field() {
    let mut service = Service::new("", NIGHTLY);
    service.start();
    // A sample follows each second: the first may come before the worker is there.
    service.wait_until("a sample of the worker", |status| {
        status["state"] == "serving" && status["memory"]["mlx.cache"].is_number()
    });
    let said = service.ctl(&["status", "--json"]).ok();
    assert_eq!(said.err, "");
    let status = said.json();
    for (object, fields) in FIELDS {
        let object: &Value = status.pointer(object).unwrap_or_else(|| panic!("no {object}: {status}"));
        for field in *fields {
            assert!(object.get(field).is_some(), "no {field} in {object}");
        }
    }
    assert_eq!(status["schema"], 1);
    assert_eq!(status["cause"], Value::Null);
    assert_eq!(status["last_restart"], Value::Null);
    assert_eq!(status["daemon"]["pid"], json!(service.daemon_pid().as_raw()));
    assert_eq!(status["daemon"]["epoch"], 1);
    assert_eq!(status["worker"]["generation"], 1);
    assert_eq!(status["worker"]["phase"], "ready");
    assert_eq!(status["worker"]["model"], "fake");
    assert_eq!(status["worker"]["engine"], "native");
    assert_eq!(status["queue"], json!({"waiting": 0, "active": 0, "slots": 4, "oldest_wait_s": null}));
    for metric in ["system.total", "system.used", "worker.footprint", "worker.uptime", "mlx.cache"] {
        assert!(status["memory"][metric].is_number(), "no {metric}: {}", status["memory"]);
    }
    assert_eq!(status["schedules"][0]["name"], "nightly");
    assert!(service.ctl(&["status"]).ok().out.contains("serving"));
    assert!(!service.ctl(&["events"]).ok().out.is_empty());
    let rules = service.ctl(&["rules", "--json"]).ok().json();
    assert!(rules.as_array().unwrap().iter().any(|rule| rule["name"] == "mlx-cache"), "{rules}");
    let schedule = service.ctl(&["schedule", "--next", "3", "--json"]).ok().json();
    assert_eq!(schedule[0]["upcoming"].as_array().unwrap().len(), 3, "{schedule}");
}

#[test]
fn while_the_model_loads_status_shows_progress_and_clients_wait() {
    let mut service = Service::new("\"load_ms\":600000", "");
    service.start();
    let status = service.wait_until("loading", |status| status["worker"]["phase"] == "loading");
    assert_eq!(status["state"], "starting");
    assert_eq!(status["cause"]["code"], "loading");
    let said = service.ctl(&["status"]);
    assert_eq!(said.code, Some(3), "{}", said.out);
    let loading = service.wait_until("progress", |status| status["worker"]["load"]["bytes_total"].is_number());
    assert_eq!(loading["worker"]["load"]["bytes_total"], 1 << 30);

    assert_eq!(service.get("/health").status, 200);
    let ready = service.get("/ready");
    assert_eq!(ready.status, 503, "{ready:?}");
    let _waiting = service.chat("{}");
    service.wait_until("a request waits", |status| status["queue"]["waiting"] == 1);
}

#[test]
fn the_home_is_closed_to_others_and_so_are_the_sockets() {
    use std::os::unix::fs::PermissionsExt;
    let service = Service::serving("", "");
    let mode = |name: &str| std::fs::metadata(service.path(name)).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(""), 0o700);
    for name in ["mlxsup.sock", "control.sock", "state.json", "logs/mlxsupd.log", "logs/worker.log"] {
        assert_eq!(mode(name), 0o600, "{name}");
    }
}
