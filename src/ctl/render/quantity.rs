//! Numbers for people: sizes, spans of time, instants, counts.

use chrono::{DateTime, Datelike, FixedOffset, Local, TimeDelta};

use crate::supervisor::conditions;

const GIB: f64 = (1u64 << 30) as f64;
const MIB: f64 = (1u64 << 20) as f64;

/// Bytes as the daemon's own sentences have them: `38.1 GiB`, `512 MiB`.
#[must_use]
pub fn size(bytes: f64) -> String {
    conditions::bytes(bytes)
}

/// `12.3 of 34.3 GiB`: both in the unit of the whole.
#[must_use]
pub fn size_of(part: f64, whole: f64) -> String {
    if whole >= 1023.5 * MIB {
        format!("{:.1} of {:.1} GiB", part / GIB, whole / GIB)
    } else {
        format!("{:.0} of {:.0} MiB", part / MIB, whole / MIB)
    }
}

/// Seconds in at most two units: `0.4 s`, `12.4 s`, `3 min 20 s`, `7 h 12 min`, `3 d 4 h`.
#[must_use]
pub fn span(seconds: f64) -> String {
    if seconds <= 0.0 {
        return "0 s".to_owned();
    }
    if seconds < 59.95 {
        return if seconds < 9.95 || seconds.fract() >= 0.05 {
            format!("{seconds:.1} s")
        } else {
            format!("{seconds:.0} s")
        };
    }
    whole_span(seconds)
}

/// Like [`span`] where tenths would only be noise: uptimes, distances in time.
#[must_use]
pub fn whole_span(seconds: f64) -> String {
    let total = seconds.max(0.0).round() as u64;
    let (days, hours, minutes, rest) = (total / 86_400, total / 3600 % 24, total / 60 % 60, total % 60);
    let two = |big: u64, big_unit: &str, small: u64, small_unit: &str| {
        if small == 0 { format!("{big} {big_unit}") } else { format!("{big} {big_unit} {small} {small_unit}") }
    };
    if days > 0 {
        two(days, "d", hours, "h")
    } else if hours > 0 {
        two(hours, "h", minutes, "min")
    } else if minutes > 0 {
        two(minutes, "min", rest, "s")
    } else {
        format!("{rest} s")
    }
}

/// A whole number with its thousands apart: `12,480`.
#[must_use]
pub fn count(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// `1 stream`, `2 streams`.
#[must_use]
pub fn plural(number: u64, one: &str, many: &str) -> String {
    format!("{} {}", count(number), if number == 1 { one } else { many })
}

/// A number under a key that ends with its unit (`stop_s`, `returned_bytes`): the name without the unit, and the
/// number with it.
#[must_use]
pub fn keyed(key: &str, number: f64) -> (String, String) {
    let words = |name: &str| name.replace('_', " ");
    for (suffix, text) in [
        ("_bytes", size as fn(f64) -> String),
        ("_s", span),
        ("_ms", |ms| format!("{ms:.0} ms")),
        ("_gib", |gib| format!("{gib:.1} GiB")),
    ] {
        if let Some(name) = key.strip_suffix(suffix) {
            return (words(name), text(number));
        }
    }
    let plain = number.fract() == 0.0 && (0.0..9e15).contains(&number);
    (words(key), if plain { count(number as u64) } else { format!("{number:.2}") })
}

/// Sorts the names of a restart's phases as they happen, and everything else behind them.
#[must_use]
pub fn phase_order(key: &str) -> usize {
    const PHASES: [&str; 8] = ["wait", "drain", "stop", "backoff", "gate", "spawn", "load", "warm"];
    PHASES.iter().position(|phase| key.starts_with(phase)).unwrap_or(PHASES.len())
}

/// The clock that distances are measured from: local time, taken once per output.
#[derive(Debug, Clone, Copy)]
pub struct Now {
    at: DateTime<FixedOffset>,
    zone: Zone,
}

/// Where instants are told.
#[derive(Debug, Clone, Copy)]
enum Zone {
    /// With the offset the machine's zone has at that instant, which summer time changes.
    Machine,
    /// With the offset of now: tests only.
    #[cfg(test)]
    Fixed,
}

impl Now {
    /// The machine's clock and zone.
    #[must_use]
    pub fn of_machine() -> Self {
        Self { at: Local::now().fixed_offset(), zone: Zone::Machine }
    }

    /// A clock that stands still.
    #[cfg(test)]
    pub fn fixed(at: &str) -> Self {
        Self { at: DateTime::parse_from_rfc3339(at).unwrap(), zone: Zone::Fixed }
    }

    /// Unix time in milliseconds.
    #[cfg(feature = "top")]
    #[must_use]
    pub fn unix_ms(self) -> i64 {
        self.at.timestamp_millis()
    }

    /// The time of day, with seconds.
    #[cfg(feature = "top")]
    #[must_use]
    pub fn time_of_day(self) -> String {
        self.at.format("%H:%M:%S").to_string()
    }

    /// An RFC 3339 instant as people say it: `04:00`, `tomorrow 04:00`, `Tue 04:00`, `2026-03-05 04:00`. Text that is
    /// no instant is passed on.
    #[must_use]
    pub fn clock(self, at: &str) -> String {
        let Some(at) = self.parse(at) else { return at.to_owned() };
        let days = at.date_naive().signed_duration_since(self.at.date_naive()).num_days();
        let time = at.format("%H:%M");
        match days {
            0 => time.to_string(),
            1 => format!("tomorrow {time}"),
            -1 => format!("yesterday {time}"),
            -6..=6 => format!("{} {time}", at.weekday()),
            _ => at.format("%Y-%m-%d %H:%M").to_string(),
        }
    }

    /// An RFC 3339 instant with seconds, and the date where it is not today's.
    #[must_use]
    pub fn stamp(self, at: &str) -> String {
        let Some(at) = self.parse(at) else { return at.to_owned() };
        let today = at.date_naive() == self.at.date_naive();
        at.format(if today { "%H:%M:%S" } else { "%Y-%m-%d %H:%M:%S" }).to_string()
    }

    /// `in 5 h 30 min`, `4 min 2 s ago`; empty for text that is no instant.
    #[must_use]
    pub fn distance(self, at: &str) -> String {
        let Some(at) = self.parse(at) else { return String::new() };
        let away = at.signed_duration_since(self.at);
        if away >= TimeDelta::zero() {
            format!("in {}", whole_span(away.as_seconds_f64()))
        } else {
            format!("{} ago", whole_span(-away.as_seconds_f64()))
        }
    }

    /// `04:00, in 5 h 30 min`.
    #[must_use]
    pub fn clock_and_distance(self, at: &str) -> String {
        let distance = self.distance(at);
        if distance.is_empty() { self.clock(at) } else { format!("{}, {distance}", self.clock(at)) }
    }

    /// Seconds until then; `None` for the past and for text that is no instant.
    #[must_use]
    pub fn seconds_until(self, at: &str) -> Option<f64> {
        let away = self.parse(at)?.signed_duration_since(self.at).as_seconds_f64();
        (away > 0.0).then_some(away)
    }

    fn parse(self, at: &str) -> Option<DateTime<FixedOffset>> {
        let at = DateTime::parse_from_rfc3339(at).ok()?;
        Some(match self.zone {
            Zone::Machine => at.with_timezone(&Local).fixed_offset(),
            #[cfg(test)]
            Zone::Fixed => at.with_timezone(self.at.offset()),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_one_unit() {
        assert_eq!(size(0.0), "0 B");
        assert_eq!(size(1023.9 * MIB), "1.0 GiB");
        assert_eq!(size(512.0 * MIB), "512 MiB");
        assert_eq!(
            [1.0, 1.26, 9.94, 9.96, 10.1].map(|mib| size(mib * MIB)),
            ["1 MiB", "1.3 MiB", "9.9 MiB", "10 MiB", "10 MiB"]
        );
        assert_eq!([-2048.0, 1023.4].map(size), ["-2 KiB", "1023 B"]);
        assert_eq!(size(38.13 * GIB), "38.1 GiB");
        assert_eq!(size_of(12.3 * GIB, 34.3 * GIB), "12.3 of 34.3 GiB");
        assert_eq!(size_of(40.0 * MIB, 100.0 * MIB), "40 of 100 MiB");
    }

    #[test]
    fn spans_have_at_most_two_units() {
        assert_eq!(span(0.42), "0.4 s");
        assert_eq!(span(12.0), "12 s");
        assert_eq!(span(59.99), "1 min");
        assert_eq!(span(200.4), "3 min 20 s");
        assert_eq!(whole_span(25_920.0), "7 h 12 min");
        assert_eq!(whole_span(273_600.0), "3 d 4 h");
        assert_eq!(whole_span(-1.0), "0 s");
    }

    #[test]
    fn counts_and_keyed_numbers() {
        assert_eq!([count(0), count(999), count(1000), count(1_234_567)], ["0", "999", "1,000", "1,234,567"]);
        assert_eq!(keyed("returned_bytes", 35.1 * GIB), ("returned".into(), "35.1 GiB".into()));
        assert_eq!(keyed("warm_up_s", 1.3), ("warm up".into(), "1.3 s".into()));
        assert_eq!(keyed("tokens_replayed", 4120.0), ("tokens replayed".into(), "4,120".into()));
    }

    #[test]
    fn instants_are_told_in_local_time_relative_to_now() {
        let now = Now::fixed("2026-03-04T22:30:00+01:00");
        assert_eq!(now.clock("2026-03-05T03:00:00Z"), "tomorrow 04:00");
        assert_eq!(now.clock("2026-03-04T22:30:00+01:00"), "22:30");
        assert_eq!(now.clock("2026-03-03T22:30:00+01:00"), "yesterday 22:30");
        assert_eq!(now.clock("2026-03-08T04:00:00+01:00"), "Sun 04:00");
        assert_eq!(now.clock("2026-12-08T04:00:00+01:00"), "2026-12-08 04:00");
        assert_eq!(now.distance("2026-03-05T03:00:00Z"), "in 5 h 30 min");
        assert_eq!(now.distance("2026-03-04T21:26:00Z"), "4 min ago");
        assert_eq!(now.clock("soon"), "soon");
        assert_eq!(now.distance("soon"), "");
        assert_eq!(now.seconds_until("2026-03-04T21:26:00Z"), None);
    }
}
