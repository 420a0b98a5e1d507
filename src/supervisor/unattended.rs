//! What rules and schedules ask for, with nobody at the keyboard.

use std::time::Duration;

use super::agenda::Choice;
use super::event::CacheKind;
use super::memory_gate::{Machine, whole};
use super::permits::{Permit, permit};
use super::retirement::{Purpose, Retirement};
use super::rules::{Fired, Parked};
use super::time::{Mono, Now, Wall};
use super::verbs::{Outcome, OutcomeKind, RestartAsked, Verb};
use super::{Supervisor, recycle, spoken};
use crate::config::{Action as Asked, RestartMode, Schedule};
use crate::control::view::State;
use crate::memory::{Metric, Sample};

/// The built-in rule whose meaning depends on the state: where requests are made to wait, waiting proves nothing.
const REFUSING: &str = "refusing-without-progress";

/// Who asks, and for how much.
struct Asking {
    /// `rule cold-weights`, `schedule nightly`.
    reason: String,
    /// Requests that arrived before this are still served; 0: none that is not running.
    line: u64,
    /// How long after it streams that cannot be continued may be ended.
    break_streams_after: Option<Duration>,
}

impl Asking {
    fn to_the_line(reason: String, line: u64) -> Self {
        Self { reason, line, break_streams_after: None }
    }
}

impl Supervisor {
    pub(super) fn sampled(&mut self, sample: &Sample, now: Now) {
        self.machine = Machine::of(sample, now.mono);
        self.kv_bytes = sample.get(Metric::KvBytes).map(whole);
        self.prefix_bytes = sample.get(Metric::PrefixCacheBytes).map(whole);
        self.footprint = sample.get(Metric::WorkerFootprint).map(|bytes| (whole(bytes), now.mono));
        if let (Some(worker), Some(speed)) = (&self.worker, sample.get(Metric::SpeedDecode))
            && let Some(ready_at) = worker.ready_at
        {
            self.wear.speed(worker.generation, speed, now.mono - ready_at);
        }
        self.learn_wired();
        self.look_at_stranded(now.mono);
        self.judge_overlap_pressure(now.mono);
        for Fired { rule, action, why, break_streams_after } in self.rules.evaluate(sample, now.mono) {
            self.record("rule_fired", format!("{rule}: {why}"));
            if rule == REFUSING && self.state() != State::Serving {
                let state = self.state().as_str();
                self.record("action_skipped", format!("rule {rule}: requests wait because the service is {state}"));
                self.rules.skipped(&rule);
                continue;
            }
            let asked = Asking { reason: format!("rule {rule}"), line: 0, break_streams_after };
            if self.rules.would_undo(action, now.mono) {
                let why = "a rule did the opposite less than its cooldown ago";
                self.record("action_skipped", format!("{}: {why}", asked.reason));
                self.rules.skipped(&rule);
                continue;
            }
            match self.act(action, &asked, now) {
                Ok(()) => self.rules.acted(&rule, action, now.mono),
                Err(why) => {
                    self.record("action_skipped", format!("{}: {why}", asked.reason));
                    self.rules.skipped(&rule);
                }
            }
        }
        for Parked { rule, why } in self.rules.take_parked() {
            self.record("rule_parked", format!("{rule}: {why}"));
        }
    }

    /// Carries out what a rule or a schedule asks; where the state forbids it, says why.
    fn act(&mut self, action: Asked, asking: &Asking, now: Now) -> Result<(), String> {
        let verb = match action {
            Asked::Warn | Asked::Refuse => return Ok(()),
            Asked::Canary => {
                let asked = self.ask_canary(now.mono);
                return if asked { Ok(()) } else { Err("no worker is ready, or it is being asked already".to_owned()) };
            }
            Asked::TrimPrefixCache if self.prefix_bytes.is_none() => {
                return Err("this worker reports no prefix cache".to_owned());
            }
            Asked::TrimPrefixCache if self.prefix_bytes == Some(0) => {
                return Err("the prefix cache is empty already".to_owned());
            }
            // There is no verb for the other: it is allowed wherever this one is.
            Asked::ClearCache | Asked::TrimPrefixCache => Verb::ClearCache,
            Asked::Restart(_) => Verb::Restart { mode: RestartAsked::Auto, plan: false, no_wait: true },
            Asked::Unload => Verb::Unload { now: false, no_wait: true },
            Asked::Load => Verb::Load { no_wait: true },
        };
        if self.unconfigured.is_some() || self.upgrade.is_some() {
            return Err("the daemon itself is being changed".to_owned());
        }
        let state = self.state();
        if let Permit::Denied(why) | Permit::Already(why) = permit(&verb, state) {
            return Err(why.to_owned());
        }
        let deadline = now.mono + self.config.drain.grace;
        match action {
            Asked::ClearCache => {
                self.clear_cache(CacheKind::Buffers, None, now.mono);
            }
            Asked::TrimPrefixCache => {
                self.clear_cache(CacheKind::Prefixes, None, now.mono);
            }
            Asked::Restart(mode) => match state {
                // Operators may cut a load, a backoff or parking short. Nobody else: it would loop, or bypass the budget.
                State::Starting => return Err("a worker is starting anyway".to_owned()),
                State::Asleep => return Err("asleep; the next worker is a new one anyway".to_owned()),
                State::Parked => return Err("parked after too many crashes".to_owned()),
                _ => return self.restart_unattended(mode, asking, now),
            },
            Asked::Unload => self.unload(&asking.reason, asking.line, deadline, false, Vec::new(), now),
            Asked::Load if self.worker.is_some() || self.present_retirement().is_some() => {
                return Err("a worker is there, or on its way out".to_owned());
            }
            Asked::Load => self.load(now.mono),
            Asked::Warn | Asked::Refuse | Asked::Canary => {}
        }
        Ok(())
    }

    /// A restart nobody watches: it must be sure to come back.
    fn restart_unattended(&mut self, mode: RestartMode, asking: &Asking, now: Now) -> Result<(), String> {
        let mode = match mode {
            RestartMode::Auto | RestartMode::Overlap => RestartAsked::Auto,
            RestartMode::Sequential => RestartAsked::Sequential,
        };
        let plan = self.plan(mode)?;
        if plan.overlap {
            self.begin_overlap(&asking.reason, &plan.because, Vec::new(), now);
            return Ok(());
        }
        self.would_come_back()?;
        let grace = self.config.drain.grace;
        let (patience, cuts) = match asking.break_streams_after {
            Some(after) if !self.hands_on() => (after.max(grace), true),
            _ => (grace, false),
        };
        let retirement = Retirement {
            purpose: Purpose::Restart { now: cuts },
            reason: asking.reason.clone(),
            line: asking.line,
            deadline: now.mono + patience,
            since: now.mono,
            operations: Vec::new(),
        };
        self.restart(retirement, &plan.because, now);
        Ok(())
    }

    /// As `act`, with the refusal in the events.
    fn act_or_record(&mut self, action: Asked, asking: &Asking, now: Now) {
        if let Err(why) = self.act(action, asking, now) {
            self.record("action_skipped", format!("{}: {why}", asking.reason));
        }
    }

    pub(super) fn schedule_due(&mut self, name: &str, nominal: Wall, now: Mono) {
        let dice = self.roll();
        let Some(schedule) = self.config.schedules.iter().find(|schedule| schedule.name == name) else { return };
        if let Some(young) = self.too_young(name, now) {
            self.record("schedule_skipped", young);
            self.schedule_done(name, nominal);
        } else if self.agenda.came_due(schedule, nominal, dice, now) {
            self.record("schedule_due", format!("{name} is due"));
        } else {
            self.record(
                "schedule_skipped",
                format!("{name}: its last firing still waits for its moment; they are one"),
            );
        }
    }

    /// The worker is younger than the schedule wants, in words. Asked when a firing comes due and again when it is acted
    /// on: in between the worker may have died.
    fn too_young(&self, name: &str, now: Mono) -> Option<String> {
        let schedule = self.config.schedules.iter().find(|schedule| schedule.name == name)?;
        let uptime = now - self.worker.as_ref()?.ready_at?;
        (uptime < schedule.min_uptime).then(|| {
            let (uptime, least) = (spoken(uptime), spoken(schedule.min_uptime));
            format!("{name}: the worker is only {uptime} old (min_uptime {least})")
        })
    }

    /// This nominal time was acted on or left out: no later daemon makes up for it. While a firing waits for its moment
    /// it is not done, so that `missed` decides about it if the daemon ends before.
    pub(super) fn schedule_done(&mut self, name: &str, nominal: Wall) {
        if self.config.schedules.iter().any(|schedule| schedule.name == name) {
            self.kept.firings.insert(name.to_owned(), nominal);
            self.persist();
        }
    }

    /// A schedule that has never fired counts from the moment it was first seen: else one whose time always finds the
    /// machine switched off would never be made up for.
    pub(super) fn begin_schedules(&mut self, now: Wall) {
        let known = self.kept.firings.len();
        for schedule in &self.config.schedules {
            self.kept.firings.entry(schedule.name.clone()).or_insert(now);
        }
        if self.kept.firings.len() != known {
            self.persist();
        }
    }

    /// A reload: what is gone is forgotten, and an expression that changed counts from now, as in the timetable.
    pub(super) fn follow_schedules(&mut self, schedules: &[Schedule], now: Wall) {
        self.agenda.follow(schedules);
        let before = self.kept.firings.clone();
        self.kept.firings.retain(|name, _| schedules.iter().any(|schedule| schedule.name == *name));
        for schedule in schedules {
            let old = self.config.schedules.iter().find(|old| old.name == schedule.name);
            if old.is_some_and(|old| old.when != schedule.when) {
                self.kept.firings.remove(&schedule.name);
            }
            self.kept.firings.entry(schedule.name.clone()).or_insert(now);
        }
        if self.kept.firings != before {
            self.persist();
        }
    }

    pub(super) fn run_schedule(&mut self, name: &str, now: Now) -> Outcome {
        let Some(schedule) = self.config.schedules.iter().find(|schedule| schedule.name == name) else {
            let known: Vec<&str> = self.config.schedules.iter().map(|schedule| schedule.name.as_str()).collect();
            let message = format!("there is no schedule `{name}`; there are: {}", known.join(", "));
            return Outcome::new(OutcomeKind::Denied, message);
        };
        let action = schedule.action;
        let asking = Asking::to_the_line(format!("schedule {name}"), self.requests.next_seq());
        match self.act(action, &asking, now) {
            Ok(()) => Outcome::new(OutcomeKind::Started, format!("{name}: as at its hour")),
            Err(why) => Outcome::new(OutcomeKind::Denied, format!("{name} would be skipped now: {why}")),
        }
    }

    pub(super) fn settle_agenda(&mut self, now: Now) {
        loop {
            let quiet = self.requests.is_empty();
            let state = self.state();
            // Where no worker is coming by itself, waiting gains nothing: the action is tried and says why not.
            let free = self.present_retirement().is_none()
                && self.upgrade.is_none()
                && match state {
                    State::Serving | State::Drained | State::Asleep | State::Unloaded => true,
                    State::Parked | State::Stranded => true,
                    State::Starting | State::Handover | State::Draining | State::Stopping => false,
                };
            let Some((due, choice)) = self.agenda.settle(quiet, free, now.mono) else { return };
            if due.name != recycle::NAME {
                self.schedule_done(&due.name, due.nominal);
            }
            match choice {
                Choice::Act => {
                    if let Some(young) = self.too_young(&due.name, now.mono) {
                        self.record("schedule_skipped", young);
                        continue;
                    }
                    let reason = match due.name.as_str() {
                        recycle::NAME => due.name.clone(),
                        name => format!("schedule {name}"),
                    };
                    let asking = Asking::to_the_line(reason, self.requests.next_seq());
                    self.act_or_record(due.action, &asking, now);
                }
                Choice::SkipBusy => {
                    self.record("schedule_skipped", format!("{}: no quiet moment in its window", due.name));
                }
                Choice::SkipHeldBack => {
                    let message =
                        format!("{}: the service was not free in its window; it is {}", due.name, state.as_str());
                    self.record("schedule_skipped", message);
                }
                Choice::Wait => return,
            }
        }
    }
}
