use chrono::{DateTime, SecondsFormat, Utc};

use super::*;
use crate::config::{Action, IfBusy};
use crate::schedule::Expression;

/// What happens to clock and daemon, in order. Between the steps the timetable is looked at when it asks for it.
enum Step {
    /// Time passes until then.
    Until(&'static str),
    /// The machine slept, or the clock was set, in either direction: it is suddenly then.
    Jump(&'static str),
    /// The daemon was gone and starts again then, with what the core kept.
    Restart(&'static str),
    /// The list is another one: cron texts for `a`, `b` …
    Reload(&'static [&'static str]),
}
use Step::{Jump, Reload, Restart, Until};

fn wall(rfc3339: &str) -> Wall {
    Wall(u64::try_from(DateTime::parse_from_rfc3339(rfc3339).unwrap().timestamp_millis()).unwrap())
}

fn text(at: Wall) -> String {
    let at: DateTime<Utc> = DateTime::from_timestamp_millis(i64::try_from(at.0).unwrap()).unwrap();
    at.to_rfc3339_opts(SecondsFormat::Secs, true)
}

fn schedules(crons: &[&str], zone: &str, missed: Missed) -> Vec<Schedule> {
    let schedule = |(index, cron): (usize, &&str)| Schedule {
        name: char::from(b'a' + u8::try_from(index).unwrap()).to_string(),
        when: Expression::parse(cron, zone.parse().unwrap()).unwrap(),
        action: Action::Warn,
        min_uptime: Duration::ZERO,
        jitter: Duration::ZERO,
        wait_for_idle: Duration::ZERO,
        if_busy: IfBusy::Run,
        missed,
    };
    crons.iter().enumerate().map(schedule).collect()
}

/// Plays the steps and tells what was reached, like `a fires 04:00`, each with the time of the look.
fn played(crons: &[&str], zone: &str, missed: Missed, start: &str, steps: &[Step]) -> Vec<String> {
    let mut list = schedules(crons, zone, missed);
    let mut now = Now { mono: Mono(0), wall: wall(start) };
    let mut kept = BTreeMap::new();
    let mut timetable = Timetable::new(&list, &kept, now.wall);
    let mut told = Vec::new();
    for step in steps {
        let until = match step {
            Until(until) => wall(until),
            Jump(then) => {
                now.wall = wall(then);
                now.wall
            }
            Restart(then) => {
                now.wall = wall(then);
                timetable = Timetable::new(&list, &kept, now.wall);
                now.wall
            }
            Reload(crons) => {
                list = schedules(crons, zone, missed);
                timetable.reload(&list, now.wall);
                now.wall
            }
        };
        loop {
            for reached in timetable.look(now.wall) {
                kept.insert(reached.name.clone(), reached.nominal);
                let verb = if reached.fires { "fires" } else { "skips" };
                let mut line = format!("{}: {} {verb} {}", text(now.wall), reached.name, text(reached.nominal));
                if let Some((first, last)) = reached.missed {
                    line += &format!(", missed {} to {}", text(first), text(last));
                }
                told.push(line);
            }
            let wait = timetable.look_again(now) - now.mono;
            assert!(wait > Duration::ZERO && wait <= LOOK_EVERY, "{wait:?}");
            if now.wall + wait > until {
                break;
            }
            now = Now { mono: now.mono + wait, wall: now.wall + wait };
        }
        now.wall = until;
    }
    told
}

fn nightly(missed: Missed, start: &str, steps: &[Step]) -> Vec<String> {
    played(&["0 4 * * *"], "UTC", missed, start, steps)
}

#[test]
fn awake_it_fires_at_its_time_each_day() {
    assert_eq!(
        nightly(Missed::Skip, "2026-01-10T12:00:00Z", &[Until("2026-01-12T12:00:00Z")]),
        ["2026-01-11T04:00:00Z: a fires 2026-01-11T04:00:00Z", "2026-01-12T04:00:00Z: a fires 2026-01-12T04:00:00Z"]
    );
}

#[test]
fn what_sleep_swallowed_is_left_out_or_made_up_for_once() {
    for (wakes, missed, told) in [
        // One firing, two, and none; a short nap is no sleep.
        (
            "2026-01-11T07:00:00Z",
            Missed::Skip,
            "2026-01-11T07:00:00Z: a skips 2026-01-11T04:00:00Z, missed 2026-01-11T04:00:00Z to 2026-01-11T04:00:00Z",
        ),
        (
            "2026-01-11T07:00:00Z",
            Missed::RunOnce,
            "2026-01-11T07:00:00Z: a fires 2026-01-11T04:00:00Z, missed 2026-01-11T04:00:00Z to 2026-01-11T04:00:00Z",
        ),
        (
            "2026-01-12T07:00:00Z",
            Missed::Skip,
            "2026-01-12T07:00:00Z: a skips 2026-01-12T04:00:00Z, missed 2026-01-11T04:00:00Z to 2026-01-12T04:00:00Z",
        ),
        (
            "2026-01-12T07:00:00Z",
            Missed::RunOnce,
            "2026-01-12T07:00:00Z: a fires 2026-01-12T04:00:00Z, missed 2026-01-11T04:00:00Z to 2026-01-12T04:00:00Z",
        ),
        ("2026-01-11T03:00:00Z", Missed::Skip, "2026-01-11T04:00:00Z: a fires 2026-01-11T04:00:00Z"),
        ("2026-01-11T04:01:30Z", Missed::Skip, "2026-01-11T04:01:30Z: a fires 2026-01-11T04:00:00Z"),
        // Asleep over one firing, awake just in time for the next.
        (
            "2026-01-12T04:00:20Z",
            Missed::Skip,
            "2026-01-12T04:00:20Z: a fires 2026-01-12T04:00:00Z, missed 2026-01-11T04:00:00Z to 2026-01-11T04:00:00Z",
        ),
        (
            "2026-01-12T04:00:20Z",
            Missed::RunOnce,
            "2026-01-12T04:00:20Z: a fires 2026-01-12T04:00:00Z, missed 2026-01-11T04:00:00Z to 2026-01-11T04:00:00Z",
        ),
    ] {
        let later = if wakes < "2026-01-12" { "2026-01-12T03:00:00Z" } else { "2026-01-13T03:00:00Z" };
        let got = nightly(missed, "2026-01-10T22:00:00Z", &[Until("2026-01-10T23:00:00Z"), Jump(wakes), Until(later)]);
        assert_eq!(got, [told], "{missed:?}, wakes {wakes}");
    }
}

#[test]
fn a_clock_set_back_over_a_firing_does_not_repeat_it() {
    for missed in [Missed::Skip, Missed::RunOnce] {
        for back_to in ["2026-01-11T03:59:59Z", "2026-01-11T01:00:00Z", "2026-01-10T05:00:00Z"] {
            let steps = [Until("2026-01-11T04:30:00Z"), Jump(back_to), Until("2026-01-12T05:00:00Z")];
            let told = nightly(missed, "2026-01-11T03:00:00Z", &steps);
            let expected = [
                "2026-01-11T04:00:00Z: a fires 2026-01-11T04:00:00Z",
                "2026-01-12T04:00:00Z: a fires 2026-01-12T04:00:00Z",
            ];
            assert_eq!(told, expected, "{missed:?}, back to {back_to}");
        }
    }
}

#[test]
fn a_clock_set_back_before_a_firing_brings_it_later() {
    let steps = [Until("2026-01-11T03:30:00Z"), Jump("2026-01-10T03:30:00Z"), Until("2026-01-10T05:00:00Z")];
    let told = nightly(Missed::Skip, "2026-01-11T03:00:00Z", &steps);
    assert_eq!(told, ["2026-01-10T04:00:00Z: a fires 2026-01-10T04:00:00Z"]);
}

#[test]
fn a_clock_that_was_years_ahead_does_not_silence_a_schedule() {
    let steps = [Until("2031-01-11T04:30:00Z"), Jump("2026-01-11T03:00:00Z"), Until("2026-01-11T05:00:00Z")];
    let told = nightly(Missed::Skip, "2031-01-11T03:00:00Z", &steps);
    assert_eq!(
        told,
        ["2031-01-11T04:00:00Z: a fires 2031-01-11T04:00:00Z", "2026-01-11T04:00:00Z: a fires 2026-01-11T04:00:00Z"]
    );
}

#[test]
fn a_clock_set_forward_by_two_hours_misses_what_it_leapt_over() {
    let steps = [Until("2026-01-11T03:00:00Z"), Jump("2026-01-11T05:00:00Z"), Until("2026-01-11T06:00:00Z")];
    for (missed, verb) in [(Missed::Skip, "skips"), (Missed::RunOnce, "fires")] {
        let four = "2026-01-11T04:00:00Z";
        let expected = format!("2026-01-11T05:00:00Z: a {verb} {four}, missed {four} to {four}");
        assert_eq!(nightly(missed, "2026-01-11T02:00:00Z", &steps), [expected]);
    }
}

#[test]
fn a_leap_that_is_taken_back_leaves_out_nothing_and_repeats_nothing() {
    let steps = [
        Until("2026-01-11T03:00:00Z"),
        Jump("2026-01-11T05:00:00Z"),
        Jump("2026-01-11T03:00:00Z"),
        Until("2026-01-11T06:00:00Z"),
    ];
    let four = "2026-01-11T04:00:00Z";
    let skipped = nightly(Missed::Skip, "2026-01-11T02:00:00Z", &steps);
    assert_eq!(
        skipped,
        [format!("2026-01-11T05:00:00Z: a skips {four}, missed {four} to {four}"), format!("{four}: a fires {four}")]
    );
    let made_up_for = nightly(Missed::RunOnce, "2026-01-11T02:00:00Z", &steps);
    assert_eq!(made_up_for, [format!("2026-01-11T05:00:00Z: a fires {four}, missed {four} to {four}")]);
}

#[test]
fn a_daemon_that_restarts_fires_nothing_twice_and_forgets_nothing() {
    let four = "2026-01-11T04:00:00Z";
    for missed in [Missed::Skip, Missed::RunOnce] {
        for starts in [four, "2026-01-11T04:00:05Z", "2026-01-11T09:00:00Z", "2026-01-11T03:59:00Z"] {
            let steps = [Until(four), Restart(starts), Until("2026-01-11T12:00:00Z")];
            let told = nightly(missed, "2026-01-11T03:00:00Z", &steps);
            assert_eq!(told, [format!("{four}: a fires {four}")], "{missed:?}, starts {starts}");
        }
    }
    // Down over the third firing; the first told the core where to count from.
    let down = [Until("2026-01-11T05:00:00Z"), Restart("2026-01-12T08:00:00Z"), Restart("2026-01-12T08:01:00Z")];
    for (missed, verb) in [(Missed::Skip, "skips"), (Missed::RunOnce, "fires")] {
        let told = nightly(missed, "2026-01-11T03:00:00Z", &down);
        let next = "2026-01-12T04:00:00Z";
        let second = format!("2026-01-12T08:00:00Z: a {verb} {next}, missed {next} to {next}");
        assert_eq!(told, [format!("{four}: a fires {four}"), second], "{missed:?}");
    }
    // A restart that takes a few seconds just at the time.
    let brief = [Until("2026-01-11T05:00:00Z"), Until("2026-01-12T03:59:58Z"), Restart("2026-01-12T04:00:07Z")];
    let told = nightly(Missed::Skip, "2026-01-11T03:00:00Z", &brief);
    assert_eq!(told[1..], ["2026-01-12T04:00:07Z: a fires 2026-01-12T04:00:00Z"]);
}

#[test]
fn a_start_with_a_wrong_clock_does_not_fire_again_what_was_fired() {
    // Without a battery-backed clock: 1970 at first, then set. The firing of this morning is known.
    let steps = [
        Until("2026-01-11T05:00:00Z"),
        Restart("1970-01-01T00:00:30Z"),
        Jump("2026-01-11T05:02:00Z"),
        Until("2026-01-11T06:00:00Z"),
    ];
    let told = nightly(Missed::RunOnce, "2026-01-11T03:00:00Z", &steps);
    assert_eq!(told, ["2026-01-11T04:00:00Z: a fires 2026-01-11T04:00:00Z"]);
}

#[test]
fn days_on_which_clocks_change_have_one_firing_each() {
    for (start, end, expected) in [
        // The gap: at its end. The fold: the first time, though both are shown.
        ("2026-03-28T12:00:00Z", "2026-03-29T12:00:00Z", "2026-03-29T01:00:00Z: a fires 2026-03-29T01:00:00Z"),
        ("2026-10-24T12:00:00Z", "2026-10-25T12:00:00Z", "2026-10-25T00:30:00Z: a fires 2026-10-25T00:30:00Z"),
    ] {
        let told = played(&["30 2 * * *"], "Europe/Berlin", Missed::Skip, start, &[Until(end)]);
        assert_eq!(told, [expected]);
        // The same with a restart in every minute of the night, once a first firing told where to count from.
        let restarts = (0..240).map(|minute| text(wall(start) + Duration::from_secs(39_600 + 60 * minute)));
        let restarts = restarts.map(|at| Restart(Box::leak(at.into_boxed_str())));
        let day_before = text(Wall(wall(start).0 - 86_400_000));
        let steps: Vec<Step> = std::iter::once(Until(start)).chain(restarts).collect();
        let told = played(&["30 2 * * *"], "Europe/Berlin", Missed::RunOnce, &day_before, &steps);
        assert_eq!(told[1..], [expected], "{told:?}");
    }
    let told = played(
        &["30 * * * *"],
        "Europe/Berlin",
        Missed::Skip,
        "2026-10-25T00:00:00Z",
        &[Until("2026-10-25T02:00:00Z")],
    );
    assert_eq!(
        told,
        ["2026-10-25T00:30:00Z: a fires 2026-10-25T00:30:00Z", "2026-10-25T01:30:00Z: a fires 2026-10-25T01:30:00Z"]
    );
}

#[test]
fn a_reload_keeps_what_stays_and_begins_what_is_new_now() {
    let four = "2026-01-11T04:00:00Z";
    // The same list, at the very moment: neither lost nor doubled.
    for steps in [
        [Until("2026-01-11T03:59:59Z"), Reload(&["0 4 * * *"]), Until("2026-01-11T05:00:00Z")],
        [Until(four), Reload(&["0 4 * * *"]), Until("2026-01-11T05:00:00Z")],
    ] {
        assert_eq!(nightly(Missed::RunOnce, "2026-01-11T03:00:00Z", &steps), [format!("{four}: a fires {four}")]);
    }
    // Another time for the same name: nothing that lies behind is missed, and the old time is forgotten.
    let steps = [Until("2026-01-11T03:30:00Z"), Reload(&["0 3 * * *", "0 4 * * *"]), Until("2026-01-12T03:30:00Z")];
    assert_eq!(
        nightly(Missed::RunOnce, "2026-01-11T02:00:00Z", &steps),
        [format!("{four}: b fires {four}"), "2026-01-12T03:00:00Z: a fires 2026-01-12T03:00:00Z".to_owned()]
    );
    let steps = [Until("2026-01-11T03:30:00Z"), Reload(&[]), Until("2026-01-11T05:00:00Z")];
    assert_eq!(nightly(Missed::RunOnce, "2026-01-11T02:00:00Z", &steps), [""; 0]);
}

#[test]
fn an_overdue_firing_survives_a_reload_before_the_look() {
    let list = schedules(&["0 4 * * *"], "UTC", Missed::Skip);
    let mut timetable = Timetable::new(&list, &BTreeMap::new(), wall("2026-01-11T03:59:50Z"));
    timetable.reload(&list, wall("2026-01-11T04:00:01Z"));
    let reached = timetable.look(wall("2026-01-11T04:00:01Z"));
    assert!(matches!(&reached[..], [Reached { fires: true, missed: None, .. }]), "{reached:?}");
}

#[test]
fn a_schedule_of_every_second_that_slept_for_a_year_is_soon_done() {
    let told =
        played(&["* * * * * *"], "UTC", Missed::RunOnce, "2026-01-11T03:00:00Z", &[Jump("2027-01-11T03:00:00Z")]);
    assert_eq!(
        told,
        ["2027-01-11T03:00:00Z: a fires 2027-01-11T03:00:00Z, missed 2026-01-11T03:00:01Z to 2027-01-11T02:58:29Z"]
    );
}

#[test]
fn the_message_says_what_was_missed_and_what_becomes_of_it() {
    let four = wall("2026-01-11T04:00:00Z");
    let reached = |fires, nominal| Reached { name: "nightly".to_owned(), nominal, fires, missed: Some((four, four)) };
    let told = reached(true, four).message().unwrap();
    assert!(told.starts_with("nightly: 2026-01-11T") && told.ends_with("made up for by one firing now"), "{told}");
    let told = reached(false, four).message().unwrap();
    assert!(told.contains("left out") && told.contains("run-once"), "{told}");
    let told = reached(true, four + Duration::from_secs(86_400)).message().unwrap();
    assert!(told.ends_with("its next time has come meanwhile"), "{told}");
    assert_eq!(Reached { missed: None, ..reached(true, four) }.message(), None);
}
