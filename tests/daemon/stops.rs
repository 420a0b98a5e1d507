//! The daemon's end: what waits is told, what runs is finished, nothing stays behind.

use nix::sys::signal::Signal;

use crate::http::expected;
use crate::service::{Service, exists};

const ENDLESS: &str = "{\"messages\":[],\"stream\":true,\"max_tokens\":1000000}";

fn nothing_is_left(service: &Service) {
    let left: Vec<String> = std::fs::read_dir(service.home())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| name.ends_with(".sock"))
        .collect();
    assert!(left.is_empty(), "{left:?}");
}

#[test]
fn term_refuses_what_waits_finishes_what_runs_and_removes_the_sockets() {
    let mut service = Service::serving("\"slots\":1,\"token_ms\":10", "");
    let worker = service.worker_pid();
    let running = service.stream_running("{\"messages\":[],\"stream\":true,\"max_tokens\":40}");
    let mut waiting = service.chat("{\"messages\":[]}");
    service.wait_until("one waits", |status| status["queue"]["waiting"] == 1);
    service.signal(Signal::SIGTERM);
    let refused = waiting.answer();
    assert_eq!((refused.status, refused.code().as_str()), (503, "stopping"), "{refused:?}");
    assert_eq!(running.answer().streamed(), expected(40));
    assert_eq!(service.ended().code(), Some(0));
    assert!(!exists(worker));
    nothing_is_left(&service);
    assert_eq!(service.read("stderr"), "", "a log file is enough");
}

#[test]
fn a_second_term_skips_the_drain() {
    let mut service = Service::serving("\"token_ms\":5", "");
    let worker = service.worker_pid();
    let running = service.stream_running(ENDLESS);
    service.signal(Signal::SIGTERM);
    service.wait_for("stopping");
    service.signal(Signal::SIGTERM);
    let broken = running.answer();
    assert!(!broken.complete && broken.body.contains("event: error"), "{broken:?}");
    assert!(broken.body.contains("\"stopping\""), "{broken:?}");
    assert_eq!(service.ended().code(), Some(0));
    assert!(!exists(worker));
    nothing_is_left(&service);
}

#[test]
fn a_third_signal_ends_a_daemon_whose_worker_does_not() {
    let mut service = Service::serving("\"ignore_term\":true", "");
    for _ in 0..2 {
        service.signal(Signal::SIGINT);
        service.wait_for("stopping");
    }
    service.wait_for_event("stop_hurried", "");
    service.signal(Signal::SIGINT);
    assert_eq!(service.ended().code(), Some(1));
}

#[test]
fn stop_by_verb_while_the_model_loads() {
    let mut service = Service::new("\"load_ms\":600000", "");
    service.start();
    service.wait_until("loading", |status| status["worker"]["phase"] == "loading");
    let worker = service.worker_pid();
    service.ctl(&["stop"]).ok();
    assert_eq!(service.ended().code(), Some(0));
    assert!(!exists(worker));
    nothing_is_left(&service);
}

#[test]
fn a_connection_that_only_idles_holds_nobody_up() {
    let mut service = Service::serving("", "");
    let mut idle = service.connect();
    idle.send("GET", "/health", "", "");
    assert_eq!(idle.answer().status, 200);
    let _silent = service.connect();
    service.signal(Signal::SIGTERM);
    assert_eq!(service.ended().code(), Some(0));
}
