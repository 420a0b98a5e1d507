//! Where HTTP itself is strained: pipelining, oversized heads, nonsense, the end of the daemon.

use mlxsup::daemon::door::Door;
use mlxsup::daemon::handle::{Outcome, Report};

use crate::harness::Gateway;

#[tokio::test]
async fn pipelined_bytes_end_the_connection_after_the_answer() {
    let gateway = Gateway::start();
    let mut client = gateway.connect().await;
    client.send("GET /health HTTP/1.1\r\nhost: x\r\n\r\nGET /health HTTP/1.1\r\nhost: x\r\n\r\n").await;
    let answer = client.answer().await;
    assert_eq!((answer.status, answer.header("connection")), (200, Some("close")), "{}", answer.head);
    assert!(client.is_closed().await);
}

#[tokio::test]
async fn heads_that_are_too_large_or_no_http_get_an_error_object() {
    let gateway = Gateway::start();
    let mut client = gateway.connect().await;
    client.send(&format!("GET /health HTTP/1.1\r\na: {}\r\n", "x".repeat(70_000))).await;
    let answer = client.answer().await;
    assert_eq!((answer.status, answer.code().as_str()), (431, "headers_too_large"));
    let mut client = gateway.connect().await;
    client.send("\x16\x03\x01 what\r\n\r\n").await;
    let answer = client.answer().await;
    assert_eq!((answer.status, answer.code().as_str()), (400, "invalid_value"));
}

#[tokio::test]
async fn stopping_ends_idle_connections_at_once_and_others_with_their_answer() {
    let mut gateway = Gateway::start();
    let worker = gateway.worker(7);
    let mut idle = gateway.connect().await;
    idle.send("GET /health HTTP/1.1\r\nhost: x\r\n\r\n").await;
    assert_eq!(idle.answer().await.status, 200);
    let mut busy = gateway.post("/v1/chat/completions", "", "{\"stream\":true}").await;
    let mut link = gateway.submitted().await.assign_to(&worker).await;
    link.open().await;
    link.token(1, 11, "one ").await;
    busy.until("one ").await;
    gateway.porter.set(Door::Closed);
    assert!(idle.is_closed().await);
    link.token(2, 12, "two").await;
    link.end().await;
    assert!(busy.until("data: [DONE]").await.contains("two"));
    assert!(matches!(gateway.report().await, Report::Progressed { .. }));
    assert!(matches!(gateway.report().await, Report::Ended(Outcome::Answered { .. })));
    drop(busy);
    (&mut gateway.served).await.expect("serving ended");
}

#[tokio::test]
async fn a_held_door_finishes_what_runs_and_lets_the_others_wait() {
    let mut gateway = Gateway::start();
    let worker = gateway.worker(7);
    let mut idle = gateway.connect().await;
    idle.send("GET /health HTTP/1.1\r\nhost: x\r\n\r\n").await;
    let answer = idle.answer().await;
    assert_eq!((answer.status, answer.header("connection")), (200, None));
    let mut busy = gateway.post("/v1/chat/completions", "", "{\"stream\":true}").await;
    let mut link = gateway.submitted().await.assign_to(&worker).await;
    link.open().await;
    link.token(1, 11, "one ").await;
    busy.until("one ").await;
    gateway.porter.set(Door::Held);
    assert!(idle.is_closed().await);
    let mut waiting = gateway.connect().await;
    waiting.send("GET /health HTTP/1.1\r\nhost: x\r\n\r\n").await;
    link.token(2, 12, "two").await;
    link.end().await;
    assert!(busy.until("\r\n0\r\n\r\n").await.contains("two"));
    gateway.porter.empty().await;
    assert!(busy.is_closed().await, "the stream's connection ends though its head promised more");
    gateway.porter.set(Door::Open);
    let answer = waiting.answer().await;
    assert_eq!((answer.status, answer.header("connection")), (200, None));
    waiting.send("GET /health HTTP/1.1\r\nhost: x\r\n\r\n").await;
    assert_eq!(waiting.answer().await.status, 200, "its connection stays");
}

#[tokio::test]
async fn holding_the_door_again_and_again_loses_no_request() {
    let gateway = Gateway::start();
    for _ in 0..200 {
        // Accepted or not, read or not: the request is out before the door is held.
        let mut client = gateway.connect().await;
        client.send("GET /health HTTP/1.1\r\nhost: x\r\n\r\n").await;
        gateway.porter.set(Door::Held);
        gateway.porter.empty().await;
        gateway.porter.set(Door::Open);
        assert_eq!(client.answer().await.status, 200);
    }
}
