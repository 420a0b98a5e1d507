//! Schedules whose time has come and that wait for a good moment.
//!
//! The daemon says when a nominal time is reached; this decides when, or whether, it is acted on.

use std::time::Duration;

use super::time::{Mono, Wall};
use crate::config::{Action, IfBusy, Schedule};

/// Longest time for which another operation may hold back a firing that is to run when its window is over. A load of the
/// largest models takes minutes, a stop ladder too.
const HELD_BACK_MAX: Duration = Duration::from_secs(1800);

/// A firing that waits.
#[derive(Debug, Clone, PartialEq)]
pub struct Due {
    /// The schedule's name.
    pub name: String,
    /// What is to be done.
    pub action: Action,
    /// The latest nominal time it stands for.
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
    /// Leave it out: no quiet moment came in its window.
    SkipBusy,
    /// Leave it out: another operation was under way all the time.
    SkipHeldBack,
    /// Look again at its next deadline, or when the service becomes quiet.
    Wait,
}

/// Firings that wait, in the order they came due.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Agenda {
    due: Vec<Due>,
}

impl Agenda {
    /// Takes in a firing. One of a schedule that still waits is coalesced with the one that waits, which is then `false`.
    pub fn came_due(&mut self, schedule: &Schedule, nominal: Wall, dice: u64, now: Mono) -> bool {
        if let Some(waiting) = self.due.iter_mut().find(|due| due.name == schedule.name) {
            waiting.nominal = nominal;
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

    /// Follows a reload: forgets firings of schedules that are gone; the others do what the new list says.
    pub fn follow(&mut self, schedules: &[Schedule]) {
        self.due.retain_mut(|due| {
            if due.name == super::recycle::NAME {
                return true;
            }
            let Some(schedule) = schedules.iter().find(|schedule| schedule.name == due.name) else { return false };
            due.action = schedule.action;
            due.if_busy = schedule.if_busy;
            due.quiet_until = due.not_before + schedule.wait_for_idle;
            true
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
        let turns = |due: &Due| [due.not_before, due.quiet_until, due.quiet_until + HELD_BACK_MAX];
        self.due.iter().filter_map(|due| turns(due).into_iter().find(|turn| now < *turn)).min()
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
    match (due.if_busy, free) {
        (IfBusy::Run, true) => Choice::Act,
        (IfBusy::Run, false) if now < due.quiet_until + HELD_BACK_MAX => Choice::Wait,
        (IfBusy::Skip, true) => Choice::SkipBusy,
        (IfBusy::Run | IfBusy::Skip, false) => Choice::SkipHeldBack,
    }
}

#[cfg(test)]
mod tests {
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
        assert_eq!(choose(&due(IfBusy::Skip), false, true, Mono(61_000)), Choice::SkipBusy);
    }

    #[test]
    fn another_operation_is_never_interrupted() {
        let end = Mono(61_000) + HELD_BACK_MAX;
        for (now, run, skip) in [
            (Mono(2_000), Choice::Wait, Choice::Wait),
            (Mono(61_000), Choice::Wait, Choice::SkipHeldBack),
            (Mono(end.0 - 1), Choice::Wait, Choice::SkipHeldBack),
            (end, Choice::SkipHeldBack, Choice::SkipHeldBack),
        ] {
            assert_eq!(choose(&due(IfBusy::Run), true, false, now), run, "{now:?}");
            assert_eq!(choose(&due(IfBusy::Skip), true, false, now), skip, "{now:?}");
        }
    }

    #[test]
    fn every_turn_of_a_choice_has_a_deadline() {
        let agenda = Agenda { due: vec![due(IfBusy::Run)] };
        let end = Mono(61_000) + HELD_BACK_MAX;
        for (now, deadline) in [(0, 1_000), (1_000, 61_000), (60_999, 61_000), (61_000, end.0)] {
            assert_eq!(agenda.deadline(Mono(now)), Some(Mono(deadline)), "{now}");
        }
        assert_eq!(agenda.deadline(end), None);
    }
}
