//! HTTP responses: one document, or an event stream.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use hyper::body::{Body, Frame, SizeHint};
use hyper::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderValue};
use hyper::{Response, StatusCode};
use serde::Serialize;

use crate::openai::Refusal;

use super::event_stream::EventStream;

/// The body of every response.
pub(super) enum Reply {
    Document(Option<Bytes>),
    Events(Box<EventStream>),
}

/// 200 with a document.
pub(super) fn json(document: &impl Serialize) -> Response<Reply> {
    // The link's types are numbers, strings and options of them: they always serialise.
    text(serde_json::to_string(document).unwrap_or_default())
}

/// 200 with a document that is already written down.
pub(super) fn text(document: String) -> Response<Reply> {
    with(StatusCode::OK, "application/json", Reply::Document(Some(document.into())))
}

/// A failure before anything was sent.
pub(super) fn refused(refusal: &Refusal) -> Response<Reply> {
    let status = StatusCode::from_u16(refusal.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    with(status, "application/json", Reply::Document(Some(refusal.to_json().into())))
}

/// 200 with events to come.
pub(super) fn events(stream: EventStream) -> Response<Reply> {
    let mut response = with(StatusCode::OK, "text/event-stream", Reply::Events(Box::new(stream)));
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    response
}

fn with(status: StatusCode, content_type: &'static str, reply: Reply) -> Response<Reply> {
    let mut response = Response::new(reply);
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}

impl Body for Reply {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        match self.get_mut() {
            Self::Document(document) => Poll::Ready(document.take().map(|bytes| Ok(Frame::data(bytes)))),
            Self::Events(stream) => Pin::new(stream.as_mut()).poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        matches!(self, Self::Document(None))
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Document(document) => SizeHint::with_exact(document.as_ref().map_or(0, |bytes| bytes.len() as u64)),
            Self::Events(_) => SizeHint::default(),
        }
    }
}
