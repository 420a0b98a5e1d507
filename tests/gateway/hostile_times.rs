//! Clients that take their time, and clients that come in crowds: limits of time, of memory and of number.

use std::time::Duration;

use mlxsup::daemon::handle::{Outcome, Report};
use tokio::time::{Instant, sleep};

use crate::harness::Gateway;

const CHAT: &str = "/v1/chat/completions";

#[tokio::test(start_paused = true)]
async fn a_connection_on_which_nothing_comes_ends_without_a_word() {
    let gateway = Gateway::start();
    let begun = Instant::now();
    assert!(gateway.connect().await.is_closed().await);
    assert!(begun.elapsed() <= Duration::from_secs(31), "{:?}", begun.elapsed());
    let mut served = gateway.connect_tcp().await;
    served.send("GET /health HTTP/1.1\r\nhost: x\r\n\r\n").await;
    assert_eq!(served.answer().await.status, 200);
    let begun = Instant::now();
    assert!(served.is_closed().await);
    let idle = begun.elapsed();
    assert!((Duration::from_secs(299)..=Duration::from_secs(301)).contains(&idle), "{idle:?}");
}

#[tokio::test(start_paused = true)]
async fn a_head_that_comes_in_drops_is_cut_off_in_time() {
    let gateway = Gateway::start();
    let mut client = gateway.connect().await;
    let begun = Instant::now();
    for byte in "GET /health HT".bytes() {
        client.try_send(&[byte]).await;
        sleep(Duration::from_secs(3)).await;
    }
    assert_eq!(client.answer().await.code(), "request_timeout");
    assert!(client.is_closed().await);
    assert!(begun.elapsed() < Duration::from_secs(43), "not one wait for each byte");
}

#[tokio::test(start_paused = true)]
async fn a_body_that_comes_in_drops_is_cut_off_in_time() {
    let gateway = Gateway::start();
    let mut client = gateway.connect().await;
    client.send(&format!("POST {CHAT} HTTP/1.1\r\nhost: x\r\ncontent-length: 1000\r\n\r\n")).await;
    for _ in 0..4 {
        client.try_send(b"{").await;
        sleep(Duration::from_secs(10)).await;
    }
    let answer = client.answer().await;
    assert_eq!((answer.status, answer.code().as_str()), (408, "request_timeout"));
    assert!(client.is_closed().await);
}

#[tokio::test(start_paused = true)]
async fn a_body_on_a_slow_line_gets_the_time_it_needs() {
    let mut gateway = Gateway::start();
    let mut client = gateway.connect().await;
    let body = format!("{{\"a\":\"{}\"}}", "x".repeat(900_000));
    client.send(&format!("POST {CHAT} HTTP/1.1\r\nhost: x\r\ncontent-length: {}\r\n\r\n", body.len())).await;
    let begun = Instant::now();
    for part in body.as_bytes().chunks(50_000) {
        client.try_send(part).await;
        sleep(Duration::from_secs(10)).await;
    }
    assert!(begun.elapsed() > Duration::from_secs(120));
    assert_eq!(gateway.submitted().await.submission.body_bytes, body.len() as u64);
}

#[tokio::test(start_paused = true)]
async fn half_a_body_and_half_a_hang_up_is_the_end() {
    let gateway = Gateway::start();
    let mut client = gateway.connect().await;
    client.send(&format!("POST {CHAT} HTTP/1.1\r\nhost: x\r\ncontent-length: 10\r\n\r\n{{")).await;
    tokio::io::AsyncWriteExt::shutdown(&mut client.stream).await.expect("half closed");
    if let Some(answer) = client.try_answer().await {
        assert_eq!(answer.code(), "invalid_value");
    }
    assert!(client.is_closed().await);
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_nobody_reads_ends_and_frees_its_worker() {
    let mut gateway = Gateway::start();
    let worker = gateway.worker(7);
    let client = gateway.post(CHAT, "", "{\"stream\":true}").await;
    let mut link = gateway.submitted().await.assign_to(&worker).await;
    link.open().await;
    let begun = Instant::now();
    let text = "x".repeat(16 << 10);
    let event = |n: usize| format!("id: 0:{n}:{n}\ndata: {{\"x\":\"{text}\"}}\n\n");
    let chunk = |event: String| format!("{:x}\r\n{event}\r\n", event.len());
    let stream: String = (1..=512).map(|n| chunk(event(n))).collect();
    let mut taken = 0;
    // The daemon takes what its buffers and the kernel's hold, and not a byte more.
    let ended = loop {
        tokio::select! {
            biased;
            report = gateway.report() => match report {
                Report::Progressed { .. } | Report::Interrupted { .. } => {}
                Report::Ended(outcome) => break outcome,
            },
            () = link.writable() => {
                taken += link.fill(&stream.as_bytes()[taken..]);
                assert!(taken < stream.len(), "the daemon hoards a stream that nobody reads");
                tokio::task::yield_now().await;
            }
        }
    };
    assert_eq!(ended, Outcome::Cancelled);
    assert!(begun.elapsed() < Duration::from_secs(330), "{:?}", begun.elapsed());
    drop(client);
}

#[tokio::test]
async fn one_peer_leaves_connections_to_others() {
    let gateway = Gateway::start();
    let mut crowd = Vec::new();
    // Three quarters of the 64 there are.
    for _ in 0..48 {
        let mut client = gateway.connect().await;
        client.send("GET /health HTTP/1.1\r\nhost: x\r\n\r\n").await;
        assert_eq!(client.answer().await.status, 200);
        crowd.push(client);
    }
    let mut late = gateway.connect().await;
    let answer = late.answer().await;
    assert_eq!((answer.status, answer.code().as_str()), (429, "client_share"));
    assert_eq!((answer.header("retry-after"), answer.header("x-should-retry")), (Some("1"), None));
    assert!(late.is_closed().await);
    let mut other = gateway.connect_tcp().await;
    other.send("GET /health HTTP/1.1\r\nhost: x\r\n\r\n").await;
    assert_eq!(other.answer().await.status, 200, "another peer finds room");
    drop(crowd);
    loop {
        let mut again = gateway.connect().await;
        again.try_send(b"GET /health HTTP/1.1\r\nhost: x\r\n\r\n").await;
        if again.answer().await.status == 200 {
            break;
        }
    }
}

#[tokio::test]
async fn bodies_under_way_do_not_outgrow_the_queue() {
    let mut gateway = Gateway::start_with(|config| config.queue.max_bytes = 1 << 20);
    let half = "x".repeat(600 << 10);
    let mut first = gateway.connect().await;
    first.send(&format!("POST {CHAT} HTTP/1.1\r\nhost: x\r\ncontent-length: 900000\r\n\r\n{half}")).await;
    // What has been sent is read, sooner or later; then a second such body finds no room.
    loop {
        let mut second = gateway.connect().await;
        let head = format!("POST {CHAT} HTTP/1.1\r\nhost: x\r\ncontent-length: {}\r\n\r\n", half.len());
        second.try_send((head + &half).as_bytes()).await;
        let answer = second.answer().await;
        if answer.status == 429 {
            assert_eq!((answer.code().as_str(), answer.header("retry-after")), ("queue_full", Some("1")));
            break;
        }
        assert_eq!(answer.status, 400, "it is no JSON either");
    }
    drop(first);
    let client = gateway.post(CHAT, "", "{}").await;
    gateway.submitted().await;
    drop(client);
}
