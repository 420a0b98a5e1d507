//! The checker finds what was planted, and nothing where nothing was.

use std::time::{Duration, Instant};

use crate::checker::{Verdict, check};
use crate::history::{Asked, Dispatch, Event, Outcome, Seen, dispatches};

const ASKED: Asked = Asked { stream: true, chat: true, tokens: 3, choices: 1 };

fn seen(outcome: Outcome, text: &str) -> Seen {
    Seen { outcome, texts: vec![text.to_owned()], identities: vec!["a 1 2".to_owned()] }
}

/// The judgement of one request that ended like this, with a daemon killed at these milliseconds of its ten.
fn judged(seen: Seen, kills_ms: &[u64]) -> Verdict {
    let start = Instant::now();
    let at = |ms| start + Duration::from_millis(100 + ms);
    let events = [
        Event::Invoked { id: 7, at: at(0), asked: ASKED },
        Event::FirstByte { id: 7, at: at(1) },
        Event::Ended { id: 7, at: at(10), seen },
    ];
    let kills: Vec<_> = kills_ms.iter().map(|ms| at(*ms)).collect();
    check(&events, &kills, &[], &["poisoned"])
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
    let verdict = check(&begun, &[], &[], &[]);
    assert_eq!(verdict.lost, 1);
    breaches(&verdict, "0 ends");

    let end = Event::Ended { id: 7, at, seen: seen(Outcome::Complete, "w1 w2 w3 ") };
    let verdict = check(&[begun[0].clone(), end.clone(), end], &[], &[], &[]);
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
    let broken = judged(seen(Outcome::Error { status: 200, code: "poisoned".to_owned() }, "w1 w1 "), &[]);
    assert_eq!(broken.double, 1);
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
fn errors_count_by_code_and_breach_unless_allowed() {
    let error = |code: &str| seen(Outcome::Error { status: 500, code: code.to_owned() }, "");
    assert_eq!(judged(error("poisoned"), &[]).violations, Vec::<String>::new());
    breaches(&judged(error("engine_error"), &[]), "error 500 engine_error");
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
    assert_eq!(check(&[], &[], &good, &[]).double, 0);
    let verdict = check(&[], &[], &dispatches("1 a 5\n2 a 0\n"), &[]);
    assert_eq!(verdict.double, 1);
    breaches(&verdict, "forgotten");
}
