//! One generation request from submission to its end, over as many workers as it takes.
//!
//! Owns the request's identity (id, created, seed), its record and its conversation with the driver. What one worker
//! sends is read in [`super::relay`]. Dropping a session is how a hang-up cancels: link, ticket and record go with it.

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use mlxsup_worker_api::ErrorObject;
use tokio::time::Instant;

use super::flow::{Origin, Outlet};
use super::identity;
use super::intake::{Asked, Kind};
use super::kept_links::KeptLinks;
use super::progress::Progress;
use super::record::{List, OpenRecord};
use super::relay::LegEnd;
use super::reply::{Pulse, Reply};
use crate::daemon::handle::{Assignment, Directive, Outcome, Report, Ticket};
use crate::supervisor::{Code, QueuePlace, Refusal};

/// What a session starts from.
pub(super) struct Admitted {
    /// Which endpoint.
    pub kind: Kind,
    /// What the body says about itself.
    pub asked: Asked,
    /// The client's body.
    pub body: Bytes,
    /// The submission.
    pub ticket: Ticket,
    /// The line in `requests.log`.
    pub record: OpenRecord,
    /// When to show signs of life.
    pub pulse: Pulse,
    /// Connections to the worker.
    pub links: Arc<KeptLinks>,
}

/// Where a request stands, as keep-alive notes tell it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stage {
    /// Never assigned yet.
    Queued,
    /// A worker reads the prompt.
    Reading {
        /// Tokens done.
        done: u64,
        /// Tokens in all; 0 while unknown.
        total: u64,
    },
    /// Tokens come.
    Answering,
    /// A worker was lost; the next one goes on.
    Changing,
}

/// A running request.
pub(super) struct Session {
    pub(super) kind: Kind,
    pub(super) asked: Asked,
    pub(super) body: Bytes,
    pub(super) request_id: Arc<str>,
    pub(super) answer_id: String,
    pub(super) created: u64,
    pub(super) seed: u64,
    pub(super) ticket: Ticket,
    pub(super) record: OpenRecord,
    pub(super) progress: Progress,
    pub(super) reply: Reply,
    pub(super) links: Arc<KeptLinks>,
    pub(super) stage: Stage,
    /// When progress of the current assignment was last reported; `None` before its first token.
    pub(super) reported: Option<Instant>,
}

impl Session {
    /// Gives an admitted request its identity.
    pub fn new(admitted: Admitted, outlet: Outlet) -> Self {
        let Admitted { kind, asked, body, ticket, record, pulse, links } = admitted;
        let random = identity::random();
        Self {
            request_id: record.facts.id.as_str().into(),
            answer_id: format!("{}-{}", kind.id_prefix(), identity::random_hex()),
            created: SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs()),
            // Half of 128 random bits is plenty for a seed.
            seed: (random >> 64) as u64,
            progress: Progress::new(asked.choices, asked.include_usage),
            reply: Reply::new(outlet, asked.stream, pulse),
            links,
            stage: Stage::Queued,
            reported: None,
            kind,
            asked,
            body,
            ticket,
            record,
        }
    }

    /// Obeys directives until the request has ended. What follows the wait is boxed: thousands may be in the queue, and
    /// what they need only afterwards would be there from the start.
    pub async fn run(mut self: Box<Self>) {
        let mut next = None;
        loop {
            let assignment = match next.take() {
                Some(assignment) => assignment,
                None => match self.wait().await {
                    Some(Directive::Assigned(assignment)) => assignment,
                    Some(Directive::Refused(refusal)) => return Box::pin(self.refuse(*refusal, Outcome::Failed)).await,
                    None => return Box::pin(self.refuse(driver_gone(), Outcome::Failed)).await,
                },
            };
            self.begin(&assignment);
            match Box::pin(self.relay(&assignment)).await {
                LegEnd::Complete(result) => return Box::pin(self.complete(result)).await,
                LegEnd::Lost { why } => {
                    tracing::debug!(request = %self.ticket.id(), generation = %assignment.generation, why, "link lost");
                    let generation = assignment.generation;
                    self.ticket.report(Report::Interrupted { generation, progressed: self.reported.is_some(), why });
                    self.stage = Stage::Changing;
                }
                LegEnd::Reassigned(assignment) => next = Some(Box::new(assignment)),
                LegEnd::Refused(refusal) => return Box::pin(self.refuse(refusal, Outcome::Failed)).await,
                LegEnd::Passed { status, object } => return Box::pin(self.pass_on(status, object)).await,
            }
        }
    }

    fn begin(&mut self, assignment: &Assignment) {
        self.record.assigned(assignment.generation.0);
        self.stage = Stage::Reading { done: 0, total: 0 };
        self.reported = None;
    }

    async fn wait(&mut self) -> Option<Directive> {
        loop {
            tokio::select! {
                biased;
                directive = self.ticket.next() => return directive,
                () = self.reply.pulse.tick() => self.keep_alive().await,
            }
        }
    }

    /// Tells a silent client where its request stands.
    pub(super) async fn keep_alive(&mut self) {
        let note = match self.stage {
            Stage::Queued if self.asked.stream => match self.ticket.position().await {
                Some(place) => queued(place),
                None => "waiting for a worker".to_owned(),
            },
            Stage::Queued => String::new(),
            Stage::Reading { done, total } if total > 0 => {
                format!("reading prompt {} %", done.min(total) * 100 / total)
            }
            Stage::Reading { .. } => "reading prompt".to_owned(),
            Stage::Answering => format!("{} tokens", self.progress.recorded()),
            Stage::Changing => "changing worker".to_owned(),
        };
        let origin = self.origin();
        self.reply.keep_alive(&note, origin).await;
    }

    /// Headers about the first assignment, once there was one.
    pub(super) fn origin(&self) -> Option<Origin> {
        let queue_ms = self.record.facts.queue_ms?;
        let generation = *self.record.facts.generations.last()?;
        Some(Origin { queue_ms, generation })
    }

    fn trailer(&self) -> String {
        let facts = &self.record.facts;
        format!("mlxsup queue_ms={} generations={}", facts.queue_ms.unwrap_or(0), List(&facts.generations))
    }

    async fn complete(mut self, result: Option<Bytes>) {
        if let Some(result) = &result {
            self.progress.record_result(result);
        }
        self.note_tokens();
        let (origin, trailer) = (self.origin(), self.trailer());
        let Self { ticket, mut record, progress, reply, .. } = self;
        let usage = progress.usage();
        let settle = move || {
            record.facts.finish = progress.finish().map(str::to_owned);
            record.ended(200, None);
            ticket.end(Outcome::Answered {
                prompt_tokens: usage.prompt_tokens,
                completion_tokens: usage.completion_tokens,
            });
        };
        match result {
            Some(result) => reply.end_plain(result, origin, settle).await,
            None => reply.end_stream(&trailer, origin, settle).await,
        }
    }

    async fn refuse(mut self, refusal: Refusal, outcome: Outcome) {
        self.note_tokens();
        let trailer = self.trailer();
        let Self { ticket, mut record, reply, .. } = self;
        let code = refusal.code;
        let settle = move || {
            record.ended(code.status(), Some(code.as_str()));
            ticket.end(outcome);
        };
        reply.refuse(refusal, &trailer, settle).await;
    }

    async fn pass_on(mut self, status: u16, object: ErrorObject) {
        self.note_tokens();
        let trailer = self.trailer();
        let Self { ticket, mut record, reply, .. } = self;
        let code = object.error.code.clone();
        let settle = move || {
            record.ended(status, code.as_deref());
            ticket.end(if status < 500 { Outcome::Rejected } else { Outcome::Failed });
        };
        reply.pass_on(status, object, &trailer, settle).await;
    }

    /// Keeps the counts in the record current, so that a hang-up is logged with what it cost.
    pub(super) fn note_tokens(&mut self) {
        let usage = self.progress.usage();
        self.record.facts.prompt_tokens = usage.prompt_tokens;
        self.record.facts.completion_tokens = usage.completion_tokens;
    }
}

/// `queued 3 ahead, about 20 s`.
fn queued(place: QueuePlace) -> String {
    let QueuePlace { ahead, wait } = place;
    match wait.map(|wait| wait.as_secs_f64().ceil() as u64) {
        Some(seconds @ ..120) => format!("queued {ahead} ahead, about {seconds} s"),
        Some(seconds) => format!("queued {ahead} ahead, about {} min", seconds.div_ceil(60)),
        None => format!("queued {ahead} ahead"),
    }
}

fn driver_gone() -> Refusal {
    Refusal::new(Code::Stopping, "the daemon is going down; try again once it is back")
}
