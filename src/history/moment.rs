//! Instants as people type them: so long ago, a date, a time.

use chrono::{DateTime, Local, NaiveDate, NaiveDateTime, NaiveTime, TimeZone};

use crate::config::parse_duration;
use crate::supervisor::Wall;
use crate::supervisor::time::millis;

/// `90m` or `7d` before `now`; an RFC 3339 instant; a local date with or without a time, as in `2026-03-05 04:00`. Where a
/// local time happens twice, the first is meant.
///
/// # Errors
/// A sentence that says what may be written.
pub fn moment(text: &str, now: Wall) -> Result<Wall, String> {
    if let Ok(length) = parse_duration(text) {
        return Ok(Wall(now.0.saturating_sub(millis(length))));
    }
    if let Ok(at) = DateTime::parse_from_rfc3339(text) {
        return Ok(wall(at.timestamp_millis()));
    }
    let local = ["%Y-%m-%d %H:%M", "%Y-%m-%d %H:%M:%S", "%Y-%m-%dT%H:%M", "%Y-%m-%dT%H:%M:%S"]
        .iter()
        .find_map(|form| NaiveDateTime::parse_from_str(text, form).ok())
        .or_else(|| NaiveDate::parse_from_str(text, "%Y-%m-%d").ok().map(|date| date.and_time(NaiveTime::MIN)));
    local
        .and_then(|local| Local.from_local_datetime(&local).earliest())
        .map(|at| wall(at.timestamp_millis()))
        .ok_or_else(|| format!("`{text}` is no instant; write 90m, 7d, 2026-03-05, \"2026-03-05 04:00\" or RFC 3339"))
}

fn wall(ms: i64) -> Wall {
    Wall(u64::try_from(ms).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn instants_in_every_form() {
        let now = Wall(1_800_000_000_000);
        assert_eq!(moment("90m", now), Ok(Wall(1_800_000_000_000 - 5_400_000)));
        assert_eq!(moment("7d", now), Ok(Wall(1_800_000_000_000 - 604_800_000)));
        assert_eq!(moment("2027-01-15T09:00:00+01:00", now), Ok(Wall(1_800_000_000_000)));
        let local = |text: &str| moment(text, now).unwrap().0;
        assert_eq!(local("2027-01-15 04:00") - local("2027-01-15"), 4 * 3_600_000);
        assert_eq!(local("2027-01-15T04:00:30"), local("2027-01-15 04:00:30"));
        assert!(moment("yesterday", now).unwrap_err().contains("7d"));
    }
}
