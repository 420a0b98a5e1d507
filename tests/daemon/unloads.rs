//! `unload` and `load`, by hand and for idleness.

use crate::http::expected;
use crate::service::{Service, exists};

#[test]
fn unload_stops_the_worker_and_load_brings_the_next() {
    let mut service = Service::serving("", "");
    let worker = service.worker_pid();
    service.ctl(&["unload"]).ok();
    assert!(!exists(worker));
    let status = service.status();
    assert_eq!(status["state"], "unloaded");
    assert_eq!(status["worker"], serde_json::Value::Null);
    assert_eq!(service.ctl(&["status"]).code, Some(3));
    let refused = service.chat("{\"messages\":[]}").answer();
    assert_eq!((refused.status, refused.code().as_str()), (503, "unloaded"));
    assert_eq!(refused.header("x-should-retry"), Some("false"));
    let denied = service.ctl(&["restart"]);
    assert_eq!(denied.code, Some(5), "{}", denied.err);
    assert!(denied.err.contains("mlxsupctl load"), "{}", denied.err);

    service.ctl(&["load"]).ok();
    service.wait_for("serving");
    assert_eq!(service.chat("{\"messages\":[]}").answer().text(), expected(16));
}

#[test]
fn what_waits_while_the_model_is_unloaded_is_refused_and_what_runs_is_finished() {
    let mut service = Service::serving("\"slots\":1,\"token_ms\":10", "");
    let running = service.stream_running("{\"messages\":[],\"stream\":true,\"max_tokens\":30}");
    let unload = service.ctl_started(&["unload"]);
    service.wait_for("draining");
    let mut late = service.chat("{\"messages\":[]}");
    let refused = late.answer();
    assert_eq!((refused.status, refused.code().as_str()), (503, "unloaded"), "{refused:?}");
    assert_eq!(running.answer().streamed(), expected(30));
    unload.join().unwrap().ok();
    service.wait_for("unloaded");
}

#[test]
fn an_unload_that_would_break_a_stream_is_postponed_and_names_now() {
    let mut service = Service::serving("\"token_ms\":5", "[drain]\ngrace = \"100ms\"\n");
    let mut running = service.stream_running("{\"messages\":[],\"stream\":true,\"max_tokens\":1000000}");
    let said = service.ctl(&["unload"]);
    assert_eq!(said.code, Some(6), "{} {}", said.out, said.err);
    assert!(said.err.contains("--now"), "{}", said.err);
    service.wait_for("serving");
    running.until("w40 ");
    service.ctl(&["unload", "--now"]).ok();
    let broken = running.answer();
    assert!(!broken.complete && !broken.body.contains("[DONE]"), "{broken:?}");
    assert!(broken.body.contains("event: error") && broken.body.contains("\"unloaded\""), "{broken:?}");
}

#[test]
fn an_unloaded_service_stays_unloaded_over_a_restart_of_the_daemon() {
    let mut service = Service::serving("", "");
    service.ctl(&["unload"]).ok();
    service.ctl(&["stop"]).ok();
    assert!(service.ended().success());
    service.start();
    service.wait_for("unloaded");
    assert_eq!(service.status()["daemon"]["epoch"], 2);
}

#[test]
fn an_idle_worker_is_stopped_and_the_next_request_brings_it_back() {
    let mut service = Service::new("", "");
    let config = service.read("mlxsup.toml").replace("[worker]\n", "[worker]\nidle_unload = \"300ms\"\n");
    service.write("mlxsup.toml", &config);
    service.start();
    service.wait_for("asleep");
    assert_eq!(service.get("/ready").status, 200);
    assert_eq!(service.chat("{\"messages\":[]}").answer().text(), expected(16));
}
