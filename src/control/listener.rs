//! The control socket's HTTP: routes, JSON in and out. Only our own uid may speak.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::{Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use chrono::DateTime;
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::{Frame, Incoming};
use hyper::service::service_fn;
use hyper::{Method, Request as HttpRequest, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use mlxsup_worker_api::{ErrorBody, ErrorObject};
use serde::Serialize;
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::oneshot;
use tokio::task::JoinSet;

use super::past::{self, PastError};
use super::verbs::{self, Control};
use super::view::{ClientView, EventView, ScheduleView, Status, VerbOptions};
use crate::daemon::clock::{rfc3339, wall};
use crate::daemon::door::{Door, Doorway};
use crate::daemon::driver::Request;
use crate::supervisor::Wall;

type Body = BoxBody<Bytes, Infallible>;

/// Lines a follower may lag behind before the ring's own lag counts.
const FOLLOWED_LINES: usize = 8;

/// Largest body of a verb; its options are a few dozen bytes.
const BODY_LIMIT_BYTES: usize = 64 << 10;

/// Firings listed per schedule at most.
const MOST_FIRINGS: usize = 1000;

/// For the headers of one request.
const HEADER_TIMEOUT: Duration = Duration::from_secs(10);

/// Pause after a failed `accept`: out of descriptors, most likely, and a tight loop would not free any.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// After the door was closed, for answers that are already on their way: who asked for the stop is told that it came.
const LAST_ANSWERS: Duration = Duration::from_secs(2);

/// Serves until the door is closed and the last answers are given. Held, it takes no connections. Dropping it cuts every
/// connection off.
pub async fn serve(listener: UnixListener, control: Control, mut doorway: Doorway) {
    let mut connections = JoinSet::new();
    let mut accepting = None;
    loop {
        match doorway.state() {
            Door::Open if accepting.is_none() => accepting = Some(doorway.enter()),
            Door::Open => {}
            Door::Held => accepting = None,
            Door::Closed => break,
        }
        tokio::select! {
            biased;
            () = doorway.changed() => {}
            Some(_) = connections.join_next(), if !connections.is_empty() => {}
            accepted = listener.accept(), if accepting.is_some() => match accepted {
                Ok((stream, _)) => {
                    connections.spawn(connection(stream, control.clone(), doorway.clone()));
                }
                Err(error) => {
                    tracing::warn!(%error, "control socket: accept failed");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            },
        }
    }
    drop(listener);
    let all = async { while connections.join_next().await.is_some() {} };
    if tokio::time::timeout(LAST_ANSWERS, all).await.is_err() {
        tracing::debug!("a control connection is cut off");
    }
}

/// A guest stands for an answer that is due soon; whoever waits for an outcome, or follows, is no reason to wait.
async fn connection(stream: UnixStream, control: Control, mut doorway: Doorway) {
    let guest = doorway.enter();
    let us = nix::unistd::geteuid().as_raw();
    match stream.peer_cred() {
        Ok(peer) if may_steer(peer.uid(), us) => {}
        Ok(peer) => {
            tracing::warn!(uid = peer.uid(), "control socket: refused a foreign uid");
            return;
        }
        Err(error) => {
            tracing::warn!(%error, "control socket: no peer credentials");
            return;
        }
    }
    let guest = Mutex::new(Some(guest));
    let service = service_fn(move |request: HttpRequest<Incoming>| {
        let control = control.clone();
        if request.method() != Method::GET || request.uri().query().is_some_and(|query| query.contains("follow=true")) {
            guest.lock().unwrap_or_else(PoisonError::into_inner).take();
        }
        async move { Ok::<_, Infallible>(answer(request, control).await) }
    });
    let mut http = std::pin::pin!(
        hyper::server::conn::http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(HEADER_TIMEOUT)
            .serve_connection(TokioIo::new(stream), service)
    );
    let served = loop {
        tokio::select! {
            served = http.as_mut() => break served,
            // Whoever keeps a connection for the next question does not hold up another image either.
            () = doorway.changed() => if doorway.state() != Door::Open {
                http.as_mut().graceful_shutdown();
                break http.await;
            },
        }
    };
    if let Err(error) = served {
        tracing::debug!(%error, "control connection ended");
    }
}

/// The owner and root; `listen.allow_uids` is for clients.
const fn may_steer(peer: u32, owner: u32) -> bool {
    peer == owner || peer == 0
}

async fn answer(request: HttpRequest<Incoming>, control: Control) -> Response<Body> {
    let path = request.uri().path().to_owned();
    let method = request.method().clone();
    let Some(verb) = path.strip_prefix("/v1/").map(str::to_owned) else {
        return error(StatusCode::NOT_FOUND, "not_found", &format!("there is no {path}; try /v1/status"));
    };
    match method {
        Method::GET => get(&verb, request.uri().query().unwrap_or_default(), &control).await,
        Method::POST => {
            let body = match Limited::new(request.into_body(), BODY_LIMIT_BYTES).collect().await {
                Ok(body) => body.to_bytes(),
                Err(problem) => return error(StatusCode::BAD_REQUEST, "invalid_value", &problem.to_string()),
            };
            let options = if body.is_empty() {
                VerbOptions::default()
            } else {
                match serde_json::from_slice(&body) {
                    Ok(options) => options,
                    Err(problem) => {
                        let message = format!("the options of {verb} cannot be read: {problem}");
                        return error(StatusCode::BAD_REQUEST, "invalid_value", &message);
                    }
                }
            };
            match verbs::run(&verb, options, &control).await {
                Ok(reply) => json(StatusCode::OK, &reply),
                Err(verbs::VerbError::Unknown(verb)) => {
                    error(StatusCode::NOT_FOUND, "not_found", &format!("there is no verb `{verb}`"))
                }
                Err(verbs::VerbError::Options(problem)) => error(StatusCode::BAD_REQUEST, "invalid_value", &problem),
                Err(verbs::VerbError::Gone) => gone(),
            }
        }
        _ => error(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", "facts are GET, verbs are POST"),
    }
}

async fn get(what: &str, query: &str, control: &Control) -> Response<Body> {
    match what {
        "events" => match events(control, query).await {
            Ok(Some(body)) => respond(StatusCode::OK, "application/x-ndjson", body),
            Ok(None) => gone(),
            Err(problem) => error(StatusCode::BAD_REQUEST, "invalid_value", &problem),
        },
        "history" => match past::history(&control.history, |name| parameter(query, name)).await {
            Ok(history) => json(StatusCode::OK, &history),
            Err(PastError::Question(problem)) => error(StatusCode::BAD_REQUEST, "invalid_value", &problem),
            Err(PastError::File(problem)) => {
                error(StatusCode::INTERNAL_SERVER_ERROR, "engine_error", &problem.to_string())
            }
        },
        "clients" => match clients(control).await {
            Some(clients) => json(StatusCode::OK, &clients),
            None => gone(),
        },
        "status" | "rules" | "schedule" => match status(control).await {
            Some(status) if what == "rules" => json(StatusCode::OK, &status.rules),
            Some(status) if what == "schedule" => json(StatusCode::OK, &upcoming(status.schedules, query, control)),
            Some(status) => json(StatusCode::OK, &status),
            None => gone(),
        },
        other => error(StatusCode::NOT_FOUND, "not_found", &format!("there is no fact `{other}`")),
    }
}

/// Schedules with their next N firings where `next=N` asks for them.
fn upcoming(mut schedules: Vec<ScheduleView>, query: &str, control: &Control) -> Vec<ScheduleView> {
    let Some(number) = parameter(query, "next").and_then(|number| number.parse().ok()) else { return schedules };
    let config = control.config.borrow().clone();
    for (view, schedule) in schedules.iter_mut().zip(&config.schedules) {
        let firings = std::iter::successors(schedule.when.next_after(wall()), |at| schedule.when.next_after(*at));
        view.upcoming = firings.take(MOST_FIRINGS.min(number)).map(rfc3339).collect();
    }
    schedules
}

/// The status of this moment; `None` when the daemon is going down.
pub(super) async fn status(control: &Control) -> Option<Status> {
    let (reply, answer) = oneshot::channel();
    control.requests.send(Request::Status { reply }).await.ok()?;
    answer.await.ok()
}

async fn clients(control: &Control) -> Option<Vec<ClientView>> {
    let (reply, answer) = oneshot::channel();
    control.requests.send(Request::Clients { reply }).await.ok()?;
    answer.await.ok()
}

/// One event per line, oldest first: the last `limit=N`, or those from `since=INSTANT` on, and with `follow=true` those to
/// come until the caller leaves. What the journal has forgotten comes from the history.
async fn events(control: &Control, query: &str) -> Result<Option<Body>, String> {
    let since = parameter(query, "since").map(|text| past::instant(text, wall())).transpose()?;
    let limit: Option<usize> = parameter(query, "limit").and_then(|number| number.parse().ok());
    let (reply, answer) = oneshot::channel();
    if control.requests.send(Request::Events { reply }).await.is_err() {
        return Ok(None);
    }
    let Ok((mut past, mut coming)) = answer.await else { return Ok(None) };
    let begins = past.first().and_then(instant_of).unwrap_or_else(wall);
    let wanted = limit.unwrap_or(if since.is_some() { usize::MAX } else { past.len() });
    if wanted > past.len() && since.is_none_or(|since| since < begins) {
        let mut older = past::events(&control.history, since, begins, wanted - past.len()).await;
        older.append(&mut past);
        past = older;
    }
    past.retain(|event| since.is_none_or(|since| instant_of(event).is_none_or(|at| at >= since)));
    let past: Vec<u8> = past[past.len().saturating_sub(wanted)..].iter().flat_map(line).collect();
    if parameter(query, "follow") != Some("true") {
        return Ok(Some(whole(past)));
    }
    let (lines, body) = tokio::sync::mpsc::channel(FOLLOWED_LINES);
    tokio::spawn(async move {
        let mut next = past;
        while lines.send(Ok(Frame::data(Bytes::from(next)))).await.is_ok() {
            next = tokio::select! {
                event = coming.recv() => match event {
                    Ok(event) => line(&event),
                    // A reader this slow has missed some; the ring still holds them for the next call.
                    Err(RecvError::Lagged(_)) => Vec::new(),
                    Err(RecvError::Closed) => return,
                },
                () = lines.closed() => return,
            };
        }
    });
    Ok(Some(Lines { lines: body }.boxed()))
}

fn instant_of(event: &EventView) -> Option<Wall> {
    let at = DateTime::parse_from_rfc3339(&event.at).ok()?.timestamp_millis();
    u64::try_from(at).ok().map(Wall)
}

fn line(event: &EventView) -> Vec<u8> {
    let mut line = serde_json::to_vec(event).unwrap_or_default();
    line.push(b'\n');
    line
}

fn parameter<'a>(query: &'a str, name: &str) -> Option<&'a str> {
    query.split('&').find_map(|pair| pair.split_once('=').filter(|(key, _)| *key == name).map(|(_, value)| value))
}

fn json(status: StatusCode, value: &impl Serialize) -> Response<Body> {
    match serde_json::to_vec(value) {
        Ok(body) => respond(status, "application/json", whole(body)),
        Err(problem) => error(StatusCode::INTERNAL_SERVER_ERROR, "engine_error", &problem.to_string()),
    }
}

fn error(status: StatusCode, code: &str, message: &str) -> Response<Body> {
    let object = ErrorObject {
        error: ErrorBody {
            message: message.to_owned(),
            kind: "control_error".to_owned(),
            param: None,
            code: Some(code.to_owned()),
        },
    };
    respond(status, "application/json", whole(serde_json::to_vec(&object).unwrap_or_default()))
}

fn gone() -> Response<Body> {
    error(StatusCode::SERVICE_UNAVAILABLE, "stopping", "the daemon is going down")
}

fn whole(bytes: Vec<u8>) -> Body {
    Full::new(Bytes::from(bytes)).boxed()
}

fn respond(status: StatusCode, kind: &'static str, body: Body) -> Response<Body> {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    response.headers_mut().insert(hyper::header::CONTENT_TYPE, hyper::header::HeaderValue::from_static(kind));
    response
}

/// A body that grows as lines come.
struct Lines {
    lines: tokio::sync::mpsc::Receiver<Result<Frame<Bytes>, Infallible>>,
}

impl hyper::body::Body for Lines {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        self.lines.poll_recv(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_owner_and_root_steer_and_nobody_else() {
        assert!(may_steer(501, 501) && may_steer(0, 501) && may_steer(0, 0));
        assert!(!may_steer(502, 501) && !may_steer(501, 0));
    }
}
