//! A schedule: crontab text in a zone, and what comes next after an instant.
//!
//! Owns the two readings of a crontab line. A line with fixed hours means times of day: one that the clock leaps over
//! happens when the gap ends, one that the clock shows twice happens the first time. A line with `*` or a step in its
//! hour or minute means an interval: every instant at which the clock really shows it, and no other.

use chrono::{DateTime, LocalResult, NaiveDateTime, TimeDelta, Utc};

use super::crontab::{self, Line};
use super::{ScheduleError, Zone};
use crate::supervisor::Wall;

/// How far ahead a coming fold can reach back: no zone ever set its clock back by more than a day.
const LONGEST_FOLD: TimeDelta = TimeDelta::hours(24);

/// A parsed cron expression and its time zone.
#[derive(Debug, Clone, PartialEq)]
pub struct Expression {
    /// The text as written.
    pub text: String,
    zone: Zone,
    /// The line in naive time; two where day of month and weekday are both restricted and either may match.
    lines: Vec<cron::Schedule>,
    /// Has `*` or a step in hour or minute.
    interval: bool,
}

impl Expression {
    /// Parses 5 fields with crontab's meaning, 6 or 7 with seconds first (and a year last), or `@daily` and the like.
    ///
    /// # Errors
    /// When the text is no such thing, or can never fire (31 February); the span tells the offending field.
    pub fn parse(text: &str, zone: Zone) -> Result<Self, ScheduleError> {
        let line = crontab::parse(text)?;
        let fail = |what: String, hint: &str| ScheduleError { what, hint: hint.to_owned(), span: 0..text.len() };
        let mut lines = Vec::new();
        for source in cron_sources(&line) {
            let schedule = source
                .parse::<cron::Schedule>()
                .map_err(|error| fail(format!("`{text}` is no schedule: {error}"), "five fields like \"0 4 * * *\""))?;
            lines.push(schedule);
        }
        let expression =
            Self { text: text.to_owned(), zone, lines, interval: line.minute.repeating || line.hour.repeating };
        if expression.next_reading(DateTime::UNIX_EPOCH.naive_utc()).is_none() {
            return Err(fail(format!("`{text}` never fires"), "no year has such a day"));
        }
        Ok(expression)
    }

    /// The zone whose clock counts.
    #[must_use]
    pub fn zone(&self) -> Zone {
        self.zone
    }

    /// The first firing strictly later than `after`; `None` when there is none any more.
    ///
    /// Pure but for [`Zone::Local`], which asks the machine for its zone. Chaining it yields strictly increasing instants.
    #[must_use]
    pub fn next_after(&self, after: Wall) -> Option<Wall> {
        let after = DateTime::from_timestamp_millis(i64::try_from(after.0).ok()?)?;
        let next = if self.interval { self.next_occurrence(after) } else { self.next_time_of_day(after) }?;
        u64::try_from(next.timestamp_millis()).ok().map(Wall)
    }

    /// The next nominal reading of the clock strictly later than `after`.
    fn next_reading(&self, after: NaiveDateTime) -> Option<NaiveDateTime> {
        let after = after.and_utc();
        self.lines.iter().filter_map(|line| line.after(&after).next()).min().map(|next| next.naive_utc())
    }

    fn next_time_of_day(&self, after: DateTime<Utc>) -> Option<DateTime<Utc>> {
        let zone = self.zone;
        self.first_mapped(zone.reading(after)?, after, |reading| match zone.instants(reading) {
            LocalResult::Single(at) | LocalResult::Ambiguous(at, _) => Some(at),
            LocalResult::None => zone.first_at_or_past(reading),
        })
    }

    /// In a fold the readings of the first pass are followed by the same readings again, so the candidates are the next
    /// first showing and the next last showing; outside folds the two are the same.
    fn next_occurrence(&self, after: DateTime<Utc>) -> Option<DateTime<Utc>> {
        let zone = self.zone;
        let reading = zone.reading(after)?;
        let first = self.next_first_showing(reading, after);
        // Up to the first showing, or for a day, whichever is less, clocks change at most once.
        let horizon = after.checked_add_signed(LONGEST_FOLD)?;
        let horizon = first.map_or(horizon, |first| first.min(horizon));
        let set_back = zone.offset(after).saturating_sub(zone.offset(horizon)).max(0);
        if set_back == 0 && first.is_some_and(|first| first == horizon) {
            return first;
        }
        // A last showing may belong to an earlier reading than the present one, by the length of the fold at hand.
        let from = reading.checked_sub_signed(TimeDelta::seconds(i64::from(set_back)))?;
        let last = self.first_mapped(from, after, |reading| zone.instants(reading).latest());
        [first, last].into_iter().flatten().min()
    }

    /// The first showing of the next reading that has one; `None` also when that showing is past. Then `after` lies in
    /// the second pass of a fold, and up to its end the last showings come sooner.
    fn next_first_showing(&self, reading: NaiveDateTime, after: DateTime<Utc>) -> Option<DateTime<Utc>> {
        let mut reading = self.next_reading(reading)?;
        loop {
            match self.zone.instants(reading).earliest() {
                Some(at) => return Some(at).filter(|at| *at > after),
                None => reading = self.next_reading(reading)?,
            }
        }
    }

    /// Walks the readings later than `from` until one maps to an instant later than `after`. Ends, because readings that
    /// map earlier lie inside one fold.
    fn first_mapped(
        &self,
        from: NaiveDateTime,
        after: DateTime<Utc>,
        map: impl Fn(NaiveDateTime) -> Option<DateTime<Utc>>,
    ) -> Option<DateTime<Utc>> {
        let mut reading = self.next_reading(from)?;
        loop {
            match map(reading) {
                Some(at) if at > after => return Some(at),
                Some(_) | None => reading = self.next_reading(reading)?,
            }
        }
    }
}

/// The line in the `cron` crate's own terms: seconds first, Sunday is 1, and both day columns must match.
fn cron_sources(line: &Line) -> Vec<String> {
    let render = |day_of_month: &str, weekday: &str| {
        let (second, minute, hour) = (line.second.listed(0), line.minute.listed(0), line.hour.listed(0));
        format!("{second} {minute} {hour} {day_of_month} {} {weekday} {}", line.month.listed(0), line.year.listed(0))
    };
    let (day_of_month, weekday) = (line.day_of_month.listed(0), line.weekday.listed(1));
    // Crontab's rule: two restricted day columns are alternatives, and a column that begins with `*` (even `*/2`)
    // does not count as restricted.
    if line.day_of_month.starred || line.weekday.starred {
        vec![render(&day_of_month, &weekday)]
    } else {
        vec![render(&day_of_month, "*"), render("*", &weekday)]
    }
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
