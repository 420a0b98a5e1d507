//! The two clocks and the day-and-time text people read.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use chrono::{DateTime, Local, SecondsFormat};

use crate::supervisor::time::millis;
use crate::supervisor::{Mono, Now, Wall};

/// Reads both clocks. `Instant` stands still while the machine sleeps, on Linux and macOS alike.
#[derive(Debug, Clone, Copy)]
pub struct Clock {
    origin: Instant,
}

impl Clock {
    /// A clock whose monotonic zero is now.
    #[must_use]
    pub fn start() -> Self {
        Self { origin: Instant::now() }
    }

    /// Both readings.
    #[must_use]
    pub fn now(&self) -> Now {
        Now { mono: self.mono(), wall: wall() }
    }

    /// The monotonic reading.
    #[must_use]
    pub fn mono(&self) -> Mono {
        Mono(millis(self.origin.elapsed()))
    }

    /// The instant of a monotonic reading, rounded up to the next millisecond so that a timer never fires early.
    #[must_use]
    pub fn instant(&self, mono: Mono) -> Instant {
        self.origin + Duration::from_millis(mono.0.saturating_add(1))
    }
}

/// Milliseconds since the Unix epoch; 0 on a machine whose clock is before it.
#[must_use]
pub fn wall() -> Wall {
    Wall(SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, millis))
}

/// RFC 3339 in local time, milliseconds kept.
#[must_use]
pub fn rfc3339(wall: Wall) -> String {
    let at = i64::try_from(wall.0).ok().and_then(DateTime::from_timestamp_millis).unwrap_or_default();
    at.with_timezone(&Local).to_rfc3339_opts(SecondsFormat::Millis, false)
}

/// When a monotonic instant was, or will be, by the wall clock, seen from `now`.
#[must_use]
pub fn wall_of(mono: Mono, now: Now) -> Wall {
    if mono >= now.mono {
        now.wall + (mono - now.mono)
    } else {
        Wall(now.wall.0.saturating_sub(millis(now.mono - mono)))
    }
}
