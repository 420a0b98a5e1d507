//! Connections to the worker that outlive their request, and what one connection is.
//!
//! Owns which are kept: idle ones of the newest worker that has answered, none of engines that do not speak the link, and
//! few. One that the worker has closed meanwhile is found out when it is taken, or by the request that fails on it
//! before any answer; [`super::leg`] then asks again on a fresh one.

use std::collections::VecDeque;
use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use hyper::body::{Body, Incoming};
use hyper::client::conn::http1::{self, SendRequest};
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;

use super::leg::{LegError, Parts};
use crate::link::endpoint::{Endpoint, Stream};
use crate::supervisor::Generation;

/// Idle connections kept: more than a worker decodes for together, and few enough for the descriptors set aside.
const KEPT: usize = 64;
/// Read buffer of one link connection, and so the largest frame of an answer.
const READ_BUFFER: usize = 64 << 10;

/// One connection to a worker. Dropping it closes the socket at once.
pub(super) struct Link {
    sender: SendRequest<Parts>,
    wire: Wire,
}

/// The connection's own future: it must be polled for anything to move. Polling it here, rather than in a task of its
/// own, saves a wake-up per event and makes dropping the link close the socket at once.
struct Wire(Option<Pin<Box<WorkerConnection>>>);

type WorkerConnection = http1::Connection<TokioIo<Stream>, Parts>;

impl Wire {
    fn poll(&mut self, cx: &mut Context<'_>) {
        if let Some(connection) = &mut self.0
            && connection.as_mut().poll(cx).is_ready()
        {
            self.0 = None;
        }
    }
}

impl Link {
    /// Connects.
    pub async fn connect(endpoint: &Endpoint) -> Result<Self, LegError> {
        let stream = endpoint.connect().await.map_err(LegError::Connect)?;
        let (sender, connection) =
            http1::Builder::new().max_buf_size(READ_BUFFER).handshake(TokioIo::new(stream)).await?;
        Ok(Self { sender, wire: Wire(Some(Box::pin(connection))) })
    }

    /// Sends a request and waits for the head of its answer.
    pub async fn ask(&mut self, request: Request<Parts>) -> hyper::Result<Response<Incoming>> {
        let answer = self.sender.send_request(request);
        drive(&mut self.wire, answer).await
    }

    /// Runs `future`, which depends on this connection.
    pub async fn drive<T>(&mut self, future: impl Future<Output = T>) -> T {
        drive(&mut self.wire, future).await
    }

    /// Moves what can be moved. A failure of the connection reaches whoever reads from it by itself.
    pub fn poll(&mut self, cx: &mut Context<'_>) {
        self.wire.poll(cx);
    }

    /// True while the next request may be sent: the last one is over, and the worker has not hung up.
    fn is_idle(&mut self) -> bool {
        // Nobody waits here; whoever uses the connection next polls it with a waker of its own.
        let mut cx = Context::from_waker(Waker::noop());
        self.wire.poll(&mut cx);
        self.wire.0.is_some() && matches!(self.sender.poll_ready(&mut cx), Poll::Ready(Ok(())))
    }
}

async fn drive<T>(wire: &mut Wire, future: impl Future<Output = T>) -> T {
    let mut future = pin!(future);
    poll_fn(|cx| {
        wire.poll(cx);
        future.as_mut().poll(cx)
    })
    .await
}

/// The idle ones.
#[derive(Default)]
pub(super) struct KeptLinks(Mutex<Kept>);

#[derive(Default)]
struct Kept {
    /// The newest worker that has answered.
    of: Option<Generation>,
    /// The one used last is at the back, and goes first.
    idle: VecDeque<Link>,
}

impl KeptLinks {
    /// A connection to this worker that can be used at once.
    pub fn take(&self, generation: Generation) -> Option<Link> {
        loop {
            let mut link = {
                let mut kept = self.lock();
                if kept.of != Some(generation) {
                    return None;
                }
                kept.idle.pop_back()?
            };
            if link.is_idle() {
                return Some(link);
            }
        }
    }

    /// Keeps a connection whose answer has been read, if `rest` holds nothing more and nobody needs the place.
    pub fn keep(&self, generation: Generation, mut link: Link, mut rest: Incoming) {
        let mut cx = Context::from_waker(Waker::noop());
        link.wire.poll(&mut cx);
        let at_end = matches!(Pin::new(&mut rest).poll_frame(&mut cx), Poll::Ready(None));
        if !at_end || !link.is_idle() {
            return;
        }
        let mut kept = self.lock();
        if kept.of < Some(generation) {
            kept.of = Some(generation);
            kept.idle.clear();
        }
        if kept.of == Some(generation) && kept.idle.len() < KEPT {
            kept.idle.push_back(link);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Kept> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
