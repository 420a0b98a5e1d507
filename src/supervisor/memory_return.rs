//! After a worker's end: did its memory come back?
//!
//! ```text
//! WorkerExited ─▶ Reclaim ── wired memory is back ─▶ what the end was for: next worker, unloaded, asleep …
//!                    └────── 30 s later it is not ──▶ stranded: no start until it is back (or the machine rebooted)
//! ```
//! A hard kill of a process that holds a large wired model can leave the memory wired until reboot; starting the next
//! one on top of it again and again is how a machine freezes. Where the system reports no wired memory, or nothing is
//! known from before the worker's start, there is nothing to wait for.
//!
//! Others wire memory too, and hours lie between a worker's start and its end. So memory counts as back when wired memory
//! has fallen to what it was before the start, or by what the worker had wired itself, or when as much more is available
//! as the worker weighed.

use std::time::Duration;

use super::failure::{Failure, FailureClass};
use super::memory_gate::{Machine, spoken_bytes};
use super::retirement::Retirement;
use super::time::{Mono, Now};
use super::verbs::{Outcome, OutcomeKind};
use super::worker_life::Worker;
use super::{Action, Generation, Standing, Supervisor, spoken};

/// How long memory may take to come back. Clean exits of 424 GB took seconds.
const PATIENCE: Duration = Duration::from_secs(30);

/// Wired memory of others moves too: smaller differences prove nothing.
const LEAST_RESIDUE: u64 = 64 << 20;

/// A worker is gone; its memory is awaited.
#[derive(Debug, Clone, PartialEq)]
pub struct Reclaim {
    /// Whose.
    pub generation: Generation,
    /// What it weighed, bytes.
    pub footprint_bytes: u64,
    /// Wired on the machine before it started.
    pub wired_before: Option<u64>,
    /// What it had wired itself.
    pub wired_itself: Option<u64>,
    /// The machine when it was told to stop, or last seen alive.
    pub machine_before: Option<Machine>,
    /// Its exit.
    pub since: Mono,
    /// Judged then at the latest.
    pub deadline: Mono,
    /// What happens once the memory is back.
    pub then: Then,
}

/// What a worker's end was for.
#[derive(Debug, Clone, PartialEq)]
pub enum Then {
    /// A planned end.
    Retired(Retirement),
    /// It failed.
    Failed {
        /// It.
        worker: Box<Worker>,
        /// How.
        failure: Failure,
    },
    /// Nothing depends on it: another worker serves.
    Settled,
}

/// Memory of a dead worker that has not come back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stranded {
    /// How much, bytes.
    pub bytes: u64,
    /// What wired memory must fall to …
    pub target: u64,
    /// … or this far below the most that was seen since: others may have wired more meanwhile.
    pub most: u64,
    /// Since when.
    pub since: Mono,
}

impl Supervisor {
    /// A worker is gone. `then` happens as soon as its memory is back.
    pub(super) fn reclaim(&mut self, worker: &Worker, then: Then, now: Now) {
        let reclaim = Reclaim {
            generation: worker.generation,
            footprint_bytes: worker.footprint_bytes.unwrap_or(0),
            wired_before: worker.wired_before,
            wired_itself: worker.wired_itself,
            machine_before: worker.machine_at_stop.or(self.machine),
            since: now.mono,
            deadline: now.mono + PATIENCE,
            then,
        };
        if self.machine.is_none() || self.stopping.is_some() {
            self.reclaimed(reclaim, now);
        } else {
            self.reclaim = Some(reclaim);
            self.actions.push(Action::Sample);
        }
    }

    /// Looks whether the memory awaited is back.
    pub(super) fn advance_reclaim(&mut self, now: Now) {
        let Some(reclaim) = &self.reclaim else { return };
        let fresh = self.machine.filter(|machine| machine.at >= reclaim.since);
        let overdue = now.mono >= reclaim.deadline;
        if fresh.is_none() && !overdue {
            return;
        }
        let residue = fresh.and_then(|machine| self.residue(reclaim, machine));
        if residue.is_some() && !overdue {
            return;
        }
        let Some(reclaim) = self.reclaim.take() else { return };
        match residue {
            None => self.reclaimed(reclaim, now),
            Some(bytes) => self.strand(reclaim, bytes, now),
        }
    }

    /// What is still wired beyond what was before, if that is too much. Living workers may have wired what they weigh.
    fn residue(&self, reclaim: &Reclaim, machine: Machine) -> Option<u64> {
        let (wired, before) = (machine.wired?, reclaim.wired_before?);
        let weight = reclaim.footprint_bytes;
        let risen = reclaim.machine_before.map(|earlier| machine.available.saturating_sub(earlier.available));
        if weight > 0 && risen.is_some_and(|risen| risen >= weight / 10 * 9) {
            return None;
        }
        let living: u64 = self.workers().filter_map(|worker| worker.footprint_bytes).sum();
        let at_stop = reclaim.machine_before.and_then(|machine| machine.wired);
        let fallen = at_stop.zip(reclaim.wired_itself).map(|(wired, own)| wired.saturating_sub(own));
        let expected = before.saturating_add(living).max(fallen.unwrap_or(0));
        // No more can be stranded than it had: the rest is somebody else's.
        let own = reclaim.wired_itself.or((weight > 0).then_some(weight)).unwrap_or(u64::MAX);
        let residue = wired.saturating_sub(expected).min(own);
        let allowed = (before / 20).max(weight / 10).max(LEAST_RESIDUE);
        (residue > allowed).then_some(residue)
    }

    fn reclaimed(&mut self, reclaim: Reclaim, now: Now) {
        let returned = self.returned(&reclaim);
        match reclaim.then {
            Then::Retired(retirement) => self.retired(retirement, returned, now),
            Then::Failed { worker, failure } => self.failed(&worker, failure, now),
            Then::Settled => {}
        }
    }

    /// The proof that memory came back: how much more is available than when the worker was told to stop.
    fn returned(&self, reclaim: &Reclaim) -> Option<Returned> {
        let after = self.machine.filter(|machine| machine.at >= reclaim.since)?.available;
        Some(Returned { before: reclaim.machine_before?.available, after })
    }

    fn strand(&mut self, reclaim: Reclaim, bytes: u64, now: Now) {
        let message = format!(
            "{} of {} that worker {} held are still wired {} after its end",
            spoken_bytes(bytes),
            spoken_bytes(reclaim.footprint_bytes),
            reclaim.generation,
            spoken(now.mono - reclaim.since)
        );
        self.record("memory_stranded", format!("{message}; nothing is started on top of it, a reboot frees it"));
        self.last_failure = Some((Failure::new(FailureClass::Stranded, message.clone()), now.wall));
        let operations = match reclaim.then {
            // Another worker serves, and the gate stands before the next start.
            Then::Settled => return,
            Then::Retired(retirement) => {
                if matches!(retirement.purpose, super::retirement::Purpose::Unload { .. }) {
                    self.stay_unloaded();
                }
                retirement.operations
            }
            Then::Failed { .. } => std::mem::take(&mut self.awaiting_ready),
        };
        self.replacement = None;
        let most = self.machine.and_then(|machine| machine.wired).unwrap_or(0);
        let target = most.saturating_sub(bytes) + LEAST_RESIDUE.max(bytes / 10);
        self.stranded = Some(Stranded { bytes, target, most, since: now.mono });
        self.reply_all(operations, &Outcome::new(OutcomeKind::Failed, format!("stranded: {message}")));
    }

    /// A worker is ready and there is a sample since: what it wired itself is known.
    pub(super) fn learn_wired(&mut self) {
        let Some(Machine { wired: Some(wired), at, .. }) = self.machine else { return };
        for worker in self.workers_mut() {
            let fresh = worker.is_ready() && worker.ready_at.is_some_and(|ready| at >= ready);
            if fresh && worker.wired_itself.is_none() {
                worker.wired_itself = worker.wired_at_spawn.map(|before| wired.saturating_sub(before));
            }
        }
        let serving = self.worker.as_ref().and_then(|worker| worker.wired_itself);
        if serving.is_some() && serving != self.kept.wired_itself {
            self.kept.wired_itself = serving;
            self.persist();
        }
    }

    /// Memory that comes back late ends the lockout.
    pub(super) fn look_at_stranded(&mut self, now: Mono) {
        let Some(wired) = self.machine.and_then(|machine| machine.wired) else { return };
        let Some(stranded) = self.stranded.as_mut() else { return };
        stranded.most = stranded.most.max(wired);
        let fallen = stranded.most.saturating_sub(stranded.bytes - stranded.bytes / 5);
        if wired > stranded.target.max(fallen) {
            return;
        }
        let message = format!("{} came back after {}", spoken_bytes(stranded.bytes), spoken(now - stranded.since));
        self.record("memory_returned", message);
        self.stranded = None;
        if self.kept.standing != Standing::Unloaded && self.parked.is_none() {
            self.respawn = Some(super::succession::Respawn::at_once(now));
        }
    }
}

/// Available memory before a worker was stopped and after it was gone, bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Returned {
    /// Before.
    pub before: u64,
    /// After.
    pub after: u64,
}

impl std::fmt::Display for Returned {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let gained = self.after.saturating_sub(self.before);
        let (before, after) = (spoken_bytes(self.before), spoken_bytes(self.after));
        write!(f, "{} returned, available {before} → {after}", spoken_bytes(gained))
    }
}
