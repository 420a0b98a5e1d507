//! Drain and resume: a line in the queue, never a broken stream.

use super::*;

#[test]
fn a_drain_serves_to_its_line_and_holds_the_rest() {
    let mut story = Story::serving();
    for id in 1..=3 {
        story.submits(id);
    }
    let drain = story.asks_drain();
    story.submits(4);
    assert_eq!(story.state(), State::Draining);
    let counts = story.core.snapshot().drain.expect("counts while draining");
    assert_eq!((counts.active, counts.waiting), (2, 1));
    story.is_answered(1);
    assert_eq!(story.assigned(), [(1, 1), (2, 1), (3, 1)], "3 came before the line");
    story.is_answered(2);
    assert_eq!(story.outcome(drain), None);
    story.is_answered(3);
    assert_eq!((story.outcome(drain), story.state()), (Some(OutcomeKind::Done), State::Drained));
    assert_eq!(story.worker_actions(), [], "the worker stays resident");
    story.asks(Verb::Resume);
    assert_eq!(story.assigned(), [(4, 1)]);
}

#[test]
fn a_refusing_drain_closes_the_door_even_when_already_drained() {
    let mut story = Story::serving();
    story.asks_drain();
    story.submits(1);
    assert_eq!((story.state(), story.refused()), (State::Drained, vec![]));
    let again = story.asks_drain();
    assert_eq!(story.outcome(again), Some(OutcomeKind::Already));
    let refusing = story.asks(Verb::Drain { deadline: None, refuse: true, no_wait: false });
    assert_eq!(story.outcome(refusing), Some(OutcomeKind::Already), "{}", story.message(refusing));
    story.submits(2);
    assert_eq!(story.refused(), [(2, Code::Draining)]);
    story.asks(Verb::Resume);
    story.submits(3);
    assert_eq!(story.refused(), [(2, Code::Draining)]);
}

#[test]
fn at_its_deadline_a_drain_ends_its_verb_and_breaks_nothing() {
    let mut story = Story::serving();
    for id in 1..=3 {
        story.submits(id);
    }
    let drain = story.asks(Verb::Drain { deadline: Some(Duration::from_secs(5)), refuse: false, no_wait: false });
    let second = story.asks_drain();
    story.pass_s(5);
    assert_eq!(story.outcome(drain), None, "the second verb moved the deadline");
    story.pass_s(115);
    assert_eq!(story.outcome(drain), Some(OutcomeKind::Deadline));
    assert_eq!(story.outcome(second), Some(OutcomeKind::Deadline));
    assert_eq!((story.state(), story.worker_actions()), (State::Draining, vec![]));
    story.is_answered(1);
    story.is_answered(2);
    assert_eq!((story.state(), story.assigned()), (State::Drained, vec![(1, 1), (2, 1)]), "nothing more is assigned");
    story.asks(Verb::Resume);
    assert_eq!(story.assigned(), [(3, 1)]);
}

#[test]
fn a_drain_is_not_over_because_the_worker_died_under_it() {
    let mut story = Story::serving();
    story.submits(1);
    story.gains_token(1, 1);
    let drain = story.asks_drain();
    story.crashes(1);
    assert_eq!(story.outcome(drain), None, "request 1 is still owed an answer");
    story.loses_link(1, 1, true);
    story.pass_s(2);
    story.becomes_ready(2);
    assert_eq!((story.assigned(), story.state()), (vec![(1, 1), (1, 2)], State::Draining));
    story.is_answered(1);
    assert_eq!((story.outcome(drain), story.state()), (Some(OutcomeKind::Done), State::Drained));
}

#[test]
fn a_drain_before_the_worker_is_ready_is_answered_too() {
    let mut story =
        Story::asleep_at_first(|_| {}, &Persistent { standing: Standing::Drained, ..Persistent::default() });
    story.send(Event::Tick);
    let drained_already = story.asks_drain();
    assert_eq!(story.outcome(drained_already), Some(OutcomeKind::Already));
    story.pass_s(300);
    story.becomes_ready(1);
    assert_eq!(story.state(), State::Drained);
}

#[test]
fn resume_aborts_a_drain_and_says_so_to_its_verb() {
    let mut story = Story::serving();
    story.submits(1);
    let drain = story.asks_drain();
    let resume = story.asks(Verb::Resume);
    assert_eq!(story.outcome(drain), Some(OutcomeKind::Failed));
    assert_eq!(story.outcome(resume), Some(OutcomeKind::Done));
    assert_eq!(story.state(), State::Serving);
    let nothing = story.asks(Verb::Resume);
    assert_eq!(story.outcome(nothing), Some(OutcomeKind::Already));
}

#[test]
fn resume_takes_a_hand_over_back_until_term_is_out() {
    let mut story = Story::serving();
    story.submits(1);
    let restart = story.asks_restart(RestartAsked::Auto);
    story.submits(2);
    assert_eq!((story.state(), story.assigned()), (State::Handover, vec![(1, 1)]));
    story.asks(Verb::Resume);
    assert_eq!(story.outcome(restart), Some(OutcomeKind::Failed));
    assert_eq!((story.state(), story.assigned()), (State::Serving, vec![(2, 1)]));
    story.pass_s(600);
    assert_eq!(story.worker_actions(), []);
    story.asks_restart(RestartAsked::Now);
    let late = story.asks(Verb::Resume);
    assert_eq!(story.outcome(late), Some(OutcomeKind::Denied));
}

#[test]
fn a_drain_survives_the_daemon() {
    let mut story = Story::serving();
    story.asks_drain();
    let persisted = story.persisted.clone().expect("a wish is written down");
    assert_eq!(persisted.standing, Standing::Drained);
    story.asks(Verb::Resume);
    assert_eq!(story.persisted.map(|persisted| persisted.standing), Some(Standing::Serve));
}
