//! The real worker as the daemon starts it: environment, ready pipe, link, signals. Needs `make model`.
#![allow(clippy::expect_used, reason = "a failed step of a test is a failed test")]

use std::io::{Read, pipe};
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::Request;
use hyper_util::rt::TokioIo;
use mlxsup_worker_api::settings::env;
use mlxsup_worker_api::{Phase, WorkerStatus};
use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};
use tokio::net::UnixStream;

struct Worker {
    child: Child,
    socket: PathBuf,
    _folder: tempfile::TempDir,
}

impl Worker {
    /// Starts a worker and waits for its newline.
    fn start() -> Self {
        let model = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/models/SmolLM2-135M-Instruct.Q4_1.gguf");
        assert!(model.is_file(), "{} is missing: run `make model`", model.display());
        let folder = tempfile::tempdir().expect("a temporary folder");
        let socket = folder.path().join("worker-1.sock");
        let (mut ready, writer) = pipe().expect("a pipe");
        fcntl(&writer, FcntlArg::F_SETFD(FdFlag::empty())).expect("an inheritable descriptor");
        let child = Command::new(env!("CARGO_BIN_EXE_mlxsup-worker"))
            .env(env::READY_FD, writer.as_raw_fd().to_string())
            .env(env::SOCKET, &socket)
            .env(env::GENERATION, "1")
            .env(env::NONCE, "n")
            .env(env::EPOCH, "1")
            .env(env::SETTINGS, json!({"model": model, "device": "cpu", "wired_limit": "off"}).to_string())
            .stderr(Stdio::null())
            .spawn()
            .expect("the worker");
        drop(writer);
        let mut said = String::new();
        ready.read_to_string(&mut said).expect("the ready pipe");
        assert_eq!(said, "\n", "the worker did not become ready");
        Self { child, socket, _folder: folder }
    }

    async fn send(&self, method: &str, path: &str, body: &Value) -> (u16, String) {
        let stream = UnixStream::connect(&self.socket).await.expect("a connection");
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.expect("a handshake");
        tokio::spawn(connection);
        let request = Request::builder().method(method).uri(path).header("host", "x");
        let request = request.body(Full::<Bytes>::from(body.to_string())).expect("a request");
        let response = sender.send_request(request).await.expect("a response");
        let status = response.status().as_u16();
        let body = response.into_body().collect().await.expect("a body").to_bytes();
        (status, String::from_utf8(body.to_vec()).expect("text"))
    }

    async fn link(&self, request: &Value, ids: &[u32]) -> String {
        let generated = json!([{"ids": ids, "finish_reason": null}]);
        let envelope = json!({"id": "chatcmpl-1", "created": 1, "seed": 9, "generated": generated, "request": request});
        let (status, events) = self.send("POST", "/link/chat", &envelope).await;
        assert_eq!(status, 200, "{events}");
        // Prefill comments follow the clock, not the request: how many there are depends on the machine.
        events.split_inclusive("\n\n").filter(|event| !event.starts_with(':')).collect()
    }

    fn terminate(mut self) -> ExitStatus {
        let pid = i32::try_from(self.child.id()).expect("a process id");
        kill(Pid::from_raw(pid), Signal::SIGTERM).expect("a signal");
        self.child.wait().expect("an exit status")
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        // Ended already, where the test got that far.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The ids of all events, in order.
fn ids_of(events: &str) -> Vec<u32> {
    let lines = events.lines().filter_map(|line| line.strip_prefix("id: "));
    let new = lines.filter_map(|id| id.rsplit(':').next());
    new.flat_map(|ids| ids.split(',')).filter_map(|id| id.parse().ok()).collect()
}

#[tokio::test]
async fn a_spawned_worker_answers_continues_and_ends() {
    let worker = Worker::start();
    let (_, status) = worker.send("GET", "/status", &Value::Null).await;
    let status: WorkerStatus = serde_json::from_str(&status).expect("a status");
    assert_eq!((status.phase, status.generation), (Phase::Ready, 1));
    assert_eq!(status.model.expect("facts").architecture, "llama");

    let question = json!([{"role": "user", "content": "What is the capital of France?"}]);
    let plain = json!({"messages": question, "temperature": 0});
    let (_, answer) = worker.send("POST", "/v1/chat/completions", &plain).await;
    let answer: Value = serde_json::from_str(&answer).expect("JSON");
    assert_eq!(answer["choices"][0]["message"]["content"], "The capital of France is Paris.");
    assert_eq!(answer["usage"]["prompt_tokens"], 37);

    // The same bytes go on after every token, greedy and drawn alike.
    for temperature in [0.0, 0.8] {
        let request = json!({"messages": question, "temperature": temperature, "max_tokens": 12, "stream": true});
        let whole = worker.link(&request, &[]).await;
        let ids = ids_of(&whole);
        for taken in [1, ids.len() / 2, ids.len() - 1] {
            let rest = worker.link(&request, &ids[..taken]).await;
            assert!(whole.ends_with(&rest), "after {taken} ids:\n{rest}\nis not the end of\n{whole}");
            assert_eq!(ids_of(&rest), ids[taken..]);
        }
    }

    let socket = worker.socket.clone();
    assert_eq!(worker.terminate().code(), Some(0));
    assert!(!socket.exists());
}

#[test]
fn a_worker_that_cannot_load_says_why_in_one_line() {
    let output = Command::new(env!("CARGO_BIN_EXE_mlxsup-worker"))
        .args(["--model", "/nonexistent/model.gguf", "--prompt", "x"])
        .output()
        .expect("the worker");
    assert_eq!(output.status.code(), Some(70));
    let message = String::from_utf8(output.stderr).expect("text");
    assert!(message.starts_with("mlxsup-worker: cannot load the model: ") && message.lines().count() == 1, "{message}");
}
