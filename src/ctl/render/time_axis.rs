//! Where a time axis has its numbers, and what they say: round local times, a handful of them.

use chrono::{DateTime, Local, Offset, TimeZone};

/// Seconds between two numbers that people find round.
const STEPS: [i64; 15] = [
    60,
    300,
    600,
    1800,
    3600,
    2 * 3600,
    3 * 3600,
    6 * 3600,
    12 * 3600,
    86_400,
    2 * 86_400,
    7 * 86_400,
    14 * 86_400,
    30 * 86_400,
    90 * 86_400,
];

/// Unix seconds and text of each number between two instants, at most `most` of them.
#[must_use]
pub fn ticks(from: i64, until: i64, most: usize) -> Vec<(i64, String)> {
    ticks_in(&Local, from, until, most)
}

fn ticks_in<Z: TimeZone>(zone: &Z, from: i64, until: i64, most: usize) -> Vec<(i64, String)>
where
    Z::Offset: std::fmt::Display,
{
    let length = (until - from).max(1);
    let most = i64::try_from(most.max(1)).unwrap_or(i64::MAX);
    let step = STEPS.into_iter().find(|step| length / step < most).unwrap_or(365 * 86_400);
    let form = if step >= 86_400 {
        "%-d %b"
    } else if length > 86_400 {
        "%a %H:%M"
    } else {
        "%H:%M"
    };
    let local = |at: i64| DateTime::from_timestamp(at, 0).map(|at| at.with_timezone(zone));
    let offset = local(from).map_or(0, |at| i64::from(at.offset().fix().local_minus_utc()));
    let first = (from + offset + step - 1).div_euclid(step) * step - offset;
    let instants = std::iter::successors(Some(first), |at| Some(at + step)).take_while(|at| *at < until);
    instants.filter_map(|at| local(at).map(|local| (at, local.format(form).to_string()))).collect()
}

/// An instant with its day, in local time.
#[must_use]
pub fn instant(at: i64) -> String {
    DateTime::from_timestamp(at, 0)
        .map_or_else(String::new, |at| at.with_timezone(&Local).format("%Y-%m-%d %H:%M").to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use chrono::FixedOffset;

    #[test]
    fn numbers_are_round_in_local_time() {
        let zone = FixedOffset::east_opt(5400).unwrap();
        let from = 1_800_000_123;
        let texts = |length, most| {
            let ticks = ticks_in(&zone, from, from + length, most);
            assert!(ticks.len() <= most, "{ticks:?}");
            assert!(ticks.iter().all(|(at, _)| (from..from + length).contains(at)));
            ticks.into_iter().map(|(_, text)| text).collect::<Vec<_>>()
        };
        assert_eq!(texts(86_400, 5), ["12:00", "18:00", "00:00", "06:00"]);
        assert_eq!(texts(3600, 8), ["09:40", "09:50", "10:00", "10:10", "10:20", "10:30"]);
        assert_eq!(texts(3 * 86_400, 7)[0], "Fri 12:00");
        assert_eq!(texts(90 * 86_400, 8)[0], "28 Jan");
    }
}
