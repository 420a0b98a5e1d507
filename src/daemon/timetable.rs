//! When schedules fire, by the wall clock; whether they act is the core's decision.
//!
//! Looks at the clock at least every 30 s, so that a machine that slept, or whose clock was set, is noticed. Owns these
//! answers:
//!
//! - A nominal time is *due* once. Of several since the last look only the latest is.
//! - One found more than 90 s late was *missed*: the machine slept, the daemon was not running, the clock was set
//!   forward. The schedule says whether the missed ones are left out or made up for by one firing.
//! - A clock set back shows a nominal time again; it does not fire again. Only a firing more than a day ahead of the clock
//!   is disregarded: then the clock had been wrong when it was recorded.
//! - What was fired before the daemon started is told by [`crate::supervisor::Persistent`].
//!
//! Knows no clock: every look brings the time.

use std::collections::BTreeMap;
use std::time::Duration;

use super::clock::rfc3339;
use crate::config::{Missed, Schedule};
use crate::supervisor::{Mono, Now, Wall};

/// Longest time between two looks at the wall clock.
const LOOK_EVERY: Duration = Duration::from_secs(30);

/// A firing found this late was missed.
const MISSED_AFTER_MS: u64 = 90_000;

/// A firing recorded further ahead of the clock than this was recorded by a wrong clock.
const SET_BACK_MAX: Duration = Duration::from_secs(86_400);

/// What a look found out about one schedule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reached {
    /// The schedule.
    pub name: String,
    /// The latest nominal time reached.
    pub nominal: Wall,
    /// Whether it fires now.
    pub fires: bool,
    /// The nominal times that were missed, if any: the first and the last of them.
    pub missed: Option<(Wall, Wall)>,
}

impl Reached {
    /// For the events: what was missed, why that may be, and what becomes of it. `None` when nothing was.
    #[must_use]
    pub fn message(&self) -> Option<String> {
        let (first, last) = self.missed?;
        let when = if first == last { rfc3339(first) } else { format!("{} to {}", rfc3339(first), rfc3339(last)) };
        let fate = match (self.fires, self.nominal == last) {
            (true, true) => "made up for by one firing now",
            (true, false) => "its next time has come meanwhile",
            (false, _) => "left out (`missed = \"run-once\"` would make up for it)",
        };
        let name = &self.name;
        Some(format!("{name}: {when} was missed (asleep, not running, or the clock was set forward); {fate}"))
    }
}

/// The next firing of every schedule.
#[derive(Debug)]
pub struct Timetable {
    schedules: Vec<Schedule>,
    next: Vec<(String, Option<Wall>)>,
    fired: BTreeMap<String, Wall>,
}

impl Timetable {
    /// The timetable as seen from `now`. A schedule with a last firing may have missed some since; one without begins now.
    #[must_use]
    pub fn new(schedules: &[Schedule], last_firings: &BTreeMap<String, Wall>, now: Wall) -> Self {
        let mut timetable = Self { schedules: schedules.to_vec(), next: Vec::new(), fired: last_firings.clone() };
        timetable.fired.retain(|name, _| schedules.iter().any(|schedule| schedule.name == *name));
        for schedule in &timetable.schedules {
            let since = timetable.fired.get(&schedule.name).filter(|fired| is_plausible(**fired, now)).unwrap_or(&now);
            timetable.next.push((schedule.name.clone(), schedule.when.next_after(*since)));
        }
        timetable
    }

    /// Takes over another list. A schedule whose expression stays keeps its next firing, be it overdue; any other begins
    /// now.
    pub fn reload(&mut self, schedules: &[Schedule], now: Wall) {
        let mut fresh = Self::new(schedules, &self.fired, now);
        for (schedule, (name, next)) in fresh.schedules.iter().zip(&mut fresh.next) {
            let old = self.schedules.iter().zip(&self.next).find(|(old, _)| old.name == *name);
            *next = match old {
                Some((old, (_, next))) if old.when == schedule.when => *next,
                Some(_) | None => schedule.when.next_after(floor(fresh.fired.get(name), now)),
            };
        }
        *self = fresh;
    }

    /// Name and next firing, in file order.
    #[must_use]
    pub fn next_firings(&self) -> &[(String, Option<Wall>)] {
        &self.next
    }

    /// What has been reached since the last look, in file order; at most one entry for a schedule.
    pub fn look(&mut self, now: Wall) -> Vec<Reached> {
        let mut found = Vec::new();
        for (schedule, (name, next)) in self.schedules.iter().zip(&mut self.next) {
            let overdue = next.filter(|next| *next <= now);
            if let Some(reached) = overdue.and_then(|next| reached(schedule, next, self.fired.get(name), now)) {
                if reached.fires {
                    self.fired.insert(name.clone(), reached.nominal);
                }
                found.push(reached);
            }
            // Afresh every time: the clock may have been set back, or the machine carried into another zone.
            *next = schedule.when.next_after(floor(self.fired.get(name), now));
        }
        found
    }

    /// The monotonic instant at which `look` should be called again.
    #[must_use]
    pub fn look_again(&self, now: Now) -> Mono {
        let soonest = self.next.iter().filter_map(|(_, next)| *next).min();
        let wait =
            soonest.map_or(LOOK_EVERY, |next| Duration::from_millis(next.0.saturating_sub(now.wall.0)).min(LOOK_EVERY));
        now.mono + wait
    }
}

/// Judges a schedule whose time `next` has come, unless it has fired since (the clock was wrong in between).
fn reached(schedule: &Schedule, next: Wall, fired: Option<&Wall>, now: Wall) -> Option<Reached> {
    let before = Wall(next.0.saturating_sub(1));
    let since = fired.filter(|fired| **fired <= now).map_or(before, |fired| before.max(*fired));
    let first = schedule.when.next_after(since).filter(|first| *first <= now)?;
    let nominal = latest(schedule, first, now);
    let late = Wall(now.0.saturating_sub(MISSED_AFTER_MS + 1));
    let missed = (first <= late).then(|| (first, latest(schedule, first, late)));
    let fires = nominal > late || schedule.missed == Missed::RunOnce;
    Some(Reached { name: schedule.name.clone(), nominal, fires, missed })
}

/// The last nominal time from `first`, which is one, up to `until`. By halving, since a schedule of every second may
/// have been asleep for a year.
fn latest(schedule: &Schedule, first: Wall, until: Wall) -> Wall {
    let (mut latest, mut some, mut none) = (first, Wall(first.0.saturating_sub(1)), until);
    while none.0 - some.0 > 1 {
        let middle = Wall(some.0 + (none.0 - some.0) / 2);
        match schedule.when.next_after(middle).filter(|next| *next <= until) {
            Some(next) => (latest, some) = (next, middle),
            None => none = middle,
        }
    }
    latest
}

fn is_plausible(fired: Wall, now: Wall) -> bool {
    fired <= now + SET_BACK_MAX
}

/// The instant after which the next firing is looked for: the clock's, or the last firing when the clock was set back
/// behind it.
fn floor(fired: Option<&Wall>, now: Wall) -> Wall {
    fired.filter(|fired| is_plausible(**fired, now)).map_or(now, |fired| now.max(*fired))
}

#[cfg(test)]
#[path = "timetable_tests.rs"]
mod tests;
