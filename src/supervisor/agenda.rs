//! Schedules whose time has come and that wait for a good moment.
//!
//! The daemon says when a nominal time is reached; this decides when, or whether, it is acted on.

use super::time::{Mono, Wall};
use crate::config::{Action, IfBusy, Schedule};

/// A firing that waits.
#[derive(Debug, Clone, PartialEq)]
pub struct Due {
    /// The schedule's name.
    pub name: String,
    /// What is to be done.
    pub action: Action,
    /// The nominal time, for people.
    pub nominal: Wall,
    /// Not before this (jitter).
    pub not_before: Mono,
    /// A quiet moment is looked for until then.
    pub quiet_until: Mono,
    /// What happens when none came.
    pub if_busy: IfBusy,
}

/// What to do with a due firing now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Choice {
    /// Act.
    Act,
    /// Leave it out.
    Skip,
    /// Look again at its next deadline, or when the service becomes quiet.
    Wait,
}

/// Firings that wait, in the order they came due.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Agenda {
    due: Vec<Due>,
}

impl Agenda {
    /// Takes in a firing. A second firing of a schedule that still waits is coalesced into the first.
    pub fn came_due(&mut self, schedule: &Schedule, nominal: Wall, dice: u64, now: Mono) -> bool {
        if self.due.iter().any(|due| due.name == schedule.name) {
            return false;
        }
        let jitter_ms = super::time::millis(schedule.jitter);
        let not_before = Mono(now.0 + if jitter_ms == 0 { 0 } else { dice % (jitter_ms + 1) });
        self.due.push(Due {
            name: schedule.name.clone(),
            action: schedule.action,
            nominal,
            not_before,
            quiet_until: not_before + schedule.wait_for_idle,
            if_busy: schedule.if_busy,
        });
        true
    }

    /// Takes in a firing that is no schedule's.
    pub fn add(&mut self, due: Due) {
        self.due.push(due);
    }

    /// True while a firing of this name waits.
    #[must_use]
    pub fn has(&self, name: &str) -> bool {
        self.due.iter().any(|due| due.name == name)
    }

    /// Forgets firings of schedules that a reload removed.
    pub fn keep_only(&mut self, schedules: &[Schedule]) {
        self.due.retain(|due| {
            due.name == super::recycle::NAME || schedules.iter().any(|schedule| schedule.name == due.name)
        });
    }

    /// The first firing that can be settled now, with the choice; removes it.
    pub fn settle(&mut self, quiet: bool, free: bool, now: Mono) -> Option<(Due, Choice)> {
        let index = self.due.iter().position(|due| choose(due, quiet, free, now) != Choice::Wait)?;
        let due = self.due.remove(index);
        let choice = choose(&due, quiet, free, now);
        Some((due, choice))
    }

    /// The next instant at which a choice may change by itself.
    #[must_use]
    pub fn deadline(&self, now: Mono) -> Option<Mono> {
        self.due.iter().map(|due| if now < due.not_before { due.not_before } else { due.quiet_until }).min()
    }
}

/// `quiet`: nothing runs or waits. `free`: no other operation is under way.
fn choose(due: &Due, quiet: bool, free: bool, now: Mono) -> Choice {
    if now < due.not_before {
        return Choice::Wait;
    }
    if free && quiet {
        return Choice::Act;
    }
    if now < due.quiet_until {
        return Choice::Wait;
    }
    match (free, due.if_busy) {
        (true, IfBusy::Run) => Choice::Act,
        (true, IfBusy::Skip) | (false, _) => Choice::Skip,
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn due(if_busy: IfBusy) -> Due {
        Due {
            name: "nightly".to_owned(),
            action: Action::Warn,
            nominal: Wall(0),
            not_before: Mono(1_000),
            quiet_until: Mono(1_000) + Duration::from_secs(60),
            if_busy,
        }
    }

    #[test]
    fn a_quiet_moment_is_taken_after_the_jitter() {
        assert_eq!(choose(&due(IfBusy::Run), true, true, Mono(999)), Choice::Wait);
        assert_eq!(choose(&due(IfBusy::Run), true, true, Mono(1_000)), Choice::Act);
    }

    #[test]
    fn a_busy_service_is_waited_for_then_run_or_skipped() {
        assert_eq!(choose(&due(IfBusy::Run), false, true, Mono(60_999)), Choice::Wait);
        assert_eq!(choose(&due(IfBusy::Run), false, true, Mono(61_000)), Choice::Act);
        assert_eq!(choose(&due(IfBusy::Skip), false, true, Mono(61_000)), Choice::Skip);
    }

    #[test]
    fn another_operation_is_never_interrupted() {
        assert_eq!(choose(&due(IfBusy::Run), true, false, Mono(2_000)), Choice::Wait);
        assert_eq!(choose(&due(IfBusy::Run), true, false, Mono(61_000)), Choice::Skip);
    }
}
