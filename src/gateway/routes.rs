//! Which path and method leads where.
//!
//! Owns the table of routes and the order of the checks. Paths and headers of the worker link are unknown here on purpose.

use std::convert::Infallible;
use std::sync::Arc;

use hyper::body::{Body, Incoming};
use hyper::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE, HeaderValue};
use hyper::{Method, Request, Response, StatusCode};

use super::access::Peer;
use super::answer::{self, AnswerBody};
use super::flow::{Flow, Head, Origin};
use super::intake::{self, Asked, BodyLimits, Kind, Wishes};
use super::kept_links::KeptLinks;
use super::keys::{Access, Principal};
use super::record::OpenRecord;
use super::reply::Pulse;
use super::room::Room;
use super::session::{Admitted, Session};
use super::turns::{Turn, Turns};
use super::{GatewayContext, identity, readiness};
use crate::config::Config;
use crate::daemon::handle::{Class, Submission};
use crate::supervisor::{Code, Refusal};

/// The text format that [`Metrics`](crate::telemetry::Metrics) writes.
const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

enum Route<'a> {
    Health,
    Ready,
    Metrics,
    Models,
    Model(&'a str),
    Generate(Kind),
}

fn route(path: &str) -> Option<Route<'_>> {
    Some(match path {
        "/health" => Route::Health,
        "/ready" => Route::Ready,
        "/metrics" => Route::Metrics,
        "/v1/models" => Route::Models,
        "/v1/chat/completions" => Route::Generate(Kind::Chat),
        "/v1/completions" => Route::Generate(Kind::Completions),
        _ => Route::Model(path.strip_prefix("/v1/models/").filter(|name| !name.is_empty())?),
    })
}

impl Route<'_> {
    fn methods(&self) -> &'static str {
        match self {
            Self::Health | Self::Ready | Self::Metrics | Self::Models | Self::Model(_) => "GET, HEAD",
            Self::Generate(_) => "POST",
        }
    }

    fn allows(&self, method: &Method) -> bool {
        match self {
            Self::Health | Self::Ready | Self::Metrics | Self::Models | Self::Model(_) => {
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
    (room, links): (Arc<Room>, Arc<KeptLinks>),
    peer: Peer,
    turns: &Turns,
    request: Request<Incoming>,
) -> impl Future<Output = Result<Response<AnswerBody>, Infallible>> + Send + use<> {
    let turn = turns.begin(request.body().size_hint().exact());
    // Boxed: it goes from hand to hand, and each of them sets room for it aside until the answer begins.
    let request = Box::new(request);
    async move {
        let request_id = request
            .headers()
            .get(answer::REQUEST_ID)
            .and_then(|id| id.to_str().ok())
            .filter(|id| identity::is_well_formed(id))
            .map_or_else(identity::random_hex, str::to_owned);
        let response = answer_to(&context, (&room, &links), peer, &turn, &request_id, request).await;
        Ok(answer::finish(response, &request_id, turn))
    }
}

async fn answer_to(
    context: &GatewayContext,
    (room, links): (&Room, &Arc<KeptLinks>),
    peer: Peer,
    turn: &Turn,
    request_id: &str,
    request: Box<Request<Incoming>>,
) -> Response<AnswerBody> {
    let config = context.config.borrow().clone();
    let access = context.access.borrow().clone();
    let path = request.uri().path().to_owned();
    let let_in = let_in(context, &config, &access, peer, &path, &request);
    let (route, principal) = match let_in {
        Ok(let_in) => let_in,
        Err((refusal, route)) => {
            if let (Some(Route::Generate(_)), Code::InvalidApiKey) = (&route, refusal.code) {
                let mut record = OpenRecord::new(request_id.to_owned(), peer.name(), context.requests.clone());
                record.ended(refusal.code.status(), Some(refusal.code.as_str()));
            }
            let mut response = answer::refusal(&refusal);
            if let (Some(route), Code::MethodNotAllowed) = (&route, refusal.code) {
                response.headers_mut().insert(ALLOW, HeaderValue::from_static(route.methods()));
            }
            let (head, body) = request.into_parts();
            intake::discard(&head, body).await;
            turn.body_read();
            return response;
        }
    };
    match route {
        Route::Health => answer::json(StatusCode::OK, &b"{\"status\":\"ok\"}"[..]),
        Route::Ready => readiness::ready(&context.handle.status()),
        Route::Metrics => metrics(context),
        Route::Models => readiness::models(&context.handle.status(), &config, context.started),
        Route::Model(name) => readiness::model(name, &context.handle.status(), &config, context.started),
        Route::Generate(kind) => {
            let record = OpenRecord::new(request_id.to_owned(), principal.name.clone(), context.requests.clone());
            let at_door = AtDoor { context, config: &config, room, links, principal, turn };
            // Boxed: who waits in the queue has this behind it, and the answer is all there is to wait for.
            match Box::pin(begin(at_door, kind, record, *request)).await {
                Ok(flow) => answer_of(flow).await,
                Err(refusal) => answer::refusal(&refusal),
            }
        }
    }
}

/// Where a request leads and whose it is; or why it goes no further, with the route as far as it is known.
fn let_in<'p>(
    context: &GatewayContext,
    config: &Config,
    access: &Access,
    peer: Peer,
    path: &'p str,
    request: &Request<Incoming>,
) -> Result<(Route<'p>, Principal), (Refusal, Option<Route<'p>>)> {
    peer.check_browser(access, request).map_err(|refusal| (refusal, None))?;
    let Some(route) = route(path) else {
        let path: String = path.chars().take(80).collect();
        let message = format!("there is nothing at {path}; use /v1/chat/completions, /v1/completions or /v1/models");
        return Err((Refusal::new(Code::NotFound, message), None));
    };
    if !route.allows(request.method()) {
        let method: String = request.method().as_str().chars().take(20).collect();
        let message = format!("{path} does not take {method}; use {}", route.methods());
        return Err((Refusal::new(Code::MethodNotAllowed, message), Some(route)));
    }
    // Whoever watches over the daemon needs no key to see that it is there.
    if matches!(route, Route::Health) {
        return Ok((route, Principal::named(peer.name())));
    }
    match peer.authenticate(context, config, access, request.headers()) {
        Ok(principal) => Ok((route, principal)),
        Err(refusal) => Err((refusal, Some(route))),
    }
}

/// What a request that was let in comes with.
struct AtDoor<'a> {
    context: &'a GatewayContext,
    config: &'a Config,
    room: &'a Room,
    links: &'a Arc<KeptLinks>,
    principal: Principal,
    turn: &'a Turn,
}

fn metrics(context: &GatewayContext) -> Response<AnswerBody> {
    match context.metrics.text() {
        Ok(text) => {
            let mut response = answer::json(StatusCode::OK, text);
            response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(OPEN_METRICS));
            response
        }
        Err(_) => answer::refusal(&Refusal::new(Code::EngineError, "the metrics could not be written; try again")),
    }
}

/// Submits a request, as far as it is acceptable.
async fn begin(
    at_door: AtDoor<'_>,
    kind: Kind,
    mut record: OpenRecord,
    request: Request<Incoming>,
) -> Result<Flow, Refusal> {
    let (context, links) = (at_door.context, at_door.links.clone());
    let admitted = admit(at_door, &mut record, request).await;
    let (asked, body, pulse, submission) = match admitted {
        Ok(parts) => parts,
        Err(refusal) => {
            record.ended(refusal.code.status(), Some(refusal.code.as_str()));
            return Err(refusal);
        }
    };
    let ticket = context.handle.submit(submission);
    let admitted = Admitted { kind, asked, body, ticket, record, pulse, links };
    Ok(Flow::new(move |outlet| Box::new(Session::new(admitted, outlet)).run()))
}

/// Waits until the answer begins.
async fn answer_of(mut flow: Flow) -> Response<AnswerBody> {
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
    at_door: AtDoor<'_>,
    record: &mut OpenRecord,
    request: Request<Incoming>,
) -> Result<(Asked, bytes::Bytes, Pulse, Submission), Refusal> {
    let AtDoor { context, config, room, links: _, principal, turn } = at_door;
    let (head, body) = request.into_parts();
    let wishes = Wishes::from_headers(&head.headers);
    let limits = BodyLimits { max: config.listen.max_body, room: room.body(config.queue.max_bytes) };
    let body = intake::read_body(&head, body, limits).await?;
    turn.body_read();
    intake::check_encoding(&head.headers)?;
    let wishes = wishes?;
    let asked = Asked::from_body(&body)?;
    if let Some(model) = &asked.model {
        readiness::check_model(model, &context.handle.status(), config)?;
    }
    let client = wishes.client.or_else(|| asked.user.as_deref().and_then(identity::client_name));
    if let Some(client) = &client {
        record.facts.client = format!("{}/{client}", principal.name);
    }
    let class = principal.capped(wishes.class.or(asked.class).unwrap_or(Class::Normal));
    record.facts.class = class;
    // A client that counts the same time gives up first, and its SDK would try again: its answer must be quicker.
    let before_it_gives_up = wishes.read_timeout.map(|timeout| timeout - timeout / 10);
    let patience = wishes.timeout.or(if asked.stream { None } else { before_it_gives_up });
    let pulse = Pulse::new(asked.stream, &config.queue, wishes.read_timeout, record.arrived());
    let deadline = patience.map(|patience| (context.mono)() + patience);
    let max_active = principal.max_active;
    let body_bytes = body.len() as u64;
    let submission = Submission { principal: principal.name, client, class, body_bytes, deadline, max_active };
    Ok((asked, body, pulse, submission))
}

fn with_origin(mut response: Response<AnswerBody>, origin: Option<Origin>) -> Response<AnswerBody> {
    if let Some(Origin { queue_ms, generation }) = origin {
        response.headers_mut().insert(answer::QUEUE_MS, HeaderValue::from(queue_ms));
        response.headers_mut().insert(answer::GENERATION, HeaderValue::from(generation));
    }
    response
}
