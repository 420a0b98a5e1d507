//! Time zones, and what a naive local time means in them.
//!
//! Owns the questions a calendar asks of a zone (reading at an instant, instants of a reading, the end of a gap);
//! knows no cron.

use std::fmt;
use std::str::FromStr;

use chrono::{DateTime, LocalResult, NaiveDateTime, Offset, TimeDelta, TimeZone, Utc};

use super::ScheduleError;

/// Greater than any distance between local time and UTC, in seconds.
const WIDEST_OFFSET: i64 = 16 * 3600;

/// Whose clock on the wall a schedule follows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Zone {
    /// The machine's.
    Local,
    /// A zone of the IANA database, compiled in.
    Named(chrono_tz::Tz),
}

impl fmt::Display for Zone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Local => f.write_str("local"),
            Self::Named(zone) => f.write_str(zone.name()),
        }
    }
}

impl FromStr for Zone {
    type Err = ScheduleError;

    /// `local` or an IANA name such as `Europe/Berlin`.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text == "local" {
            return Ok(Self::Local);
        }
        text.parse().map(Self::Named).map_err(|_| ScheduleError {
            what: format!("there is no time zone called `{text}`"),
            hint: match similar_zone(text) {
                Some(name) => format!("did you mean `{name}`?"),
                None => "write \"local\", \"UTC\" or an IANA name like \"Europe/Berlin\"".to_owned(),
            },
            span: 0..text.len(),
        })
    }
}

/// The same name in another case, or a zone with the same city, however its continent is spelt.
fn similar_zone(text: &str) -> Option<&'static str> {
    let city = |name: &str| name.rsplit('/').next().unwrap_or(name).to_ascii_lowercase().replace([' ', '-'], "_");
    let wanted = city(text);
    let mut names = chrono_tz::TZ_VARIANTS.iter().map(|zone| zone.name());
    names.clone().find(|name| name.eq_ignore_ascii_case(text)).or_else(|| names.find(|name| city(name) == wanted))
}

impl Zone {
    /// What the clock on the wall shows; `None` outside the calendar.
    pub(super) fn reading(self, at: DateTime<Utc>) -> Option<NaiveDateTime> {
        at.naive_utc().checked_add_signed(TimeDelta::seconds(i64::from(self.offset(at))))
    }

    /// Seconds local time is ahead of UTC.
    pub(super) fn offset(self, at: DateTime<Utc>) -> i32 {
        let utc = at.naive_utc();
        match self {
            Self::Local => chrono::Local.offset_from_utc_datetime(&utc).fix().local_minus_utc(),
            Self::Named(zone) => zone.offset_from_utc_datetime(&utc).fix().local_minus_utc(),
        }
    }

    /// When the clock shows this: never (gap), once, or twice (fold).
    pub(super) fn instants(self, reading: NaiveDateTime) -> LocalResult<DateTime<Utc>> {
        match self {
            Self::Local => chrono::Local.from_local_datetime(&reading).map(|at| at.to_utc()),
            Self::Named(zone) => zone.from_local_datetime(&reading).map(|at| at.to_utc()),
        }
    }

    /// The first instant, to the second, at which the clock shows `reading` or later: the end of the gap, for a
    /// reading that lies in one. `None` outside the calendar.
    pub(super) fn first_at_or_past(self, reading: NaiveDateTime) -> Option<DateTime<Utc>> {
        let base = reading.and_utc().timestamp();
        let (mut before, mut reached) = (base - WIDEST_OFFSET, base + WIDEST_OFFSET);
        while reached - before > 1 {
            let middle = before + (reached - before) / 2;
            if self.reading(DateTime::from_timestamp(middle, 0)?)? >= reading {
                reached = middle;
            } else {
                before = middle;
            }
        }
        DateTime::from_timestamp(reached, 0)
    }
}
