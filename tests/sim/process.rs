//! Worker processes as the kernel and the worker link show them: they load, answer looks, generate, and end badly.

use std::collections::BTreeSet;

use mlxsup::config::Engine;
use mlxsup::supervisor::event::{Answer, Vitals, WorkerFacts};

use crate::machine::{GIB, MIB};
use crate::settings::MODELS;
use crate::timeline::Happening;

/// One process.
#[derive(Debug, Clone)]
pub struct Process {
    pub generation: u64,
    pub pid: u32,
    /// Which of [`MODELS`].
    pub model: usize,
    pub engine: Engine,
    pub born: u64,
    pub load: Load,
    pub load_ms: u64,
    pub ready: bool,
    /// Told over the ready pipe once, by whichever daemon hears it.
    pub weight: u64,
    pub leak: u64,
    /// Given back since SIGTERM.
    pub shrunk: u64,
    pub condition: Condition,
    pub on_terminate: OnTerminate,
    pub terminated: bool,
    pub killed: bool,
    pub unkillable_until: u64,
    pub steps: u64,
    pub cpu_ms: u64,
    pub page_ins: u64,
    /// Last instant at which any witness moved.
    pub moved_at: u64,
    pub looked_at: u64,
    pub looking: bool,
    pub look_wanted: bool,
    pub canary_out: bool,
    pub canary: Canary,
    /// Bad canaries the daemon has heard of.
    pub bad_canaries: u32,
    pub requests: BTreeSet<u64>,
    /// Those of them the engine has finished: the rest of the answer waits for a slow reader.
    pub buffered: BTreeSet<u64>,
    /// What would have happened while it was stopped.
    pub held: Vec<Happening>,
    pub slots: u32,
    /// False for engines that do not say how many sequences they have.
    pub says_sequences: bool,
}

/// How its load ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Load {
    Ready,
    Fails,
    Crashes,
    Hangs,
    /// It downloads first.
    Downloads,
}

/// What ails it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Condition {
    Well,
    /// SIGSTOP: nothing answers, nothing moves.
    Stopped,
    /// Nothing answers, nothing moves, and it is not stopped.
    Deaf,
    /// The status answers, the engine stands still.
    Stalled,
    /// The status counts steps that lead to nothing.
    Lying,
    /// It waits for its pages: nothing answers, no step, no CPU time, only page-ins.
    Thrashing,
}

/// What it does at SIGTERM.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnTerminate {
    Obeys {
        after_ms: u64,
    },
    /// Teardown takes long and shows in the footprint.
    Shrinks {
        per_second: u64,
    },
    Ignores,
    /// It says that it is ready, dying or not.
    SaysReady {
        after_ms: u64,
    },
}

/// What it answers a canary.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Canary {
    Right,
    Wrong,
    Refuses,
}

impl Process {
    pub fn footprint(&self, now: u64) -> u64 {
        let loaded = match self.ready {
            true => self.weight + self.leak,
            false => {
                let share = (now - self.born).min(self.load_ms);
                GIB / 4 + (self.weight - GIB / 4) / self.load_ms.max(1) * share
            }
        };
        loaded.saturating_sub(self.shrunk).max(16 * MIB)
    }

    pub fn wired(&self, now: u64) -> u64 {
        self.footprint(now) / 10 * 9
    }

    /// True while its engine does not run.
    pub fn is_frozen(&self) -> bool {
        self.condition != Condition::Well
    }

    pub fn has_work(&self) -> bool {
        self.canary_out || self.requests.iter().any(|request| !self.buffered.contains(request))
    }

    pub fn answers(&self) -> bool {
        matches!(self.condition, Condition::Well | Condition::Stalled | Condition::Lying)
    }

    /// Something moved now.
    pub fn moves(&mut self, now: u64) {
        self.steps += 1;
        self.cpu_ms += 60;
        self.moved_at = now;
    }

    pub fn facts(&self) -> WorkerFacts {
        WorkerFacts {
            model: MODELS[self.model].to_owned(),
            context_tokens: Some(8192),
            slots: self.slots,
            fingerprint: MODELS[self.model].to_owned(),
            weights_bytes: Some(self.weight / 10 * 9),
            fixed_bytes: Some(64 * MIB),
            wiring: None,
        }
    }

    /// What a look finds at its end.
    pub fn vitals(&mut self, now: u64, patience_ms: u64) -> Vitals {
        let elapsed = now - self.looked_at;
        self.looked_at = now;
        match self.condition {
            Condition::Well if self.has_work() || !self.ready => {
                self.steps += 1;
                self.cpu_ms += 60 + elapsed / 2;
                self.moved_at = now;
            }
            Condition::Lying => {
                self.steps += 1;
                self.moved_at = now;
            }
            Condition::Thrashing => {
                self.page_ins += 1 + elapsed / 10;
                self.moved_at = now;
            }
            Condition::Well | Condition::Stalled => self.cpu_ms += 3,
            Condition::Stopped | Condition::Deaf => {}
        }
        let answer = self.answers().then(|| Answer {
            phase: self.phase(now).to_owned(),
            failure: (self.load == Load::Fails && now >= self.born + self.load_ms).then(|| "no such file".to_owned()),
            bytes_done: if self.ready { self.weight } else { self.footprint(now) },
            bytes_total: self.weight,
            steps: self.steps,
            pending_prefill_tokens: 0,
            sequences: self.says_sequences.then(|| u32::from(self.has_work())),
        });
        Vitals {
            missed: answer.is_none().then(|| format!("no answer in {patience_ms} ms")),
            answer,
            cpu_ms: Some(self.cpu_ms),
            page_ins: Some(self.page_ins),
            stopped: self.condition == Condition::Stopped,
            footprint_bytes: Some(self.footprint(now)),
        }
    }

    fn phase(&self, now: u64) -> &'static str {
        match (self.ready, self.load) {
            // A liar says so before it is true.
            (true, _) => "ready",
            (false, _) if self.condition == Condition::Lying => "ready",
            (false, Load::Downloads) if now < self.born + self.load_ms / 2 => "downloading",
            (false, _) => "loading",
        }
    }
}
