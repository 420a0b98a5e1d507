//! Answers that outlive their worker.

use mlxsup::daemon::handle::{Directive, Outcome, Report};
use mlxsup::supervisor::{Code, Generation, Refusal};
use mlxsup_worker_api::Choice;

use crate::harness::{FINISH, Gateway, words};

const CHAT: &str = "/v1/chat/completions";
const STREAM: &str = "{\"stream\":true}";
const ROLE: &str = "{\"choices\":[{\"index\":0,\"delta\":{\"role\":\"assistant\"},\"finish_reason\":null}]}";

fn is_progress(report: &Report) -> bool {
    matches!(report, Report::Progressed { .. })
}

#[tokio::test]
async fn a_stream_goes_on_where_the_dead_worker_stopped() {
    let mut gateway = Gateway::start();
    let (blue, green) = (gateway.worker(7), gateway.worker(8));
    let mut client = gateway.post(CHAT, "", STREAM).await;
    let submitted = gateway.submitted().await;
    let mut link = submitted.assign_to(&blue).await;
    let (id, created, seed) = (link.envelope.id.clone(), link.envelope.created, link.envelope.seed);
    link.open().await;
    link.say(&format!("id: 0:0:\ndata: {ROLE}\n\n")).await;
    link.token(1, 11, "one ").await;
    client.until("one ").await;
    // A token without text, then a token of which only half arrives before the worker dies.
    link.say("id: 0:2:12\n\n").await;
    link.raw("40\r\nid: 0:3:13\ndata: {\"choices\":[{\"ind").await;
    drop(link);
    assert!(is_progress(&gateway.report().await));
    match gateway.report().await {
        Report::Interrupted { generation, progressed, .. } => {
            assert_eq!((generation, progressed), (Generation(7), true));
        }
        other => panic!("unexpected {other:?}"),
    }
    let mut link = submitted.assign_to(&green).await;
    assert_eq!((&link.envelope.id, link.envelope.created, link.envelope.seed), (&id, created, seed));
    assert_eq!(link.envelope.generated, [Choice { ids: vec![11, 12], finish_reason: None }]);
    link.open().await;
    link.token(3, 13, "two ").await;
    link.say(&format!("id: 0:4:14\ndata: {FINISH}\n\n")).await;
    link.end().await;
    let rest = client.until("0\r\n\r\n").await;
    assert!(rest.contains("two ") && !rest.contains("one "), "{rest}");
    assert!(rest.contains("generations=7,8\n"), "{rest}");
    assert!(is_progress(&gateway.report().await));
    let ended = gateway.report().await;
    assert_eq!(ended, Report::Ended(Outcome::Answered { prompt_tokens: 0, completion_tokens: 4 }));
}

#[tokio::test]
async fn a_request_without_a_token_starts_again_and_the_role_is_told_once() {
    let mut gateway = Gateway::start();
    let (blue, green) = (gateway.worker(7), gateway.worker(8));
    let mut client = gateway.post(CHAT, "", STREAM).await;
    let submitted = gateway.submitted().await;
    let mut link = submitted.assign_to(&blue).await;
    link.open().await;
    link.say(&format!("id: 0:0:\ndata: {ROLE}\n\n")).await;
    client.until("assistant").await;
    drop(link);
    assert!(matches!(gateway.report().await, Report::Interrupted { progressed: false, .. }));
    let mut link = submitted.assign_to(&green).await;
    assert!(link.envelope.generated.is_empty());
    link.open().await;
    link.say(&format!("id: 0:0:\ndata: {ROLE}\n\n")).await;
    link.token(1, 11, "a").await;
    link.end().await;
    let rest = client.until("data: [DONE]").await;
    assert!(!rest.contains("assistant"), "{rest}");
}

#[tokio::test]
async fn a_plain_answer_is_carried_too() {
    let mut gateway = Gateway::start();
    let (blue, green) = (gateway.worker(7), gateway.worker(8));
    let mut client = gateway.post("/v1/completions", "", "{\"n\":2}").await;
    let submitted = gateway.submitted().await;
    let mut link = submitted.assign_to(&blue).await;
    link.open().await;
    link.say("id: 1:1:5\n\n").await;
    assert!(is_progress(&gateway.report().await));
    drop(link);
    assert!(matches!(gateway.report().await, Report::Interrupted { progressed: true, .. }));
    let mut link = submitted.assign_to(&green).await;
    assert_eq!(link.envelope.generated, [Choice::default(), Choice { ids: vec![5], finish_reason: None }]);
    link.open().await;
    link.say("event: result\ndata: {\"choices\":[]}\n\n").await;
    let answer = client.answer().await;
    assert_eq!((answer.status, answer.header("x-mlxsup-generation")), (200, Some("8")));
}

#[tokio::test]
async fn a_worker_that_nobody_reaches_only_costs_time() {
    let mut gateway = Gateway::start();
    let green = gateway.worker(8);
    let mut client = gateway.post(CHAT, "", STREAM).await;
    let submitted = gateway.submitted().await;
    submitted.assign(7, gateway.dir.path().join("nobody.sock")).await;
    assert!(matches!(gateway.report().await, Report::Interrupted { progressed: false, .. }));
    let mut link = submitted.assign_to(&green).await;
    link.open().await;
    link.token(1, 11, "a").await;
    link.end().await;
    assert_eq!(words(&client.answer().await.body), "a");
}

#[tokio::test]
async fn a_stream_that_lacks_only_its_end_needs_no_other_worker() {
    let mut gateway = Gateway::start();
    let worker = gateway.worker(7);
    let mut client = gateway.post(CHAT, "", STREAM).await;
    let mut link = gateway.submitted().await.assign_to(&worker).await;
    link.open().await;
    link.say(&format!("id: 0:1:11\ndata: {FINISH}\n\n")).await;
    drop(link);
    let answer = client.answer().await;
    assert!(answer.complete && answer.body.contains("data: [DONE]"));
}

#[tokio::test]
async fn the_driver_can_move_a_request_while_its_worker_lives() {
    let mut gateway = Gateway::start();
    let (blue, green) = (gateway.worker(7), gateway.worker(8));
    let mut client = gateway.post(CHAT, "", STREAM).await;
    let submitted = gateway.submitted().await;
    let mut old = submitted.assign_to(&blue).await;
    old.open().await;
    old.token(1, 11, "one ").await;
    assert!(is_progress(&gateway.report().await));
    let mut link = submitted.assign_to(&green).await;
    old.closed().await;
    assert_eq!(link.envelope.generated[0].ids, [11]);
    link.open().await;
    link.token(2, 12, "two").await;
    link.end().await;
    assert_eq!(words(&client.answer().await.body), "one two");
}

#[tokio::test]
async fn an_error_after_the_first_word_is_an_event_and_no_clean_end() {
    let mut gateway = Gateway::start();
    let worker = gateway.worker(7);
    let mut client = gateway.post(CHAT, "", STREAM).await;
    let submitted = gateway.submitted().await;
    let mut link = submitted.assign_to(&worker).await;
    link.open().await;
    link.token(1, 11, "one ").await;
    assert!(is_progress(&gateway.report().await));
    let refusal = Refusal::new(Code::ModelChanged, "the model changed; send the request again");
    submitted.directives.send(Directive::Refused(Box::new(refusal))).await.expect("the session lives");
    let answer = client.answer().await;
    assert!(!answer.complete && !answer.body.contains("[DONE]"), "{}", answer.body);
    assert!(answer.body.contains("event: error\ndata: {\"error\":{\"message\":\"the model changed"), "{}", answer.body);
    assert!(answer.body.contains("\"code\":\"model_changed\""));
    link.closed().await;
    let record = gateway.record().await;
    assert_eq!((record.status, record.code.as_deref()), (500, Some("model_changed")));
}
