//! The bounded way from a session to its answer's body.
//!
//! The body drives the session: a session makes progress only while hyper wants more to write, so a slow client slows
//! the reading of the worker link, and at most [`CAPACITY`] frames wait here. Dropping the body drops the session, and
//! with it the link and the ticket: that is how a hang-up cancels.

use std::collections::VecDeque;
use std::fmt;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use hyper::body::Frame;
use mlxsup_worker_api::ErrorObject;
use tokio::time::Sleep;

use super::turns::Turn;
use crate::supervisor::Refusal;

/// Frames between a session and its body. One frame is at most what one read from the link brought.
const CAPACITY: usize = 4;

/// What a session puts out.
#[derive(Debug)]
pub(super) enum Output {
    /// How the answer begins. Always first, exactly once.
    Head(Head),
    /// More of the body.
    Data(Bytes),
    /// The answer ends without its final chunk, so that nobody takes it for complete.
    Break,
}

/// The beginning of an answer.
#[derive(Debug)]
pub(super) enum Head {
    /// All of it: a plain answer. Nothing follows.
    Whole {
        /// JSON.
        body: Bytes,
        /// Where it came from.
        origin: Option<Origin>,
    },
    /// Refused by the daemon. Nothing follows.
    Refused(Refusal),
    /// The worker's own error, with the status that goes with it. Nothing follows.
    Passed {
        /// HTTP status.
        status: u16,
        /// As the worker gave it.
        object: ErrorObject,
    },
    /// Status 200, then data.
    Open {
        /// `text/event-stream` or JSON.
        stream: bool,
        /// Where it comes from, when a worker has begun to answer.
        origin: Option<Origin>,
    },
}

/// Headers about how a request was served.
#[derive(Debug, Clone, Copy)]
pub(super) struct Origin {
    /// Wait for the first assignment, milliseconds.
    pub queue_ms: u64,
    /// The worker.
    pub generation: u64,
}

/// What waits between the two ends. It needs no wakers: the body polls the session only when nothing waits, so a session
/// that found no room is polled again once there is some. And a queued request allocates nothing here.
#[derive(Debug, Default, Clone)]
struct Outputs(Arc<Mutex<VecDeque<Output>>>);

impl Outputs {
    fn lock(&self) -> MutexGuard<'_, VecDeque<Output>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The session's end.
#[derive(Debug)]
pub(super) struct Outlet(Outputs);

impl Outlet {
    /// Hands over one output; waits while the client is slow. A body that is gone has dropped this future already.
    pub async fn put(&self, output: Output) {
        self.put_after(output, || ()).await;
    }

    /// Waits until there is room, runs `before`, then hands over: for accounting that must not be lost when the
    /// client hangs up the moment it has the last byte.
    pub async fn put_after(&self, output: Output, before: impl FnOnce()) {
        poll_fn(|_| if self.0.lock().len() < CAPACITY { Poll::Ready(()) } else { Poll::Pending }).await;
        before();
        self.0.lock().push_back(output);
    }
}

type Session = Pin<Box<dyn Future<Output = ()> + Send>>;

/// The body's end; owns the session.
pub(super) struct Flow {
    session: Option<Session>,
    outputs: Outputs,
    /// Set while a break waits for what came before it to be read.
    breaking: Option<Breaking>,
}

/// A break on its way: first what came before it is flushed, then the client gets time to read it.
enum Breaking {
    /// Flushes before it.
    Flushing(u64),
    /// Flushed.
    Reading(Pin<Box<Sleep>>),
}

/// Between the last words of a broken answer and the break. Some clients (fetch of Node among them) drop what they have not
/// read when a connection breaks, and with it the error that says why.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// The body error that makes hyper leave out the final chunk.
#[derive(Debug, thiserror::Error)]
#[error("the answer was broken off on purpose, after its error was written")]
pub(super) struct Broken;

impl fmt::Debug for Flow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Flow").field("ended", &self.session.is_none()).finish_non_exhaustive()
    }
}

impl Flow {
    /// Builds a session around its outlet.
    pub fn new<F>(session: impl FnOnce(Outlet) -> F) -> Self
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let outputs = Outputs::default();
        Self { session: Some(Box::pin(session(Outlet(outputs.clone())))), outputs, breaking: None }
    }

    /// Runs the session until it has put something out; `None` when it ended.
    fn poll_output(&mut self, cx: &mut Context<'_>) -> Poll<Option<Output>> {
        loop {
            let waiting = self.outputs.lock().pop_front();
            if let Some(output) = waiting {
                return Poll::Ready(Some(output));
            }
            let Some(session) = &mut self.session else { return Poll::Ready(None) };
            if session.as_mut().poll(cx).is_ready() {
                self.session = None;
            } else if self.outputs.lock().is_empty() {
                return Poll::Pending;
            }
        }
    }

    /// How the answer begins. Cancel-safe; `None` only if the session ended without a word.
    pub async fn head(&mut self) -> Option<Head> {
        match std::future::poll_fn(|cx| self.poll_output(cx)).await {
            Some(Output::Head(head)) => Some(head),
            Some(Output::Data(_) | Output::Break) | None => None,
        }
    }

    /// The next frame of the body.
    pub fn poll_frame(
        &mut self,
        turn: Option<&Turn>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Broken>>> {
        loop {
            match &mut self.breaking {
                // hyper forgets what it has buffered when a body fails, and that is the client's error message.
                Some(Breaking::Flushing(since)) => {
                    if let Some(turn) = turn {
                        ready!(turn.poll_flushed(*since, cx));
                    }
                    self.breaking = Some(Breaking::Reading(Box::pin(tokio::time::sleep(LAST_WORDS))));
                    continue;
                }
                Some(Breaking::Reading(time)) => {
                    ready!(time.as_mut().poll(cx));
                    return Poll::Ready(Some(Err(Broken)));
                }
                None => {}
            }
            match ready!(self.poll_output(cx)) {
                Some(Output::Data(data)) => return Poll::Ready(Some(Ok(Frame::data(data)))),
                Some(Output::Break) => {
                    self.breaking = Some(Breaking::Flushing(turn.map_or(0, Turn::flushes)));
                }
                Some(Output::Head(_)) => {}
                None => return Poll::Ready(None),
            }
        }
    }
}
