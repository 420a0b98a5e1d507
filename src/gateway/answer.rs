//! What answers look like: bodies, error objects, headers that every answer carries.
//!
//! Owns shapes; decides nothing about when something is sent.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::{Body, Frame, SizeHint};
use hyper::header::{CONNECTION, CONTENT_TYPE, HeaderName, HeaderValue, RETRY_AFTER, WWW_AUTHENTICATE};
use hyper::{Response, StatusCode};
use mlxsup_worker_api::{ErrorBody, ErrorObject};

use super::flow::{Broken, Flow};
use super::turns::Turn;
use crate::supervisor::{Code, Refusal};

/// Header with the id of a request, accepted and returned.
pub(super) const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// Header that tells OpenAI SDKs whether to try again.
pub(super) const SHOULD_RETRY: HeaderName = HeaderName::from_static("x-should-retry");
/// Header with the wait for the first assignment, milliseconds.
pub(super) const QUEUE_MS: HeaderName = HeaderName::from_static("x-mlxsup-queue-ms");
/// Header with the generation of the worker that answers.
pub(super) const GENERATION: HeaderName = HeaderName::from_static("x-mlxsup-generation");

/// The body of every answer. Holds the connection's turn, so that dropping it lets the next request in.
#[derive(Debug)]
pub(super) struct AnswerBody {
    content: Content,
    turn: Option<Turn>,
}

#[derive(Debug)]
enum Content {
    Whole(Full<Bytes>),
    Flow(Box<Flow>),
}

impl AnswerBody {
    fn whole(bytes: Bytes) -> Self {
        Self { content: Content::Whole(Full::new(bytes)), turn: None }
    }

    /// A body that is produced while it is sent.
    pub fn flow(flow: Flow) -> Self {
        Self { content: Content::Flow(Box::new(flow)), turn: None }
    }
}

impl Body for AnswerBody {
    type Data = Bytes;
    type Error = Broken;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Broken>>> {
        let this = self.get_mut();
        match &mut this.content {
            Content::Whole(full) => Pin::new(full).poll_frame(cx).map_err(|never: Infallible| match never {}),
            Content::Flow(flow) => flow.poll_frame(this.turn.as_ref(), cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.content {
            Content::Whole(full) => full.is_end_stream(),
            Content::Flow(_) => false,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.content {
            Content::Whole(full) => Body::size_hint(full),
            Content::Flow(_) => SizeHint::default(),
        }
    }
}

/// A JSON answer.
pub(super) fn json(status: StatusCode, content: impl Into<Bytes>) -> Response<AnswerBody> {
    let mut response = Response::new(AnswerBody::whole(content.into()));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

/// The answer to a request that ends with `refusal`.
pub(super) fn refusal(refusal: &Refusal) -> Response<AnswerBody> {
    let status = StatusCode::from_u16(refusal.code.status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let mut response = json(status, error_json(&error_object(refusal)));
    match refusal.retry_after {
        Some(after) => {
            response.headers_mut().insert(RETRY_AFTER, HeaderValue::from(whole_seconds(after)));
        }
        None => no_retry(&mut response),
    }
    if response.status() == StatusCode::UNAUTHORIZED {
        response.headers_mut().insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
    }
    response
}

/// As `Retry-After` counts.
fn whole_seconds(after: Duration) -> u64 {
    (after.as_secs() + u64::from(after.subsec_nanos() > 0)).max(1)
}

/// Tells the OpenAI SDKs not to try again.
pub(super) fn no_retry(response: &mut Response<AnswerBody>) {
    response.headers_mut().insert(SHOULD_RETRY, HeaderValue::from_static("false"));
}

/// A whole answer as bytes, for a connection on which no HTTP library answers. It closes the connection.
pub(super) fn bare(refusal: &Refusal) -> Bytes {
    let body = error_json(&error_object(refusal));
    let status = StatusCode::from_u16(refusal.code.status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let retry = match refusal.retry_after {
        Some(after) => format!("retry-after: {}", whole_seconds(after)),
        None => "x-should-retry: false".to_owned(),
    };
    let mut answer = format!(
        "HTTP/1.1 {} {}\r\nconnection: close\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\
         x-request-id: {}\r\n{retry}\r\n\r\n",
        status.as_u16(),
        status.canonical_reason().unwrap_or("Error"),
        body.len(),
        super::identity::random_hex(),
    )
    .into_bytes();
    answer.extend_from_slice(&body);
    answer.into()
}

/// Completes an answer: the request's id, the turn, and the end of the connection where it may not be used again.
pub(super) fn finish(mut response: Response<AnswerBody>, request_id: &str, turn: Turn) -> Response<AnswerBody> {
    if let Ok(value) = HeaderValue::from_str(request_id) {
        response.headers_mut().insert(REQUEST_ID, value);
    }
    if turn.must_close() {
        response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    }
    response.body_mut().turn = Some(turn);
    response
}

/// The error object of a refusal.
pub(super) fn error_object(refusal: &Refusal) -> ErrorObject {
    ErrorObject {
        error: ErrorBody {
            message: refusal.message.clone(),
            kind: kind(refusal.code).to_owned(),
            param: refusal.param.clone(),
            code: Some(refusal.code.as_str().to_owned()),
        },
    }
}

/// An error object as JSON.
pub(super) fn error_json(object: &ErrorObject) -> Bytes {
    // Strings and options always serialise; an empty object is still JSON.
    serde_json::to_vec(object).unwrap_or_else(|_| b"{}".to_vec()).into()
}

/// The `type` that OpenAI's clients know, by status.
fn kind(code: Code) -> &'static str {
    match code.status() {
        401 => "authentication_error",
        403 => "permission_error",
        429 => "rate_limit_error",
        400..500 => "invalid_request_error",
        _ => "server_error",
    }
}
