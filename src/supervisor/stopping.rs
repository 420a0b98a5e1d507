//! The daemon's own end.

use super::memory_return::{Reclaim, Then};
use super::retirement::{Purpose, Retirement};
use super::time::{Mono, Now};
use super::verbs::{Outcome, OutcomeKind};
use super::{Action, Supervisor};

/// The daemon is going down.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stopping {
    /// Leave the worker for the next daemon.
    pub keep_worker: bool,
}

impl Supervisor {
    pub(super) fn stop_asked(&mut self, keep_worker: bool, now: Now) {
        if self.stopping.is_some() {
            if let Some(retirement) = self.retirement.as_mut() {
                retirement.deadline = now.mono;
            }
            self.hurry_overlap(now.mono);
            self.record("stop_hurried", "a second signal: the drain is skipped");
            return;
        }
        self.stopping = Some(Stopping { keep_worker });
        self.respawn = None;
        // `kept.parked` stays: the next daemon is parked too.
        self.parked = None;
        self.unconfigured = None;
        self.end_upgrade(OutcomeKind::Failed, "the daemon is stopping");
        self.give_up_green("the daemon is stopping", now.mono);
        self.record("stopping", "asked to stop");
        self.give_up_clearings("the daemon is stopping", now.mono);
        let mut waiting = std::mem::take(&mut self.awaiting_ready);
        waiting.extend(self.retirement.take().map_or_else(Vec::new, |retirement| retirement.operations));
        if let Some(Reclaim { then: Then::Retired(retirement), .. }) = self.reclaim.take() {
            waiting.extend(retirement.operations);
        }
        waiting.extend(self.overlap.as_mut().map_or_else(Vec::new, |overlap| std::mem::take(&mut overlap.operations)));
        waiting.extend(self.drain.take().map_or_else(Vec::new, |drain| drain.operations));
        self.reply_all(waiting, &Outcome::new(OutcomeKind::Failed, "the daemon is stopping"));
        let retirement = Retirement {
            purpose: Purpose::Stop,
            reason: "stop".to_owned(),
            line: 0,
            deadline: now.mono + self.config.drain.grace,
            since: now.mono,
            operations: Vec::new(),
        };
        // A worker that is kept and still loading has nothing to finish: it is left as it is.
        if self.worker_is_ready() || (self.worker.is_some() && !self.keeps_worker()) {
            self.retire(retirement, now);
        }
    }

    pub(super) fn exit_if_stopped(&mut self, now: Mono) {
        if self.stopping.is_none() {
            return;
        }
        let over = self.retirement.as_ref().is_none_or(|retirement| now >= retirement.deadline);
        let left_as_it_is = self.keeps_worker() && (over || self.requests.in_flight() == 0);
        let others_gone = self.overlap.is_none() && self.surplus.is_empty();
        if others_gone && (self.worker.is_none() || left_as_it_is) {
            self.retirement = None;
            self.refuse_all(now);
            self.actions.push(Action::Exit);
        }
    }

    /// The worker is to outlive the daemon. One that is being stopped already is not worth keeping.
    pub(super) fn keeps_worker(&self) -> bool {
        self.stopping.is_some_and(|stopping| stopping.keep_worker)
            && self.worker.as_ref().is_some_and(|worker| worker.is_stopped().is_none())
    }
}
