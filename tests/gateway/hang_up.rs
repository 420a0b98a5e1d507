//! Clients that go away.

use mlxsup::daemon::handle::{Outcome, Report};
use tokio::io::AsyncWriteExt;

use crate::harness::Gateway;

const CHAT: &str = "/v1/chat/completions";

async fn is_cancelled(gateway: &mut Gateway) {
    loop {
        match gateway.report().await {
            Report::Ended(outcome) => {
                assert_eq!(outcome, Outcome::Cancelled);
                let record = gateway.record().await;
                assert_eq!((record.status, record.code.as_deref()), (499, Some("cancelled")));
                return;
            }
            Report::Progressed { .. } => {}
            other @ Report::Interrupted { .. } => panic!("unexpected {other:?}"),
        }
    }
}

#[tokio::test]
async fn a_hang_up_in_the_queue_cancels() {
    for body in ["{\"stream\":true}", "{}"] {
        let mut gateway = Gateway::start();
        let client = gateway.post(CHAT, "", body).await;
        let submitted = gateway.submitted().await;
        drop(client);
        is_cancelled(&mut gateway).await;
        assert!(submitted.directives.is_closed());
    }
}

#[tokio::test]
async fn half_a_hang_up_counts_as_one() {
    let mut gateway = Gateway::start();
    let mut client = gateway.post(CHAT, "", "{}").await;
    let _submitted = gateway.submitted().await;
    client.stream.shutdown().await.expect("half closed");
    is_cancelled(&mut gateway).await;
}

#[tokio::test]
async fn a_hang_up_behind_a_pipelined_request_is_seen() {
    let mut gateway = Gateway::start();
    let mut client = gateway.post(CHAT, "", "{}").await;
    let _submitted = gateway.submitted().await;
    client.send("GET /health HTTP/1.1\r\nhost: x\r\n\r\n").await;
    drop(client);
    is_cancelled(&mut gateway).await;
}

#[tokio::test]
async fn a_hang_up_in_mid_stream_drops_the_link() {
    let mut gateway = Gateway::start();
    let worker = gateway.worker(7);
    let mut client = gateway.post(CHAT, "", "{\"stream\":true}").await;
    let mut link = gateway.submitted().await.assign_to(&worker).await;
    link.open().await;
    link.token(1, 11, "one ").await;
    client.until("one ").await;
    drop(client);
    link.closed().await;
    is_cancelled(&mut gateway).await;
}

#[tokio::test]
async fn a_hang_up_while_a_plain_answer_is_made_drops_the_link() {
    let mut gateway = Gateway::start();
    let worker = gateway.worker(7);
    let client = gateway.post(CHAT, "", "{}").await;
    let mut link = gateway.submitted().await.assign_to(&worker).await;
    link.open().await;
    link.say("id: 0:1:11\n\n").await;
    drop(client);
    link.closed().await;
    is_cancelled(&mut gateway).await;
}

#[tokio::test]
async fn a_client_that_leaves_with_the_last_byte_was_answered() {
    let mut gateway = Gateway::start();
    let worker = gateway.worker(7);
    let mut client = gateway.post(CHAT, "", "{\"stream\":true}").await;
    let mut link = gateway.submitted().await.assign_to(&worker).await;
    link.open().await;
    link.token(1, 11, "one ").await;
    link.end().await;
    client.until("data: [DONE]\n\n").await;
    drop(client);
    assert!(matches!(gateway.report().await, Report::Progressed { .. }));
    assert!(matches!(gateway.report().await, Report::Ended(Outcome::Answered { .. })));
}
