//! Streamed answers on one worker.

use std::time::Duration;

use mlxsup::daemon::handle::{Class, Outcome, Report};
use mlxsup::supervisor::{Generation, Mono};

use crate::harness::{FINISH, Gateway, words};

const CHAT: &str = "/v1/chat/completions";
const BODY: &str = "{\"stream\": true, \"messages\": []}";

#[tokio::test]
async fn a_stream_is_relayed_event_by_event() {
    let mut gateway = Gateway::start();
    let worker = gateway.worker(7);
    let headers = "x-request-id: my-id.1\r\nx-mlxsup-client: agent one\r\nx-mlxsup-priority: batch\r\n";
    let mut client = gateway.post(CHAT, headers, BODY).await;
    let submitted = gateway.submitted().await;
    assert_eq!(submitted.submission.class, Class::Batch);
    assert_eq!(submitted.submission.principal, format!("uid:{}", nix::unistd::geteuid()));
    assert_eq!(submitted.submission.client.as_deref(), Some("agent_one"));
    assert_eq!(submitted.submission.body_bytes, BODY.len() as u64);
    assert_eq!(submitted.submission.deadline, None);

    let mut link = submitted.assign_to(&worker).await;
    assert_eq!(link.path, "/link/chat");
    assert_eq!(link.envelope.request.get(), BODY);
    assert!(link.envelope.id.starts_with("chatcmpl-") && link.envelope.generated.is_empty());
    link.open().await;
    link.say(": prefill 5/5\n\n").await;
    link.token(1, 11, "Hello ").await;
    client.until("Hello ").await;
    let progressed = Report::Progressed { generation: Generation(7), prompt_tokens: 5, completion_tokens: 1 };
    assert_eq!(gateway.report().await, progressed);
    link.say("id: 0:2:12\n\n").await;
    link.token(3, 13, "world").await;
    link.say(&format!("id: 0:3:\ndata: {FINISH}\n\n")).await;
    link.end().await;
    let answer = gateway.report().await;
    assert_eq!(answer, Report::Ended(Outcome::Answered { prompt_tokens: 5, completion_tokens: 3 }));
    let rest = client.until("0\r\n\r\n").await;
    assert!(rest.contains("world") && rest.contains(FINISH), "{rest}");
    assert!(rest.contains("data: [DONE]\n\n: mlxsup queue_ms="), "{rest}");
    assert!(rest.contains("generations=7\n\n"), "{rest}");
    assert!(!rest.contains("id: 0:") && !rest.contains("event:"), "the link's own lines leaked: {rest}");

    let record = gateway.record().await;
    assert_eq!((record.id.as_str(), record.status, record.code), ("my-id.1", 200, None));
    assert_eq!((record.prompt_tokens, record.completion_tokens), (5, 3));
    assert_eq!((record.generations, record.finish.as_deref()), (vec![7], Some("stop")));
    assert!(record.client.ends_with("/agent_one"), "{}", record.client);
}

#[tokio::test]
async fn headers_tell_where_the_answer_comes_from() {
    let mut gateway = Gateway::start();
    let worker = gateway.worker(7);
    let mut client = gateway.post(CHAT, "x-request-id: not/valid\r\n", BODY).await;
    let mut link = gateway.submitted().await.assign_to(&worker).await;
    link.open().await;
    link.token(1, 11, "a").await;
    link.end().await;
    let answer = client.answer().await;
    assert_eq!((answer.status, answer.complete), (200, true));
    assert_eq!(answer.header("content-type"), Some("text/event-stream; charset=utf-8"));
    assert_eq!(answer.header("x-mlxsup-generation"), Some("7"));
    assert!(answer.header("x-mlxsup-queue-ms").is_some());
    assert_eq!(answer.header("x-request-id").map(str::len), Some(32));
    assert_eq!(words(&answer.body), "a");
}

#[tokio::test]
async fn a_connection_serves_one_request_after_another() {
    let mut gateway = Gateway::start();
    let worker = gateway.worker(7);
    let mut client = gateway.connect().await;
    for _ in 0..3 {
        client.post(CHAT, "", BODY).await;
        let mut link = gateway.submitted().await.assign_to(&worker).await;
        link.open().await;
        link.token(1, 11, "a").await;
        link.end().await;
        assert_eq!(words(&client.answer().await.body), "a");
        assert!(matches!(gateway.report().await, Report::Progressed { .. }));
        assert!(matches!(gateway.report().await, Report::Ended(Outcome::Answered { .. })));
    }
}

#[tokio::test]
async fn silent_streams_are_kept_alive_with_the_reason_of_the_silence() {
    let mut gateway = Gateway::start_with(|config| config.queue.keepalive = Duration::from_millis(5));
    let worker = gateway.worker(7);
    let mut client = gateway.post(CHAT, "", BODY).await;
    let submitted = gateway.submitted().await;
    let head = gateway.client_reads(&mut client, ": queued 3 ahead, about 20 s\n\n").await;
    assert!(head.starts_with("HTTP/1.1 200 ") && !head.contains("x-mlxsup-queue-ms"), "{head}");
    let mut link = submitted.assign_to(&worker).await;
    link.open().await;
    link.say(": prefill 2/5\n\n").await;
    client.until(": reading prompt 40 %\n\n").await;
    link.token(1, 11, "a").await;
    link.end().await;
    client.until("data: [DONE]").await;
}

#[tokio::test]
async fn the_clients_own_timeout_becomes_the_deadline() {
    let mut gateway = Gateway::start();
    let both = "x-mlxsup-timeout: 30s\r\nx-stainless-read-timeout: 9\r\n";
    let hint = "x-stainless-read-timeout: 9\r\n";
    // A stream is kept alive, so the SDK's read timeout says nothing about its patience, while a plain request is over
    // when it passes, and is answered a little before.
    for (headers, body, deadline) in
        [(both, BODY, Some(Mono(31_000))), (hint, BODY, None), (hint, "{}", Some(Mono(9_100)))]
    {
        let client = gateway.post(CHAT, headers, body).await;
        let submitted = gateway.submitted().await;
        assert_eq!(submitted.submission.deadline, deadline, "{headers}{body}");
        drop(client);
        assert_eq!(gateway.report().await, Report::Ended(Outcome::Cancelled));
    }
}

#[tokio::test]
async fn a_slow_reader_stops_the_reading_of_the_link() {
    let mut gateway = Gateway::start();
    let worker = gateway.worker(7);
    let mut client = gateway.post(CHAT, "", BODY).await;
    let mut link = gateway.submitted().await.assign_to(&worker).await;
    link.open().await;
    link.token(1, 11, "a").await;
    assert!(matches!(gateway.report().await, Report::Progressed { .. }));
    // The client reads nothing. Socket buffers, hyper's buffers and a few frames fill up, then nothing more is taken.
    let event = format!("id: 0:1:\ndata: \"{}\"\n\n", "x".repeat(60_000));
    let framed = format!("{:x}\r\n{event}\r\n", event.len());
    let mut sent = 0;
    loop {
        let rest = &framed.as_bytes()[sent % framed.len()..];
        let count = link.fill(rest);
        sent += count;
        assert!(sent < 64 << 20, "the daemon swallows everything");
        if count == 0 {
            // Let the daemon run until it has nothing left to do.
            let idle = tokio::time::timeout(Duration::from_millis(300), link.writable()).await;
            if idle.is_err() {
                break;
            }
        }
    }
    assert!(sent < 4 << 20, "{sent} bytes are buffered for one slow client");
    // Once the client reads, all of it comes.
    let drained = tokio::spawn(async move {
        let head = client.until("\r\n\r\n").await;
        assert!(head.starts_with("HTTP/1.1 200 "));
        client.until("data: [DONE]").await.len()
    });
    while sent % framed.len() != 0 {
        link.writable().await;
        sent += link.fill(&framed.as_bytes()[sent % framed.len()..]);
    }
    link.end().await;
    assert!(drained.await.expect("read") > sent * 9 / 10);
}
