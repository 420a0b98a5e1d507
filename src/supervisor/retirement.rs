//! The end of a worker by intention: drain to a line, stop, and what the end was for.

use super::ids::OperationId;
use super::memory_return::{Returned, Then};
use super::succession::Respawn;
use super::time::{Mono, Now};
use super::verbs::{Outcome, OutcomeKind};
use super::worker_life::StopReason;
use super::{Standing, Supervisor, spoken};

/// The present worker is on its way out.
#[derive(Debug, Clone, PartialEq)]
pub struct Retirement {
    /// What comes after.
    pub purpose: Purpose,
    /// For people: `operator`, `schedule nightly`, `rule cold-weights`.
    pub reason: String,
    /// Requests that arrived before this are still served; 0: none that is not running.
    pub line: u64,
    /// When what is left is forced (or, for an unload, the unload is given up).
    pub deadline: Mono,
    /// When it was decided.
    pub since: Mono,
    /// Verbs that wait for the outcome.
    pub operations: Vec<OperationId>,
}

/// What follows a retirement.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// The next worker.
    Restart {
        /// Streams that cannot be continued are cut.
        now: bool,
    },
    /// Nothing, until `load`.
    Unload {
        /// Streams are cut at once.
        now: bool,
    },
    /// Nothing, until the next request.
    Sleep,
    /// The end of the daemon.
    Stop,
}

/// From the end of one worker to the next ready one.
#[derive(Debug, Clone, PartialEq)]
pub struct Replacement {
    /// For people.
    pub reason: String,
    /// The decision, or the death.
    pub since: Mono,
    /// When the old worker was told to stop.
    pub stop_at: Option<Mono>,
    /// When the old worker was gone.
    pub gone_at: Option<Mono>,
    /// What it weighed at last, bytes.
    pub footprint_before: Option<u64>,
    /// True for hand-overs, false for crashes.
    pub planned: bool,
}

impl Supervisor {
    /// Begins to retire the present worker; `line` says whom it still serves.
    pub(super) fn retire(&mut self, retirement: Retirement, now: Now) {
        if matches!(retirement.purpose, Purpose::Restart { .. }) && self.worker_is_ready() {
            self.replacement = Some(Replacement {
                reason: retirement.reason.clone(),
                since: now.mono,
                stop_at: None,
                gone_at: None,
                footprint_before: None,
                planned: true,
            });
        }
        self.respawn = None;
        match &self.worker {
            None => self.retire_nobody(retirement, now),
            Some(worker) => {
                let ready = worker.is_ready();
                self.retirement = Some(retirement);
                if !ready {
                    // Nothing runs in a worker that is not ready: there is nothing to wait for.
                    self.terminate(StopReason::Planned, now.mono);
                } else if self.requests.in_flight() > 0 {
                    // While it drains, so that less is left for its end.
                    self.save_prefixes();
                }
            }
        }
    }

    /// When `advance_retirement` has something to do by itself. A worker that is kept and whose time is up waits for others.
    pub(super) fn retirement_deadline(&self, now: Mono) -> Option<Mono> {
        let retirement = self.retirement.as_ref().filter(|_| self.worker_is_ready())?;
        let over = self.keeps_worker() && now >= retirement.deadline;
        (!over).then_some(retirement.deadline)
    }

    /// There is no worker. The memory of the last one may still be awaited: what is asked now replaces what was to follow.
    fn retire_nobody(&mut self, retirement: Retirement, now: Now) {
        let Some(reclaim) = self.reclaim.as_mut() else {
            self.retired(retirement, None, now);
            return;
        };
        if let Then::Failed { failure, .. } = std::mem::replace(&mut reclaim.then, Then::Retired(retirement)) {
            self.last_failure = Some((failure, now.wall));
        }
    }

    pub(super) fn advance_retirement(&mut self, now: Now) {
        if !self.worker_is_ready() {
            return;
        }
        let Some(retirement) = &self.retirement else { return };
        if self.keeps_worker() {
            return;
        }
        let (deadline, purpose) = (retirement.deadline, retirement.purpose);
        let running = self.requests.in_flight();
        if running == 0 && !self.requests.any_waiting_before(self.line()) {
            self.terminate(StopReason::Planned, now.mono);
            return;
        }
        if now.mono < deadline {
            return;
        }
        let postponed = match purpose {
            Purpose::Unload { now: false } | Purpose::Sleep => Some("mlxsupctl unload --now"),
            Purpose::Restart { now: false } if !self.hands_on() => Some("mlxsupctl restart --mode now"),
            Purpose::Restart { .. } | Purpose::Unload { now: true } | Purpose::Stop => None,
        };
        match postponed {
            Some(by_force) if running > 0 => self.postpone(running, by_force, now.mono),
            _ => {
                if running > 0 {
                    let fate = if matches!(purpose, Purpose::Restart { .. }) {
                        "the next worker continues them"
                    } else {
                        "they end with an error"
                    };
                    let message = format!("{running} requests outlasted the grace period; {fate}");
                    self.record("drain_deadline", message);
                }
                self.terminate(StopReason::Planned, now.mono);
            }
        }
    }

    /// A planned action never breaks a stream: one that would resumes service instead.
    fn postpone(&mut self, running: usize, by_force: &str, now: Mono) {
        let Some(retirement) = self.retirement.take() else { return };
        self.replacement = None;
        let message = format!(
            "postponed: {running} requests still running after {}; `{by_force}` ends them",
            spoken(now - retirement.since)
        );
        self.record("postponed", message.clone());
        self.reply_all(retirement.operations, &Outcome::new(OutcomeKind::Deadline, message));
    }

    /// The old worker is gone as intended; what the retirement was for happens now.
    pub(super) fn retired(&mut self, retirement: Retirement, returned: Option<Returned>, now: Now) {
        let took = spoken(now.mono - retirement.since);
        let proof = returned.map(|returned| format!("; {returned}")).unwrap_or_default();
        match retirement.purpose {
            Purpose::Restart { .. } => {
                self.awaiting_ready.extend(retirement.operations);
                self.respawn = Some(Respawn::at_once(now.mono));
            }
            Purpose::Unload { .. } => {
                self.stay_unloaded();
                let message = format!("unloaded after {took}{proof}");
                self.record("unloaded", message.clone());
                let mut outcome = Outcome::new(OutcomeKind::Done, message);
                if let Some(Returned { before, after }) = returned {
                    #[expect(clippy::cast_precision_loss, reason = "bytes far below 2^52")]
                    let bytes = after.saturating_sub(before) as f64;
                    outcome = outcome.with_fact("returned_bytes", bytes);
                }
                self.reply_all(retirement.operations, &outcome);
            }
            Purpose::Sleep => {
                self.asleep = true;
                self.record("asleep", format!("{}; the next request loads the model{proof}", retirement.reason));
                if !self.requests.queue().is_empty() {
                    self.wake(now.mono);
                }
            }
            Purpose::Stop => {}
        }
    }

    /// There is no worker, and none is to come before a `load`.
    pub(super) fn stay_unloaded(&mut self) {
        self.kept.standing = Standing::Unloaded;
        self.unpark();
        // A drain asked for meanwhile has nothing left to drain.
        let drained = self.drain.take().map_or_else(Vec::new, |drain| drain.operations);
        self.reply_all(drained, &Outcome::new(OutcomeKind::Failed, "overtaken by an unload"));
        self.replacement = None;
        self.persist();
    }

    /// The retirement under way, also while the memory of its worker is awaited.
    pub(super) fn present_retirement(&self) -> Option<&Retirement> {
        self.retirement.as_ref().or_else(|| match &self.reclaim.as_ref()?.then {
            Then::Retired(retirement) => Some(retirement),
            Then::Failed { .. } | Then::Settled => None,
        })
    }

    /// A request came while asleep.
    pub(super) fn wake(&mut self, now: Mono) {
        self.asleep = false;
        self.record("woken", "a request came while asleep");
        self.respawn = Some(Respawn::at_once(now));
    }

    pub(super) fn idle_deadline(&self) -> Option<Mono> {
        let after = self.config.worker.idle_unload?;
        let resting = self.worker_is_ready()
            && self.requests.is_empty()
            && self.retirement.is_none()
            && self.overlap.is_none()
            && self.upgrade.is_none()
            && self.drain.is_none()
            && self.stopping.is_none();
        resting.then(|| self.last_busy + after)
    }

    pub(super) fn fall_asleep(&mut self, now: Now) {
        if self.idle_deadline().is_none_or(|at| now.mono < at) {
            return;
        }
        let retirement = Retirement {
            purpose: Purpose::Sleep,
            reason: format!("idle for {}", spoken(now.mono - self.last_busy)),
            line: self.requests.next_seq(),
            deadline: now.mono + self.config.drain.grace,
            since: now.mono,
            operations: Vec::new(),
        };
        self.retire(retirement, now);
    }
}
