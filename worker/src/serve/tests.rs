//! The whole HTTP side over a real socket, with a scripted engine behind it.
#![allow(clippy::needless_pass_by_value, reason = "bodies are written where they are used")]

use std::path::PathBuf;
use std::sync::Mutex;
use std::sync::atomic::Ordering::Relaxed;

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::Request;
use mlxsup_worker_api::settings::Limits;
use mlxsup_worker_api::{MemoryFacts, ModelFacts, WorkerStatus};
use serde_json::{Value, json};
use tokio::net::UnixStream;
use tokio::sync::mpsc;

use super::*;
use crate::engine::sequence::{Finish, SequenceEvent, SequenceRequest, TokenLogprobs};
use crate::text::sample_folder;

/// Says the same ids to everybody, from where `generated` ends.
struct Script {
    ids: Vec<u32>,
    /// Breaks off after so many new tokens: with an error, or by saying nothing more.
    limit: Option<(usize, Break)>,
    /// Sequences that said nothing more; they hold the channel open.
    silent: Mutex<Vec<SequenceRequest>>,
}

#[derive(Clone, Copy)]
enum Break {
    Fail,
    Silence,
}

impl EnginePort for Script {
    fn submit(&self, request: SequenceRequest) -> Result<(), Refusal> {
        let send = |event| drop(request.events.send(event));
        let logprobs = |id: u32| TokenLogprobs { chosen: -(id as f32), top: vec![(id, -(id as f32))] };
        let total = (request.prompt.len() + request.generated.len()) as u32;
        send(SequenceEvent::Prefill { done: total, total });
        if request.replay_logprobs {
            send(SequenceEvent::Replayed(request.generated.iter().map(|&id| logprobs(id)).collect()));
        }
        for (new, position) in (request.generated.len()..request.max_tokens as usize).enumerate() {
            if let Some((_, what)) = self.limit.filter(|(limit, _)| *limit == new) {
                match what {
                    Break::Fail => send(SequenceEvent::Failed("[matmul] no".to_owned())),
                    Break::Silence => self.silent.lock().expect("a lock").push(request),
                }
                return Ok(());
            }
            let id = self.ids.get(position).copied().unwrap_or(258) + request.choice;
            send(SequenceEvent::Token { id, logprobs: request.logprobs.map(|_| logprobs(id)) });
            if request.stop_ids.contains(&id) {
                send(SequenceEvent::Finished(Finish::Stop));
                return Ok(());
            }
        }
        send(SequenceEvent::Finished(Finish::Length));
        Ok(())
    }

    fn clear_cache(&self) -> Measured<'_> {
        Box::pin(async { Ok(MemoryFacts::default()) })
    }

    fn trim_prefix_cache(&self) -> Measured<'_> {
        self.clear_cache()
    }

    fn save_prefix_cache(&self) -> Measured<'_> {
        self.clear_cache()
    }

    fn set_limits(&self, limits: Limits) -> Measured<'_> {
        let refused = limits.cache_limit_bytes == Some(0);
        Box::pin(async move { if refused { Err("no".to_owned()) } else { Ok(MemoryFacts::default()) } })
    }
}

/// A worker that serves until dropped.
struct Running {
    worker: Arc<Worker>,
    script: Arc<Script>,
    path: PathBuf,
    server: tokio::task::JoinHandle<()>,
    _folder: tempfile::TempDir,
}

impl Drop for Running {
    fn drop(&mut self) {
        self.server.abort();
    }
}

/// Ids of a text in the sample vocabulary, whose alphabet is not in byte order.
fn ids(codec: &Codec, text: &str) -> Vec<u32> {
    codec.tokenizer.encode_rendered(text).expect("ids")
}

fn start(answer: &str, limit: Option<(usize, Break)>) -> Running {
    let folder = tempfile::tempdir().expect("a temporary folder");
    sample_folder::write(folder.path());
    let codec = Codec::open(&crate::model::ModelSource::Folder(folder.path().to_owned())).expect("a usable folder");
    let script = Arc::new(Script { ids: ids(&codec, answer), limit, silent: Mutex::default() });
    let identity = Identity { generation: 4, nonce: "n1".to_owned(), ..Identity::default() };
    let mut worker = Worker::new(
        Arc::new(Board::default()),
        Settings { served_names: vec!["alias".into()], ..Settings::default() },
        identity,
    );
    worker.lease = Lease::unheard();
    drop(worker.codec.set(Arc::new(codec)));
    drop(worker.engine.set(Arc::clone(&script) as Arc<dyn EnginePort>));
    drop(worker.board.model.set(ModelFacts {
        name: "tiny".into(),
        architecture: "llama".into(),
        precision: "f32".into(),
        device: "cpu".into(),
        weights_bytes: 1,
        kv_bytes_per_token: 1,
        fixed_bytes_per_sequence: 0,
        context_tokens: 40,
    }));
    worker.board.phase.send_replace((Phase::Ready, None));
    let worker = Arc::new(worker);
    let path = folder.path().join("w.sock");
    let listener = Listener::unix(&path).expect("a listener");
    let server = tokio::spawn(serve(Arc::clone(&worker), listener));
    Running { worker, script, path, server, _folder: folder }
}

impl Running {
    async fn send(&self, request: Request<Full<Bytes>>) -> hyper::Response<hyper::body::Incoming> {
        let stream = UnixStream::connect(&self.path).await.expect("a connection");
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.expect("a handshake");
        tokio::spawn(connection);
        sender.send_request(request).await.expect("a response")
    }

    async fn call(&self, method: &str, path: &str, body: &Value) -> (u16, String) {
        let request = Request::builder().method(method).uri(path).header("host", "x");
        self.finish(request.body(Full::from(body.to_string())).expect("a request")).await
    }

    async fn finish(&self, request: Request<Full<Bytes>>) -> (u16, String) {
        let response = self.send(request).await;
        let status = response.status().as_u16();
        let body = response.into_body().collect().await.expect("a body").to_bytes();
        (status, String::from_utf8(body.to_vec()).expect("text"))
    }

    async fn post(&self, path: &str, body: &Value) -> (u16, String) {
        self.call("POST", path, body).await
    }
}

/// A chat body with further fields.
fn chat(more: Value) -> Value {
    let mut body = json!({"messages": [{"role": "user", "content": "hey"}], "stream": true});
    for (key, value) in more.as_object().expect("an object") {
        body[key] = value.clone();
    }
    body
}

fn envelope(request: Value, generated: Value) -> Value {
    json!({"id": "chatcmpl-7", "created": 5, "seed": 1, "generated": generated, "request": request})
}

/// The text of all chunks of a stream.
fn text_of(stream: &str) -> String {
    let data = stream.lines().filter_map(|line| line.strip_prefix("data: ")).filter(|data| *data != "[DONE]");
    let chunks = data.map(|data| serde_json::from_str::<Value>(data).expect("JSON"));
    chunks.filter_map(|chunk| chunk["choices"][0]["delta"]["content"].as_str().map(str::to_owned)).collect()
}

#[tokio::test]
async fn the_link_writes_ids_and_chunks() {
    let running = start("é!", None);
    let (status, stream) = running
        .post("/link/chat", &envelope(chat(json!({"stream_options": {"include_usage": true}})), json!([])))
        .await;
    assert_eq!(status, 200);
    let chunk = |inside: &str| {
        format!(
            r#"data: {{"id":"chatcmpl-7","object":"chat.completion.chunk","created":5,"model":"tiny","choices":[{{"index":0,{inside}}}],"usage":null}}"#
        )
    };
    let (first, second, third) = (running.script.ids[0], running.script.ids[1], running.script.ids[2]);
    let expected = [
        "id: 0:0:".to_owned(),
        chunk(r#""delta":{"role":"assistant","content":""},"logprobs":null,"finish_reason":null"#),
        String::new(),
        // Half a character: the daemon learns the id, the client nothing.
        format!("id: 0:1:{first}"),
        String::new(),
        format!("id: 0:2:{second}"),
        chunk(r#""delta":{"content":"é"},"logprobs":null,"finish_reason":null"#),
        String::new(),
        format!("id: 0:3:{third}"),
        chunk(r#""delta":{"content":"!"},"logprobs":null,"finish_reason":null"#),
        String::new(),
        "id: 0:4:258".to_owned(),
        String::new(),
        "id: 0:4:".to_owned(),
        chunk(r#""delta":{},"logprobs":null,"finish_reason":"stop""#),
        String::new(),
        r#"data: {"id":"chatcmpl-7","object":"chat.completion.chunk","created":5,"model":"tiny","choices":[],"usage":{"prompt_tokens":5,"completion_tokens":4,"total_tokens":9}}"#.to_owned(),
        String::new(),
        "event: end".to_owned(),
        String::new(),
    ];
    assert_eq!(stream.lines().collect::<Vec<_>>(), expected.iter().map(String::as_str).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_carried_stream_goes_on_where_the_ids_end() {
    let running = start("né 🦀 STOP it", None);
    let request = chat(json!({"stop": ["STOP"]}));
    let (_, whole) = running.post("/link/chat", &envelope(request.clone(), json!([]))).await;
    assert_eq!(text_of(&whole), "né 🦀 ");
    let events: Vec<&str> = whole.split("\n\n").collect();
    for taken in 1..events.len() {
        // What the daemon has recorded once these events have come.
        let ids: Vec<u64> = events[..taken]
            .iter()
            .filter_map(|event| event.strip_prefix("id: 0:")?.lines().next()?.split_once(':'))
            .flat_map(|(_, new)| new.split(',').filter_map(|id| id.parse().ok()).collect::<Vec<u64>>())
            .collect();
        if ids.is_empty() {
            continue;
        }
        let ended = events[..taken].iter().any(|event| event.contains(r#""finish_reason":"stop""#));
        let finish = if ended { json!("stop") } else { Value::Null };
        let generated = json!([{"ids": ids, "finish_reason": finish}]);
        let (status, rest) = running.post("/link/chat", &envelope(request.clone(), generated)).await;
        assert_eq!(status, 200);
        let expected = events[taken..].join("\n\n");
        let expected = if ended { "event: end\n\n".to_owned() } else { expected };
        assert_eq!(rest, expected, "after {taken} events");
    }
}

#[tokio::test]
async fn a_plain_link_answer_is_whole_also_when_carried() {
    let running = start("abc", None);
    let request = chat(json!({"stream": false, "logprobs": true, "top_logprobs": 1}));
    let result = |stream: &str| -> Value {
        let data = stream.rsplit_once("event: result\ndata: ").expect("a result").1;
        serde_json::from_str(data.trim_end()).expect("JSON")
    };
    let (_, fresh) = running.post("/link/chat", &envelope(request.clone(), json!([]))).await;
    let [a, b, c] = running.script.ids[..] else { panic!("three ids") };
    assert!(
        fresh.starts_with(&format!("id: 0:1:{a}\n\nid: 0:2:{b}\n\nid: 0:3:{c}\n\nid: 0:4:258\n\nevent: result\n")),
        "{fresh}"
    );
    let fresh = result(&fresh);
    assert_eq!(fresh["choices"][0]["message"]["content"], "abc");
    assert_eq!(fresh["choices"][0]["finish_reason"], "stop");
    assert_eq!(fresh["choices"][0]["logprobs"]["content"].as_array().map(Vec::len), Some(3));
    for taken in 1..=4 {
        let ids = &[a, b, c, 258][..taken];
        let generated = json!([{ "ids": ids }]);
        let (_, carried) = running.post("/link/chat", &envelope(request.clone(), generated)).await;
        assert_eq!(result(&carried), fresh, "after {taken} ids");
    }
}

#[tokio::test]
async fn choices_run_side_by_side() {
    let running = start("aa", None);
    let (_, stream) = running.post("/link/chat", &envelope(chat(json!({"n": 2, "max_tokens": 2})), json!([]))).await;
    for choice in ["0", "1"] {
        let opened = stream.matches(&format!("id: {choice}:0:\n")).count();
        let ended = stream
            .matches(&format!(r#""index":{choice},"delta":{{}},"logprobs":null,"finish_reason":"length""#))
            .count();
        assert_eq!((opened, ended), (1, 1), "{stream}");
    }
    let generated = json!([{"ids": [65], "finish_reason": null}]);
    let (status, body) = running.post("/link/chat", &envelope(chat(json!({"n": 2})), generated)).await;
    assert_eq!(status, 400, "{body}");
}

#[tokio::test]
async fn clients_are_served_without_a_daemon() {
    let running = start("hi", None);
    let (status, stream) = running.post("/v1/chat/completions", &chat(json!({"model": "alias"}))).await;
    assert_eq!((status, text_of(&stream).as_str()), (200, "hi"));
    assert!(stream.ends_with("data: [DONE]\n\n") && !stream.contains("id: "), "{stream}");
    let (_, whole) = running.post("/v1/completions", &json!({"prompt": "hey", "max_tokens": 1})).await;
    let whole: Value = serde_json::from_str(&whole).expect("JSON");
    assert_eq!(whole["choices"][0], json!({"index": 0, "text": "h", "logprobs": null, "finish_reason": "length"}));
    assert_eq!(whole["usage"], json!({"prompt_tokens": 3, "completion_tokens": 1, "total_tokens": 4}));
    let (_, models) = running.call("GET", "/v1/models", &Value::Null).await;
    assert!(models.contains(r#""id":"tiny""#), "{models}");
}

#[tokio::test]
async fn refusals_are_error_objects() {
    let running = start("hi", None);
    let long = "x".repeat(50);
    let wrong = [
        ("POST", "/v1/chat/completions", json!({"messages": 1}), 400, "invalid_value"),
        ("POST", "/v1/completions", json!({"prompt": long}), 400, "context_length_exceeded"),
        ("POST", "/v1/completions", json!({"prompt": [9999]}), 400, "invalid_value"),
        ("POST", "/v1/completions", json!({"prompt": ""}), 400, "invalid_value"),
        ("POST", "/v1/completions", json!({"prompt": "x", "model": "other"}), 404, "model_not_found"),
        ("POST", "/link/chat", json!({"id": 1}), 400, "invalid_value"),
        ("GET", "/link/chat", Value::Null, 405, "method_not_allowed"),
        ("GET", "/v2", Value::Null, 404, "not_found"),
        ("POST", "/control/clear-cache", Value::Null, 409, "stale_command"),
        ("POST", "/control/trim-prefix-cache", Value::Null, 409, "stale_command"),
    ];
    for (method, path, body, expected, code) in wrong {
        let (status, body) = running.call(method, path, &body).await;
        let body: Value = serde_json::from_str(&body).expect("JSON");
        assert_eq!((status, body["error"]["code"].as_str()), (expected, Some(code)), "{path}: {body}");
    }
    let page = Request::get("/status").header("origin", "http://x").body(Full::default()).expect("a request");
    assert_eq!(running.finish(page).await.0, 403);
    running.worker.board.phase.send_replace((Phase::Loading, None));
    let (status, body) = running.post("/v1/chat/completions", &chat(json!({}))).await;
    assert_eq!(status, 503, "{body}");
}

#[tokio::test]
async fn an_engine_failure_ends_the_stream_with_an_error() {
    let running = start("hello", Some((2, Break::Fail)));
    let (status, stream) = running.post("/link/chat", &envelope(chat(json!({})), json!([]))).await;
    assert_eq!((status, text_of(&stream).as_str()), (200, "he"));
    let (_, error) = stream.rsplit_once("event: error\ndata: ").expect("an error");
    let error: Value = serde_json::from_str(error.trim_end()).expect("JSON");
    assert_eq!(error["error"]["code"], "engine_error");
    assert!(error["error"]["message"].as_str().is_some_and(|m| m.contains("[matmul] no")), "{error}");
    let (status, _) = running.post("/v1/completions", &json!({"prompt": "x"})).await;
    assert_eq!(status, 500);
    assert_eq!(running.worker.board.failed.load(Relaxed), 2);
}

#[tokio::test]
async fn hanging_up_cancels() {
    for stream in [true, false] {
        let running = start("hello", Some((2, Break::Silence)));
        let body = chat(json!({"stream": stream}));
        let request = Request::post("/v1/chat/completions").body(Full::from(body.to_string())).expect("a request");
        let stream_to_drop = async {
            let mut response = running.send(request).await;
            response.frame().await.expect("a frame").expect("bytes");
        };
        if stream {
            stream_to_drop.await;
        } else {
            // The answer never comes: drop the request once the engine has it.
            tokio::select! {
                () = stream_to_drop => panic!("a whole answer came"),
                () = taken(&running.script) => {}
            }
        }
        taken(&running.script).await;
        let sender: mpsc::UnboundedSender<SequenceEvent> = {
            let silent = running.script.silent.lock().expect("a lock");
            silent[0].events.clone()
        };
        sender.closed().await;
        while running.worker.board.cancelled.load(Relaxed) != 1 {
            tokio::task::yield_now().await;
        }
    }
}

/// Waits until a sequence has fallen silent.
async fn taken(script: &Script) {
    while script.silent.lock().expect("a lock").is_empty() {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn status_and_control_speak_to_the_daemon() {
    let running = start("x", None);
    let (_, status) = running.call("GET", "/status", &Value::Null).await;
    let status: WorkerStatus = serde_json::from_str(&status).expect("a status");
    assert_eq!((status.generation, status.nonce.as_str(), status.phase), (4, "n1", Phase::Ready));
    let command = |path: &str, body: Value| {
        let request = Request::post(path).header("x-mlxsup-nonce", "n1").header("x-mlxsup-epoch", "2");
        request.body(Full::from(body.to_string())).expect("a request")
    };
    for path in ["/control/clear-cache", "/control/trim-prefix-cache", "/control/save-prefix-cache"] {
        let (code, facts) = running.finish(command(path, Value::Null)).await;
        assert_eq!(code, 200, "{facts}");
        assert!(serde_json::from_str::<MemoryFacts>(&facts).is_ok(), "{facts}");
    }
    assert_eq!(running.finish(command("/control/limits", json!({"cache_limit_bytes": 9}))).await.0, 200);
    assert_eq!(running.finish(command("/control/limits", json!({"cache_limit_bytes": 0}))).await.0, 500);
    assert_eq!(running.finish(command("/control/limits", json!({"cache": 9}))).await.0, 400);
}

#[tokio::test]
async fn only_a_daemon_renews_the_lease() {
    let contacts = [
        ("GET", "/status", true),
        ("POST", "/link/chat", true),
        ("POST", "/link/completions", true),
        ("POST", "/control/clear-cache", true),
        ("POST", "/control/trim-prefix-cache", true),
        ("POST", "/control/save-prefix-cache", true),
        ("GET", "/health", false),
        ("GET", "/v1/models", false),
        ("POST", "/v1/completions", false),
        ("POST", "/status", false),
    ];
    for (method, path, renews) in contacts {
        let running = start("x", None);
        running.call(method, path, &json!({"prompt": "x"})).await;
        assert_eq!(running.worker.lease.is_heard(), renews, "{method} {path}");
    }
}
