//! Answers of engines that do not speak the link: they pass unchanged, whole events only.
//!
//! Owns what can be promised there. Until an event has gone to the client a lost worker costs nothing but time; after
//! that nobody can go on with the answer, and the stream ends with an error. The one change on the way in is the model's
//! name, on the way out the end: the daemon's own `[DONE]` comes in place of the engine's.

use bytes::{Bytes, BytesMut};
use mlxsup_worker_api::ErrorObject;
use serde::de::IgnoredAny;
use serde::{Deserialize, Deserializer};
use serde_json::Value;
use serde_json::value::RawValue;

use super::leg::{EVENT_LIMIT, Leg, LegError, Opened};
use super::relay::LegEnd;
use super::session::Session;
use crate::daemon::handle::Assignment;
use crate::link::foreign::Foreign;
use crate::supervisor::{Code, Refusal};

impl Session {
    /// Has a foreign engine answer the request.
    pub(super) async fn pass_through(&mut self, assignment: &Assignment, foreign: &Foreign) -> LegEnd {
        let parts = with_model(&self.body, &foreign.model);
        let mut leg = match self.open(assignment, self.kind.path(), parts).await {
            Ok(Opened::Events(leg)) => leg,
            Ok(Opened::Error { status, document }) => return refused(status, &document),
            Err(end) => return end,
        };
        match self.asked.stream {
            true => self.pass_events(&mut leg, assignment).await,
            false => self.pass_whole(&mut leg).await,
        }
    }

    async fn pass_whole(&mut self, leg: &mut Leg) -> LegEnd {
        let mut whole = BytesMut::new();
        loop {
            tokio::select! {
                biased;
                chunk = leg.chunk() => match chunk {
                    Ok(Some(chunk)) if whole.len() + chunk.len() <= EVENT_LIMIT => whole.extend_from_slice(&chunk),
                    Ok(Some(_)) => return LegEnd::protocol(format!("it is larger than {EVENT_LIMIT} bytes")),
                    // An answer whose length nobody told ends like one that broke off.
                    Ok(None) if serde_json::from_slice::<IgnoredAny>(&whole).is_err() => {
                        return LegEnd::Lost { why: "the answer is no whole JSON document".to_owned() };
                    }
                    Ok(None) => return LegEnd::Complete(Some(whole.freeze())),
                    Err(error) => return self.lost(&error),
                },
                Some(directive) = self.ticket.next() => return LegEnd::directed(directive),
                () = self.reply.pulse.tick() => self.keep_alive().await,
            }
        }
    }

    async fn pass_events(&mut self, leg: &mut Leg, assignment: &Assignment) -> LegEnd {
        let mut events = Events::default();
        loop {
            let chunk = tokio::select! {
                biased;
                chunk = leg.chunk() => match chunk {
                    Ok(Some(chunk)) => chunk,
                    // An engine that says why each choice ended and forgets the last word has said all.
                    Ok(None) if self.progress.is_finished() => return LegEnd::Complete(None),
                    Ok(None) => return self.lost(&LegError::Ended),
                    Err(error) => return self.lost(&error),
                },
                Some(directive) = self.ticket.next() => return LegEnd::directed(directive),
                () = self.reply.pulse.tick() => {
                    self.keep_alive().await;
                    continue;
                }
            };
            events.feed(&chunk);
            if let Some(end) = self.pass_ready(&mut events, assignment).await {
                return end;
            }
        }
    }

    /// Hands on every event that is whole.
    async fn pass_ready(&mut self, events: &mut Events, assignment: &Assignment) -> Option<LegEnd> {
        let mut whole = BytesMut::new();
        let mut chunks = 0;
        let end = loop {
            let Some(event) = events.next() else { break None };
            match Word::of(&event) {
                Word::Comment => whole.extend_from_slice(&event),
                Word::Done => break Some(LegEnd::Complete(None)),
                Word::Error(object) => break Some(LegEnd::passed(500, *object)),
                Word::Chunk => {
                    self.progress.note(&event);
                    whole.extend_from_slice(&event);
                    chunks += 1;
                }
            }
        };
        if events.is_too_large() {
            return Some(LegEnd::protocol(format!("an event is larger than {EVENT_LIMIT} bytes")));
        }
        if chunks > 0 {
            // Told before it is sent: from here on the request cannot be given to another worker.
            self.progressed(assignment, chunks);
        }
        if !whole.is_empty() {
            let origin = self.origin();
            self.reply.data(whole.freeze(), origin).await;
        }
        end
    }
}

/// Splits a stream into events without changing a byte.
#[derive(Debug, Default)]
struct Events {
    pending: BytesMut,
    /// Up to here no event ends.
    searched: usize,
}

impl Events {
    fn feed(&mut self, chunk: &[u8]) {
        self.pending.extend_from_slice(chunk);
    }

    /// The next whole event with the blank line that ends it.
    fn next(&mut self) -> Option<Bytes> {
        let mut at = self.searched;
        while let Some(end) = self.pending[at..].iter().position(|byte| *byte == b'\n') {
            let after = at + end + 1;
            match &self.pending[after..] {
                [b'\n', ..] => return Some(self.take(after + 1)),
                [b'\r', b'\n', ..] => return Some(self.take(after + 2)),
                // It may be the first half of a blank line.
                [] | [b'\r'] => {
                    self.searched = after - 1;
                    return None;
                }
                _ => at = after,
            }
        }
        self.searched = at;
        None
    }

    fn take(&mut self, length: usize) -> Bytes {
        self.searched = 0;
        self.pending.split_to(length).freeze()
    }

    fn is_too_large(&self) -> bool {
        self.pending.len() > EVENT_LIMIT
    }
}

/// What an event means to the daemon.
#[derive(Debug)]
enum Word {
    /// No data.
    Comment,
    /// The last one.
    Done,
    /// The engine gives up.
    Error(Box<ErrorObject>),
    /// Part of an answer.
    Chunk,
}

impl Word {
    fn of(event: &[u8]) -> Self {
        let (mut word, mut is_error) = (Self::Comment, false);
        for line in event.split(|byte| *byte == b'\n') {
            is_error |= line.strip_prefix(b"event:").is_some_and(|name| name.trim_ascii() == b"error");
            let Some(data) = line.strip_prefix(b"data:").map(<[u8]>::trim_ascii) else { continue };
            if data == b"[DONE]" {
                return Self::Done;
            }
            if is_error || data.starts_with(b"{\"error\"") {
                return Self::Error(Box::new(error_object(data, Code::EngineError)));
            }
            word = Self::Chunk;
        }
        word
    }
}

/// Most characters quoted of an error that is no JSON.
const QUOTED: usize = 500;

/// An engine's error in the shape that clients know, whatever its own. `code` is for those that give none.
fn error_object(document: &[u8], code: Code) -> ErrorObject {
    let said = serde_json::from_slice::<Value>(document).unwrap_or_default();
    let error = &said["error"];
    let text = |value: &Value| value.as_str().filter(|text| !text.is_empty()).map(str::to_owned);
    let message = text(&error["message"]).or_else(|| text(error)).or_else(|| text(&said["detail"]));
    let message = message.or_else(|| {
        let raw = String::from_utf8_lossy(document);
        let raw: String = raw.trim().chars().take(QUOTED).collect();
        Some(raw).filter(|raw| !raw.is_empty() && said.is_null())
    });
    let message = message.unwrap_or_else(|| "the engine failed without saying why; see logs/worker.log".to_owned());
    let mut object = super::answer::error_object(&Refusal::new(code, message));
    object.error.param = text(&error["param"]);
    if let Some(own) = text(&error["code"]) {
        object.error.code = Some(own);
    }
    object
}

/// The engine refused by HTTP status. A gateway's words for "not now" are as good as a broken link: the request is given
/// to a worker again. Anything else is the answer.
fn refused(status: u16, document: &[u8]) -> LegEnd {
    match status {
        502..=504 => {
            let said = error_object(document, Code::EngineError).error.message;
            LegEnd::Lost { why: format!("the engine answered {status}: {said}") }
        }
        400..500 => LegEnd::passed(status, error_object(document, Code::InvalidValue)),
        _ => LegEnd::passed(500, error_object(document, Code::EngineError)),
    }
}

/// The body with `model` put in place of the client's, in three parts of which none is a copy of the body.
fn with_model(body: &Bytes, model: &str) -> [Bytes; 3] {
    #[derive(Deserialize)]
    struct Peek<'a> {
        #[serde(borrow, default, deserialize_with = "even_null")]
        model: Option<&'a RawValue>,
    }
    fn even_null<'de: 'a, 'a, D: Deserializer<'de>>(from: D) -> Result<Option<&'a RawValue>, D::Error> {
        <&RawValue>::deserialize(from).map(Some)
    }
    let name = serde_json::Value::from(model).to_string();
    let asked = serde_json::from_slice::<Peek<'_>>(body).ok().and_then(|peek| peek.model);
    if let Some(value) = asked {
        let start = value.get().as_ptr().addr() - body.as_ptr().addr();
        let end = start + value.get().len();
        return [body.slice(..start), Bytes::from(name), body.slice(end..)];
    }
    let open = body.iter().position(|byte| *byte == b'{').map_or(0, |at| at + 1);
    let rest = body.slice(open..);
    let comma = if rest.trim_ascii_start().starts_with(b"}") { "" } else { "," };
    [body.slice(..open), Bytes::from(format!("\"model\":{name}{comma}")), rest]
}

#[cfg(test)]
mod tests;
