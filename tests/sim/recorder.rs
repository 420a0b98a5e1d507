//! Writing down what a core was fed, in the daemon's own format.

use mlxsup::supervisor::{Action, Event, Now, Persistent};

/// A recording in memory.
#[derive(Debug, Default)]
pub struct Recorder {}

impl Recorder {
    pub fn begin(&mut self, _text: &str, _kept: &Persistent, _seed: u64, _now: Now) {}

    pub fn step(&mut self, _event: &Event, _now: Now, _actions: &[Action]) {}
}
