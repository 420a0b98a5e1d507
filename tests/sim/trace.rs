//! The last events and actions before a violation. Written only when a seed is played again to be read.

use std::collections::VecDeque;

/// Lines kept.
const KEPT: usize = 60;

/// A window on the recent past, or nothing at all.
#[derive(Debug, Clone, Default)]
pub struct Trace {
    pub on: bool,
    lines: VecDeque<String>,
}

impl Trace {
    pub fn note(&mut self, now: u64, line: impl FnOnce() -> String) {
        if !self.on {
            return;
        }
        if self.lines.len() == KEPT {
            self.lines.pop_front();
        }
        self.lines.push_back(format!("{:>10}.{:03}  {}", now / 1000, now % 1000, line()));
    }

    pub fn lines(&self) -> impl Iterator<Item = &str> {
        self.lines.iter().map(String::as_str)
    }
}
