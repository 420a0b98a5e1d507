//! What the daemon wrote down, with the time it wrote it.

use std::time::SystemTime;

use chrono::DateTime;

/// One line of `mlxsupd.log`.
#[derive(Debug, Clone)]
pub struct Line {
    pub at: SystemTime,
    /// `kind=` of a decision.
    pub kind: Option<String>,
    /// N of the first `worker N` in it.
    pub generation: Option<u64>,
    pub text: String,
}

/// All lines that begin with a time.
pub fn read(text: &str) -> Vec<Line> {
    text.lines().filter_map(line).collect()
}

fn line(text: &str) -> Option<Line> {
    let (time, rest) = text.split_once(' ')?;
    let at = DateTime::parse_from_rfc3339(time).ok()?.into();
    let kind = rest.split("kind=").nth(1).map(|kind| kind.split(' ').next().unwrap_or_default().to_owned());
    let number = rest.split("worker ").find_map(|after| {
        let digits: String = after.chars().take_while(char::is_ascii_digit).collect();
        digits.parse().ok()
    });
    Some(Line { at, kind, generation: number, text: rest.to_owned() })
}

impl Line {
    pub fn is(&self, kind: &str) -> bool {
        self.kind.as_deref() == Some(kind)
    }
}
