//! The engine from outside, with models of a few thousand weights.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use mlxsup_worker_api::settings::{Device, Limits};
use mlxsup_worker_api::{Phase, Settings};
use tokio::sync::mpsc;

use super::sequence::{Finish, SequenceEvent, SequenceRequest, TokenLogprobs};
use super::{Refusal, Started, start};
use crate::board::Board;
use crate::sampling::Sampling;

fn settings(model: &str) -> Settings {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/reference").join(model);
    Settings { model: path.to_str().unwrap().to_owned(), device: Device::Cpu, ..Settings::default() }
}

fn started(settings: &Settings) -> (Started, Arc<Board>) {
    let board = Arc::new(Board::default());
    (start(settings, &board).unwrap(), board)
}

fn request(prompt: &[u32], max_tokens: u32) -> (SequenceRequest, mpsc::UnboundedReceiver<SequenceEvent>) {
    let (events, receiver) = mpsc::unbounded_channel();
    let request = SequenceRequest {
        prompt: prompt.to_vec(),
        generated: Vec::new(),
        choice: 0,
        seed: 7,
        sampling: Sampling { temperature: 0.0, ..Sampling::default() },
        max_tokens,
        stop_ids: Vec::new(),
        logprobs: None,
        replay_logprobs: false,
        events,
    };
    (request, receiver)
}

#[derive(Debug, Default)]
struct Answer {
    ids: Vec<u32>,
    logprobs: Vec<TokenLogprobs>,
    replayed: Vec<TokenLogprobs>,
    prefill: Vec<(u32, u32)>,
    finish: Option<Finish>,
}

async fn collect(mut events: mpsc::UnboundedReceiver<SequenceEvent>) -> Answer {
    let mut answer = Answer::default();
    while let Some(event) = events.recv().await {
        match event {
            SequenceEvent::Prefill { done, total } => answer.prefill.push((done, total)),
            SequenceEvent::Replayed(logprobs) => answer.replayed = logprobs,
            SequenceEvent::Token { id, logprobs } => {
                answer.ids.push(id);
                answer.logprobs.extend(logprobs);
            }
            SequenceEvent::Finished(finish) => answer.finish = Some(finish),
            SequenceEvent::Failed(message) => panic!("failed: {message}"),
        }
    }
    answer
}

async fn run(started: &Started, prompt: &[u32], change: impl FnOnce(&mut SequenceRequest)) -> Answer {
    let (mut request, events) = request(prompt, 16);
    change(&mut request);
    started.handle.submit(request).unwrap();
    collect(events).await
}

fn reference(name: &str) -> (Vec<u32>, Vec<u32>) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/reference").join(name).with_extension("json");
    let document: serde_json::Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    let ids = |key: &str| serde_json::from_value(document[key].clone()).unwrap();
    (ids("tokens"), ids("greedy"))
}

#[tokio::test]
async fn greedy_answers_are_mlx_lms_and_the_board_tells_of_them() {
    let (started, board) = started(&settings("tiny-4bit"));
    let (prompt, greedy) = reference("tiny-4bit");
    let answer = run(&started, &prompt, |_| {}).await;
    assert_eq!((answer.ids, answer.finish), (greedy, Some(Finish::Length)));
    assert_eq!(answer.prefill, [(24, 24)]);
    assert_eq!(board.phase.borrow().0, Phase::Ready);
    assert_eq!(board.bytes_done.load(Relaxed), board.bytes_total.load(Relaxed));
    assert_eq!(board.prompt_tokens.load(Relaxed), 24);
    assert_eq!(board.completion_tokens.load(Relaxed), 16);
    assert!(board.steps.load(Relaxed) >= 16 && board.last_step_ms.load(Relaxed) != u64::MAX);
    let model = board.model.get().unwrap();
    assert_eq!((model.precision.as_str(), model.device.as_str()), ("f32 (dequantised)", "cpu"));
    assert_eq!((model.context_tokens, model.kv_bytes_per_token), (1024, 2 * 2 * 2 * 16 * 4));
    assert!(board.fingerprint.get().is_some_and(|fingerprint| fingerprint.len() == 32));
    let memory = *board.memory.lock().unwrap();
    assert!(memory.mlx_active_bytes.unwrap() >= model.weights_bytes && memory.memory_limit_bytes.is_some());
}

#[tokio::test]
async fn a_continued_answer_is_the_one_that_was_cut() {
    let (started, _) = started(&settings("tiny-untied"));
    let warm = |request: &mut SequenceRequest| {
        request.sampling.temperature = 1.0;
        request.logprobs = Some(2);
        request.max_tokens = 300;
    };
    let whole = run(&started, &[3, 1, 4, 1, 5], warm).await;
    assert_eq!((whole.ids.len(), whole.logprobs.len()), (300, 300));
    for cut in [1, 17, 299] {
        let continued = run(&started, &[3, 1, 4, 1, 5], |request| {
            warm(request);
            request.generated = whole.ids[..cut].to_vec();
            request.replay_logprobs = true;
        })
        .await;
        assert_eq!(continued.ids, whole.ids[cut..], "cut at {cut}");
        assert_eq!(continued.replayed.len(), cut);
        let before = whole.logprobs.iter().map(|token| token.chosen);
        let after = continued.replayed.iter().chain(&continued.logprobs).map(|token| token.chosen);
        assert!(before.zip(after).all(|(before, after)| (before - after).abs() < 1e-3));
    }
    let others = run(&started, &[3, 1, 4, 1, 5], |request| {
        warm(request);
        request.choice = 1;
    });
    assert_ne!(others.await.ids, whole.ids, "another choice draws other numbers");
}

#[tokio::test]
async fn complete_answers_end_without_another_token() {
    let (started, _) = started(&settings("tiny-untied"));
    let done = run(&started, &[3], |request| {
        request.generated = vec![5, 6];
        request.max_tokens = 2;
    });
    let done = done.await;
    assert_eq!((done.ids.len(), done.finish, done.prefill.len()), (0, Some(Finish::Length), 0));
    let stopped = run(&started, &[3], |request| {
        request.generated = vec![5, 6];
        request.stop_ids = vec![6];
        request.logprobs = Some(0);
        request.replay_logprobs = true;
    });
    let stopped = stopped.await;
    assert_eq!((stopped.ids.len(), stopped.finish, stopped.replayed.len()), (0, Some(Finish::Stop), 2));
}

#[tokio::test]
async fn stop_ids_and_the_context_end_an_answer() {
    let (started, _) = started(&Settings { context: Some(30), ..settings("tiny-4bit") });
    let (prompt, greedy) = reference("tiny-4bit");
    let full = run(&started, &prompt, |_| {}).await;
    assert_eq!((full.ids.as_slice(), full.finish), (&greedy[..6], Some(Finish::Length)));
    let stopped = run(&started, &prompt, |request| request.stop_ids = vec![greedy[2]]).await;
    let first = greedy.iter().position(|id| *id == greedy[2]).unwrap();
    assert_eq!((stopped.ids.as_slice(), stopped.finish), (&greedy[..=first], Some(Finish::Stop)));
    let (long, _events) = request(&[1; 30], 1);
    let refusal = started.handle.submit(long).unwrap_err();
    assert_eq!(refusal, Refusal::Context { context: 30, prompt: 30 });
    for ids in [&[][..], &[128]] {
        let (bad, _events) = request(ids, 1);
        assert!(matches!(started.handle.submit(bad), Err(Refusal::Vocabulary { .. })));
    }
}

#[tokio::test]
async fn more_sequences_than_slots_wait_and_all_are_answered_alike() {
    let (started, board) = started(&Settings { slots: Some(2), ..settings("tiny-untied") });
    let (prompt, greedy) = reference("tiny-untied");
    let mut receivers = Vec::new();
    for index in 0..7 {
        let (request, events) = request(&prompt[..=prompt.len() - 1 - index % 2], 16);
        started.handle.submit(request).unwrap();
        receivers.push(events);
    }
    for (index, events) in receivers.into_iter().enumerate() {
        let answer = collect(events).await;
        assert_eq!(answer.finish, Some(Finish::Length));
        if index % 2 == 0 {
            assert_eq!(answer.ids, greedy, "sequence {index}");
        }
    }
    assert_eq!(board.slots.load(Relaxed), 2);
}

#[tokio::test]
async fn a_cancelled_sequence_leaves_and_the_others_go_on() {
    let (started, board) = started(&Settings { slots: Some(1), ..settings("tiny-untied") });
    let (endless, mut events) = request(&[9], 1000);
    started.handle.submit(endless).unwrap();
    while !matches!(events.recv().await, Some(SequenceEvent::Token { .. })) {}
    drop(events);
    // It had the only slot, and its 1000 tokens would not leave it soon.
    let next = run(&started, &[9], |_| {}).await;
    assert_eq!(next.ids.len(), 16);
    assert!(board.completion_tokens.load(Relaxed) < 1000);
}

#[tokio::test]
async fn cache_and_limits_are_changed_between_steps() {
    let settings = Settings { clear_cache_after_tokens: 10, ..settings("tiny-untied") };
    let (started, board) = started(&settings);
    run(&started, &[1], |request| request.max_tokens = 9).await;
    assert_eq!(board.cache_clears.load(Relaxed), 0);
    run(&started, &[1], |request| request.max_tokens = 10).await;
    let facts = started.handle.clear_cache().await.unwrap();
    assert_eq!(board.cache_clears.load(Relaxed), 2);
    assert!(facts.mlx_cache_bytes.is_some());
    let weights = board.model.get().unwrap().weights_bytes;
    let limits = Limits { cache_limit_bytes: Some(1 << 20), memory_limit_bytes: Some(weights + 300 * 512) };
    let facts = started.handle.set_limits(limits).await.unwrap().unwrap();
    assert_eq!((facts.cache_limit_bytes, facts.memory_limit_bytes), (Some(1 << 20), Some(weights + 300 * 512)));
    let (large, _events) = request(&[1; 100], 1);
    assert!(matches!(started.handle.submit(large), Err(Refusal::Memory { .. })));
    let (small, events) = request(&[1; 20], 5);
    started.handle.submit(small).unwrap();
    assert_eq!(collect(events).await.ids.len(), 5);
}

/// Bytes of saved prompts once the engine is through with its turn.
async fn saved(started: &Started) -> u64 {
    started.handle.clear_cache().await.unwrap().prefix_cache_bytes.unwrap()
}

/// Some prompt of so many tokens.
fn prompt(tokens: u32) -> Vec<u32> {
    (0..tokens).map(|position| (position * 7 + 3) % 128).collect()
}

#[tokio::test]
async fn what_begins_alike_is_prefilled_once_and_answered_alike() {
    let (started, board) = started(&settings("tiny-untied"));
    let per_token = 2 * 2 * 2 * 16 * 4;
    let prompt = prompt(300);
    let cold = run(&started, &prompt, |_| {}).await;
    assert_eq!((board.prompt_tokens.load(Relaxed), board.restored_tokens.load(Relaxed)), (300, 0));
    assert_eq!(cold.prefill, [(256, 300), (300, 300)]);

    // The last token is always fed: its logits choose the next.
    let warm = run(&started, &prompt, |_| {}).await;
    assert_eq!((warm.ids, warm.prefill.as_slice()), (cold.ids.clone(), &[(300, 300)][..]));
    assert_eq!((board.prompt_tokens.load(Relaxed), board.restored_tokens.load(Relaxed)), (344, 256));
    let whole = run(&started, &prompt[..256], |_| {}).await;
    assert_eq!((board.restored_tokens.load(Relaxed), whole.prefill.as_slice()), (256 + 192, &[(256, 256)][..]));

    // Prompt, answer and more: the answer was saved when it ended, the first 64 tokens of another are shared.
    let longer: Vec<u32> = prompt.iter().chain(&cold.ids).copied().chain([5; 40]).collect();
    run(&started, &longer, |_| {}).await;
    assert_eq!(board.restored_tokens.load(Relaxed), 256 + 192 + 256);
    let parting: Vec<u32> = prompt[..100].iter().copied().chain([9; 100]).collect();
    run(&started, &parting, |_| {}).await;
    assert_eq!(board.restored_tokens.load(Relaxed), 256 + 192 + 256 + 64);

    // A carried answer whose log probabilities are replayed needs the logits of all of it.
    let carried = run(&started, &prompt, |request| {
        request.generated = cold.ids[..8].to_vec();
        request.logprobs = Some(1);
        request.replay_logprobs = true;
    });
    let carried = carried.await;
    assert_eq!((carried.ids.as_slice(), carried.replayed.len()), (&cold.ids[8..], 8));

    let before = saved(&started).await;
    assert_eq!(before % (64 * per_token), 0, "whole blocks");
    assert!(before >= 7 * 64 * per_token, "{before}");
    let facts = started.handle.trim_prefix_cache().await.unwrap();
    assert_eq!(facts.prefix_cache_bytes, Some(0));
    let again = run(&started, &prompt, |_| {}).await;
    assert_eq!((again.ids, again.prefill.len()), (cold.ids, 2));
}

#[tokio::test]
async fn choices_share_their_prompt_and_short_prompts_are_not_kept() {
    let (started, board) = started(&Settings { slots: Some(3), ..settings("tiny-untied") });
    run(&started, &prompt(63), |request| request.max_tokens = 1).await;
    assert_eq!(saved(&started).await, 0);
    let mut receivers = Vec::new();
    for choice in 0..3 {
        let (mut request, events) = request(&prompt(200), 4);
        request.choice = choice;
        started.handle.submit(request).unwrap();
        receivers.push(events);
    }
    for events in receivers {
        assert_eq!(collect(events).await.ids.len(), 4);
    }
    assert_eq!(board.restored_tokens.load(Relaxed), 2 * 192);
}

#[tokio::test]
async fn saved_prompts_give_way_to_live_sequences() {
    let per_token = 2 * 2 * 2 * 16 * 4_u64;
    let (started, board) = started(&settings("tiny-untied"));
    run(&started, &prompt(512), |request| request.max_tokens = 1).await;
    assert_eq!(saved(&started).await, 512 * per_token);
    // Room for a request that reserves 512 tokens, and for 448 besides.
    let limit = board.model.get().unwrap().weights_bytes + (512 + 448) * per_token;
    let limits = Limits { memory_limit_bytes: Some(limit), ..Limits::default() };
    started.handle.set_limits(limits).await.unwrap().unwrap();
    let (live, mut events) = request(&[9; 100], 300);
    started.handle.submit(live).unwrap();
    for _ in 0..2 {
        while !matches!(events.recv().await, Some(SequenceEvent::Token { .. })) {}
    }
    assert_eq!(
        saved(&started).await,
        448 * per_token,
        "its own first block took the place of the deepest of the other"
    );
    drop(events);
    run(&started, &prompt(256), |request| request.max_tokens = 1).await;
    assert_eq!(board.restored_tokens.load(Relaxed), 192, "the beginning is forgotten last");
}

#[tokio::test]
async fn saved_prompts_outlive_the_worker_and_are_found_by_one_that_serves_already() {
    let folder = tempfile::tempdir().unwrap();
    let settings = Settings { prefix_cache_dir: folder.path().to_str().map(str::to_owned), ..settings("tiny-untied") };
    let (first, _) = started(&settings);
    let (green, board) = started(&settings);
    let cold = run(&first, &prompt(300), |_| {}).await;
    first.handle.save_prefix_cache().await.unwrap();
    let warm = run(&green, &prompt(300), |_| {}).await;
    assert_eq!((warm.ids, board.restored_tokens.load(Relaxed)), (cold.ids.clone(), 256));

    // The end writes what nobody asked to be written.
    let other: Vec<u32> = prompt(200).into_iter().rev().collect();
    let ended = run(&first, &other, |_| {}).await;
    drop(first.handle);
    first.thread.join().unwrap();
    let found = run(&green, &other, |_| {}).await;
    assert_eq!((found.ids, board.restored_tokens.load(Relaxed)), (ended.ids, 256 + 192));

    // Forgotten in memory they are still on disk; what is damaged there is read anew.
    green.handle.trim_prefix_cache().await.unwrap();
    run(&green, &prompt(300), |_| {}).await;
    assert_eq!(board.restored_tokens.load(Relaxed), 256 + 192 + 256);
    green.handle.trim_prefix_cache().await.unwrap();
    for file in std::fs::read_dir(std::fs::read_dir(folder.path()).unwrap().next().unwrap().unwrap().path()).unwrap() {
        std::fs::write(file.unwrap().path(), "damaged").unwrap();
    }
    let again = run(&green, &prompt(300), |_| {}).await;
    assert_eq!((again.ids, board.restored_tokens.load(Relaxed)), (cold.ids, 256 + 192 + 256));
}

#[tokio::test]
async fn the_thread_ends_with_its_last_handle() {
    let (started, _) = started(&settings("tiny-untied"));
    let (request, events) = request(&[1], 3);
    started.handle.submit(request).unwrap();
    drop(started.handle);
    assert_eq!(collect(events).await.ids.len(), 3, "work that was taken is finished");
    started.thread.join().unwrap();
}

#[test]
fn what_cannot_start_is_on_the_board() {
    let board = Arc::new(Board::default());
    let settings = Settings { model: "/no/such/model".to_owned(), ..Settings::default() };
    let error = start(&settings, &board).unwrap_err();
    assert_eq!(*board.phase.borrow(), (Phase::Failed, Some(error.to_string())));
}

#[tokio::test]
async fn weights_that_contradict_the_configuration_end_in_a_failed_phase() {
    let folder = tempfile::tempdir().unwrap();
    let original = settings("tiny-untied").model;
    std::fs::copy(Path::new(&original).join("model.safetensors"), folder.path().join("model.safetensors")).unwrap();
    let config = std::fs::read_to_string(Path::new(&original).join("config.json")).unwrap();
    std::fs::write(folder.path().join("config.json"), config.replace("\"hidden_size\": 64", "\"hidden_size\": 128"))
        .unwrap();
    let (started, board) =
        started(&Settings { model: folder.path().to_str().unwrap().to_owned(), ..Settings::default() });
    let mut phase = board.phase.subscribe();
    let failed = phase.wait_for(|(phase, _)| *phase == Phase::Failed).await.unwrap().clone();
    assert!(failed.1.unwrap().contains("has the shape"));
    started.thread.join().unwrap();
    let (request, _events) = request(&[1], 1);
    assert!(matches!(started.handle.submit(request), Err(Refusal::Gone(_))));
}

/// What a failed joint step does to its members, without a failing MLX.
#[test]
fn a_rebuilt_sequence_goes_on_where_it_was() {
    use super::handle::Ticket;
    use super::running::{Progress, Running};
    use crate::model::{self, Model, Precision};

    mlx_rs::Device::set_default(&mlx_rs::Device::cpu());
    let opened = model::open(&settings("tiny-untied").model).unwrap();
    let model = Model::load(&opened, Precision::Float32, &mut |_| {}).unwrap();
    let (prompt, greedy) = reference("tiny-untied");
    let (request, mut events) = request(&prompt, 16);
    let mut sequence = Running::new(request, Ticket::default());
    for step in 0.. {
        if step == 5 {
            sequence.rebuild();
            assert!(!sequence.is_prefilled() && sequence.pending() == prompt.len() + 5);
        }
        let segment = sequence.segment(usize::MAX);
        let from = usize::try_from(segment.cache.tokens()).unwrap();
        let logits = model.step(&mut [segment]).unwrap().remove(0);
        if sequence.advance(from, logits, 128, 1024) == Progress::Ended {
            break;
        }
    }
    let mut ids = Vec::new();
    while let Ok(event) = events.try_recv() {
        if let SequenceEvent::Token { id, .. } = event {
            ids.push(id);
        }
    }
    assert_eq!(ids, greedy);
}
