//! One leg of a request: its connection to one worker, from the envelope to the last event.
//!
//! Owns sending and reading complete items; decides nothing about what they mean. Dropping a leg closes the socket, which
//! cancels the request inside the worker; only a leg that came to its end gives its connection to [`super::kept_links`].

use std::fmt;
use std::future::poll_fn;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body_util::{BodyExt, Limited};
use hyper::body::{Body, Frame, Incoming, SizeHint};
use hyper::header::HeaderValue;
use hyper::{Request, Response, StatusCode};

use super::kept_links::{KeptLinks, Link};
use crate::daemon::handle::Assignment;
use crate::link::events::{EventParser, Item};
use crate::supervisor::Generation;

/// Largest event: a plain answer of the longest context with log probabilities stays below it.
pub(super) const EVENT_LIMIT: usize = 8 << 20;
/// Largest error document read from a worker.
const ERROR_LIMIT: usize = 64 << 10;

/// Why a leg ended before its last event. The request goes on with the next worker.
#[derive(Debug, thiserror::Error)]
pub(super) enum LegError {
    /// Nobody listens where the worker should.
    #[error("connect: {0}")]
    Connect(#[source] std::io::Error),
    /// The connection broke.
    #[error("{0}")]
    Http(#[from] hyper::Error),
    /// The stream ended without its last event.
    #[error("the stream ended before its last event")]
    Ended,
}

/// A worker's answer to an envelope.
pub(super) enum Opened {
    /// Events follow.
    Events(Box<Leg>),
    /// It answered with an error at once.
    Error {
        /// HTTP status.
        status: u16,
        /// What it said.
        document: Bytes,
    },
}

/// A leg whose events are being read.
pub(super) struct Leg {
    link: Link,
    incoming: Incoming,
    parser: EventParser,
}

impl Leg {
    /// Sends the envelope to the worker, on a kept connection if there is one.
    pub async fn open(
        assignment: &Assignment,
        kept: &KeptLinks,
        path: &'static str,
        request_id: &str,
        parts: [Bytes; 3],
    ) -> Result<Opened, LegError> {
        let request = |parts| request(path, request_id, parts);
        if let Some(mut link) = kept.take(assignment.generation)
            // The worker may have closed it this very moment. What it answers follows from the envelope alone, so that
            // asking again does no harm.
            && let Ok(response) = link.ask(request(parts.clone())).await
        {
            return Ok(Self::opened(link, response).await);
        }
        let mut link = Link::connect(&assignment.endpoint).await?;
        let response = link.ask(request(parts)).await?;
        Ok(Self::opened(link, response).await)
    }

    async fn opened(mut link: Link, response: Response<Incoming>) -> Opened {
        let status = response.status();
        let incoming = response.into_body();
        if status == StatusCode::OK {
            return Opened::Events(Box::new(Self { link, incoming, parser: EventParser::new(EVENT_LIMIT) }));
        }
        let document = link.drive(Limited::new(incoming, ERROR_LIMIT).collect()).await;
        let document = document.map(|document| document.to_bytes()).unwrap_or_default();
        Opened::Error { status: status.as_u16(), document }
    }

    /// After the last event: the connection may serve another request.
    pub fn keep(self, kept: &KeptLinks, generation: Generation) {
        kept.keep(generation, self.link, self.incoming);
    }

    /// The next item that is already here.
    pub fn ready_item(&mut self) -> Option<Result<Item, crate::link::events::EventError>> {
        self.parser.next()
    }

    /// Waits for more items. Cancel-safe: what has been read is kept.
    pub async fn more(&mut self) -> Result<(), LegError> {
        let chunk = self.chunk().await?.ok_or(LegError::Ended)?;
        self.parser.feed(chunk);
        Ok(())
    }

    /// Waits for more bytes, past the parser; `None` at the answer's proper end. Cancel-safe.
    pub async fn chunk(&mut self) -> Result<Option<Bytes>, LegError> {
        poll_fn(|cx| self.poll_chunk(cx)).await
    }

    fn poll_chunk(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Bytes>, LegError>> {
        // What the connection still delivered comes before its failure, which the body reports too.
        self.link.poll(cx);
        loop {
            match ready!(Pin::new(&mut self.incoming).poll_frame(cx)) {
                None => return Poll::Ready(Ok(None)),
                Some(Err(error)) => return Poll::Ready(Err(error.into())),
                Some(Ok(frame)) => {
                    if let Ok(chunk) = frame.into_data() {
                        return Poll::Ready(Ok(Some(chunk)));
                    }
                }
            }
        }
    }
}

impl fmt::Debug for Leg {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Leg").field("parser", &self.parser).finish_non_exhaustive()
    }
}

fn request(path: &'static str, request_id: &str, parts: [Bytes; 3]) -> Request<Parts> {
    let mut request = Request::new(Parts { parts, next: 0 });
    *request.method_mut() = hyper::Method::POST;
    *request.uri_mut() = hyper::Uri::from_static(path);
    let headers = request.headers_mut();
    headers.insert(hyper::header::HOST, HeaderValue::from_static("worker"));
    headers.insert(hyper::header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    if let Ok(id) = HeaderValue::from_str(request_id) {
        headers.insert(super::answer::REQUEST_ID, id);
    }
    request
}

/// The envelope as a body of known length.
pub(super) struct Parts {
    parts: [Bytes; 3],
    next: usize,
}

impl Body for Parts {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        let next = self.next;
        self.next += 1;
        Poll::Ready(self.parts.get(next).cloned().map(|part| Ok(Frame::data(part))))
    }

    fn is_end_stream(&self) -> bool {
        self.next >= self.parts.len()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.parts.iter().skip(self.next).map(|part| part.len() as u64).sum())
    }
}
