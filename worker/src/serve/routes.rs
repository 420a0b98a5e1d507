//! Paths and what answers them.

use std::future::poll_fn;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use http_body_util::{BodyExt, LengthLimitError, Limited};
use hyper::body::Incoming;
use hyper::{Method, Request, Response};
use mlxsup_worker_api::{Envelope, path};
use serde_json::json;

use crate::openai::{Refusal, TokenText};

use super::event_stream::{EventStream, Form};
use super::generation::{Generation, Step};
use super::preparation::{Allowance, Order, Prepared, prepare};
use super::reply::{self, Reply};
use super::{Worker, control, status};

/// Bytes of one request body.
const MAX_BODY: usize = 64 << 20;

/// What a path is.
#[derive(Clone, Copy)]
enum Route {
    Status,
    Health,
    Models,
    ClearCache,
    TrimPrefixCache,
    SavePrefixCache,
    Limits,
    Link { chat: bool },
    Client { chat: bool },
}

impl Route {
    fn of(path: &str) -> Option<Self> {
        Some(match path {
            path::STATUS => Self::Status,
            path::CLEAR_CACHE => Self::ClearCache,
            path::TRIM_PREFIX_CACHE => Self::TrimPrefixCache,
            path::SAVE_PREFIX_CACHE => Self::SavePrefixCache,
            path::LIMITS => Self::Limits,
            path::LINK_CHAT => Self::Link { chat: true },
            path::LINK_COMPLETIONS => Self::Link { chat: false },
            "/v1/chat/completions" => Self::Client { chat: true },
            "/v1/completions" => Self::Client { chat: false },
            "/v1/models" => Self::Models,
            "/health" => Self::Health,
            _ => return None,
        })
    }

    const fn method(self) -> Method {
        match self {
            Self::Status | Self::Health | Self::Models => Method::GET,
            Self::ClearCache
            | Self::TrimPrefixCache
            | Self::SavePrefixCache
            | Self::Limits
            | Self::Link { .. }
            | Self::Client { .. } => Method::POST,
        }
    }

    /// Only a daemon asks for these.
    const fn renews_lease(self) -> bool {
        matches!(
            self,
            Self::Status
                | Self::ClearCache
                | Self::TrimPrefixCache
                | Self::SavePrefixCache
                | Self::Limits
                | Self::Link { .. }
        )
    }
}

/// Answers one request.
pub(super) async fn answer(worker: Arc<Worker>, request: Request<Incoming>) -> Response<Reply> {
    dispatch(worker, request).await.unwrap_or_else(|refusal| reply::refused(&refusal))
}

async fn dispatch(worker: Arc<Worker>, request: Request<Incoming>) -> Result<Response<Reply>, Refusal> {
    // The socket and the loopback address have no key: a page in a browser must not reach the model through them.
    if request.headers().contains_key(hyper::header::ORIGIN) {
        return Err(Refusal::origin_not_allowed());
    }
    let asked = request.uri().path();
    let route = Route::of(asked).ok_or_else(|| Refusal::not_found(asked))?;
    if request.method() != route.method() {
        let (method, allowed) = (request.method().as_str(), route.method());
        return Err(Refusal::method_not_allowed(method, asked, allowed.as_str()));
    }
    if route.renews_lease() {
        worker.lease.renew();
    }
    let (head, body) = request.into_parts();
    match route {
        Route::Status => Ok(reply::json(&status::report(&worker))),
        Route::Health => Ok(reply::json(&json!({"status": "ok"}))),
        Route::Models => Ok(models(&worker)),
        Route::ClearCache => control::clear_cache(&worker, &head.headers).await,
        Route::TrimPrefixCache => control::trim_prefix_cache(&worker, &head.headers).await,
        Route::SavePrefixCache => control::save_prefix_cache(&worker, &head.headers).await,
        Route::Limits => control::limits(&worker, &head.headers, &read(body).await?).await,
        Route::Link { chat } => link(&worker, chat, read(body).await?).await,
        Route::Client { chat } => client(&worker, chat, read(body).await?).await,
    }
}

async fn read(body: Incoming) -> Result<Bytes, Refusal> {
    match Limited::new(body, MAX_BODY).collect().await {
        Ok(body) => Ok(body.to_bytes()),
        Err(error) if error.is::<LengthLimitError>() => Err(Refusal::body_too_large(MAX_BODY)),
        Err(error) => Err(Refusal::invalid_value("", format!("the request body broke off: {error}"))),
    }
}

fn models(worker: &Worker) -> Response<Reply> {
    let model = worker.board.model.get();
    let entry = |model: &mlxsup_worker_api::ModelFacts| json!({"id": model.name, "object": "model", "created": 0, "owned_by": "mlxsup", "context_length": model.context_tokens});
    reply::json(&json!({"object": "list", "data": model.map(entry).into_iter().collect::<Vec<_>>()}))
}

/// The daemon's way: always an event stream, with the ids in it.
async fn link(worker: &Arc<Worker>, chat: bool, body: Bytes) -> Result<Response<Reply>, Refusal> {
    let envelope: Envelope = serde_json::from_slice(&body)
        .map_err(|error| Refusal::invalid_value("", format!("the envelope was not understood: {error}")))?;
    let (order, request) = Order::from_envelope(envelope);
    let prepared = prepared(worker, chat, Bytes::from(String::from(Box::<str>::from(request))), order).await?;
    let form = if prepared.stream { Form::LinkStream } else { Form::LinkWhole };
    start(worker, prepared, form).map(reply::events)
}

/// A client's way, without a daemon between.
async fn client(worker: &Arc<Worker>, chat: bool, body: Bytes) -> Result<Response<Reply>, Refusal> {
    let id = format!("{}-{:016x}{:016x}", if chat { "chatcmpl" } else { "cmpl" }, random(), random());
    let created = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    let order = Order { id, created, seed: random(), generated: Vec::new() };
    let prepared = prepared(worker, chat, body, order).await?;
    if prepared.stream {
        return start(worker, prepared, Form::Client).map(reply::events);
    }
    let mut generation = Generation::start(&prepared, worker, true)?;
    loop {
        match poll_fn(|cx| generation.poll_step(cx)).await {
            Step::Prefill { .. } | Step::Token(_) | Step::Ended { .. } => {}
            Step::Failed(refusal) => return Err(refusal),
            Step::Done => {
                let (choices, usage) = (generation.take_choices(), generation.usage());
                return Ok(reply::text(prepared.answer.whole(&choices, usage, TokenText(&prepared.codec.tokenizer))));
            }
        }
    }
}

/// Checks and tokenises off the async threads: a long prompt takes milliseconds, a very long one seconds.
async fn prepared(worker: &Arc<Worker>, chat: bool, body: Bytes, order: Order) -> Result<Prepared, Refusal> {
    worker.engine()?;
    let not_ready = || Refusal::not_ready("loading");
    let codec = Arc::clone(worker.codec.get().ok_or_else(not_ready)?);
    let facts = worker.board.model.get().ok_or_else(not_ready)?;
    let allowance = Allowance {
        context_tokens: facts.context_tokens,
        default_max_tokens: worker.settings.default_max_tokens,
        model: facts.name.clone(),
        served_names: worker.settings.served_names.clone(),
    };
    tokio::task::spawn_blocking(move || prepare(chat, &body, order, codec, &allowance))
        .await
        .unwrap_or_else(|_| Err(Refusal::engine_error("preparing the prompt broke off")))
}

fn start(worker: &Worker, prepared: Prepared, form: Form) -> Result<EventStream, Refusal> {
    let generation = Generation::start(&prepared, worker, form == Form::LinkWhole)?;
    Ok(EventStream::new(generation, prepared.codec, prepared.answer, form))
}

/// Good enough for ids and seeds: the standard library seeds its hash maps from the system.
fn random() -> u64 {
    RandomState::new().build_hasher().finish()
}
