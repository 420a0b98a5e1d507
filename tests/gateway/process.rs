//! Against the fake worker as a process of its own: a crash is a real crash here.

use std::io::Read;
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, Command, Stdio};

use mlxsup::daemon::handle::{Outcome, Report};
use mlxsup::supervisor::Generation;
use mlxsup_worker_api::{WorkerStatus, settings};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;

use crate::harness::{Gateway, words};

const CHAT: &str = "/v1/chat/completions";

/// A running fake; killed when the test is over.
struct Fake {
    child: Child,
    socket: std::path::PathBuf,
}

impl Drop for Fake {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Fake {
    /// Starts a fake and waits for its newline.
    fn start(gateway: &Gateway, generation: u64, faults: &str) -> Self {
        let socket = gateway.dir.path().join(format!("worker-{generation}.sock"));
        // Descriptor 1 is as good as any for the newline, and needs no inheritance tricks.
        let mut child = Command::new(env!("CARGO_BIN_EXE_mlxsup-fake-worker"))
            .env(settings::env::SOCKET, &socket)
            .env(settings::env::GENERATION, generation.to_string())
            .env(settings::env::NONCE, "f".repeat(32))
            .env(settings::env::READY_FD, "1")
            .env("MLXSUP_FAKE", faults)
            .stdout(Stdio::piped())
            .spawn()
            .expect("started");
        let mut newline = [0];
        child.stdout.take().expect("a pipe").read_exact(&mut newline).expect("ready");
        assert_eq!(&newline, b"\n");
        Self { child, socket }
    }

    async fn status(&self) -> WorkerStatus {
        let mut stream = UnixStream::connect(&self.socket).await.expect("connected");
        stream.write_all(b"GET /status HTTP/1.1\r\nhost: x\r\n\r\n").await.expect("sent");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.expect("answered");
        serde_json::from_str(answer.split_once("\r\n\r\n").expect("a body").1).expect("a status")
    }
}

fn expected(tokens: u32) -> String {
    (1..=tokens).map(|position| format!("w{position} ")).collect()
}

#[tokio::test]
async fn a_killed_worker_costs_the_stream_nothing_but_time() {
    for faults in ["{\"crash_at_token\":5,\"only_generation\":7}", "{\"half_frame_at_token\":5,\"only_generation\":7}"]
    {
        let mut gateway = Gateway::start();
        let mut blue = Fake::start(&gateway, 7, faults);
        let green = Fake::start(&gateway, 8, faults);
        let body = "{\"stream\":true,\"max_tokens\":12,\"stream_options\":{\"include_usage\":true}}";
        let mut client = gateway.post(CHAT, "", body).await;
        let submitted = gateway.submitted().await;
        submitted.assign(7, blue.socket.clone()).await;
        loop {
            match gateway.report().await {
                Report::Progressed { .. } => {}
                Report::Interrupted { generation, progressed, .. } => {
                    assert_eq!((generation, progressed), (Generation(7), true));
                    break;
                }
                other @ Report::Ended(_) => panic!("unexpected {other:?}"),
            }
        }
        assert!(blue.child.wait().expect("reaped").signal().is_some());
        submitted.assign(8, green.socket.clone()).await;
        let answer = client.answer().await;
        assert!(answer.complete && answer.body.contains("data: [DONE]"));
        assert_eq!(words(&answer.body), expected(12));
        assert_eq!(answer.body.matches("assistant").count(), 1);
        assert_eq!(answer.body.matches("\"finish_reason\":\"length\"").count(), 1);
        let ended = loop {
            if let Report::Ended(outcome) = gateway.report().await {
                break outcome;
            }
        };
        assert_eq!(ended, Outcome::Answered { prompt_tokens: 12, completion_tokens: 12 });
        assert_eq!(gateway.record().await.generations, [7, 8]);
    }
}

#[tokio::test]
async fn a_plain_answer_from_the_fake_is_whole() {
    let mut gateway = Gateway::start();
    let fake = Fake::start(&gateway, 7, "{\"tokens\":3}");
    let mut client = gateway.post(CHAT, "", "{\"n\":2}").await;
    gateway.submitted().await.assign(7, fake.socket.clone()).await;
    let answer = client.answer().await.json();
    assert_eq!(answer["choices"][1]["message"]["content"], expected(3));
    assert_eq!(answer["usage"]["completion_tokens"], 6);
}

#[tokio::test]
async fn a_hang_up_reaches_the_worker() {
    let mut gateway = Gateway::start();
    let fake = Fake::start(&gateway, 7, "{\"token_ms\":1}");
    let mut client = gateway.post(CHAT, "", "{\"stream\":true,\"max_tokens\":4000000}").await;
    gateway.submitted().await.assign(7, fake.socket.clone()).await;
    client.until("w3 ").await;
    assert_eq!(fake.status().await.engine.active, 1);
    drop(client);
    while fake.status().await.counters.cancelled == 0 {
        tokio::task::yield_now().await;
    }
    assert_eq!(fake.status().await.engine.active, 0);
}

#[tokio::test]
async fn an_engine_error_in_mid_stream_is_told() {
    let mut gateway = Gateway::start();
    let fake = Fake::start(&gateway, 7, "{\"fail_at_token\":3}");
    let mut client = gateway.post(CHAT, "", "{\"stream\":true}").await;
    gateway.submitted().await.assign(7, fake.socket.clone()).await;
    let answer = client.answer().await;
    assert_eq!(words(&answer.body.replace("event: error\ndata: ", "event: error\nerror: ")), expected(2));
    assert!(!answer.complete && answer.body.contains("\"code\":\"engine_error\""), "{}", answer.body);
}
