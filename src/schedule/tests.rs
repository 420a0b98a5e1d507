use std::collections::BTreeMap;

use chrono::{DateTime, Datelike, TimeZone};
use chrono_tz::Tz;
use proptest::prelude::*;

use super::*;

/// North and south, half hours, a half-hour change (Lord Howe), a midnight change (Santiago), none at all (Kolkata).
const ZONES: &[Tz] = &[
    Tz::Europe__Berlin,
    Tz::America__New_York,
    Tz::Australia__Sydney,
    Tz::Australia__Lord_Howe,
    Tz::America__Santiago,
    Tz::America__St_Johns,
    Tz::Asia__Kolkata,
];

fn expression(text: &str, zone: Tz) -> Expression {
    Expression::parse(text, Zone::Named(zone)).unwrap_or_else(|error| panic!("{text}: {error}"))
}

fn wall(rfc3339: &str) -> Wall {
    Wall(u64::try_from(DateTime::parse_from_rfc3339(rfc3339).unwrap().timestamp_millis()).unwrap())
}

/// The first `count` firings after `from`, in the zone's time with its offset.
fn firings(text: &str, zone: Tz, from: &str, count: usize) -> Vec<String> {
    let expression = expression(text, zone);
    let mut at = wall(from);
    let mut all = Vec::new();
    while all.len() < count {
        let Some(next) = expression.next_after(at) else { break };
        at = next;
        let instant = DateTime::from_timestamp_millis(i64::try_from(at.0).unwrap()).unwrap();
        all.push(instant.with_timezone(&zone).format("%a %Y-%m-%dT%H:%M:%S%:z").to_string());
    }
    all
}

#[test]
fn five_fields_have_crontabs_meaning_and_six_have_seconds_first() {
    assert_eq!(
        firings("0 4 * * *", Tz::Europe__Berlin, "2026-01-10T12:00:00Z", 2),
        ["Sun 2026-01-11T04:00:00+01:00", "Mon 2026-01-12T04:00:00+01:00"]
    );
    assert_eq!(firings("30 0 4 * * *", Tz::UTC, "2026-01-10T12:00:00Z", 1), ["Sun 2026-01-11T04:00:30+00:00"]);
    assert_eq!(firings("30 0 4 1 1 * 2031", Tz::UTC, "2026-01-10T12:00:00Z", 9), ["Wed 2031-01-01T04:00:30+00:00"]);
    assert_eq!(firings("@weekly", Tz::UTC, "2026-01-10T12:00:00Z", 1), ["Sun 2026-01-11T00:00:00+00:00"]);
}

#[test]
fn the_instant_asked_about_is_not_its_own_successor() {
    let daily = expression("0 4 * * *", Tz::UTC);
    let four = wall("2026-01-10T04:00:00Z");
    assert_eq!(daily.next_after(four), Some(wall("2026-01-11T04:00:00Z")));
    assert_eq!(daily.next_after(Wall(four.0 - 1)), Some(four));
    assert_eq!(daily.next_after(Wall(u64::MAX)), None);
}

#[test]
fn weekdays_are_sunday_to_sunday_in_every_form() {
    let days = |field: &str| -> String {
        let from = "2026-01-04T12:00:00Z"; // a Sunday, so the list begins on Monday
        firings(&format!("0 4 * * {field}"), Tz::UTC, from, 7).iter().map(|day| day[..3].to_owned() + " ").collect()
    };
    for (field, expected) in [
        ("0", "Sun Sun Sun Sun Sun Sun Sun "),
        ("7", "Sun Sun Sun Sun Sun Sun Sun "),
        ("sun", "Sun Sun Sun Sun Sun Sun Sun "),
        ("1-5", "Mon Tue Wed Thu Fri Mon Tue "),
        ("mon-FRI", "Mon Tue Wed Thu Fri Mon Tue "),
        ("0-7", "Mon Tue Wed Thu Fri Sat Sun "),
        ("*", "Mon Tue Wed Thu Fri Sat Sun "),
        ("?", "Mon Tue Wed Thu Fri Sat Sun "),
        ("5-7", "Fri Sat Sun Fri Sat Sun Fri "),
        ("6-7", "Sat Sun Sat Sun Sat Sun Sat "),
        ("7-2", "Mon Tue Sun Mon Tue Sun Mon "),
        ("5-1", "Mon Fri Sat Sun Mon Fri Sat "),
        ("fri-mon", "Mon Fri Sat Sun Mon Fri Sat "),
        ("Saturday-sunday", "Sat Sun Sat Sun Sat Sun Sat "),
        ("sun,3", "Wed Sun Wed Sun Wed Sun Wed "),
        ("*/2", "Tue Thu Sat Sun Tue Thu Sat "),
        ("1-5/2", "Mon Wed Fri Mon Wed Fri Mon "),
        ("fri-tue/2", "Tue Fri Sun Tue Fri Sun Tue "),
        ("5/2", "Fri Sun Fri Sun Fri Sun Fri "),
    ] {
        assert_eq!(days(field), expected, "{field}");
    }
}

#[test]
fn two_restricted_day_columns_are_alternatives() {
    assert_eq!(
        firings("0 4 13 * fri", Tz::UTC, "2026-01-01T12:00:00Z", 5),
        [
            "Fri 2026-01-02T04:00:00+00:00",
            "Fri 2026-01-09T04:00:00+00:00",
            "Tue 2026-01-13T04:00:00+00:00",
            "Fri 2026-01-16T04:00:00+00:00",
            "Fri 2026-01-23T04:00:00+00:00",
        ]
    );
    // A column that begins with a star does not restrict, as in crontab: both must match.
    assert_eq!(
        firings("0 4 */2 * mon", Tz::UTC, "2026-01-01T12:00:00Z", 2),
        ["Mon 2026-01-05T04:00:00+00:00", "Mon 2026-01-19T04:00:00+00:00"]
    );
}

#[test]
fn a_time_of_day_in_the_gap_happens_when_the_gap_ends_and_once_in_the_fold() {
    assert_eq!(
        firings("30 2 * * *", Tz::Europe__Berlin, "2026-03-28T12:00:00Z", 2),
        ["Sun 2026-03-29T03:00:00+02:00", "Mon 2026-03-30T02:30:00+02:00"]
    );
    assert_eq!(
        firings("30 2 * * *", Tz::Europe__Berlin, "2026-10-24T12:00:00Z", 2),
        ["Sun 2026-10-25T02:30:00+02:00", "Mon 2026-10-26T02:30:00+01:00"]
    );
    // Asked between the two showings: the first one was the firing.
    assert_eq!(firings("30 2 * * *", Tz::Europe__Berlin, "2026-10-25T00:45:00Z", 1), ["Mon 2026-10-26T02:30:00+01:00"]);
    // Several nominal times in one gap are one firing, as is one that falls on the gap's end.
    assert_eq!(
        firings("0,30 2-3 * * *", Tz::Europe__Berlin, "2026-03-28T12:00:00Z", 3),
        ["Sun 2026-03-29T03:00:00+02:00", "Sun 2026-03-29T03:30:00+02:00", "Mon 2026-03-30T02:00:00+02:00"]
    );
    // Clocks that change at midnight: the day begins at one.
    assert_eq!(
        firings("0 0 * * *", Tz::America__Santiago, "2026-09-05T12:00:00Z", 2),
        ["Sun 2026-09-06T01:00:00-03:00", "Mon 2026-09-07T00:00:00-03:00"]
    );
    // A whole day that never was.
    assert_eq!(
        firings("0 12 * * *", Tz::Pacific__Apia, "2011-12-29T12:00:00Z", 3),
        ["Thu 2011-12-29T12:00:00-10:00", "Sat 2011-12-31T00:00:00+14:00", "Sat 2011-12-31T12:00:00+14:00"]
    );
}

#[test]
fn an_interval_is_every_real_showing_and_none_invented() {
    assert_eq!(
        firings("*/30 * * * *", Tz::Europe__Berlin, "2026-10-24T23:45:00Z", 6),
        [
            "Sun 2026-10-25T02:00:00+02:00",
            "Sun 2026-10-25T02:30:00+02:00",
            "Sun 2026-10-25T02:00:00+01:00",
            "Sun 2026-10-25T02:30:00+01:00",
            "Sun 2026-10-25T03:00:00+01:00",
            "Sun 2026-10-25T03:30:00+01:00",
        ]
    );
    assert_eq!(
        firings("*/30 * * * *", Tz::Europe__Berlin, "2026-03-29T00:15:00Z", 3),
        ["Sun 2026-03-29T01:30:00+01:00", "Sun 2026-03-29T03:00:00+02:00", "Sun 2026-03-29T03:30:00+02:00"]
    );
    // Half an hour is set back: the quarter past is shown twice, half an hour apart.
    assert_eq!(
        firings("45 * * * *", Tz::Australia__Lord_Howe, "2026-04-04T14:00:00Z", 3),
        ["Sun 2026-04-05T01:45:00+11:00", "Sun 2026-04-05T01:45:00+10:30", "Sun 2026-04-05T02:45:00+10:30"]
    );
    // Far ahead of a fold, the first showing is found all the same.
    assert_eq!(
        firings("*/30 2 25 10 *", Tz::Europe__Berlin, "2026-01-01T00:00:00Z", 5),
        [
            "Sun 2026-10-25T02:00:00+02:00",
            "Sun 2026-10-25T02:30:00+02:00",
            "Sun 2026-10-25T02:00:00+01:00",
            "Sun 2026-10-25T02:30:00+01:00",
            "Mon 2027-10-25T02:00:00+02:00",
        ]
    );
}

#[test]
fn every_daily_time_fires_exactly_once_a_day() {
    for zone in ZONES {
        for minute_of_day in (0..24 * 60).step_by(30) {
            let text = format!("{} {} * * *", minute_of_day % 60, minute_of_day / 60);
            let daily = expression(&text, *zone);
            let start = zone.with_ymd_and_hms(2026, 1, 1, 0, 0, 0).unwrap().timestamp_millis();
            let end = zone.with_ymd_and_hms(2027, 1, 1, 0, 0, 0).unwrap().timestamp_millis();
            let mut at = Wall(u64::try_from(start).unwrap() - 1);
            let mut days = BTreeMap::new();
            while let Some(next) = daily.next_after(at).filter(|next| i64::try_from(next.0).unwrap() < end) {
                assert!(next > at, "{text} in {zone}");
                at = next;
                let local = DateTime::from_timestamp_millis(i64::try_from(at.0).unwrap()).unwrap().with_timezone(zone);
                *days.entry(local.ordinal()).or_insert(0) += 1;
            }
            assert_eq!(days.len(), 365, "{text} in {zone}");
            assert!(days.values().all(|count| *count == 1), "{text} in {zone}");
        }
    }
}

#[test]
fn messages_name_the_field_and_the_remedy() {
    let mut said = String::new();
    for text in [
        "",
        "daily",
        "0 4 * *",
        "0 25 * * *",
        "0 4 * * 8",
        "0 4 * * funday",
        "0 22-2 * * *",
        "*/0 * * * *",
        "0 4 31 2 *",
        "0 4,, * * *",
        "-1 4 * * *",
        "0 4 ? ? ?",
        "@reboot",
        "0 0 4 * * * 1969",
    ] {
        let error = Expression::parse(text, Zone::Local).unwrap_err();
        said += &format!("{text:?} at {:?}: {error}\n", &text[error.span.clone()]);
    }
    insta::assert_snapshot!(said);
    let zone = |text: &str| text.parse::<Zone>().unwrap_err().to_string();
    assert_eq!(
        zone("Europe/Munich"),
        "there is no time zone called `Europe/Munich`; write \"local\", \"UTC\" or an IANA name like \"Europe/Berlin\""
    );
    for text in ["europe/berlin", "Germany/Berlin"] {
        assert_eq!(zone(text), format!("there is no time zone called `{text}`; did you mean `Europe/Berlin`?"));
    }
}

#[test]
fn the_machines_own_zone_works_too() {
    let hourly = Expression::parse("0 * * * *", Zone::Local).unwrap();
    let mut at = wall("2026-01-01T00:00:00Z");
    for _ in 0..24 * 365 {
        let next = hourly.next_after(at).unwrap();
        assert!(next > at);
        at = next;
    }
    assert_eq!("local".parse(), Ok(Zone::Local));
}

fn field(low: u32, high: u32) -> impl Strategy<Value = String> {
    prop_oneof![
        3 => (low..=high).prop_map(|value| value.to_string()),
        2 => Just("*".to_owned()),
        1 => (1..=high).prop_map(|step| format!("*/{step}")),
        1 => (low..=high, low..=high).prop_map(|(a, b)| format!("{}-{}", a.min(b), a.max(b))),
        1 => (low..=high, low..=high).prop_map(|(a, b)| format!("{a},{b}")),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, ..ProptestConfig::default() })]

    #[test]
    fn firings_strictly_increase_and_show_what_was_asked(
        minute in field(0, 59), hour in field(0, 23), day in field(1, 28), weekday in field(0, 7),
        zone in prop::sample::select(ZONES), start in 0u64..(3 * 366 * 86_400),
    ) {
        let text = format!("{minute} {hour} {day} * {weekday}");
        let schedule = expression(&text, zone);
        let mut at = Wall((1_735_689_600 + start) * 1000);
        for _ in 0..40 {
            let Some(next) = schedule.next_after(at) else { break };
            prop_assert!(next > at, "{text} in {zone}: {next:?} after {at:?}");
            // Nothing lies between: asking from just before gives the same answer.
            prop_assert_eq!(schedule.next_after(Wall(next.0 - 1)), Some(next));
            at = next;
        }
    }

    #[test]
    fn any_text_is_a_schedule_or_a_message(text in "[0-9*,/?@a-z \\-é]{0,24}") {
        if let Err(error) = Expression::parse(&text, Zone::Local) {
            prop_assert!(text.get(error.span).is_some());
        }
    }
}
