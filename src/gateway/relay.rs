//! From the worker link to the client: one leg of a session.
//!
//! Owns the meaning of link events. Complete events only, recorded before they are written; several that arrive together
//! leave together. While the client is slow nothing is read, from the link or from the driver.

use std::pin::pin;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use mlxsup_worker_api::envelope::event;
use mlxsup_worker_api::{ErrorBody, ErrorObject};
use tokio::time::Instant;

use super::leg::{Leg, LegError, Opened};
use super::reply;
use super::session::{Session, Stage};
use crate::daemon::handle::{Assignment, Directive, Report};
use crate::link::events::{Event, Item};
use crate::supervisor::refusal::CODES;
use crate::supervisor::{Code, Refusal};

/// Shortest time between two progress reports of one request.
const REPORT_INTERVAL: Duration = Duration::from_millis(500);

/// How one leg ended.
#[derive(Debug)]
pub(super) enum LegEnd {
    /// The answer is complete; the JSON of a plain one.
    Complete(Option<Bytes>),
    /// The link broke; the recorded tokens are kept.
    Lost {
        /// What the link said.
        why: String,
    },
    /// The driver wants another worker to go on.
    Reassigned(Assignment),
    /// The driver ends the request.
    Refused(Refusal),
    /// The worker ended it with its own error.
    Passed {
        /// HTTP status that goes with the error.
        status: u16,
        /// The error.
        object: ErrorObject,
    },
}

impl LegEnd {
    pub(super) fn directed(directive: Directive) -> Self {
        match directive {
            Directive::Assigned(assignment) => Self::Reassigned(*assignment),
            Directive::Refused(refusal) => Self::Refused(*refusal),
        }
    }

    /// A worker that breaks the protocol would do so again: the request ends instead of wandering about.
    pub(super) fn protocol(why: impl std::fmt::Display) -> Self {
        let message = format!("the worker's answer makes no sense: {why}; run `mlxsupctl restart` and report this");
        Self::passed(500, engine_error(message))
    }

    pub(super) fn passed(status: u16, object: ErrorObject) -> Self {
        Self::Passed { status, object }
    }
}

fn engine_error(message: String) -> ErrorObject {
    super::answer::error_object(&Refusal::new(Code::EngineError, message))
}

impl Session {
    /// Has one worker go on with the request. A driver that is gone does not disturb an answer that is coming.
    pub(super) async fn relay(&mut self, assignment: &Assignment) -> LegEnd {
        if let Some(foreign) = &assignment.foreign {
            return self.pass_through(assignment, foreign).await;
        }
        let parts = self.progress.envelope(&self.answer_id, self.created, self.seed, &self.body);
        let mut leg = match self.open(assignment, self.kind.link_path(), parts).await {
            Ok(Opened::Events(leg)) => leg,
            Ok(Opened::Error { status, document }) => return refused_at_once(status, &document),
            Err(end) => return end,
        };
        loop {
            let (framed, end) = self.take_ready(&mut leg, assignment);
            if !framed.is_empty() {
                let origin = self.origin();
                self.reply.data(framed, origin).await;
            }
            if let Some(end) = end {
                if matches!(end, LegEnd::Complete(_)) {
                    leg.keep(&self.links, assignment.generation);
                }
                return end;
            }
            tokio::select! {
                biased;
                more = leg.more() => if let Err(error) = more { return self.lost(&error) },
                Some(directive) = self.ticket.next() => return LegEnd::directed(directive),
                () = self.reply.pulse.tick() => self.keep_alive().await,
            }
        }
    }

    /// Sends the request, and keeps the client company until the worker answers.
    pub(super) async fn open(
        &mut self,
        assignment: &Assignment,
        path: &'static str,
        parts: [Bytes; 3],
    ) -> Result<Opened, LegEnd> {
        let (request_id, links) = (self.request_id.clone(), self.links.clone());
        let mut open = pin!(Leg::open(assignment, &links, path, &request_id, parts));
        loop {
            tokio::select! {
                biased;
                opened = &mut open => return opened.map_err(|error| self.lost(&error)),
                Some(directive) = self.ticket.next() => return Err(LegEnd::directed(directive)),
                () = self.reply.pulse.tick() => self.keep_alive().await,
            }
        }
    }

    pub(super) fn lost(&self, error: &LegError) -> LegEnd {
        if self.asked.stream && self.progress.is_complete() {
            return LegEnd::Complete(None);
        }
        LegEnd::Lost { why: error.to_string() }
    }

    /// Records and frames every item that is already here.
    fn take_ready(&mut self, leg: &mut Leg, assignment: &Assignment) -> (Bytes, Option<LegEnd>) {
        let mut framed = BytesMut::new();
        let mut new_tokens = 0;
        let end = loop {
            match leg.ready_item() {
                None => break None,
                Some(Err(error)) => break Some(LegEnd::protocol(error)),
                Some(Ok(Item::Comment(comment))) => self.comment(&comment),
                Some(Ok(Item::Event(event))) => match self.event(&event, &mut framed) {
                    Ok(tokens) => new_tokens += tokens,
                    Err(end) => break Some(end),
                },
            }
        };
        if new_tokens > 0 {
            self.progressed(assignment, new_tokens);
        }
        (framed.freeze(), end)
    }

    /// Takes one event; `Err` is the leg's end. Answers with the number of new tokens.
    fn event(&mut self, event: &Event, framed: &mut BytesMut) -> Result<usize, LegEnd> {
        match &event.name[..] {
            b"" => {
                let data = event.data.as_deref();
                let verdict = self.progress.record(event.id.as_deref(), data).map_err(LegEnd::protocol)?;
                if let Some(data) = data
                    && verdict.relay
                    && self.asked.stream
                {
                    reply::frame(data, framed);
                }
                Ok(verdict.new_tokens)
            }
            name if name == event::END.as_bytes() && self.asked.stream => Err(LegEnd::Complete(None)),
            name if name == event::RESULT.as_bytes() && !self.asked.stream => {
                let result = event.data.clone().ok_or_else(|| LegEnd::protocol("its result is empty"))?;
                Err(LegEnd::Complete(Some(result)))
            }
            name if name == event::ERROR.as_bytes() => Err(worker_error(event.data.as_deref().unwrap_or_default())),
            name if name == event::END.as_bytes() || name == event::RESULT.as_bytes() => {
                Err(LegEnd::protocol("it mixes up streams and plain answers"))
            }
            // Later workers may say more than this daemon understands.
            _ => Ok(0),
        }
    }

    fn comment(&mut self, comment: &[u8]) {
        let Some((done, total)) = prefill(comment) else { return };
        self.progress.note_prefill(total);
        if self.stage != Stage::Answering {
            self.stage = Stage::Reading { done, total };
        }
    }

    /// Tells the driver that tokens came: at once for the first of an assignment, then now and again.
    pub(super) fn progressed(&mut self, assignment: &Assignment, new_tokens: usize) {
        self.stage = Stage::Answering;
        let now = Instant::now();
        self.record.tokens(u32::try_from(new_tokens).unwrap_or(u32::MAX), now);
        if self.reported.is_some_and(|before| now.saturating_duration_since(before) < REPORT_INTERVAL) {
            return;
        }
        self.reported = Some(now);
        self.note_tokens();
        self.ticket.report(Report::Progressed {
            generation: assignment.generation,
            prompt_tokens: self.record.facts.prompt_tokens,
            completion_tokens: self.progress.recorded(),
        });
    }
}

/// `prefill DONE/TOTAL`.
fn prefill(comment: &[u8]) -> Option<(u64, u64)> {
    let counts = std::str::from_utf8(comment).ok()?.strip_prefix("prefill ")?;
    let (done, total) = counts.split_once('/')?;
    Some((done.trim().parse().ok()?, total.trim().parse().ok()?))
}

/// The worker's terminal error event.
fn worker_error(data: &[u8]) -> LegEnd {
    match serde_json::from_slice::<ErrorObject>(data) {
        Ok(object) => LegEnd::passed(status_of(&object.error), object),
        Err(_) => LegEnd::passed(500, engine_error("the worker failed without saying why; see worker.log".to_owned())),
    }
}

fn status_of(error: &ErrorBody) -> u16 {
    let code = error.code.as_deref().unwrap_or_default();
    CODES.iter().find(|(_, text, _)| *text == code).map_or(500, |(_, _, status)| *status)
}

/// The worker refused the envelope by HTTP status. A client's mistake keeps its status; anything else is the engine's.
fn refused_at_once(status: u16, document: &[u8]) -> LegEnd {
    let object = serde_json::from_slice::<ErrorObject>(document)
        .ok()
        .unwrap_or_else(|| engine_error(format!("the worker answered {status} without saying why; see worker.log")));
    let status = if (400..500).contains(&status) { status } else { status_of(&object.error).max(500) };
    LegEnd::passed(status, object)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prefill_comments_are_understood() {
        assert_eq!(prefill(b"prefill 3/12"), Some((3, 12)));
        for other in [&b"prefill"[..], b"prefill 3", b"prefill a/b", b"prefill 3/-1", b"note", b"\xff"] {
            assert_eq!(prefill(other), None);
        }
    }

    #[test]
    fn worker_errors_keep_the_status_of_their_code() {
        let error = br#"{"error":{"message":"m","type":"invalid_request_error","param":null,"code":"context_length_exceeded"}}"#;
        let LegEnd::Passed { status, .. } = worker_error(error) else { panic!("not passed on") };
        assert_eq!(status, 400);
        let LegEnd::Passed { status, object } = worker_error(b"boom") else { panic!("not passed on") };
        assert_eq!((status, object.error.code.as_deref()), (500, Some("engine_error")));
        let LegEnd::Passed { status, .. } = refused_at_once(302, b"") else { panic!("not passed on") };
        assert_eq!(status, 500);
    }
}
