//! `drain`, `--refuse`, `resume`, deadlines, `clear-cache`.

use crate::http::expected;
use crate::service::Service;

const ENDLESS: &str = "{\"messages\":[],\"stream\":true,\"max_tokens\":1000000}";

#[test]
fn drained_requests_wait_and_resume_serves_them() {
    let mut service = Service::serving("", "");
    service.ctl(&["drain"]).ok();
    assert_eq!(service.status()["state"], "drained");
    assert_eq!(service.ctl(&["status"]).code, Some(3));
    assert_eq!(service.ctl(&["drain"]).code, Some(0), "it is already so");
    let mut waiting = service.chat("{\"messages\":[]}");
    service.wait_until("it waits", |status| status["queue"]["waiting"] == 1);
    service.ctl(&["resume"]).ok();
    assert_eq!(waiting.answer().text(), expected(16));
    assert_eq!(service.ctl(&["status"]).code, Some(0));
}

#[test]
fn a_refusing_drain_says_so_to_clients() {
    let service = Service::serving("", "");
    service.ctl(&["drain", "--refuse"]).ok();
    let refused = service.chat("{\"messages\":[]}").answer();
    assert_eq!((refused.status, refused.code().as_str()), (503, "draining"));
    assert_eq!(service.get("/ready").status, 503);
    service.ctl(&["resume"]).ok();
    assert_eq!(service.chat("{\"messages\":[]}").answer().text(), expected(16));
}

#[test]
fn a_drain_past_its_deadline_ends_6_breaks_nothing_and_can_be_aborted() {
    let mut service = Service::serving("\"token_ms\":5", "");
    let mut running = service.stream_running(ENDLESS);
    let said = service.ctl(&["drain", "--deadline", "100ms"]);
    assert_eq!(said.code, Some(6), "{} {}", said.out, said.err);
    assert!(said.err.contains("mlxsupctl resume"), "{}", said.err);
    let status = service.wait_for("draining");
    assert_eq!(status["drain"]["active"], 1, "{status}");
    running.until("w30 ");
    service.ctl(&["resume"]).ok();
    service.wait_for("serving");
    running.until("w60 ");
}

#[test]
fn a_drained_service_stays_drained_over_a_restart_of_worker_and_daemon() {
    let mut service = Service::serving("", "");
    service.ctl(&["drain"]).ok();
    service.ctl(&["restart"]).ok();
    service.wait_for("drained");
    assert_eq!(service.generation(), 2);
    service.ctl(&["stop"]).ok();
    assert!(service.ended().success());
    service.start();
    service.wait_for("drained");
    service.ctl(&["resume"]).ok();
    service.wait_for("serving");
}

#[test]
fn the_cache_is_cleared_on_demand_and_the_reply_counts_the_bytes() {
    let service = Service::serving("\"cache_bytes\":1073741824", "");
    let reply = service.ctl(&["clear-cache", "--json"]).ok().json();
    assert_eq!(reply["facts"]["after_bytes"], 0.0, "{reply}");
    assert_eq!(reply["facts"]["before_bytes"], 1_073_741_824.0, "{reply}");
}
