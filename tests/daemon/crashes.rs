//! Workers that die unasked: nothing is lost, and people learn why.

use nix::sys::signal::{Signal, kill};

use crate::http::expected;
use crate::service::{Service, eventually};

const PARKS_SOON: &str = "[restart]\nbackoff_initial = \"20ms\"\nbackoff_max = \"40ms\"\nbudget = \"2 in 30m\"\n";

#[test]
fn kill_9_in_the_middle_of_ten_requests_loses_none() {
    let mut service = Service::serving("\"token_ms\":40", "");
    let ask = |index: usize| {
        let stream = index.is_multiple_of(2);
        service.chat(&format!("{{\"messages\":[],\"max_tokens\":30,\"stream\":{stream}}}"))
    };
    // Alone first: of connections made at once any may be read first, and the last ones wait for two rounds.
    let mut requests = vec![ask(0)];
    requests[0].until("w3 ");
    requests.extend((1..10).map(ask));
    service.wait_until("all are in", |status| {
        let count = |of: &str, what: &str| status[of][what].as_u64().unwrap();
        let in_hand = count("queue", "active") + count("queue", "waiting");
        // One of the four slots is kept for interactive requests.
        count("queue", "active") == 3 && in_hand + count("ledger", "answered") == 10
    });
    kill(service.worker_pid(), Signal::SIGKILL).unwrap();

    for (index, request) in requests.iter_mut().enumerate() {
        if index == 0 {
            // Its head has been read already; what follows must begin with the fourth word.
            let rest = request.until("[DONE]");
            assert!(rest.contains("w4 ") && rest.contains("w30 ") && !rest.contains("w3 "), "{rest}");
            continue;
        }
        let answer = request.answer();
        let text = if index % 2 == 0 { answer.streamed() } else { answer.text() };
        assert_eq!(text, expected(30), "request {index}");
    }
    let status = service.wait_until("the ledger is closed", |status| status["ledger"]["answered"] == 10);
    assert_eq!(status["ledger"]["lost"], 0);
    assert!(status["ledger"]["carried"].as_u64().unwrap() >= 1, "{status}");
    let reason = status["last_restart"]["reason"].as_str().unwrap();
    assert!(reason.starts_with("crash:") && reason.contains("signal 9"), "{reason}");
    assert!(status["last_restart"]["took_s"].is_number());
    service.wait_for_event("worker_crashed", "signal 9");
    let table = service.ctl(&["status"]).ok().out;
    assert!(table.contains("signal 9"), "{table}");
}

#[test]
fn an_exit_in_mid_stream_is_carried_over() {
    let service = Service::serving("\"crash_at_token\":5,\"exit_code\":3,\"only_generation\":1", "");
    let stream = service.chat("{\"messages\":[],\"stream\":true,\"max_tokens\":9}").answer();
    assert_eq!(stream.streamed(), expected(9));
    let reason = service.status()["last_restart"]["reason"].clone();
    assert!(reason.as_str().unwrap().contains("exit code 3"), "{reason}");
}

#[test]
fn a_request_that_kills_every_worker_ends_poisoned_and_the_others_live() {
    let service = Service::serving("\"crash_at_token\":3,\"slots\":2", "");
    // Two tokens are gained each time a worker takes it anew, so it is never a suspect; the one below gains none.
    service.configure("\"half_frame_at_token\":1,\"slots\":2", "");
    service.ctl(&["reload"]).ok();
    service.ctl(&["restart"]).ok();
    let answer = service.chat("{\"messages\":[],\"max_tokens\":9}").answer();
    assert_eq!((answer.status, answer.code().as_str()), (500, "poisoned"), "{answer:?}");
    assert_eq!(answer.header("x-should-retry"), Some("false"));
}

#[test]
fn repeated_crashes_park_the_service_and_restart_recovers() {
    let mut service = Service::new("\"crash_at_start\":true,\"exit_code\":9", PARKS_SOON);
    service.start();
    let status = service.wait_for("parked");
    assert_eq!(status["cause"]["code"], "crash_budget");
    let message = status["cause"]["message"].as_str().unwrap();
    assert!(message.contains("exit code 9") && message.contains("crashing at start, as told"), "{message}");
    assert_eq!(status["cause"]["next"], "mlxsupctl restart");
    assert!(status["cause"]["retry_at"].is_string());
    assert_eq!(service.ctl(&["status"]).code, Some(3));

    let refused = service.chat("{\"messages\":[]}").answer();
    assert_eq!((refused.status, refused.code().as_str()), (503, "parked"));
    assert_eq!(refused.header("x-should-retry"), Some("false"));
    assert_eq!(refused.header("retry-after"), None);
    assert!(refused.body.contains("mlxsupctl restart"), "{}", refused.body);
    assert_eq!(service.get("/ready").status, 503);

    // Still broken: the verb waits, and says so.
    let said = service.ctl(&["restart"]);
    assert_eq!(said.code, Some(1), "{} {}", said.out, said.err);
    assert!(said.err.contains("crashing at start"), "{}", said.err);

    service.configure("", PARKS_SOON);
    service.ctl(&["reload"]).ok();
    service.ctl(&["restart"]).ok();
    service.wait_for("serving");
    assert_eq!(service.chat("{\"messages\":[]}").answer().text(), expected(16));
}

#[test]
fn requests_that_wait_when_the_service_is_parked_are_answered_at_once() {
    let mut service = Service::new("\"fail_load\":\"no such tensor: lm_head\",\"load_ms\":100", PARKS_SOON);
    service.start();
    eventually("the client socket is served", || {
        crate::http::Connection::open(&service.path("mlxsup.sock")).map(drop).ok_or_else(String::new)
    });
    let answer = service.chat("{\"messages\":[]}").answer();
    assert_eq!((answer.status, answer.code().as_str()), (503, "parked"));
    // The reason of the failed load reaches the client, the status and the terminal.
    assert!(answer.body.contains("no such tensor: lm_head"), "{}", answer.body);
    let status = service.wait_for("parked");
    assert!(status["cause"]["message"].as_str().unwrap().contains("no such tensor: lm_head"), "{status}");
    assert!(service.ctl(&["status"]).out.contains("no such tensor: lm_head"));
}

#[test]
fn a_program_that_is_not_there_is_told_with_its_remedy() {
    let mut service = Service::new("", PARKS_SOON);
    let config = service.read("mlxsup.toml").replace("/usr/bin/env", "no-such-worker");
    service.write("mlxsup.toml", &config);
    service.start();
    let status = service.wait_for("parked");
    let message = status["cause"]["message"].as_str().unwrap();
    assert!(message.contains("no-such-worker") && message.contains("worker.command"), "{message}");
}

#[test]
fn a_worker_that_is_stopped_by_a_signal_is_replaced() {
    let health = "[health]\ninterval = \"100ms\"\ntimeout = \"100ms\"\nfailures = 2\n";
    let mut service = Service::serving("", health);
    kill(service.worker_pid(), Signal::SIGSTOP).unwrap();
    service.wait_until("the next worker", |status| status["state"] == "serving" && status["worker"]["generation"] == 2);
    service.wait_for_event("worker_dead", "");
}

#[test]
fn worker_after_worker_is_killed_and_every_stream_stays_whole() {
    let mut service = Service::serving("\"token_ms\":10,\"slots\":8", "");
    let body = "{\"messages\":[],\"stream\":true,\"max_tokens\":90}";
    let mut streams: Vec<_> = (0..8).map(|_| service.stream_running(body)).collect();
    for round in 1..=4_u64 {
        let mark = format!("w{} ", round * 15);
        streams[usize::try_from(round).unwrap()].until(&mark);
        let worker = service.worker_pid();
        kill(worker, Signal::SIGKILL).unwrap();
        service.wait_until("the next worker", |status| {
            status["state"] == "serving" && status["worker"]["generation"] == round + 1
        });
    }
    for stream in streams {
        assert_eq!(stream.answer().streamed(), expected(90));
    }
    let status = service.settled();
    assert_eq!(status["ledger"]["lost"], 0, "{status}");
    assert_eq!(status["ledger"]["restarts"], 4, "{status}");
}

#[test]
fn a_worker_that_hangs_in_mid_stream_is_replaced_and_the_stream_goes_on() {
    let health = "[health]\ninterval = \"100ms\"\ntimeout = \"100ms\"\nfailures = 2\nstall = \"1s\"\n";
    for fault in ["wedge_at_token", "stall_at_token"] {
        let mut service = Service::serving(&format!("\"{fault}\":5,\"only_generation\":1"), health);
        let answer = service.chat("{\"messages\":[],\"stream\":true,\"max_tokens\":9}").answer();
        assert_eq!(answer.streamed(), expected(9), "{fault}");
        let why = service.wait_for_event("worker_dead", "");
        assert!(why.contains("1 s") || why.contains("1.0 s"), "{why}");
        assert_eq!(service.settled()["ledger"]["carried"], 1);
    }
}

#[test]
fn an_engine_that_fails_on_one_request_ends_only_that_one() {
    let mut service = Service::serving("\"fail_at_token\":3", "");
    let plain = service.chat("{\"messages\":[]}").answer();
    assert_eq!((plain.status, plain.code().as_str()), (500, "engine_error"));
    let stream = service.chat("{\"messages\":[],\"stream\":true}").answer();
    assert!(!stream.complete && stream.body.contains("event: error"), "{stream:?}");
    assert_eq!(service.chat("{\"messages\":[],\"max_tokens\":2}").answer().text(), expected(2));
    let status = service.settled();
    assert_eq!(status["worker"]["generation"], 1);
    assert_eq!(status["ledger"]["lost"], 2, "{status}");
}
