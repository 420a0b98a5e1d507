//! Eleven zones, fifteen years, fifty expressions: our firings, and those of croner, against the contract.
//!
//! croner names the nominal times on a clock that never changes; this file maps them to instants by arithmetic on the
//! zone's changes of offset, so that neither the `cron` crate nor our mapping is its own witness. In a second pass croner
//! walks the zone itself. Where it then says something else than our contract, the difference is spelled out and
//! asserted: see [`Calls`], [`forgotten`], [`LONGEST_GAP`] and [`assert_last_fold`].

use chrono::{DateTime, NaiveDate, NaiveDateTime, Offset, TimeZone, Utc};
use chrono_tz::Tz;
use croner::Cron;
use croner::parser::CronParser;

use super::*;
use crate::supervisor::Wall;

const DAY: i64 = 86_400;

/// Years: from the first, up to and without the second.
type Years = (i32, i32);

const ALL: &[Years] = &[(2011, 2026)];

/// The days that St. John's and Apia did oddly, and the present rules of Nuuk, Cairo and Santiago. `make schedule-oracle`
/// takes all fifteen years for everything.
const ODD: &[Years] = &[(2011, 2012), (2024, 2025)];

/// One change of clocks by an hour, by half an hour, at one minute past midnight, at midnight, twice around Ramadan,
/// given up and taken up again, across the date (Nuuk since 2024: Saturday 23:00 is followed by Sunday 0:00), of a whole
/// day (Apia), and none at all.
const ZONES: [Tz; 11] = [
    Tz::Europe__Berlin,
    Tz::America__New_York,
    Tz::Australia__Lord_Howe,
    Tz::America__St_Johns,
    Tz::Africa__Casablanca,
    Tz::Africa__Cairo,
    Tz::Asia__Tehran,
    Tz::Asia__Kolkata,
    Tz::America__Santiago,
    Tz::America__Nuuk,
    Tz::Pacific__Apia,
];

/// The two readings of the contract.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Reading {
    /// Each nominal time once: when the gap ends, the first of two showings.
    Times,
    /// Each real showing, and no other.
    Interval,
}
use Reading::{Interval, Times};

/// What croner makes of the text. Its times of day have one second, one minute and one hour; lists and ranges are
/// intervals to it. Ours are what crontab says: fixed hours and minutes, however many, are times of day, whatever the
/// seconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Calls {
    /// As we do.
    ItTheSame,
    /// An interval: it leaves out what a gap swallows and runs twice in a fold.
    ItAnInterval,
}
use Calls::{ItAnInterval, ItTheSame};

/// Our text, the same for croner where its grammar is narrower, our reading, croner's reading.
type Case = (&'static str, &'static str, Reading, Calls);

const DAYS_AND_TIMES: &[Case] = &[
    ("0 4 * * *", "0 4 * * *", Times, ItTheSame),
    ("30 2 * * *", "30 2 * * *", Times, ItTheSame),
    ("30 1 * * 1-5", "30 1 * * 1-5", Times, ItTheSame),
    ("15 0 * * sun", "15 0 * * sun", Times, ItTheSame),
    ("0 0 * * 0", "0 0 * * 0", Times, ItTheSame),
    ("0 0 * * 7", "0 0 * * 0", Times, ItTheSame),
    ("30 23 * * 6", "30 23 * * 6", Times, ItTheSame),
    ("0 4 13 * fri", "0 4 13 * fri", Times, ItTheSame),
    ("30 2 25-31 3,10 0", "30 2 25-31 3,10 0", Times, ItTheSame),
    ("45 0 1-7 * 6-7", "45 0 1-7 * 6-7", Times, ItTheSame),
    ("0 0 1 * *", "0 0 1 * *", Times, ItTheSame),
    ("45 1 31 * *", "45 1 31 * *", Times, ItTheSame),
    ("0 12 29 2 *", "0 12 29 feb *", Times, ItTheSame),
    ("59 23 31 dec ?", "59 23 31 12 ?", Times, ItTheSame),
    ("0 4 * * */2", "0 4 * * */2", Times, ItTheSame),
    ("0 4 * * 1-5/2", "0 4 * * 1-5/2", Times, ItTheSame),
    ("0 2 * mar-nov mon,3", "0 2 * 3-11 mon,3", Times, ItTheSame),
    ("10 0 4 * * *", "10 0 4 * * *", Times, ItTheSame),
    ("59 59 1 * * 1-5", "59 59 1 * * 1-5", Times, ItTheSame),
    ("30 30 2 * * * 2012-2024/2", "30 30 2 * * * 2012-2024/2", Times, ItTheSame),
    ("0 30 2 29 3 0 2015", "0 30 2 29 3 0 2015", Times, ItTheSame),
    ("@daily", "@daily", Times, ItTheSame),
    ("@weekly", "@weekly", Times, ItTheSame),
    // croner knows neither long names nor ranges round the end of the week nor `5/2`.
    ("30 2 * * saturday", "30 2 * * sat", Times, ItTheSame),
    ("30 2 * * fri-mon", "30 2 * * 5,6,0,1", Times, ItTheSame),
    ("30 2 * * 7-2", "30 2 * * 0-2", Times, ItTheSame),
    ("30 2 * * 5/2", "30 2 * * 5-7/2", Times, ItTheSame),
    // crontab does not count a column that begins with `*` as restricting, so both must match; croner's word for that
    // is `+`, and without it, croner takes either.
    ("30 2 */2 * mon", "30 2 */2 * +mon", Times, ItTheSame),
    ("0 3 1-7 * */2", "0 3 1-7 * +*/2", Times, ItTheSame),
];

const LISTS: &[Case] = &[
    ("0,30 2 * * *", "0,30 2 * * *", Times, ItAnInterval),
    ("30 2,14 * * *", "30 2,14 * * *", Times, ItAnInterval),
    ("0 2-3 * * *", "0 2-3 * * *", Times, ItAnInterval),
    ("15,45 0-4 1,15 * 5-6", "15,45 0-4 1,15 * 5-6", Times, ItAnInterval),
    ("0-59 2 25-31 3,10 0", "0-59 2 25-31 3,10 0", Times, ItAnInterval),
    ("30 23,0 * * sat", "30 23,0 * * sat", Times, ItAnInterval),
    ("*/20 30 2 * * *", "*/20 30 2 * * *", Times, ItAnInterval),
    ("0,30 0 0 * * 0", "0,30 0 0 * * 0", Times, ItAnInterval),
    ("5-7 15 1,2 25-31 * 7 2011-2025/3", "5-7 15 1,2 25-31 * 0 2011-2025/3", Times, ItAnInterval),
];

const INTERVALS: &[Case] = &[
    ("17 */3 * * *", "17 */3 * * *", Interval, ItTheSame),
    ("0 * * * *", "@hourly", Interval, ItTheSame),
    ("30 * * * sun", "30 * * * sun", Interval, ItTheSame),
    ("0 2/4 * * *", "0 2-23/4 * * *", Interval, ItTheSame),
    ("5 0-6/2 * * *", "5 0-6/2 * * *", Interval, ItTheSame),
    ("*/15 2 * * *", "*/15 2 * * *", Interval, ItTheSame),
    ("30 * 13 * fri", "30 * 13 * fri", Interval, ItTheSame),
    ("* 1-2 25-31 3,10 0", "* 1-2 25-31 3,10 0", Interval, ItTheSame),
    ("*/20 */10 1-3 * * sun", "*/20 */10 1-3 * * sun", Interval, ItTheSame),
    ("30 */30 * 25-31 10 7 2012-2024/2", "30 */30 * 25-31 10 0 2012-2024/2", Interval, ItTheSame),
    ("45 0 2/12 * * *", "45 0 2-23/12 * * *", Interval, ItTheSame),
];

const DENSE: &[Case] = &[("*/30 * * * *", "*/30 * * * *", Interval, ItTheSame)];

fn all_or(short: &'static [Years]) -> &'static [Years] {
    if std::env::var_os("MLXSUP_TEST_ALL_YEARS").is_some() { ALL } else { short }
}

#[test]
fn days_and_times() {
    agree(DAYS_AND_TIMES, ALL);
}

#[test]
fn lists_of_times() {
    agree(LISTS, all_or(ODD));
}

#[test]
fn intervals() {
    agree(INTERVALS, all_or(ODD));
}

#[test]
fn dense_intervals() {
    agree(DENSE, all_or(ODD));
}

fn agree(cases: &[Case], years: &[Years]) {
    let zones: Vec<Offsets> = ZONES.into_iter().map(Offsets::of).collect();
    for (case, years) in cases.iter().flat_map(|case| years.iter().map(move |years| (case, *years))) {
        let (text, croners, reading, calls) = case;
        let oracle = CronParser::builder().build().parse(croners).unwrap_or_else(|error| panic!("{croners}: {error}"));
        let nominal = nominal_times(&oracle, years);
        assert!(!nominal.is_empty() || years != ALL[0], "`{text}` has no nominal time: the case shows nothing");
        for zone in &zones {
            let due = zone.due(&nominal, *reading);
            assert_same(&ours(text, zone, years), &due, &format!("`{text}` in {}", zone.name));
            let theirs = croner_in(&oracle, zone, years);
            let mut expected = if *calls == ItAnInterval { zone.due(&nominal, Interval) } else { due };
            if (*reading, *calls) == (Times, ItTheSame) {
                let forgotten = forgotten(&oracle, &nominal, zone);
                expected.retain(|at| !forgotten.contains(at));
            }
            if *reading == Interval && theirs.len() < expected.len() {
                assert_last_fold(&nominal, zone, &expected[theirs.len()..]);
                expected.truncate(theirs.len());
            }
            assert_same(&theirs, &expected, &format!("croner, `{croners}` in {}", zone.name));
        }
    }
}

/// croner looks two hours far for the end of a gap, and then ends its iteration for good. Of all gaps only the day that
/// Apia left out is longer; this is its end. Ours fires there, as at the end of any other gap.
const LONGEST_GAP: (Tz, i64) = (Tz::Pacific__Apia, 1_325_239_200);

/// Firings that croner forgets: it moves a time of day out of the gap only when the day it then finds also matches, and
/// never out of the longest. The contract has no such exceptions: what the clock leapt over happens when the gap ends.
fn forgotten(oracle: &Cron, nominal: &[i64], zone: &Offsets) -> Vec<i64> {
    let leapt = nominal.iter().filter(|reading| zone.showings(**reading).is_empty());
    let ends =
        leapt.map(|reading| zone.gap_end(*reading)).filter(|end| nominal.binary_search(&zone.reading(*end)).is_err());
    ends.filter(|end| {
        let day = zone.reading(*end) / DAY * DAY;
        let next = oracle.find_next_occurrence(&naive(day).and_utc(), true).ok();
        (zone.name, *end) == LONGEST_GAP || next.is_none_or(|next| next.timestamp() >= day + DAY)
    })
    .collect()
}

/// Where no reading is left, croner does not look for the second showings of those it has just passed. Ours does.
fn assert_last_fold(nominal: &[i64], zone: &Offsets, missed: &[i64]) {
    for at in missed {
        let reading = zone.reading(*at);
        assert_eq!(
            zone.showings(reading).last(),
            Some(at),
            "croner misses more than a second showing in {}",
            zone.name
        );
        assert!(nominal.last().is_some_and(|last| last - reading < DAY / 4));
    }
}

/// Every nominal time of the years, by croner on a clock that never changes.
fn nominal_times(oracle: &Cron, (first, end): Years) -> Vec<i64> {
    let (from, until) = (new_year(first), new_year(end));
    let all = oracle.iter_from(naive(from - 1).and_utc(), croner::Direction::Forward);
    all.map(|at: DateTime<Utc>| at.timestamp()).skip_while(|at| *at < from).take_while(|at| *at < until).collect()
}

/// Every firing of ours in the zone's years, in the order of asking.
fn ours(text: &str, zone: &Offsets, (first, end): Years) -> Vec<i64> {
    let expression = Expression::parse(text, Zone::Named(zone.name)).unwrap_or_else(|error| panic!("{text}: {error}"));
    let mut at = Wall(u64::try_from(zone.new_year(first) * 1000 - 1).unwrap());
    let mut all = Vec::new();
    while let Some(next) = expression.next_after(at) {
        assert!(next > at, "`{text}` in {}: {next:?} after {at:?}", zone.name);
        assert_eq!(next.0 % 1000, 0);
        at = next;
        let seconds = i64::try_from(next.0 / 1000).unwrap();
        if seconds >= zone.new_year(end) {
            break;
        }
        all.push(seconds);
    }
    all
}

/// What croner says about the zone itself, set on its feet again after the gap that is too long for it.
fn croner_in(oracle: &Cron, zone: &Offsets, (first, end): Years) -> Vec<i64> {
    let at = |seconds: i64| DateTime::from_timestamp(seconds, 0).unwrap().with_timezone(&zone.name);
    let (gap_zone, gap_end) = LONGEST_GAP;
    let until = zone.new_year(end);
    let mut all = Vec::new();
    let mut from = at(zone.new_year(first) - 1);
    loop {
        let next = match oracle.find_next_occurrence(&from, false) {
            Err(_) if zone.name == gap_zone && from.timestamp() < gap_end => {
                oracle.find_next_occurrence(&at(gap_end), true)
            }
            next => next,
        };
        match next {
            Ok(next) if next.timestamp() < until => from = next,
            // The years are over, or no other ever comes.
            Ok(_) | Err(_) => return all,
        }
        all.push(from.timestamp());
    }
}

fn assert_same(got: &[i64], expected: &[i64], what: &str) {
    if got != expected {
        let show = |list: &[i64]| list.iter().take(4).map(|at| naive(*at).to_string()).collect::<Vec<_>>().join(", ");
        let same = got.iter().zip(expected).take_while(|(got, expected)| got == expected).count();
        panic!(
            "{what}: after {same} equal ones [{}], expected [{}] (UTC)",
            show(&got[same..]),
            show(&expected[same..])
        );
    }
}

/// Midnight of a New Year's Day on a clock that never changes.
fn new_year(year: i32) -> i64 {
    NaiveDate::from_ymd_opt(year, 1, 1).unwrap().and_time(chrono::NaiveTime::MIN).and_utc().timestamp()
}

fn naive(seconds: i64) -> NaiveDateTime {
    DateTime::from_timestamp(seconds, 0).unwrap().naive_utc()
}

/// A zone as spans of constant offset. Knows nothing of local time but this arithmetic.
struct Offsets {
    name: Tz,
    /// From when, until when, seconds ahead of UTC.
    spans: Vec<(i64, i64, i64)>,
}

impl Offsets {
    fn of(name: Tz) -> Self {
        let offset = |at: i64| i64::from(name.offset_from_utc_datetime(&naive(at)).fix().local_minus_utc());
        let (begin, end) = (new_year(ALL[0].0) - 40 * DAY, new_year(ALL[0].1) + 40 * DAY);
        let mut spans = vec![(begin, end, offset(begin))];
        for hour in (begin..end).step_by(3600) {
            let (start, until, current) = *spans.last().unwrap();
            if offset(hour + 3600) != current {
                let (mut before, mut after) = (hour, hour + 3600);
                while after - before > 1 {
                    let middle = before + (after - before) / 2;
                    if offset(middle) == current { before = middle } else { after = middle }
                }
                *spans.last_mut().unwrap() = (start, after, current);
                spans.push((after, until, offset(after)));
            }
        }
        Self { name, spans }
    }

    fn new_year(&self, year: i32) -> i64 {
        self.showings(new_year(year))[0]
    }

    fn reading(&self, at: i64) -> i64 {
        self.spans.iter().find(|(_, end, _)| at < *end).map_or(at, |(_, _, offset)| at + offset)
    }

    /// The instants at which the clock shows this.
    fn showings(&self, reading: i64) -> Vec<i64> {
        let near = self.spans.partition_point(|(_, end, _)| *end < reading - 2 * DAY);
        let near = self.spans[near..].iter().take_while(|(start, _, _)| *start <= reading + 2 * DAY);
        near.filter_map(|(start, end, offset)| Some(reading - offset).filter(|at| start <= at && at < end)).collect()
    }

    /// The end of the gap that swallows this.
    fn gap_end(&self, reading: i64) -> i64 {
        self.spans.iter().find(|(start, _, offset)| start + offset > reading).map(|(start, _, _)| *start).unwrap()
    }

    /// The contract: when these nominal times happen.
    fn due(&self, nominal: &[i64], reading: Reading) -> Vec<i64> {
        let mut due: Vec<i64> = nominal
            .iter()
            .flat_map(|nominal| {
                let mut showings = self.showings(*nominal);
                if reading == Times {
                    showings.truncate(1);
                    if showings.is_empty() {
                        showings.push(self.gap_end(*nominal));
                    }
                }
                showings
            })
            .collect();
        due.sort_unstable();
        due.dedup();
        due
    }
}
