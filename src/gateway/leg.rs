//! One leg of a request: its connection to one worker, from the envelope to the last event.
//!
//! Owns connecting, sending and reading complete items; decides nothing about what they mean. Dropping a leg closes the
//! socket, which cancels the request inside the worker.

use std::fmt;
use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body_util::{BodyExt, Limited};
use hyper::body::{Body, Frame, Incoming, SizeHint};
use hyper::client::conn::http1;
use hyper::{Request, StatusCode};
use hyper_util::rt::TokioIo;

use crate::daemon::handle::Assignment;
use crate::link::endpoint::Stream;
use crate::link::events::{EventParser, Item};

/// Largest event: a plain answer of the longest context with log probabilities stays below it.
pub(super) const EVENT_LIMIT: usize = 8 << 20;
/// Read buffer of one link connection, and so the largest frame of an answer.
const READ_BUFFER: usize = 64 << 10;
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
    Events(Leg),
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
    wire: Wire,
    incoming: Incoming,
    parser: EventParser,
}

/// The connection's own future: it must be polled for anything to move. Polling it here, rather than in a task of its
/// own, saves a wake-up per event and makes dropping the leg close the socket at once.
struct Wire(Option<Pin<Box<WorkerConnection>>>);

type WorkerConnection = http1::Connection<TokioIo<Stream>, Parts>;

impl Wire {
    fn poll(&mut self, cx: &mut Context<'_>) -> hyper::Result<()> {
        if let Some(connection) = &mut self.0
            && let Poll::Ready(result) = connection.as_mut().poll(cx)
        {
            self.0 = None;
            return result;
        }
        Ok(())
    }

    /// Runs `future`, which depends on this connection.
    async fn drive<T>(&mut self, future: impl Future<Output = T>) -> T {
        let mut future = pin!(future);
        poll_fn(|cx| {
            // The failure of the connection reaches the future by itself.
            let _ = self.poll(cx);
            future.as_mut().poll(cx)
        })
        .await
    }
}

impl Leg {
    /// Connects to the worker and sends the envelope.
    pub async fn open(
        assignment: &Assignment,
        path: &'static str,
        request_id: &str,
        parts: [Bytes; 3],
    ) -> Result<Opened, LegError> {
        let stream = assignment.endpoint.connect().await.map_err(LegError::Connect)?;
        let (mut sender, connection) =
            http1::Builder::new().max_buf_size(READ_BUFFER).handshake(TokioIo::new(stream)).await?;
        let mut wire = Wire(Some(Box::pin(connection)));
        let mut request = Request::new(Parts { parts, next: 0 });
        *request.method_mut() = hyper::Method::POST;
        *request.uri_mut() = hyper::Uri::from_static(path);
        let headers = request.headers_mut();
        headers.insert(hyper::header::HOST, hyper::header::HeaderValue::from_static("worker"));
        headers.insert(hyper::header::CONTENT_TYPE, hyper::header::HeaderValue::from_static("application/json"));
        if let Ok(id) = hyper::header::HeaderValue::from_str(request_id) {
            headers.insert(super::answer::REQUEST_ID, id);
        }
        let response = wire.drive(sender.send_request(request)).await?;
        let status = response.status();
        let incoming = response.into_body();
        if status == StatusCode::OK {
            return Ok(Opened::Events(Self { wire, incoming, parser: EventParser::new(EVENT_LIMIT) }));
        }
        let document = wire.drive(Limited::new(incoming, ERROR_LIMIT).collect()).await;
        let document = document.map(|document| document.to_bytes()).unwrap_or_default();
        Ok(Opened::Error { status: status.as_u16(), document })
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
        let _ = self.wire.poll(cx);
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

/// The envelope as a body of known length.
struct Parts {
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
