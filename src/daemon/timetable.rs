//! When schedules fire, by the wall clock; whether they act is the core's decision.
//!
//! Looks at the clock at least every 30 s, so that a machine that slept, or whose clock was set, is noticed.

use std::time::Duration;

use crate::config::{Missed, Schedule};
use crate::supervisor::{Mono, Now, Wall};

/// Longest time between two looks at the wall clock.
const LOOK_EVERY: Duration = Duration::from_secs(30);

/// A firing found this late was missed: the machine slept, or the clock was set forward.
const MISSED_AFTER_MS: u64 = 90_000;

/// The next firing of every schedule.
#[derive(Debug)]
pub struct Timetable {
    schedules: Vec<Schedule>,
    next: Vec<(String, Option<Wall>)>,
    looked_at: Wall,
}

impl Timetable {
    /// The timetable as seen from `now`.
    #[must_use]
    pub fn new(schedules: &[Schedule], now: Wall) -> Self {
        let next = schedules.iter().map(|schedule| (schedule.name.clone(), schedule.when.next_after(now))).collect();
        Self { schedules: schedules.to_vec(), next, looked_at: now }
    }

    /// Name and next firing, in file order.
    #[must_use]
    pub fn next_firings(&self) -> &[(String, Option<Wall>)] {
        &self.next
    }

    /// Schedules whose nominal time has come, with that time. Each is returned once; a run of missed ones at most once.
    pub fn due(&mut self, now: Wall) -> Vec<(String, Wall)> {
        // A clock set back would leave `next` too far away; one set forward is caught by the comparison below.
        let set_back = now < self.looked_at;
        self.looked_at = now;
        let mut due = Vec::new();
        for (schedule, (name, next)) in self.schedules.iter().zip(&mut self.next) {
            if let Some(nominal) = *next
                && nominal <= now
            {
                let missed = now.0 - nominal.0 > MISSED_AFTER_MS;
                match (missed, schedule.missed) {
                    (true, Missed::Skip) => tracing::info!(schedule = %name, "missed in sleep, skipped"),
                    (true, Missed::RunOnce) | (false, _) => due.push((name.clone(), nominal)),
                }
                *next = schedule.when.next_after(now);
            } else if set_back {
                *next = schedule.when.next_after(now);
            }
        }
        due
    }

    /// The monotonic instant at which `due` should be asked again.
    #[must_use]
    pub fn look_again(&self, now: Now) -> Mono {
        let soonest = self.next.iter().filter_map(|(_, next)| *next).min();
        let wait =
            soonest.map_or(LOOK_EVERY, |next| Duration::from_millis(next.0.saturating_sub(now.wall.0)).min(LOOK_EVERY));
        now.mono + wait
    }
}
