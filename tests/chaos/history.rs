//! What clients saw, in the order in which they saw it, and what workers were given.

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::Instant;

/// Which request: a number of the whole run.
pub type Id = u64;

/// One thing a client saw.
#[derive(Debug, Clone)]
pub enum Event {
    Invoked { id: Id, at: Instant, asked: Asked },
    FirstByte { id: Id, at: Instant },
    Ended { id: Id, at: Instant, seen: Seen },
}

/// What was wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Asked {
    pub stream: bool,
    pub chat: bool,
    pub tokens: u32,
    pub choices: u32,
}

/// What came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    pub outcome: Outcome,
    /// Text of each choice, as a client puts it together that trusts every event.
    pub texts: Vec<String>,
    /// Distinct identities (id, created, seed) of the pieces; more than one is two answers in one.
    pub identities: Vec<String>,
    /// When the last piece of it came.
    pub last_piece: Option<Instant>,
}

/// How it ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// With its terminator: `[DONE]` and the final chunk, or all announced bytes.
    Complete,
    /// With an error object, before or after bytes of the answer.
    Error { status: u16, code: String },
    /// The connection broke before any terminator.
    Cut,
    /// Cleanly as HTTP has it, without the stream's own terminator.
    Unterminated,
    /// Nobody took the connection.
    Refused { why: String },
    /// Nothing for so long that the client gave up.
    Silent,
    /// Bytes that make no sense.
    Garbled { why: String },
}

/// One generation as a worker took it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dispatch {
    pub generation: u64,
    pub answer: String,
    pub replayed: u64,
}

/// The shared record.
#[derive(Debug, Default)]
pub struct History {
    events: Mutex<Vec<Event>>,
    answered: AtomicUsize,
}

impl History {
    pub fn add(&self, event: Event) {
        if matches!(&event, Event::Ended { seen, .. } if seen.outcome == Outcome::Complete) {
            self.answered.fetch_add(1, Relaxed);
        }
        self.events.lock().unwrap().push(event);
    }

    pub fn events(&self) -> Vec<Event> {
        self.events.lock().unwrap().clone()
    }

    /// Whole answers.
    pub fn answered(&self) -> usize {
        self.answered.load(Relaxed)
    }
}

/// The workers' lines, `GENERATION ID TOKENS-REPLAYED`.
pub fn dispatches(text: &str) -> Vec<Dispatch> {
    text.lines()
        .filter_map(|line| {
            let mut words = line.split(' ');
            Some(Dispatch {
                generation: words.next()?.parse().ok()?,
                answer: words.next()?.to_owned(),
                replayed: words.next()?.parse().ok()?,
            })
        })
        .collect()
}
