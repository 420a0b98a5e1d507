//! Every way a request ends with an error of ours or the worker's, before its first byte.

use std::sync::Arc;
use std::time::Duration;

use mlxsup::control::view::{Cause, HandoverView, State};
use mlxsup::daemon::handle::{Directive, Outcome, Report};
use mlxsup::supervisor::{Code, Refusal};

use crate::documents::status;
use crate::harness::Gateway;

const CHAT: &str = "/v1/chat/completions";

#[tokio::test]
async fn unknown_paths_and_methods_are_told_what_there_is() {
    let gateway = Gateway::start();
    let answer = gateway.get("/v1/nothing").await;
    assert_eq!((answer.status, answer.code().as_str()), (404, "not_found"));
    assert_eq!(answer.header("x-should-retry"), Some("false"));
    assert_eq!(answer.json()["error"]["type"], "invalid_request_error");
    for path in ["/link/chat", "/status", "/control/clear-cache", "/v1/models/"] {
        assert_eq!(gateway.get(path).await.status, 404, "{path}");
    }
    let answer = gateway.get(CHAT).await;
    assert_eq!((answer.status, answer.code().as_str()), (405, "method_not_allowed"));
    assert_eq!(answer.header("allow"), Some("POST"));
    assert!(answer.header("x-request-id").is_some());
}

#[tokio::test]
async fn bad_bodies_never_reach_the_driver() {
    let mut gateway = Gateway::start_with(|config| {
        config.listen.max_body = 64;
        config.worker.served_names = vec!["alias".into()];
    });
    for (headers, body, status, code, param) in [
        ("", "", 400, "invalid_value", None),
        ("", "not json", 400, "invalid_value", None),
        ("", "{\"stream\":1}", 400, "invalid_value", Some("stream")),
        ("x-mlxsup-priority: high\r\n", "{}", 400, "invalid_value", Some("x-mlxsup-priority")),
        ("x-mlxsup-timeout: 5\r\n", "{}", 400, "invalid_value", Some("x-mlxsup-timeout")),
        ("", "{\"model\":\"other\"}", 404, "model_not_found", Some("model")),
        ("", &"x".repeat(65), 413, "body_too_large", None),
    ] {
        let answer = gateway.post(CHAT, headers, body).await.answer().await;
        assert_eq!((answer.status, answer.code().as_str()), (status, code), "{body}");
        assert_eq!(answer.json()["error"]["param"].as_str(), param);
        assert_eq!(answer.header("x-should-retry"), Some("false"));
        let record = gateway.record().await;
        assert_eq!((record.status, record.code.as_deref()), (status, Some(code)));
    }
    // A chunked body announces nothing; the cap holds all the same.
    let mut client = gateway.connect().await;
    let body = format!("41\r\n{}\r\n0\r\n\r\n", "x".repeat(65));
    client.send(&format!("POST {CHAT} HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n{body}")).await;
    assert_eq!(client.answer().await.code(), "body_too_large");
    gateway.record().await;
    assert!(gateway.inputs.try_recv().is_err());
    for name in ["alias", "real-model", "models/configured"] {
        let client = gateway.post(CHAT, "", &format!("{{\"model\":\"{name}\"}}")).await;
        let _submitted = gateway.submitted().await;
        drop(client);
        assert_eq!(gateway.report().await, Report::Ended(Outcome::Cancelled));
    }
}

#[tokio::test]
async fn other_users_are_turned_away() {
    let gateway = Gateway::start_as(|_| {}, nix::unistd::geteuid().as_raw() + 1);
    let answer = gateway.get("/v1/models").await;
    assert_eq!((answer.status, answer.code().as_str()), (403, "uid_not_allowed"));
    assert_eq!(answer.json()["error"]["type"], "permission_error");
    assert_eq!(gateway.get("/health").await.status, 200);
    let own = nix::unistd::geteuid().as_raw();
    let gateway = Gateway::start_as(|config| config.listen.allow_uids = vec![own], own + 1);
    assert_eq!(gateway.get("/v1/models").await.status, 200);
}

#[tokio::test]
async fn the_drivers_refusals_carry_their_retry_advice() {
    let mut gateway = Gateway::start();
    for (refusal, status, retry_after, should_retry) in [
        (Refusal::new(Code::QueueFull, "full").with_retry_after(Duration::from_millis(1500)), 429, Some("2"), None),
        (Refusal::new(Code::Unloaded, "unloaded; run `mlxsupctl load`"), 503, None, Some("false")),
        (Refusal::new(Code::QueueTimeout, "waited too long"), 504, None, Some("false")),
    ] {
        for body in ["{}", "{\"stream\":true}"] {
            let mut client = gateway.post(CHAT, "", body).await;
            let submitted = gateway.submitted().await;
            submitted.directives.send(Directive::Refused(Box::new(refusal.clone()))).await.expect("the session lives");
            let answer = client.answer().await;
            assert_eq!((answer.status, answer.code().as_str()), (status, refusal.code.as_str()));
            assert_eq!(answer.header("retry-after"), retry_after);
            assert_eq!(answer.header("x-should-retry"), should_retry);
            assert_eq!(gateway.report().await, Report::Ended(Outcome::Failed));
        }
    }
}

#[tokio::test]
async fn a_driver_that_is_gone_reads_as_stopping() {
    let mut gateway = Gateway::start();
    let mut client = gateway.post(CHAT, "", "{}").await;
    drop(gateway.submitted().await.directives);
    let answer = client.answer().await;
    assert_eq!((answer.status, answer.code().as_str()), (503, "stopping"));
}

#[tokio::test]
async fn the_workers_own_errors_are_passed_on() {
    let mut gateway = Gateway::start();
    let worker = gateway.worker(7);
    let error = "{\"error\":{\"message\":\"too long\",\"type\":\"invalid_request_error\",\"param\":\"messages\",\
                 \"code\":\"context_length_exceeded\"}}";
    // As HTTP status …
    let mut client = gateway.post(CHAT, "", "{}").await;
    let mut link = gateway.submitted().await.assign_to(&worker).await;
    link.raw(&format!("HTTP/1.1 400 Bad\r\ncontent-length: {}\r\n\r\n{error}", error.len())).await;
    let answer = client.answer().await;
    assert_eq!((answer.status, answer.body.as_str()), (400, error));
    assert_eq!(gateway.report().await, Report::Ended(Outcome::Rejected));
    // … and as an event.
    let mut client = gateway.post(CHAT, "", "{\"stream\":true}").await;
    let mut link = gateway.submitted().await.assign_to(&worker).await;
    link.open().await;
    link.say(&format!("event: error\ndata: {error}\n\n")).await;
    assert_eq!(client.answer().await.status, 400);
    assert_eq!(gateway.report().await, Report::Ended(Outcome::Rejected));
    // What makes no sense is the engine's failure.
    for nonsense in ["event: error\ndata: boom\n\n", "id: 0:9:1\n\n", "id: 4:1:1\n\n", "id: x\n\n", "event: result\n\n"]
    {
        let mut client = gateway.post(CHAT, "", "{\"stream\":true}").await;
        let mut link = gateway.submitted().await.assign_to(&worker).await;
        link.open().await;
        link.say(nonsense).await;
        let answer = client.answer().await;
        assert_eq!((answer.status, answer.code().as_str()), (500, "engine_error"), "{nonsense}");
        assert_eq!(gateway.report().await, Report::Ended(Outcome::Failed));
    }
}

#[tokio::test]
async fn readiness_follows_the_state() {
    let gateway = Gateway::start();
    for (state, expected) in [
        (State::Serving, 200),
        (State::Asleep, 200),
        (State::Starting, 503),
        (State::Draining, 503),
        (State::Drained, 503),
        (State::Unloaded, 503),
        (State::Parked, 503),
        (State::Stranded, 503),
        (State::Stopping, 503),
    ] {
        gateway.status.send_replace(Arc::new(status(state)));
        let answer = gateway.get("/ready").await;
        assert_eq!(answer.status, expected, "{state:?}");
        assert_eq!(answer.json()["state"], state.as_str());
        assert_eq!(gateway.get("/health").await.status, 200);
    }
    for (strategy, expected) in [("overlap", 200), ("sequential", 503)] {
        let mut view = status(State::Handover);
        view.handover =
            Some(HandoverView { strategy: strategy.into(), phase: "loading".into(), green: None, deadline_at: None });
        gateway.status.send_replace(Arc::new(view));
        assert_eq!(gateway.get("/ready").await.status, expected, "{strategy}");
    }
    let mut view = status(State::Parked);
    view.cause = Some(Cause {
        code: "crash_budget".into(),
        message: "5 crashes in 30 min".into(),
        since: "2026-01-01T00:00:00Z".into(),
        retry_at: None,
        next: Some("mlxsupctl restart".into()),
    });
    gateway.status.send_replace(Arc::new(view));
    let answer = gateway.get("/ready").await;
    assert_eq!(answer.json()["cause"]["code"], "crash_budget");
    assert_eq!(answer.code(), "parked");
    assert_eq!(answer.json()["error"]["message"], "parked: 5 crashes in 30 min; run `mlxsupctl restart`");
}

#[tokio::test]
async fn models_are_listed_under_all_their_names() {
    let gateway = Gateway::start_with(|config| config.worker.served_names = vec!["alias".into(), "org/name".into()]);
    let models = gateway.get("/v1/models").await.json();
    let ids: Vec<_> = models["data"].as_array().expect("a list").iter().map(|model| model["id"].clone()).collect();
    assert_eq!(ids, ["real-model", "alias", "org/name"]);
    assert_eq!(models["data"][0]["created"], 1_700_000_000);
    assert_eq!(gateway.get("/v1/models/org/name").await.json()["id"], "org/name");
    assert_eq!(gateway.get("/v1/models/other").await.code(), "model_not_found");
}
