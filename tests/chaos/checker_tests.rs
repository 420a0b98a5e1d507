//! The checker finds what was planted, and nothing where nothing was.

use std::time::{Duration, Instant};

use crate::checker::{Grounds, Verdict, check};
use crate::history::{Asked, Dispatch, Event, Outcome, Seen, dispatches};

const ASKED: Asked = Asked { stream: true, chat: true, tokens: 3, choices: 1 };
const PLAIN: Asked = Asked { stream: false, ..ASKED };

const NONE: Grounds<'_> = Grounds { daemon_kills: &[], worker_deaths: &[], continues: true };

fn seen(outcome: Outcome, text: &str) -> Seen {
    Seen { outcome, texts: vec![text.to_owned()], identities: vec!["a 1 2".to_owned()], last_piece: None }
}

/// The judgement of one request that ended like this, with a daemon killed at these milliseconds of its ten.
fn judged(seen: Seen, kills_ms: &[i64]) -> Verdict {
    at_milliseconds(ASKED, seen, kills_ms, &[], true)
}

/// The same with another engine, whose workers died at these milliseconds.
fn passed(asked: Asked, seen: Seen, deaths_ms: &[i64]) -> Verdict {
    at_milliseconds(asked, seen, &[], deaths_ms, false)
}

fn at_milliseconds(asked: Asked, seen: Seen, kills_ms: &[i64], deaths_ms: &[i64], continues: bool) -> Verdict {
    let start = Instant::now();
    let at = |ms: i64| start + Duration::from_millis(u64::try_from(100 + ms).unwrap());
    let events = [
        Event::Invoked { id: 7, at: at(0), asked },
        Event::FirstByte { id: 7, at: at(1) },
        Event::Ended { id: 7, at: at(10), seen },
    ];
    let (kills, deaths): (Vec<_>, Vec<_>) =
        (kills_ms.iter().map(|ms| at(*ms)).collect(), deaths_ms.iter().map(|ms| at(*ms)).collect());
    check(&events, &[], &Grounds { daemon_kills: &kills, worker_deaths: &deaths, continues })
}

fn error(code: &str, text: &str) -> Seen {
    let mut seen = seen(Outcome::Error { status: 200, code: code.to_owned() }, text);
    if text.is_empty() {
        seen.identities.clear();
    }
    seen
}

#[track_caller]
fn breaches(verdict: &Verdict, word: &str) {
    assert_eq!(verdict.violations.len(), 1, "{verdict:?}");
    assert!(verdict.violations[0].contains(word), "{verdict:?}");
}

#[test]
fn a_whole_answer_breaches_nothing() {
    let verdict = judged(seen(Outcome::Complete, "w1 w2 w3 "), &[]);
    assert_eq!((verdict.requests, verdict.complete, verdict.violations.len()), (1, 1, 0), "{verdict:?}");
}

#[test]
fn an_answer_without_end_is_lost_and_one_with_two_is_double() {
    let (at, asked) = (Instant::now(), ASKED);
    let begun = [Event::Invoked { id: 7, at, asked }];
    let verdict = check(&begun, &[], &NONE);
    assert_eq!(verdict.lost, 1);
    breaches(&verdict, "0 ends");

    let end = Event::Ended { id: 7, at, seen: seen(Outcome::Complete, "w1 w2 w3 ") };
    let verdict = check(&[begun[0].clone(), end.clone(), end], &[], &NONE);
    assert_eq!(verdict.double, 1);
    breaches(&verdict, "2 ends");
}

#[test]
fn missing_repeated_and_altered_tokens_are_told_apart() {
    let short = judged(seen(Outcome::Complete, "w1 w2 "), &[]);
    assert_eq!(short.truncated, 1);
    breaches(&short, "2 of 3 tokens");
    let repeated = judged(seen(Outcome::Complete, "w1 w2 w2 w3 "), &[]);
    assert_eq!(repeated.double, 1);
    breaches(&repeated, "w2  came twice");
    for text in ["w1 w3 ", "w1 w2 x3 ", "w1 w2 w3 w4 ", "w1w2 w3 ", "w1 w2 w"] {
        let altered = judged(seen(Outcome::Complete, text), &[]);
        assert_eq!((altered.altered, altered.violations.len()), (1, 1), "{text}: {altered:?}");
    }
    // Also in what came before a break.
    let broken = passed(ASKED, error("engine_error", "w1 w1 "), &[5]);
    assert_eq!((broken.double, broken.broken), (1, 1));
    breaches(&broken, "came twice");
}

#[test]
fn a_clean_end_without_terminator_is_a_silent_truncation() {
    let verdict = judged(seen(Outcome::Unterminated, "w1 w2 w3 "), &[5]);
    assert_eq!(verdict.truncated, 1);
    breaches(&verdict, "without its terminator");
}

#[test]
fn a_cut_is_forgiven_only_to_a_daemon_killed_meanwhile() {
    let cut = || seen(Outcome::Cut, "w1 ");
    let forgiven = judged(cut(), &[5]);
    assert_eq!((forgiven.cut_by_kill, forgiven.lost, forgiven.violations.len()), (1, 0, 0));
    for kills in [&[][..], &[11]] {
        let lost = judged(cut(), kills);
        assert_eq!((lost.cut_by_kill, lost.lost), (0, 1));
        breaches(&lost, "lost: Cut");
    }
    assert_eq!(judged(seen(Outcome::Silent, ""), &[5]).lost, 1, "silence is never forgiven");
}

#[test]
fn errors_count_by_code_and_breach_without_grounds() {
    let failed = judged(error("engine_error", ""), &[]);
    assert_eq!(failed.errors["engine_error"], 1);
    breaches(&failed, "error 200 engine_error");
    breaches(&judged(seen(Outcome::Refused { why: "nobody".to_owned() }, ""), &[5]), "refused: nobody");
}

#[test]
fn two_answers_in_one_are_double() {
    let mut two = seen(Outcome::Complete, "w1 w2 w3 ");
    two.identities.push("b 1 2".to_owned());
    let verdict = judged(two, &[]);
    assert_eq!(verdict.double, 1);
    breaches(&verdict, "two answers in one");
}

#[test]
fn a_worker_that_begins_anew_after_delivered_tokens_is_a_double_dispatch() {
    let good = dispatches("1 a 0\n1 b 0\n2 a 0\n3 a 5\n4 a 5\nhalf a li");
    assert_eq!(good.len(), 5);
    assert_eq!(good[3], Dispatch { generation: 3, answer: "a".to_owned(), replayed: 5 });
    assert_eq!(check(&[], &good, &NONE).double, 0);
    let verdict = check(&[], &dispatches("1 a 5\n2 a 0\n"), &NONE);
    assert_eq!(verdict.double, 1);
    breaches(&verdict, "forgotten");
}

#[test]
fn only_two_deaths_poison_a_request_and_only_one_of_which_nothing_came() {
    let forgiven = passed(PLAIN, error("poisoned", ""), &[2, 5]);
    assert_eq!((forgiven.errors["poisoned"], forgiven.violations.len()), (1, 0), "{forgiven:?}");
    for (deaths, text) in [(&[5][..], ""), (&[-5, 5], ""), (&[2, 5], "w1 ")] {
        breaches(&passed(ASKED, error("poisoned", text), deaths), "poisoned");
    }
}

#[test]
fn a_begun_stream_is_poisoned_only_by_two_deaths_without_a_token_between() {
    let start = Instant::now();
    let at = |seconds| start + Duration::from_secs(seconds);
    let poisoned = |last, deaths: &[u64], continues| {
        let end = Seen { last_piece: Some(at(last)), ..error("poisoned", "w1 ") };
        let events = [
            Event::Invoked { id: 7, at: at(0), asked: ASKED },
            Event::FirstByte { id: 7, at: at(1) },
            Event::Ended { id: 7, at: at(9), seen: end },
        ];
        let deaths: Vec<_> = deaths.iter().map(|seconds| at(*seconds)).collect();
        check(&events, &[], &Grounds { daemon_kills: &[], worker_deaths: &deaths, continues })
    };
    let forgiven = poisoned(2, &[1, 4, 8], true);
    assert_eq!((forgiven.errors["poisoned"], forgiven.violations.len()), (1, 0), "{forgiven:?}");
    breaches(&poisoned(5, &[1, 4, 8], true), "poisoned");
    // Where nobody goes on with it there is no second worker for it to end.
    breaches(&poisoned(2, &[4, 8], false), "poisoned");
}

#[test]
fn a_stream_that_has_begun_may_end_with_its_worker_where_nobody_can_go_on() {
    let broken = passed(ASKED, error("engine_error", "w1 "), &[5]);
    assert_eq!((broken.broken, broken.errors.len(), broken.violations.len()), (1, 0, 0), "{broken:?}");
    // The daemon's word of the death may come after the client's end.
    assert_eq!(passed(ASKED, error("engine_error", "w1 "), &[11]).broken, 1);

    let continued = at_milliseconds(ASKED, error("engine_error", "w1 "), &[], &[5], true);
    for breach in [
        continued,
        passed(ASKED, error("engine_error", "w1 "), &[]),
        passed(ASKED, error("engine_error", "w1 "), &[-5]),
        passed(ASKED, error("model_changed", "w1 "), &[5]),
    ] {
        assert_eq!(breach.broken, 0);
        breaches(&breach, "begun: true");
    }
}

#[test]
fn what_has_not_begun_may_not_end_with_its_worker() {
    breaches(&passed(ASKED, error("engine_error", ""), &[5]), "begun: false");
    // Whatever a plain request got, it is no answer before all of it is there.
    breaches(&passed(PLAIN, error("engine_error", "w1 "), &[5]), "begun: false");
    for outcome in [Outcome::Cut, Outcome::Unterminated, Outcome::Silent] {
        breaches(&passed(ASKED, seen(outcome, "w1 "), &[5]), "7");
    }
}
