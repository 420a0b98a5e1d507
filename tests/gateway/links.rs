//! Which connections to a worker serve more than one request.

use mlxsup::daemon::handle::{Outcome, Report};

use crate::harness::{Client, Gateway, Link, ScriptedWorker, Submitted};

const COMPLETIONS: &str = "/v1/completions";
const RESULT: &str = "{\"choices\":[{\"text\":\"a\",\"finish_reason\":\"stop\"}],\
                      \"usage\":{\"prompt_tokens\":1,\"completion_tokens\":1,\"total_tokens\":2}}";

/// A client's next plain request, as the driver sees it.
async fn ask(gateway: &mut Gateway, client: &mut Client) -> Submitted {
    client.post(COMPLETIONS, "", "{}").await;
    gateway.submitted().await
}

/// Answers it, in the one write of a worker that has nothing more to say.
async fn answer(gateway: &mut Gateway, client: &mut Client, link: &mut Link) {
    let event = format!("event: result\ndata: {RESULT}\n\n");
    link.raw(&format!(
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n{:x}\r\n{event}\r\n0\r\n\r\n",
        event.len()
    ))
    .await;
    assert_eq!(client.answer().await.body, RESULT);
    let ended = gateway.report().await;
    assert!(matches!(ended, Report::Ended(Outcome::Answered { .. })), "{ended:?}");
}

/// A first request that was answered by this worker.
async fn answered(gateway: &mut Gateway, client: &mut Client, worker: &ScriptedWorker) -> Link {
    let mut link = ask(gateway, client).await.assign_to(worker).await;
    answer(gateway, client, &mut link).await;
    link
}

#[tokio::test]
async fn the_next_request_comes_over_the_same_connection() {
    let mut gateway = Gateway::start();
    let worker = gateway.worker(7);
    let mut client = gateway.connect().await;
    let mut link = answered(&mut gateway, &mut client, &worker).await;
    let first = link.envelope.id.clone();
    for _ in 0..3 {
        ask(&mut gateway, &mut client).await.assign(7, worker.socket.clone()).await;
        link = link.next().await;
        assert_ne!(link.envelope.id, first);
        answer(&mut gateway, &mut client, &mut link).await;
    }
    assert!(!worker.is_called());
}

#[tokio::test]
async fn a_connection_that_the_worker_has_closed_is_not_missed() {
    let mut gateway = Gateway::start();
    let worker = gateway.worker(7);
    let mut client = gateway.connect().await;
    drop(answered(&mut gateway, &mut client, &worker).await);
    let mut link = ask(&mut gateway, &mut client).await.assign_to(&worker).await;
    answer(&mut gateway, &mut client, &mut link).await;
}

#[tokio::test]
async fn a_connection_that_breaks_before_any_answer_is_replaced_unseen() {
    let mut gateway = Gateway::start();
    let worker = gateway.worker(7);
    let mut client = gateway.connect().await;
    let link = answered(&mut gateway, &mut client, &worker).await;
    ask(&mut gateway, &mut client).await.assign(7, worker.socket.clone()).await;
    // Taken and read, then closed without a word: as a worker does whose idle time ran out this very moment.
    let id = {
        let link = link.next().await;
        link.envelope.id.clone()
    };
    let mut link = worker.accept().await;
    assert_eq!(link.envelope.id, id);
    answer(&mut gateway, &mut client, &mut link).await;
}

#[tokio::test]
async fn another_worker_is_never_reached_over_the_connection_of_the_last() {
    let mut gateway = Gateway::start();
    let (blue, green) = (gateway.worker(7), gateway.worker(8));
    let mut client = gateway.connect().await;
    let old = answered(&mut gateway, &mut client, &blue).await;
    let mut link = ask(&mut gateway, &mut client).await.assign_to(&green).await;
    answer(&mut gateway, &mut client, &mut link).await;
    // The newest worker that has answered is the only one whose connections are kept.
    old.closed().await;
}

#[tokio::test]
async fn a_request_that_was_given_up_takes_its_connection_along() {
    let mut gateway = Gateway::start();
    let worker = gateway.worker(7);
    let mut client = gateway.connect().await;
    let link = answered(&mut gateway, &mut client, &worker).await;
    ask(&mut gateway, &mut client).await.assign(7, worker.socket.clone()).await;
    let link = link.next().await;
    drop(client);
    assert!(matches!(gateway.report().await, Report::Ended(Outcome::Cancelled)));
    link.closed().await;
}

#[tokio::test]
async fn a_worker_that_says_more_than_its_answer_is_not_asked_again_there() {
    let mut gateway = Gateway::start();
    let worker = gateway.worker(7);
    let mut client = gateway.connect().await;
    let mut link = ask(&mut gateway, &mut client).await.assign_to(&worker).await;
    link.open().await;
    // Without the final chunk: something may follow.
    link.say(&format!("event: result\ndata: {RESULT}\n\n")).await;
    assert_eq!(client.answer().await.body, RESULT);
    link.closed().await;
}
