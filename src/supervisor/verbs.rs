//! What an operator may ask, and how it ends.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// A control verb with its options.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Verb {
    /// Stop assigning to new arrivals; finish what came before.
    Drain {
        /// Instead of `drain.grace`.
        deadline: Option<Duration>,
        /// Refuse new requests rather than queue them.
        refuse: bool,
        /// Reply at once.
        no_wait: bool,
    },
    /// Assign again; also aborts a hand-over that is still draining.
    Resume,
    /// Replace the worker.
    Restart {
        /// How.
        mode: RestartAsked,
        /// Only say what would be done.
        plan: bool,
        /// Reply at once.
        no_wait: bool,
    },
    /// Stop the worker and stay without one.
    Unload {
        /// Do not wait for requests in flight.
        now: bool,
        /// Reply at once.
        no_wait: bool,
    },
    /// Undo `Unload`.
    Load {
        /// Reply at once.
        no_wait: bool,
    },
    /// Drop MLX's free buffers.
    ClearCache,
    /// Put another image of the daemon in the place of this one.
    Upgrade {
        /// The program; `None` is the one now installed where ours came from.
        to: Option<PathBuf>,
        /// Reply at once.
        no_wait: bool,
    },
    /// Treat a schedule as due now.
    RunSchedule {
        /// Which one.
        name: String,
    },
}

/// `restart --mode`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum RestartAsked {
    /// The planner decides.
    Auto,
    /// The replacement loads beside the serving worker.
    Overlap,
    /// The serving worker is retired first, requests wait.
    Sequential,
    /// Without a drain: streams are cut and continued by the next worker.
    Now,
}

/// How a verb ended.
#[derive(Debug, Clone, PartialEq)]
pub struct Outcome {
    /// Which way.
    pub result: OutcomeKind,
    /// One sentence.
    pub message: String,
    /// Numbers, by name; the unit is in the name.
    pub facts: BTreeMap<String, f64>,
}

/// The ways a verb can end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OutcomeKind {
    /// Carried out.
    Done,
    /// It was already so.
    Already,
    /// Under way; nobody waits.
    Started,
    /// Not legal in this state.
    Denied,
    /// The deadline passed first.
    Deadline,
    /// Tried and failed.
    Failed,
}

impl Outcome {
    /// An outcome without numbers.
    #[must_use]
    pub fn new(result: OutcomeKind, message: impl Into<String>) -> Self {
        Self { result, message: message.into(), facts: BTreeMap::new() }
    }

    /// Adds a number.
    #[must_use]
    pub fn with_fact(mut self, name: &str, value: f64) -> Self {
        self.facts.insert(name.to_owned(), value);
        self
    }
}
