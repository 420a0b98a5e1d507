//! What the core was fed and what it said, one JSON document per line, so that a day that went wrong can be played again.
//!
//! ```text
//! line 1   what the core began with: configuration (its text), state kept, seed, both clocks
//! line n   one event with its instant, and the actions that followed
//! ```
//! Off by default (`mlxsupd --record FILE`). Holds what `mlxsupd.log` holds and no more of clients: names, sizes, never
//! text. `docs/simulation.md` tells how to play a recording.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::config::Config;
use crate::supervisor::{Action, Event, Now, Persistent};

/// The first line.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Beginning {
    /// In force at the start.
    pub config: Config,
    /// What the last daemon left.
    pub kept: Persistent,
    /// Of the core's generator.
    pub seed: u64,
    /// The start.
    pub now: Now,
}

/// Every other line.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Step {
    /// When the event was taken up.
    pub now: Now,
    /// What happened.
    pub event: Event,
    /// What was to be done about it, as [`spoken`].
    pub actions: Vec<String>,
}

/// An action as a recording tells it: complete, so that two can be compared.
#[must_use]
pub fn spoken(action: &Action) -> String {
    format!("{action:?}")
}

/// Writes a recording.
#[derive(Debug)]
pub struct Recorder {
    file: File,
    /// Cleared with the first failed write: half a recording is worth nothing, and the daemon goes on.
    works: bool,
}

impl Recorder {
    /// A new recording; an earlier one of this name is overwritten.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn begin(path: &Path, beginning: &Beginning) -> std::io::Result<Self> {
        let file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path)?;
        let mut recorder = Self { file, works: true };
        recorder.line(beginning)?;
        Ok(recorder)
    }

    /// Writes one step.
    pub fn step(&mut self, event: Event, now: Now, actions: &[Action]) {
        if !self.works {
            return;
        }
        let step = Step { now, event, actions: actions.iter().map(spoken).collect() };
        if let Err(error) = self.line(&step) {
            self.works = false;
            tracing::warn!(%error, "the recording ends here");
        }
    }

    fn line(&mut self, document: &impl Serialize) -> std::io::Result<()> {
        let mut line = serde_json::to_vec(document)?;
        line.push(b'\n');
        self.file.write_all(&line)
    }
}
