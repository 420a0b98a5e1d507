//! Whom a worker obeys, what it does without a daemon, and how it ends.

use std::process::Command;

use http_body_util::BodyExt;
use mlxsup_worker_api::{HEADER_EPOCH, HEADER_NONCE, Phase, path};
use serde_json::{Value, json};

use crate::record::Asked;
use crate::spawned::{EPOCH, NONCE, Spawned};
use crate::wire::{LOOK_EVERY, events};

/// A stream that would go on for minutes.
fn endless(prompt: &str) -> Value {
    json!({"id": "cmpl-1", "created": 1, "seed": 1, "request": {"prompt": prompt, "stream": true, "max_tokens": 4000,
        "temperature": 0, "logit_bias": {"0": -100, "2": -100}}})
}

#[tokio::test]
async fn a_spawned_worker_serves_and_ends_in_good_order() {
    let mut worker = Spawned::ready(&json!({}));
    let status = worker.link.status().await;
    assert_eq!((status.phase, status.generation, status.nonce.as_str()), (Phase::Ready, 1, NONCE));
    assert_eq!(status.model.expect("facts").architecture, "llama");

    let question = json!([{"role": "user", "content": "What is the capital of France?"}]);
    let plain = json!({"messages": question, "temperature": 0});
    let (_, answer) = worker.link.send("POST", "/v1/chat/completions", &[], &plain).await;
    let answer: Value = serde_json::from_str(&answer).expect("JSON");
    assert_eq!(answer["choices"][0]["message"]["content"], "The capital of France is Paris.");
    assert_eq!(answer["usage"]["prompt_tokens"], 37);

    let command = async |nonce: &str, epoch: &str| {
        let headers = [(HEADER_NONCE, nonce), (HEADER_EPOCH, epoch)];
        let (status, body) = worker.link.send("POST", path::CLEAR_CACHE, &headers, &Value::Null).await;
        let body: Value = serde_json::from_str(&body).expect("JSON");
        (status, body["error"]["code"].as_str().map(str::to_owned))
    };
    let stale = (409, Some("stale_command".to_owned()));
    assert_eq!(command(NONCE, EPOCH).await, (200, None), "the daemon that spawned it");
    assert_eq!(command(NONCE, "7").await, (200, None), "the one that adopted it");
    assert_eq!(command(NONCE, EPOCH).await, stale, "the first one again");
    assert_eq!(command("another", "8").await, stale, "one that means another worker");
    assert_eq!(command(NONCE, "7").await, (200, None), "what was refused has not counted");

    let socket = worker.link.0.clone();
    assert_eq!(worker.terminate().code(), Some(0));
    assert!(!socket.exists());
}

#[tokio::test]
async fn the_next_worker_need_not_read_a_conversation_again() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let settings = json!({"prefix_cache_dir": folder.path()});
    let story = "Once upon a time there was a fox who counted stars. ".repeat(20);
    let question = json!({"messages": [{"role": "user", "content": story}], "temperature": 0, "max_tokens": 8});
    let mut answers = Vec::new();
    let mut restored = Vec::new();
    for _ in 0..2 {
        let mut worker = Spawned::ready(&settings);
        let (_, answer) = worker.link.send("POST", "/v1/chat/completions", &[], &question).await;
        let answer: Value = serde_json::from_str(&answer).expect("JSON");
        answers.push(answer["choices"][0]["message"]["content"].clone());
        restored.push(worker.link.status().await.counters.restored_tokens);
        assert_eq!(worker.terminate().code(), Some(0));
    }
    assert!(restored[0] == 0 && restored[1] >= 192, "{restored:?}");
    assert_eq!(answers[0], answers[1]);
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn a_wired_worker_is_locked_as_a_whole() {
    let worker = Spawned::ready(&json!({"wired_limit": "auto"}));
    let status = worker.link.status().await;
    let weights = status.model.expect("facts").weights_bytes;
    // Where the limit for locked memory is small, nothing of it can be shown.
    if status.memory.wired_bytes != Some(weights) {
        return;
    }
    let rollup = std::fs::read_to_string(format!("/proc/{}/smaps_rollup", status.pid)).expect("a live process");
    let kib = |key: &str| -> u64 {
        let line = rollup.lines().find(|line| line.starts_with(key)).expect("a line");
        line.split_ascii_whitespace().nth(1).and_then(|text| text.parse().ok()).expect("a number")
    };
    let (own, locked) = (kib("Anonymous:"), kib("Locked:"));
    assert!(own > weights / 1024, "{own} KiB of its own, weights {weights} bytes");
    assert!(locked >= own / 100 * 97, "{locked} of {own} KiB locked");
}

#[tokio::test]
async fn a_link_that_breaks_frees_its_slot() {
    let worker = Spawned::ready(&json!({"slots": 1}));
    // Once while tokens come, once while a long prompt is read, once while it waits for the slot.
    let mut decoding =
        worker.link.open("POST", path::LINK_COMPLETIONS, &[], &endless("Once upon a time")).await.expect("a stream");
    decoding.frame().await.expect("a frame").expect("bytes");
    let waiting = worker.link.open("POST", path::LINK_COMPLETIONS, &[], &endless("a")).await.expect("a stream");
    worker.link.until(|status| status.engine.waiting == 1).await;
    drop(waiting);
    worker.link.until(|status| status.engine.waiting == 0).await;
    drop(decoding);
    let status = worker.link.until(|status| status.engine.active == 0).await;
    assert!(status.counters.completion_tokens < 4000, "{status:?}");

    let long = "crab ".repeat(1500);
    let prefilling = worker.link.open("POST", path::LINK_COMPLETIONS, &[], &endless(&long)).await.expect("a stream");
    worker.link.until(|status| status.engine.pending_prefill_tokens > 0).await;
    drop(prefilling);
    worker.link.until(|status| status.engine.active == 0 && status.engine.pending_prefill_tokens == 0).await;
    let status = worker.link.until(|status| status.counters.cancelled == 3).await;
    assert_eq!((status.counters.failed, status.memory.kv_bytes), (0, Some(0)));
    // The slot is free for the next one.
    let request = json!({"prompt": "1 2 3", "max_tokens": 1, "temperature": 0});
    Asked { path: path::LINK_COMPLETIONS, request, seed: 1 }.events(&worker.link, &json!([])).await;
}

#[tokio::test]
async fn a_worker_whose_daemon_died_while_it_loaded_becomes_ready_all_the_same() {
    let (mut worker, pipe) = Spawned::loading(&json!({"lease_s": 900}));
    // What the death of the daemon looks like from here: nobody will ever read the newline.
    drop(pipe);
    let socket = worker.link.0.clone();
    while tokio::net::UnixStream::connect(&socket).await.is_err() {
        tokio::time::sleep(LOOK_EVERY).await;
    }
    // What an adopting daemon sees.
    let status = worker.link.until(|status| status.phase == Phase::Ready).await;
    assert_eq!(status.nonce, NONCE);
    let request = json!({"prompt": "1 2 3", "max_tokens": 1, "temperature": 0, "stream": true});
    Asked { path: path::LINK_COMPLETIONS, request, seed: 1 }.events(&worker.link, &json!([])).await;
    assert_eq!(worker.terminate().code(), Some(0));
}

#[tokio::test]
async fn a_worker_that_hears_nobody_finishes_and_ends_with_success() {
    let mut worker = Spawned::ready(&json!({"lease_s": 1}));
    // The answer takes longer than the lease on most machines; on none may it be cut short.
    let mut request = endless("Once upon a time");
    request["request"]["max_tokens"] = json!(40);
    let reply = worker.link.open("POST", path::LINK_COMPLETIONS, &[], &request).await.expect("a stream");
    let reply = reply.into_body().collect().await.expect("the whole answer").to_bytes();
    let reply = events(std::str::from_utf8(&reply).expect("text"));
    assert_eq!(reply.last().map(|event| event.name.as_str()), Some("end"));
    let socket = worker.link.0.clone();
    assert_eq!(worker.ended().code(), Some(0));
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
