//! The two clocks, as plain numbers that arrive with each event.

use std::ops::{Add, Sub};
use std::time::Duration;

/// Milliseconds on a clock that stands still while the machine sleeps. Deadlines and dwell times use it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
#[serde(transparent)]
pub struct Mono(pub u64);

/// Milliseconds since the Unix epoch. Only schedules and what people read use it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
#[serde(transparent)]
pub struct Wall(pub u64);

/// Both clocks at the moment an event is taken up.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Now {
    /// For waiting.
    pub mono: Mono,
    /// For people.
    pub wall: Wall,
}

/// Whole milliseconds, saturating: longer than 584 million years is "never" anyway.
#[must_use]
pub fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

impl Add<Duration> for Mono {
    type Output = Self;

    fn add(self, duration: Duration) -> Self {
        Self(self.0.saturating_add(millis(duration)))
    }
}

impl Sub for Mono {
    type Output = Duration;

    /// Time since `earlier`; zero when `earlier` is later.
    fn sub(self, earlier: Self) -> Duration {
        Duration::from_millis(self.0.saturating_sub(earlier.0))
    }
}

impl Add<Duration> for Wall {
    type Output = Self;

    fn add(self, duration: Duration) -> Self {
        Self(self.0.saturating_add(millis(duration)))
    }
}

/// `3 s`, `14 min`, `2 h`: how long, for people.
pub(super) fn spoken(duration: Duration) -> String {
    let seconds = duration.as_secs();
    match seconds {
        0..120 => format!("{:.1} s", duration.as_secs_f64()),
        120..7200 => format!("{} min", seconds / 60),
        _ => format!("{} h", seconds / 3600),
    }
}
