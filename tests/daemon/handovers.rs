//! Hand-overs with two workers at once, and what forbids or ends them.

use serde_json::{Value, json};

use crate::http::expected;
use crate::service::{Service, eventually, exists};

const STREAM: &str = "{\"messages\":[],\"stream\":true,\"max_tokens\":60}";
const OVERLAP: [&str; 4] = ["restart", "--mode", "overlap", "--json"];
const GIB: u64 = 1 << 30;

/// A machine where everything fits.
fn roomy() -> Value {
    json!({"total": 64 * GIB, "available": 50 * GIB, "wired": GIB, "pressure": 1})
}

fn serving(faults: &str, rest: &str) -> Service {
    let mut service = Service::new(faults, rest);
    service.pretend(&roomy());
    service.start();
    service.wait_for("serving");
    // Weighed, so that what the next one needs is known.
    service.wait_until("it is weighed", |status| status["worker"]["footprint_bytes"].is_number());
    service
}

#[test]
fn blue_serves_while_green_loads_and_nobody_waits() {
    let mut service = serving("\"token_ms\":10,\"load_ms\":600", "");
    let blue = service.worker_pid();
    let running = service.stream_running(STREAM);
    let restart = service.ctl_started(&OVERLAP);
    let status = service.wait_for("handover");
    assert_eq!(status["handover"]["strategy"], "overlap", "{status}");
    assert_eq!(service.get("/ready").status, 200, "requests are served meanwhile");
    let meanwhile = service.chat("{\"messages\":[],\"max_tokens\":2}").answer();
    assert_eq!((meanwhile.text(), meanwhile.header("x-mlxsup-generation")), (expected(2), Some("1")));

    let reply = restart.join().unwrap().ok().json();
    assert_eq!(reply["result"], "done", "{reply}");
    let answer = running.answer();
    assert_eq!(answer.streamed(), expected(60));
    assert!(answer.body.contains("generations=1"), "blue finished it: {}", answer.body);
    let after = service.chat("{\"messages\":[]}").answer();
    assert_eq!((after.text(), after.header("x-mlxsup-generation")), (expected(16), Some("2")));
    eventually("blue is gone", || if exists(blue) { Err(format!("{blue}")) } else { Ok(()) });
    let status = service.settled();
    assert_eq!((&status["state"], &status["ledger"]["lost"]), (&json!("serving"), &json!(0)));
    for phase in ["load_s", "drain_s", "stop_s"] {
        assert!(status["last_restart"]["cost"][phase].is_number(), "no {phase}: {status}");
    }
    service.wait_for_event("handover", "2 × ");
    service.wait_for_event("handover_committed", "worker 2 takes over from 1");
}

#[test]
fn what_outlasts_the_grace_goes_on_at_green_without_a_seam() {
    let mut service = serving("\"token_ms\":25", "[drain]\ngrace = \"100ms\"\n");
    let running = service.stream_running(STREAM);
    service.ctl(&OVERLAP).ok();
    let answer = running.answer();
    assert_eq!(answer.streamed(), expected(60));
    assert!(answer.body.contains("generations=1,2"), "{}", answer.body);
    assert_eq!(service.settled()["ledger"]["carried"], 1);
}

#[test]
fn a_green_that_cannot_load_leaves_blue_serving() {
    let mut service = serving("\"token_ms\":10", "");
    service.configure("\"token_ms\":10,\"fail_load\":\"no such tensor\",\"exit_code\":4", "");
    service.ctl(&["reload"]).ok();
    let running = service.stream_running(STREAM);
    let failed = service.ctl(&OVERLAP);
    assert_eq!(failed.code, Some(1), "{} {}", failed.out, failed.err);
    let message = failed.json()["message"].to_string();
    assert!(message.contains("no such tensor") && message.contains("worker 1 serves on"), "{message}");
    assert_eq!(running.answer().streamed(), expected(60));
    let status = service.settled();
    assert_eq!((&status["state"], &status["worker"]["generation"]), (&json!("serving"), &json!(1)));
    assert_eq!(status["last_failure"]["class"], "load_failure");
}

#[test]
fn pressure_while_green_loads_gives_green_up() {
    let mut service = serving("", "");
    // The second one shall not be ready before the test is over.
    service.configure("\"load_ms\":60000", "");
    service.ctl(&["reload"]).ok();
    let restart = service.ctl_started(&OVERLAP);
    service.wait_until("green loads", |status| status["handover"]["green"]["pid"].is_number());
    service.pretend(&json!({"total": 64 * GIB, "available": 20 * GIB, "wired": GIB, "pressure": 2}));
    let said = restart.join().unwrap();
    assert_eq!(said.code, Some(1), "{} {}", said.out, said.err);
    assert!(said.out.contains("pressure rose"), "{}", said.out);
    service.wait_for("serving");
    assert_eq!(service.generation(), 1);
}

#[test]
fn without_room_for_two_overlap_is_denied_with_the_arithmetic() {
    let mut service = serving("", "");
    service.pretend(&json!({"total": 16 * GIB, "available": 2 * GIB, "wired": GIB, "pressure": 1}));
    service.wait_until("little room", |status| status["memory"]["system.available"] == (2 * GIB) as f64);
    let denied = service.ctl(&OVERLAP);
    assert_eq!(denied.code, Some(5), "{}", denied.err);
    assert!(denied.out.contains("budget") && denied.out.contains("--mode sequential"), "{}", denied.out);
}

#[test]
fn a_start_waits_for_room_and_requests_wait_with_it() {
    let mut service = serving("", "");
    service.pretend(&json!({"total": 64 * GIB, "available": GIB, "wired": GIB}));
    // Seen before the worker dies, so that the gate judges by it.
    service.wait_until("little room", |status| status["memory"]["system.available"] == GIB as f64);
    nix::sys::signal::kill(service.worker_pid(), nix::sys::signal::Signal::SIGKILL).unwrap();
    let status = service.wait_until("the gate holds", |status| status["cause"]["code"] == "memory_gate");
    assert_eq!(status["state"], "starting");
    let mut waiting = service.chat("{\"messages\":[]}");
    service.pretend(&roomy());
    assert_eq!(waiting.answer().text(), expected(16));
}

#[test]
fn an_unload_says_what_came_back() {
    let service = serving("", "");
    let said = service.ctl(&["unload", "--json"]).ok().json();
    assert!(said["message"].as_str().unwrap().contains("returned"), "{said}");
    assert!(said["facts"]["returned_bytes"].is_number(), "{said}");
}

#[test]
fn a_rule_hands_over_and_the_events_tell_what_it_cost() {
    let rule = "[[rule]]\nname = \"short\"\nwhen = [ { metric = \"system.available\", below = \"45GiB\" } ]\n\
                for = \"1s\"\naction = \"restart\"\ncooldown = \"30m\"\n";
    let mut service = serving("\"token_ms\":10", &format!("[restart]\nmode = \"auto\"\n{rule}"));
    let running = service.stream_running(STREAM);
    service.pretend(&json!({"total": 64 * GIB, "available": 40 * GIB, "wired": GIB, "pressure": 1}));
    service.wait_for_event("rule_fired", "short");
    let done = service.wait_for_event("restart_done", "rule short");
    assert!(done.contains("load ") && done.contains("stop "), "{done}");
    assert_eq!(running.answer().streamed(), expected(60));
    assert_eq!(service.settled()["ledger"]["lost"], 0);
}
