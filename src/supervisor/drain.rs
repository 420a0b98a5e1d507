//! An operator's drain: a line in the queue, observable and abortable, that breaks nothing.

use std::time::Duration;

use super::ids::OperationId;
use super::overlap::Phase;
use super::time::Mono;
use super::verbs::{Outcome, OutcomeKind};
use super::{Standing, Supervisor, spoken};

/// An operator's drain.
#[derive(Debug, Clone, PartialEq)]
pub struct Drain {
    /// Requests that arrived before this are still served.
    pub line: u64,
    /// When waiting for them ends; `None` once it has ended or is complete.
    pub ends: Option<Mono>,
    /// When it was asked for.
    pub since: Mono,
    /// Answer new requests 503.
    pub refuse: bool,
    /// True once nothing from before the line is left.
    pub complete: bool,
    /// Verbs that wait for it.
    pub operations: Vec<OperationId>,
}

impl Drain {
    /// A drain that begins.
    #[must_use]
    pub fn to(line: u64, now: Mono) -> Self {
        Self { line, ends: None, since: now, refuse: false, complete: false, operations: Vec::new() }
    }

    /// A drain that survived the last daemon.
    #[must_use]
    pub fn completed(now: Mono) -> Self {
        Self { line: 0, ends: None, since: now, refuse: false, complete: true, operations: Vec::new() }
    }

    /// When waiting ends.
    #[must_use]
    pub fn deadline(&self) -> Option<Mono> {
        self.ends
    }
}

impl Supervisor {
    pub(super) fn ask_drain(
        &mut self,
        operation: OperationId,
        deadline: Option<Duration>,
        refuse: bool,
        no_wait: bool,
        now: Mono,
    ) {
        let ends = now + deadline.unwrap_or(self.config.drain.grace);
        let line = self.requests.next_seq();
        let begins = self.drain.is_none();
        let drain = self.drain.get_or_insert_with(|| Drain::to(line, now));
        // A second drain may move the deadline and close the door, but not the line.
        drain.refuse |= refuse;
        let at_once = if drain.complete {
            Some(Outcome::new(OutcomeKind::Already, "already drained"))
        } else {
            drain.ends = Some(ends);
            no_wait.then(|| Outcome::new(OutcomeKind::Started, "draining"))
        };
        if at_once.is_none() {
            drain.operations.push(operation);
        }
        if begins {
            self.kept.standing = Standing::Drained;
            self.persist();
            self.record("draining", format!("draining for the operator, at most {}", spoken(ends - now)));
        }
        if let Some(outcome) = at_once {
            self.reply(operation, outcome);
        }
    }

    pub(super) fn resume(&mut self, now: Mono) -> Outcome {
        let mut undone = Vec::new();
        if let Some(drain) = self.drain.take() {
            undone.push(if drain.complete { "the drained state" } else { "the drain" });
            self.kept.standing = Standing::Serve;
            self.persist();
            self.reply_all(drain.operations, &Outcome::new(OutcomeKind::Failed, "aborted by resume"));
        }
        // Until TERM is out nothing has happened to the worker, so a hand-over can still be taken back.
        if self.worker_is_ready()
            && let Some(retirement) = self.retirement.take()
        {
            undone.push("the hand-over");
            self.replacement = None;
            self.reply_all(retirement.operations, &Outcome::new(OutcomeKind::Failed, "aborted by resume"));
        }
        if self.overlap.as_ref().is_some_and(|overlap| matches!(overlap.phase, Phase::Rising { .. })) {
            undone.push("the hand-over");
            self.give_up_green("aborted by resume", now);
        }
        self.last_busy = now;
        if undone.is_empty() {
            let message = "there is nothing to take back: no drain is in force, and a worker under SIGTERM stays so";
            return Outcome::new(OutcomeKind::Denied, message);
        }
        let message = format!("resumed: {} ended", undone.join(" and "));
        self.record("resumed", message.clone());
        Outcome::new(OutcomeKind::Done, message)
    }

    pub(super) fn advance_drain(&mut self, now: Mono) {
        let Some(drain) = &self.drain else { return };
        if drain.complete {
            return;
        }
        let (line, since, ends) = (drain.line, drain.since, drain.ends);
        let running = self.requests.in_flight();
        if running == 0 && !self.requests.any_waiting_before(line) {
            let took = spoken(now - since);
            self.record("drained", format!("drained after {took}"));
            let operations = self.drain.as_mut().map_or_else(Vec::new, |drain| {
                drain.complete = true;
                drain.ends = None;
                std::mem::take(&mut drain.operations)
            });
            self.reply_all(operations, &Outcome::new(OutcomeKind::Done, format!("drained after {took}")));
        } else if ends.is_some_and(|ends| now >= ends) {
            // Nothing is broken for a drain: it goes on, only the verb stops waiting and nothing more is assigned.
            let waiting = self.requests.waiting_before(line);
            let message = format!(
                "{running} requests still running, {waiting} still waiting after {}; the drain goes on, `mlxsupctl \
                 resume` aborts it",
                spoken(now - since)
            );
            self.record("drain_deadline", message.clone());
            let operations = self.drain.as_mut().map_or_else(Vec::new, |drain| {
                drain.ends = None;
                drain.line = 0;
                std::mem::take(&mut drain.operations)
            });
            self.reply_all(operations, &Outcome::new(OutcomeKind::Deadline, message));
        }
    }
}
