//! What rules and schedules ask for, with nobody at the keyboard.

use super::agenda::Choice;
use super::permits::{Permit, permit};
use super::rules::Fired;
use super::time::{Mono, Now, Wall};
use super::verbs::{Outcome, OutcomeKind, RestartAsked, Verb};
use super::{Supervisor, spoken};
use crate::config::{Action as Asked, RestartMode};
use crate::control::view::State;
use crate::memory::Sample;

impl Supervisor {
    pub(super) fn sampled(&mut self, sample: &Sample, now: Now) {
        for Fired { rule, action, why } in self.rules.evaluate(sample, now.mono) {
            self.record("rule_fired", format!("{rule}: {why}"));
            self.act_or_record(action, &format!("rule {rule}"), 0, now);
        }
    }

    /// Carries out what a rule or a schedule asks; where the state forbids it, says why.
    fn act(&mut self, action: Asked, reason: &str, line: u64, now: Now) -> Result<(), &'static str> {
        let verb = match action {
            Asked::Warn | Asked::Refuse => return Ok(()),
            Asked::ClearCache => Verb::ClearCache,
            Asked::Restart(_) => Verb::Restart { mode: RestartAsked::Auto, plan: false, no_wait: true },
            Asked::Unload => Verb::Unload { now: false, no_wait: true },
            Asked::Load => Verb::Load { no_wait: true },
            Asked::TrimPrefixCache | Asked::Canary => {
                return Err("this worker keeps no prefix cache and has no canary");
            }
        };
        let state = self.state();
        if let Permit::Denied(why) | Permit::Already(why) = permit(&verb, state) {
            return Err(why);
        }
        let deadline = now.mono + self.config.drain.grace;
        match action {
            Asked::ClearCache => {
                self.clear_cache();
            }
            Asked::Restart(RestartMode::Auto | RestartMode::Sequential | RestartMode::Overlap) => match state {
                // Operators may cut a load, a backoff or parking short. Nobody else: it would loop, or bypass the budget.
                State::Starting => return Err("a worker is starting anyway"),
                State::Asleep => return Err("asleep; the next worker is a new one anyway"),
                State::Parked => return Err("parked after too many crashes"),
                _ => self.restart(reason, line, deadline, false, Vec::new(), now),
            },
            Asked::Unload => self.unload(reason, line, deadline, false, Vec::new(), now),
            Asked::Load if self.worker.is_some() => return Err("a worker is there"),
            Asked::Load => self.load(now.mono),
            Asked::Warn | Asked::Refuse | Asked::TrimPrefixCache | Asked::Canary => {}
        }
        Ok(())
    }

    /// As `act`, with the refusal in the events.
    fn act_or_record(&mut self, action: Asked, reason: &str, line: u64, now: Now) {
        if let Err(why) = self.act(action, reason, line, now) {
            self.record("action_skipped", format!("{reason}: {why}"));
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

    pub(super) fn run_schedule(&mut self, name: &str, now: Now) -> Outcome {
        let Some(schedule) = self.config.schedules.iter().find(|schedule| schedule.name == name) else {
            let known: Vec<&str> = self.config.schedules.iter().map(|schedule| schedule.name.as_str()).collect();
            let message = format!("there is no schedule `{name}`; there are: {}", known.join(", "));
            return Outcome::new(OutcomeKind::Denied, message);
        };
        let action = schedule.action;
        match self.act(action, &format!("schedule {name}"), self.requests.next_seq(), now) {
            Ok(()) => Outcome::new(OutcomeKind::Started, format!("{name}: as at its hour")),
            Err(why) => Outcome::new(OutcomeKind::Denied, format!("{name} would be skipped now: {why}")),
        }
    }

    pub(super) fn settle_agenda(&mut self, now: Now) {
        loop {
            let quiet = self.requests.is_empty();
            let free = self.retirement.is_none()
                && matches!(self.state(), State::Serving | State::Drained | State::Asleep | State::Unloaded);
            let Some((due, choice)) = self.agenda.settle(quiet, free, now.mono) else { return };
            match choice {
                Choice::Act => {
                    let line = self.requests.next_seq();
                    self.act_or_record(due.action, &format!("schedule {}", due.name), line, now);
                }
                Choice::Skip => {
                    self.record("schedule_skipped", format!("{}: no quiet moment in its window", due.name));
                }
                Choice::Wait => return,
            }
        }
    }
}
