//! Which path and method leads where, and who may come in.
//!
//! Owns the table of routes. Paths and headers of the worker link are unknown here on purpose.

use std::convert::Infallible;
use std::sync::Arc;

use hyper::body::{Body, Incoming};
use hyper::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE, HeaderValue};
use hyper::{Method, Request, Response, StatusCode};

use super::answer::{self, AnswerBody};
use super::connection::{Turn, Turns};
use super::flow::{Flow, Head, Origin};
use super::intake::{self, Asked, Kind, Wishes};
use super::record::OpenRecord;
use super::reply::Pulse;
use super::session::{Admitted, Session};
use super::{GatewayContext, identity, readiness};
use crate::config::Config;
use crate::daemon::handle::{Class, Submission};
use crate::supervisor::{Code, Refusal};

/// Who is at the other end of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Peer {
    /// By peer credentials; `None` when the system did not tell.
    pub uid: Option<u32>,
}

impl Peer {
    fn principal(self) -> String {
        self.uid.map_or_else(|| "unknown".to_owned(), |uid| format!("uid:{uid}"))
    }

    fn check(self, context: &GatewayContext, config: &Config) -> Result<(), Refusal> {
        match self.uid {
            Some(uid) if uid == context.owner_uid || config.listen.allow_uids.contains(&uid) => Ok(()),
            Some(uid) => {
                let message = format!("uid {uid} is not served here; its owner can add it to listen.allow_uids");
                Err(Refusal::new(Code::UidNotAllowed, message))
            }
            None => {
                let message = "the system does not tell who connects; connect from a process on this machine";
                Err(Refusal::new(Code::UidNotAllowed, message))
            }
        }
    }
}

enum Route<'a> {
    Health,
    Ready,
    Models,
    Model(&'a str),
    Generate(Kind),
}

fn route(path: &str) -> Option<Route<'_>> {
    Some(match path {
        "/health" => Route::Health,
        "/ready" => Route::Ready,
        "/v1/models" => Route::Models,
        "/v1/chat/completions" => Route::Generate(Kind::Chat),
        "/v1/completions" => Route::Generate(Kind::Completions),
        _ => Route::Model(path.strip_prefix("/v1/models/").filter(|name| !name.is_empty())?),
    })
}

impl Route<'_> {
    fn methods(&self) -> &'static str {
        match self {
            Self::Health | Self::Ready | Self::Models | Self::Model(_) => "GET, HEAD",
            Self::Generate(_) => "POST",
        }
    }

    fn allows(&self, method: &Method) -> bool {
        match self {
            Self::Health | Self::Ready | Self::Models | Self::Model(_) => {
                method == Method::GET || method == Method::HEAD
            }
            Self::Generate(_) => method == Method::POST,
        }
    }
}

/// Answers one request. Dropping the future, or the answer's body, cancels it. The turn begins at once, not with the
/// first poll: hyper reads on in between.
pub(super) fn handle(
    context: Arc<GatewayContext>,
    peer: Peer,
    turns: &Turns,
    request: Request<Incoming>,
) -> impl Future<Output = Result<Response<AnswerBody>, Infallible>> + Send + use<> {
    let turn = turns.begin(request.body().size_hint().exact());
    async move {
        let request_id = request
            .headers()
            .get(answer::REQUEST_ID)
            .and_then(|id| id.to_str().ok())
            .filter(|id| identity::is_well_formed(id))
            .map_or_else(identity::random_hex, str::to_owned);
        let response = answer_to(&context, peer, &turn, &request_id, request).await;
        Ok(answer::finish(response, &request_id, turn))
    }
}

async fn answer_to(
    context: &GatewayContext,
    peer: Peer,
    turn: &Turn,
    request_id: &str,
    request: Request<Incoming>,
) -> Response<AnswerBody> {
    let config = context.config.borrow().clone();
    let path = request.uri().path().to_owned();
    let Some(route) = route(&path) else {
        let path: String = path.chars().take(80).collect();
        let message = format!("there is nothing at {path}; use /v1/chat/completions, /v1/completions or /v1/models");
        return answer::refusal(&Refusal::new(Code::NotFound, message));
    };
    if !matches!(route, Route::Health)
        && let Err(refusal) = peer.check(context, &config)
    {
        return answer::refusal(&refusal);
    }
    if !route.allows(request.method()) {
        let methods = route.methods();
        let message = format!("{path} does not take {}; use {methods}", request.method());
        let mut response = answer::refusal(&Refusal::new(Code::MethodNotAllowed, message));
        response.headers_mut().insert(ALLOW, HeaderValue::from_static(methods));
        return response;
    }
    match route {
        Route::Health => answer::json(StatusCode::OK, &b"{\"status\":\"ok\"}"[..]),
        Route::Ready => readiness::ready(&context.handle.status()),
        Route::Models => readiness::models(&context.handle.status(), &config, context.started),
        Route::Model(name) => readiness::model(name, &context.handle.status(), &config, context.started),
        Route::Generate(kind) => {
            let record = OpenRecord::new(request_id.to_owned(), peer.principal(), context.requests.clone());
            generate(context, &config, kind, peer, turn, record, request).await
        }
    }
}

async fn generate(
    context: &GatewayContext,
    config: &Config,
    kind: Kind,
    peer: Peer,
    turn: &Turn,
    mut record: OpenRecord,
    request: Request<Incoming>,
) -> Response<AnswerBody> {
    let admitted = admit(context, config, peer, turn, &mut record, request).await;
    let (asked, body, pulse, submission) = match admitted {
        Ok(parts) => parts,
        Err(refusal) => {
            record.ended(refusal.code.status(), Some(refusal.code.as_str()));
            return answer::refusal(&refusal);
        }
    };
    let ticket = context.handle.submit(submission);
    let admitted = Admitted { kind, asked, body, ticket, record, pulse };
    let mut flow = Flow::new(move |outlet| Session::new(admitted, outlet).run());
    match flow.head().await {
        Some(Head::Refused(refusal)) => answer::refusal(&refusal),
        Some(Head::Passed { status, object }) => {
            let status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
            let mut response = answer::json(status, answer::error_json(&object));
            answer::no_retry(&mut response);
            response
        }
        Some(Head::Whole { body, origin }) => with_origin(answer::json(StatusCode::OK, body), origin),
        Some(Head::Open { stream, origin }) => {
            let mut response = Response::new(AnswerBody::flow(flow));
            let media = if stream { "text/event-stream; charset=utf-8" } else { "application/json" };
            response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(media));
            response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
            with_origin(response, origin)
        }
        // A session always begins an answer before it ends; if one ever does not, the client is still told.
        None => answer::refusal(&Refusal::new(Code::EngineError, "the request was lost inside mlxsupd; report this")),
    }
}

/// Everything between the head of a request and its submission.
async fn admit(
    context: &GatewayContext,
    config: &Config,
    peer: Peer,
    turn: &Turn,
    record: &mut OpenRecord,
    request: Request<Incoming>,
) -> Result<(Asked, bytes::Bytes, Pulse, Submission), Refusal> {
    let (head, body) = request.into_parts();
    let wishes = Wishes::from_headers(&head.headers);
    let body = intake::read_body(body, config.listen.max_body).await?;
    turn.body_read();
    let wishes = wishes?;
    let asked = Asked::from_body(&body)?;
    if let Some(model) = &asked.model {
        readiness::check_model(model, &context.handle.status(), config)?;
    }
    let principal = peer.principal();
    let client = wishes.client.or_else(|| asked.user.as_deref().and_then(identity::client_name));
    if let Some(client) = &client {
        record.facts.client = format!("{principal}/{client}");
    }
    let class = wishes.class.or(asked.class).unwrap_or(Class::Normal);
    record.facts.class = class;
    let patience = wishes.timeout.or(if asked.stream { None } else { wishes.read_timeout });
    let pulse = Pulse::new(asked.stream, &config.queue, wishes.read_timeout, record.arrived());
    let deadline = patience.map(|patience| (context.mono)() + patience);
    let submission = Submission { principal, client, class, body_bytes: body.len() as u64, deadline, max_active: None };
    Ok((asked, body, pulse, submission))
}

fn with_origin(mut response: Response<AnswerBody>, origin: Option<Origin>) -> Response<AnswerBody> {
    if let Some(Origin { queue_ms, generation }) = origin {
        response.headers_mut().insert(answer::QUEUE_MS, HeaderValue::from(queue_ms));
        response.headers_mut().insert(answer::GENERATION, HeaderValue::from(generation));
    }
    response
}
