//! The last events and actions before a violation. Written only when a seed is played again to be read.

use std::collections::VecDeque;

/// Lines kept.
const KEPT: usize = 44;

/// A line longer than this hides more than it shows.
const WIDEST: usize = 260;

/// A window on the recent past, or nothing at all.
#[derive(Debug, Clone, Default)]
pub struct Trace {
    pub on: bool,
    /// Every line goes out at once too.
    pub aloud: bool,
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
        let mut line = format!("{:>10}.{:03}  {}", now / 1000, now % 1000, line());
        if let Some((end, _)) = line.char_indices().nth(WIDEST) {
            line.truncate(end);
            line.push('…');
        }
        if self.aloud {
            crate::sweep::say(&line);
        }
        self.lines.push_back(line);
    }

    pub fn lines(&self) -> impl Iterator<Item = &str> {
        self.lines.iter().map(String::as_str)
    }
}
