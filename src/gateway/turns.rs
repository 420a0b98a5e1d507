//! Whose turn it is on a connection: what the service tells the stream under it, and the other way round.
//!
//! Owns the state that both share. Reads and writes nothing.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use bytes::BytesMut;

/// Where the conversation stands, as far as reading is concerned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    /// Reading a head.
    Head,
    /// Reading a body of which so many bytes are missing.
    Body(u64),
    /// Reading a chunked body, whose end only hyper sees.
    OpenBody,
    /// The request is complete: nothing but a hang-up is expected.
    Busy,
}

#[derive(Debug)]
pub(super) struct Shared {
    /// What is read now.
    pub phase: Phase,
    /// Read from the socket, not yet given to hyper.
    pub held: BytesMut,
    /// The client sent more than its request, so the connection must not be used again.
    pub surplus: bool,
    /// The connection ends as soon as nothing is under way on it.
    pub leaving: bool,
    /// Who waits for the hang-up: hyper reads on by itself only when the socket has something, and the time until the
    /// next request would never begin to run.
    pub reader: Option<Waker>,
    /// Counts the moments at which everything hyper had buffered was with the kernel.
    pub flushes: u64,
    /// Who waits for the next of them.
    pub flushed: Option<Waker>,
}

/// The side of a connection that the service sees. Cheap to clone.
#[derive(Debug, Clone)]
pub(super) struct Turns(Arc<Mutex<Shared>>);

/// One request's turn: begins with its head, ends when its answer (or the whole connection) is dropped.
#[derive(Debug)]
pub(super) struct Turn {
    turns: Turns,
    chunked: bool,
}

impl Turns {
    /// A connection of which nothing has been read.
    pub fn new() -> Self {
        let shared = Shared {
            phase: Phase::Head,
            held: BytesMut::new(),
            surplus: false,
            leaving: false,
            reader: None,
            flushes: 0,
            flushed: None,
        };
        Self(Arc::new(Mutex::new(shared)))
    }

    /// For the connection itself; never held across a poll of the socket.
    pub fn lock(&self) -> MutexGuard<'_, Shared> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Has the connection end with the answer under way, at once if there is none; or takes that back. To be followed by
    /// a poll of the connection.
    pub fn leave(&self, leaving: bool) {
        self.lock().leaving = leaving;
    }

    /// Begins a turn. `body` is the announced length, `None` for a chunked body.
    pub fn begin(&self, body: Option<u64>) -> Turn {
        let mut shared = self.lock();
        shared.phase = match body {
            Some(0) => Phase::Busy,
            Some(length) => Phase::Body(length),
            None => Phase::OpenBody,
        };
        let held = shared.held.len() as u64;
        shared.surplus |= body.is_some_and(|length| held > length);
        drop(shared);
        Turn { turns: self.clone(), chunked: body.is_none() }
    }
}

impl Turn {
    /// The whole body has been read.
    pub fn body_read(&self) {
        self.turns.lock().phase = Phase::Busy;
    }

    /// True when the connection must close after this answer. A chunked body's end may have come together with
    /// surplus bytes that nobody can see any more, so it closes as well.
    pub fn must_close(&self) -> bool {
        let shared = self.turns.lock();
        self.chunked || shared.surplus || shared.leaving
    }

    /// Number of flushes so far, for [`Self::poll_flushed`].
    pub fn flushes(&self) -> u64 {
        self.turns.lock().flushes
    }

    /// Ready once everything handed to hyper has reached the kernel after `since`.
    pub fn poll_flushed(&self, since: u64, cx: &mut Context<'_>) -> Poll<()> {
        let mut shared = self.turns.lock();
        if shared.flushes > since {
            return Poll::Ready(());
        }
        shared.flushed = Some(cx.waker().clone());
        Poll::Pending
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        let mut shared = self.turns.lock();
        shared.phase = Phase::Head;
        let reader = shared.reader.take();
        drop(shared);
        if let Some(reader) = reader {
            reader.wake();
        }
    }
}
