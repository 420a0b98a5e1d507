//! One prompt from the command line: the answer to stdout as it comes, speeds to stderr.

use std::future::poll_fn;
use std::io::{self, Write};
use std::sync::Arc;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use mlxsup_worker_api::{Phase, Settings};
use serde_json::{Value, json};

use crate::board::Board;
use crate::engine;
use crate::last_exit;
use crate::serve::generation::{Generation, Step};
use crate::serve::preparation::{Allowance, Order, prepare};
use crate::serve::{EnginePort, Identity, Worker};
use crate::text::Codec;

use super::args::Prompting;
use super::{LaunchError, engine_ended};

/// Loads the model, answers, ends.
pub(super) fn run(settings: &Settings, prompting: &Prompting) -> Result<(), LaunchError> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|source| LaunchError::System { what: "cannot start the runtime", source })?;
    let board = Arc::new(Board::default());
    let started = engine::start(settings, &board)?;
    let worker = Worker::new(Arc::clone(&board), settings.clone(), Identity::default());
    let handle: Arc<dyn EnginePort> = Arc::new(started.handle);
    let _ = worker.engine.set(handle);
    let answered = match Codec::open(&started.source) {
        Ok(codec) => {
            let _ = worker.codec.set(Arc::new(codec));
            runtime.block_on(answer(&worker, prompting))
        }
        Err(error) => Err(error.into()),
    };
    drop(worker);
    if !engine_ended(started.thread, &board) {
        let code = answered.as_ref().err().map_or(0, LaunchError::exit_code);
        if let Err(error) = &answered {
            tracing::error!("{error}");
        }
        last_exit::at_once(code.into());
    }
    answered
}

async fn answer(worker: &Worker, prompting: &Prompting) -> Result<(), LaunchError> {
    let mut phases = worker.board.phase.subscribe();
    if let Ok(reached) = phases.wait_for(|(phase, _)| matches!(phase, Phase::Ready | Phase::Failed)).await
        && let (Phase::Failed, why) = &*reached
    {
        return Err(LaunchError::Load(why.clone().unwrap_or_default()));
    }
    let (Some(codec), Some(facts)) = (worker.codec.get(), worker.board.model.get()) else {
        return Err(LaunchError::Load("the engine is ready without a model".to_owned()));
    };
    let chat = !prompting.raw && codec.template.is_ok();
    let mut body = prompting.fields.clone();
    if chat {
        body.insert("messages".to_owned(), json!([{"role": "user", "content": prompting.text}]));
    } else {
        body.insert("prompt".to_owned(), Value::from(prompting.text.as_str()));
    }
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    // Another seed every time, unless one is given.
    let seed = u64::from(now.subsec_nanos());
    let order = Order { id: String::new(), created: now.as_secs(), seed, generated: Vec::new() };
    let allowance = Allowance {
        context_tokens: facts.context_tokens,
        default_max_tokens: worker.settings.default_max_tokens,
        model: facts.name.clone(),
        served_names: Vec::new(),
    };
    let refused = |refusal: crate::openai::Refusal| LaunchError::Prompt(refusal.body.message);
    let body = Value::Object(body).to_string();
    let prepared = prepare(chat, body.as_bytes(), order, Arc::clone(codec), &allowance).map_err(refused)?;
    let begin = Instant::now();
    let mut generation = Generation::start(&prepared, worker, false).map_err(refused)?;
    let mut first = None;
    let mut out = io::stdout().lock();
    loop {
        match poll_fn(|cx| generation.poll_step(cx)).await {
            Step::Prefill { .. } | Step::Ended { .. } => {}
            Step::Token(token) => {
                first.get_or_insert_with(Instant::now);
                let written = out.write_all(token.text.as_bytes()).and_then(|()| out.flush());
                written.map_err(|source| LaunchError::System { what: "cannot write the answer", source })?;
            }
            Step::Failed(refusal) => return Err(refused(refusal)),
            Step::Done => break,
        }
    }
    let usage = generation.usage();
    let first = first.unwrap_or(begin);
    // The first token belongs to the prefill.
    let decoded = usage.completion_tokens.saturating_sub(1);
    let report = format!(
        "prompt: {} tokens, {:.1} tok/s; answer: {} tokens, {:.1} tok/s",
        usage.prompt_tokens,
        usage.prompt_tokens as f64 / (first - begin).as_secs_f64().max(1e-9),
        usage.completion_tokens,
        decoded as f64 / first.elapsed().as_secs_f64().max(1e-9),
    );
    // Nobody to read the speeds is no failure of the answer.
    let _ = writeln!(out).and_then(|()| out.flush());
    let _ = writeln!(io::stderr(), "{report}");
    Ok(())
}
