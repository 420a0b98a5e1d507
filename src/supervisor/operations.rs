//! What operators, rules and schedules ask for, turned into retirements, drains and commands.

use std::time::Duration;

use super::agenda::Choice;
use super::event::CacheCleared;
use super::ids::OperationId;
use super::permits::{Permit, permit};
use super::rules::{Fired, bytes};
use super::succession::{Drain, Purpose, Respawn, Retirement, Stopping, grace_ends};
use super::time::{Mono, Now, Wall};
use super::verbs::{Outcome, OutcomeKind, RestartAsked, Verb};
use super::{Action, Generation, Standing, Supervisor, spoken};
use crate::config::{Action as Asked, RestartMode};
use crate::control::view::State;
use crate::memory::Sample;

impl Supervisor {
    pub(super) fn operator(&mut self, operation: OperationId, verb: &Verb, now: Now) {
        match permit(verb, self.state()) {
            Permit::Already(message) => self.reply(operation, Outcome::new(OutcomeKind::Already, message)),
            Permit::Denied(message) => self.reply(operation, Outcome::new(OutcomeKind::Denied, message)),
            Permit::Granted => self.carry_out(operation, verb, now),
        }
    }

    fn carry_out(&mut self, operation: OperationId, verb: &Verb, now: Now) {
        match verb {
            Verb::Drain { deadline, refuse, no_wait } => {
                self.begin_drain(*deadline, *refuse, now.mono);
                match (&mut self.drain, no_wait) {
                    (Some(drain), false) => drain.operations.push(operation),
                    _ => self.reply(operation, Outcome::new(OutcomeKind::Started, "draining")),
                }
            }
            Verb::Resume => {
                let outcome = self.resume(now.mono);
                self.reply(operation, outcome);
            }
            Verb::Restart { mode: RestartAsked::Overlap, .. } => {
                let message = "this version replaces workers one after the other only; use --mode sequential";
                self.reply(operation, Outcome::new(OutcomeKind::Denied, message));
            }
            Verb::Restart { plan: true, .. } => {
                let outcome = self.plan();
                self.reply(operation, outcome);
            }
            Verb::Restart { mode, no_wait, .. } => {
                self.crashes.forgive();
                self.parked = None;
                let grace = self.config.drain.grace;
                let (line, deadline) = match mode {
                    RestartAsked::Now => (0, now.mono),
                    RestartAsked::Auto | RestartAsked::Sequential | RestartAsked::Overlap => {
                        (self.requests.next_seq(), grace_ends(None, grace, now.mono))
                    }
                };
                let operations = self.waits_or_reply(operation, *no_wait, "restarting");
                self.restart("operator", line, deadline, operations, now);
            }
            Verb::Unload { now: at_once, no_wait } => {
                let deadline = if *at_once { now.mono } else { now.mono + self.config.drain.grace };
                let line = if *at_once { 0 } else { self.requests.next_seq() };
                let operations = self.waits_or_reply(operation, *no_wait, "unloading");
                self.unload("operator", line, deadline, *at_once, operations, now);
            }
            Verb::Load { no_wait } => {
                self.standing = Standing::Serve;
                self.asleep = false;
                self.persist();
                self.respawn = Some(Respawn::at_once(now.mono));
                let operations = self.waits_or_reply(operation, *no_wait, "loading");
                self.awaiting_ready.extend(operations);
            }
            Verb::ClearCache => {
                if self.clear_cache() {
                    self.awaiting_clear.push(operation);
                } else {
                    self.reply(operation, Outcome::new(OutcomeKind::Denied, "no worker is ready"));
                }
            }
            Verb::RunSchedule { name } => {
                let outcome = self.run_schedule(name, now);
                self.reply(operation, outcome);
            }
        }
    }

    /// The operation itself if its caller waits; otherwise replies at once.
    fn waits_or_reply(&mut self, operation: OperationId, no_wait: bool, doing: &str) -> Vec<OperationId> {
        if no_wait {
            self.reply(operation, Outcome::new(OutcomeKind::Started, doing));
            Vec::new()
        } else {
            vec![operation]
        }
    }

    fn begin_drain(&mut self, deadline: Option<Duration>, refuse: bool, now: Mono) {
        let ends = grace_ends(deadline, self.config.drain.grace, now);
        match &mut self.drain {
            // A second drain may move the deadline and close the door, but not the line.
            Some(drain) => {
                drain.ends = Some(ends);
                drain.refuse |= refuse;
            }
            None => {
                let line = self.requests.next_seq();
                self.drain =
                    Some(Drain { line, ends: Some(ends), since: now, refuse, complete: false, operations: Vec::new() });
                self.standing = Standing::Drained;
                self.persist();
                self.record("draining", format!("draining for the operator, at most {}", spoken(ends - now)));
            }
        }
    }

    fn resume(&mut self, now: Mono) -> Outcome {
        let mut undone = Vec::new();
        if let Some(drain) = self.drain.take() {
            undone.push(if drain.complete { "the drained state" } else { "the drain" });
            self.standing = Standing::Serve;
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
        self.last_busy = now;
        if undone.is_empty() {
            return Outcome::new(
                OutcomeKind::Denied,
                "there is nothing to resume from; the worker is already stopping",
            );
        }
        let message = format!("resumed: {} ended", undone.join(" and "));
        self.record("resumed", message.clone());
        Outcome::new(OutcomeKind::Done, message)
    }

    /// Replaces the worker, one after the other.
    fn restart(&mut self, reason: &str, line: u64, deadline: Mono, operations: Vec<OperationId>, now: Now) {
        self.asleep = false;
        self.record("restart", format!("{reason}: the worker is replaced"));
        let reason = reason.to_owned();
        let purpose = Purpose::Restart;
        self.retire(Retirement { purpose, reason, line, deadline, since: now.mono, operations }, now);
    }

    fn unload(
        &mut self,
        reason: &str,
        line: u64,
        deadline: Mono,
        at_once: bool,
        operations: Vec<OperationId>,
        now: Now,
    ) {
        self.asleep = false;
        let waiting = std::mem::take(&mut self.awaiting_ready);
        self.reply_all(waiting, &Outcome::new(OutcomeKind::Failed, "overtaken by an unload"));
        self.record("unload", format!("{reason}: the model is unloaded"));
        let purpose = Purpose::Unload { now: at_once };
        let reason = reason.to_owned();
        self.retire(Retirement { purpose, reason, line, deadline, since: now.mono, operations }, now);
    }

    fn plan(&self) -> Outcome {
        let footprint = self.worker.as_ref().and_then(|worker| worker.footprint_bytes);
        #[expect(clippy::cast_precision_loss, reason = "for people")]
        let message = match footprint {
            Some(held) => format!(
                "sequential: requests wait while the worker stops ({} come back) and the next one loads",
                bytes(held as f64)
            ),
            None => "sequential: requests wait while the worker stops and the next one loads".to_owned(),
        };
        let mut outcome = Outcome::new(OutcomeKind::Done, message);
        if let Some(worker) = self.worker.as_ref().filter(|worker| worker.is_ready()) {
            let load = worker.load_time(worker.ready_at.unwrap_or_default());
            outcome = outcome.with_fact("last_load_s", load.as_secs_f64());
        }
        outcome
    }

    /// Asks the worker to drop its free buffers. Returns false when there is none to ask.
    fn clear_cache(&mut self) -> bool {
        match self.worker.as_ref().filter(|worker| worker.is_ready()) {
            Some(worker) => {
                self.actions.push(Action::ClearCache { generation: worker.generation });
                true
            }
            None => false,
        }
    }

    pub(super) fn cache_cleared(&mut self, generation: Generation, result: &Result<CacheCleared, String>) {
        if self.worker.as_ref().is_none_or(|worker| worker.generation != generation) {
            return;
        }
        let outcome = match result {
            Ok(CacheCleared { before_bytes: Some(before), after_bytes: Some(after) }) => {
                #[expect(clippy::cast_precision_loss, reason = "for people")]
                let (before, after) = (*before as f64, *after as f64);
                Outcome::new(OutcomeKind::Done, format!("MLX cache: {} → {}", bytes(before), bytes(after)))
                    .with_fact("before_bytes", before)
                    .with_fact("after_bytes", after)
            }
            Ok(_) => Outcome::new(OutcomeKind::Done, "MLX cache cleared"),
            Err(why) => Outcome::new(OutcomeKind::Failed, format!("the cache was not cleared: {why}")),
        };
        self.record("cache_cleared", outcome.message.clone());
        let waiting = std::mem::take(&mut self.awaiting_clear);
        self.reply_all(waiting, &outcome);
    }

    pub(super) fn sampled(&mut self, sample: &Sample, now: Now) {
        for Fired { rule, action, why } in self.rules.evaluate(sample, now.mono) {
            self.record("rule_fired", format!("{rule}: {why}"));
            self.act(action, &format!("rule {rule}"), 0, now);
        }
    }

    /// Carries out what a rule or a schedule asks; says so where the state forbids it.
    fn act(&mut self, action: Asked, reason: &str, line: u64, now: Now) {
        let verb = match action {
            Asked::Warn | Asked::Refuse => return,
            Asked::ClearCache => Verb::ClearCache,
            Asked::Restart(_) => Verb::Restart { mode: RestartAsked::Auto, plan: false, no_wait: true },
            Asked::Unload => Verb::Unload { now: false, no_wait: true },
            Asked::Load => Verb::Load { no_wait: true },
            Asked::TrimPrefixCache | Asked::Canary => {
                self.record("action_skipped", format!("{reason}: this worker keeps no prefix cache and has no canary"));
                return;
            }
        };
        if let Permit::Denied(why) | Permit::Already(why) = permit(&verb, self.state()) {
            self.record("action_skipped", format!("{reason}: {why}"));
            return;
        }
        let deadline = now.mono + self.config.drain.grace;
        match action {
            Asked::ClearCache => {
                self.clear_cache();
            }
            Asked::Restart(RestartMode::Auto | RestartMode::Sequential | RestartMode::Overlap) => {
                self.restart(reason, line, deadline, Vec::new(), now);
            }
            Asked::Unload => self.unload(reason, line, deadline, false, Vec::new(), now),
            Asked::Load => {
                self.standing = Standing::Serve;
                self.persist();
                self.respawn = Some(Respawn::at_once(now.mono));
            }
            Asked::Warn | Asked::Refuse | Asked::TrimPrefixCache | Asked::Canary => {}
        }
    }

    pub(super) fn schedule_due(&mut self, name: &str, nominal: Wall, now: Mono) {
        let dice = self.roll();
        let Some(schedule) = self.config.schedules.iter().find(|schedule| schedule.name == name) else { return };
        let uptime = self.worker.as_ref().and_then(|worker| worker.ready_at).map(|ready| now - ready);
        if let Some(uptime) = uptime.filter(|uptime| *uptime < schedule.min_uptime) {
            let message = format!(
                "{name}: the worker is only {} old (min_uptime {})",
                spoken(uptime),
                spoken(schedule.min_uptime)
            );
            self.record("schedule_skipped", message);
            return;
        }
        if self.agenda.came_due(schedule, nominal, dice, now) {
            self.record("schedule_due", format!("{name} is due"));
        }
    }

    fn run_schedule(&mut self, name: &str, now: Now) -> Outcome {
        let Some(schedule) = self.config.schedules.iter().find(|schedule| schedule.name == name) else {
            let known: Vec<&str> = self.config.schedules.iter().map(|schedule| schedule.name.as_str()).collect();
            let message = format!("there is no schedule `{name}`; there are: {}", known.join(", "));
            return Outcome::new(OutcomeKind::Denied, message);
        };
        let action = schedule.action;
        self.act(action, &format!("schedule {name}"), self.requests.next_seq(), now);
        Outcome::new(OutcomeKind::Started, format!("{name}: as at its hour"))
    }

    pub(super) fn settle_agenda(&mut self, now: Now) {
        loop {
            let quiet = self.requests.is_empty();
            let free =
                self.retirement.is_none() && matches!(self.state(), State::Serving | State::Drained | State::Asleep);
            let Some((due, choice)) = self.agenda.settle(quiet, free, now.mono) else { return };
            match choice {
                Choice::Act => {
                    let line = self.requests.next_seq();
                    self.act(due.action, &format!("schedule {}", due.name), line, now);
                }
                Choice::Skip => {
                    self.record("schedule_skipped", format!("{}: no quiet moment in its window", due.name));
                }
                Choice::Wait => return,
            }
        }
    }

    pub(super) fn idle_deadline(&self) -> Option<Mono> {
        let after = self.config.worker.idle_unload?;
        let resting = self.worker_is_ready()
            && self.requests.is_empty()
            && self.retirement.is_none()
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

    pub(super) fn stop_asked(&mut self, keep_worker: bool, now: Now) {
        if self.stopping.is_some() {
            if let Some(retirement) = self.retirement.as_mut() {
                retirement.deadline = now.mono;
            }
            self.record("stop_hurried", "a second signal: the drain is skipped");
            return;
        }
        self.stopping = Some(Stopping { keep_worker });
        self.respawn = None;
        self.parked = None;
        self.record("stopping", "asked to stop");
        let waiting = std::mem::take(&mut self.awaiting_ready);
        self.reply_all(waiting, &Outcome::new(OutcomeKind::Failed, "the daemon is stopping"));
        let operations = self.retirement.take().map_or_else(Vec::new, |retirement| retirement.operations);
        self.reply_all(operations, &Outcome::new(OutcomeKind::Failed, "the daemon is stopping"));
        let retirement = Retirement {
            purpose: Purpose::Stop,
            reason: "stop".to_owned(),
            line: 0,
            deadline: now.mono + self.config.drain.grace,
            since: now.mono,
            operations: Vec::new(),
        };
        // A worker that is kept and still loading has nothing to finish: it is left as it is.
        if self.worker_is_ready() || (self.worker.is_some() && !keep_worker) {
            self.retire(retirement, now);
        }
    }

    pub(super) fn exit_if_stopped(&mut self, now: Mono) {
        let Some(stopping) = self.stopping else { return };
        let over = self.retirement.as_ref().is_none_or(|retirement| now >= retirement.deadline);
        if self.worker.is_none() || (stopping.keep_worker && (over || self.requests.in_flight() == 0)) {
            self.refuse_all();
            self.actions.push(Action::Exit);
        }
    }
}
