//! Answers that come as one document.

use std::time::Duration;

use mlxsup::daemon::handle::{Directive, Outcome, Report};
use mlxsup::supervisor::{Code, Refusal};

use crate::harness::Gateway;

const COMPLETIONS: &str = "/v1/completions";
const RESULT: &str = "{\"choices\":[{\"text\":\"a\",\"finish_reason\":\"length\"}],\
                      \"usage\":{\"prompt_tokens\":9,\"completion_tokens\":2,\"total_tokens\":11}}";

#[tokio::test]
async fn a_plain_answer_has_a_length_and_the_workers_own_text() {
    let mut gateway = Gateway::start();
    let worker = gateway.worker(7);
    let mut client = gateway.post(COMPLETIONS, "", "{\"prompt\":\"x\"}").await;
    let mut link = gateway.submitted().await.assign_to(&worker).await;
    assert_eq!(link.path, "/link/completions");
    assert!(link.envelope.id.starts_with("cmpl-"));
    link.open().await;
    link.say("id: 0:1:4\n\nid: 0:2:5\n\n").await;
    link.say(&format!("event: result\ndata: {RESULT}\n\n")).await;
    let answer = client.answer().await;
    assert_eq!((answer.status, answer.body.as_str()), (200, RESULT));
    assert_eq!(answer.header("content-length"), Some(RESULT.len().to_string().as_str()));
    assert_eq!(answer.header("x-mlxsup-generation"), Some("7"));
    assert!(matches!(gateway.report().await, Report::Progressed { completion_tokens: 2, .. }));
    let ended = gateway.report().await;
    assert_eq!(ended, Report::Ended(Outcome::Answered { prompt_tokens: 9, completion_tokens: 2 }));
    assert_eq!(gateway.record().await.finish.as_deref(), Some("length"));
}

fn kept_alive() -> Gateway {
    Gateway::start_with(|config| {
        config.queue.keepalive = Duration::from_millis(5);
        config.queue.keepalive_plain = Some(Duration::from_millis(5));
    })
}

#[tokio::test]
async fn a_long_wait_is_bridged_by_spaces_before_the_document() {
    let mut gateway = kept_alive();
    let worker = gateway.worker(7);
    let mut client = gateway.post(COMPLETIONS, "", "{}").await;
    let submitted = gateway.submitted().await;
    let head = client.until("\r\n\r\n1\r\n \r\n1\r\n \r\n").await;
    assert!(head.contains("content-type: application/json\r\n"), "{head}");
    let mut link = submitted.assign_to(&worker).await;
    link.open().await;
    link.say(&format!("event: result\ndata: {RESULT}\n\n")).await;
    assert!(client.until("0\r\n\r\n").await.contains(RESULT));
}

#[tokio::test]
async fn a_failure_after_the_first_space_is_never_taken_for_an_answer() {
    let mut gateway = kept_alive();
    let mut client = gateway.post(COMPLETIONS, "", "{}").await;
    let submitted = gateway.submitted().await;
    client.until("1\r\n \r\n").await;
    let refusal = Refusal::new(Code::QueueTimeout, "waited too long");
    submitted.directives.send(Directive::Refused(Box::new(refusal))).await.expect("the session lives");
    client.until("\"code\":\"queue_timeout\"}}\r\n").await;
    assert!(client.is_closed().await, "the final chunk was sent");
    assert_eq!(gateway.record().await.status, 504);
}
