//! Planned restarts: a client notices nothing but time.

use crate::http::expected;
use crate::service::{Service, exists};

const STREAM: &str = "{\"messages\":[],\"stream\":true,\"max_tokens\":40}";
const ENDLESS: &str = "{\"messages\":[],\"stream\":true,\"max_tokens\":1000000}";

#[test]
fn a_request_waits_through_the_restart_and_the_next_worker_answers_it() {
    let mut service = Service::serving("\"token_ms\":10", "");
    let old = service.worker_pid();
    let running = service.stream_running(STREAM);
    let restart = service.ctl_started(&["restart", "--json"]);
    service.wait_for("handover");
    let mut waiting = service.chat("{\"messages\":[]}");

    let answer = waiting.answer();
    assert_eq!(answer.text(), expected(16));
    assert_eq!(answer.header("x-mlxsup-generation"), Some("2"));
    assert_eq!(running.answer().streamed(), expected(40));
    let reply = restart.join().unwrap().ok().json();
    assert_eq!(reply["result"], "done", "{reply}");
    assert!(reply["facts"]["load_s"].is_number(), "{reply}");

    assert!(!exists(old), "the old worker is gone");
    let status = service.settled();
    assert_eq!(status["state"], "serving");
    assert_eq!(status["last_restart"]["reason"], "operator");
    for phase in ["drain_s", "stop_s", "load_s"] {
        assert!(status["last_restart"]["cost"][phase].is_number(), "no {phase}: {status}");
    }
    assert_eq!(status["ledger"]["restarts"], 1);
    assert_eq!(status["ledger"]["lost"], 0);
}

#[test]
fn restart_now_carries_a_stream_over_without_a_seam() {
    let mut service = Service::serving("\"token_ms\":10", "");
    let running = service.stream_running(STREAM);
    service.ctl(&["restart", "--mode", "now"]).ok();
    let answer = running.answer();
    assert_eq!(answer.streamed(), expected(40));
    assert!(answer.body.contains("generations=1,2"), "{}", answer.body);
    let status = service.settled();
    assert_eq!(status["ledger"]["carried"], 1);
    assert_eq!(status["ledger"]["lost"], 0);
}

#[test]
fn a_stream_that_outlasts_the_grace_is_carried_over() {
    let mut service = Service::serving("\"token_ms\":25", "[drain]\ngrace = \"100ms\"\n");
    let running = service.stream_running(STREAM);
    service.ctl(&["restart"]).ok();
    assert_eq!(running.answer().streamed(), expected(40));
    assert_eq!(service.settled()["ledger"]["carried"], 1);
    assert_eq!(service.generation(), 2);
}

#[test]
fn several_restarts_in_a_row_leave_one_stream_whole() {
    let mut service = Service::serving("\"token_ms\":10", "");
    let mut running = service.stream_running("{\"messages\":[],\"stream\":true,\"max_tokens\":120}");
    for round in 1..=3 {
        service.ctl(&["restart", "--mode", "now"]).ok();
        running.until(&format!("w{} ", round * 20));
    }
    assert_eq!(running.answer().streamed(), expected(120));
    let status = service.settled();
    assert_eq!(status["ledger"]["carried"], 1);
    assert_eq!(status["worker"]["generation"], 4);
}

#[test]
fn the_plan_is_printed_and_nothing_is_done() {
    let service = Service::serving("", "");
    let said = service.ctl(&["restart", "--plan"]).ok();
    assert!(said.out.contains("sequential"), "{} {}", said.out, said.err);
    assert_eq!(service.generation(), 1);
}

#[test]
fn a_second_restart_is_denied_and_resume_aborts_the_first_ones_drain() {
    let mut service = Service::serving("\"token_ms\":5", "");
    let _running = service.stream_running(ENDLESS);
    let restart = service.ctl_started(&["restart"]);
    service.wait_for("handover");
    let again = service.ctl(&["restart"]);
    assert_eq!(again.code, Some(5), "{}", again.err);
    service.ctl(&["resume"]).ok();
    let said = restart.join().unwrap();
    assert_ne!(said.code, Some(0), "{} {}", said.out, said.err);
    service.wait_for("serving");
    assert_eq!(service.generation(), 1);
}

#[test]
fn a_worker_that_ignores_the_request_to_end_is_killed_with_its_group() {
    let service = Service::serving("\"ignore_term\":true", "");
    let old = service.worker_pid();
    // The ladder's patience is 10 s; the signal of somebody else shortens the test.
    let restart = service.ctl_started(&["restart"]);
    service.wait_for_event("restart", "operator");
    nix::sys::signal::killpg(old, nix::sys::signal::Signal::SIGKILL).unwrap();
    restart.join().unwrap().ok();
    assert_eq!(service.generation(), 2);
    assert_eq!(service.chat("{\"messages\":[]}").answer().text(), expected(16));
}
