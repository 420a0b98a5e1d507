//! The daemon's own end.

use super::*;

#[test]
fn a_hurried_stop_that_keeps_its_worker_waits_for_an_aborted_green_without_spinning() {
    let mut story = Story::serving();
    let mut green = story.core.worker.clone().expect("a worker");
    green.generation = Generation(9);
    story.submits(1);
    story.core.surplus.push(green);
    story.send(Event::StopAsked { keep_worker: true });
    story.send(Event::StopAsked { keep_worker: true });
    assert_ne!(story.core.next_deadline(story.now.mono), Some(story.now.mono), "`send` checks it too");
}

#[test]
fn term_refuses_what_waits_gives_what_runs_its_grace_and_exits_after_the_worker() {
    let mut story = Story::serving();
    for id in 1..=3 {
        story.submits(id);
    }
    story.stops();
    assert_eq!(story.refused(), [(3, Code::Stopping)]);
    story.submits(4);
    assert_eq!(story.code(4), Some(Code::Stopping));
    story.is_answered(1);
    assert_eq!(story.worker_actions(), []);
    story.is_answered(2);
    assert_eq!(story.worker_actions(), [terminate(1)]);
    story.obeys(1);
    assert_eq!(story.worker_actions(), [Action::Exit]);
}

#[test]
fn at_the_grace_what_runs_is_ended_with_the_terminal_error() {
    let mut story = Story::serving();
    story.submits(1);
    story.submits(2);
    story.gains_token(1, 1);
    story.stops();
    story.pass_s(120);
    assert_eq!(story.worker_actions(), [terminate(1)]);
    story.loses_link(1, 1, true);
    assert_eq!(story.refused(), [(1, Code::Stopping)]);
    story.obeys(1);
    assert_eq!(story.refused(), [(1, Code::Stopping), (2, Code::Stopping)], "its session had not reported yet");
    assert_eq!(story.worker_actions(), [Action::Exit]);
}

#[test]
fn a_second_term_skips_the_drain() {
    let mut story = Story::serving();
    story.submits(1);
    story.stops();
    assert_eq!(story.worker_actions(), []);
    story.stops();
    assert_eq!(story.worker_actions(), [terminate(1)]);
}

#[test]
fn keep_worker_leaves_the_worker_alone() {
    let mut story = Story::serving();
    story.submits(1);
    story.send(Event::StopAsked { keep_worker: true });
    assert_eq!(story.worker_actions(), []);
    story.is_answered(1);
    assert_eq!(story.worker_actions(), [Action::Exit]);
}

#[test]
fn keep_worker_ends_what_outlasts_the_grace() {
    let mut story = Story::serving();
    story.submits(1);
    story.send(Event::StopAsked { keep_worker: true });
    story.pass_s(120);
    assert_eq!((story.worker_actions(), story.refused()), (vec![Action::Exit], vec![(1, Code::Stopping)]));
}

#[test]
fn a_worker_that_is_already_being_stopped_is_not_worth_keeping() {
    let mut story = Story::serving();
    story.asks_restart(RestartAsked::Now);
    story.send(Event::StopAsked { keep_worker: true });
    assert_eq!(story.worker_actions(), [terminate(1)], "the ladder is climbed to its end");
    story.pass_s(10);
    assert_eq!(story.worker_actions(), [kill(1)]);
    story.crashes(1);
    assert_eq!(story.worker_actions(), [Action::Exit]);
}

#[test]
fn a_loading_worker_is_stopped_or_kept_as_asked() {
    for keep_worker in [false, true] {
        let mut story = Story::asleep_at_first(|_| {}, &Persistent::default());
        story.send(Event::Tick);
        story.spawned(1);
        story.forget();
        story.send(Event::StopAsked { keep_worker });
        let expected = if keep_worker { Action::Exit } else { terminate(1) };
        assert_eq!(story.worker_actions(), [expected]);
    }
}

#[test]
fn without_a_worker_the_daemon_exits_at_once() {
    let mut story = Story::serving();
    story.crashes(1);
    story.forget();
    story.stops();
    assert_eq!(story.worker_actions(), [Action::Exit]);
    assert!(story.core.next_deadline(story.now.mono).is_none());
}

#[test]
fn every_verb_that_waits_is_answered_when_the_daemon_stops() {
    let mut story = Story::serving();
    story.submits(1);
    let clear = story.asks(Verb::ClearCache);
    let drain = story.asks_drain();
    story.send(Event::StopAsked { keep_worker: true });
    let denied = story.asks(Verb::Resume);
    story.is_answered(1);
    for operation in [clear, drain] {
        assert_eq!(story.outcome(operation), Some(OutcomeKind::Failed), "{}", story.message(operation));
    }
    assert_eq!(story.outcome(denied), Some(OutcomeKind::Denied));
}

#[test]
fn a_restart_under_way_is_answered_and_given_up_when_the_daemon_stops() {
    let mut story = Story::serving();
    let restart = story.asks_restart(RestartAsked::Auto);
    story.stops();
    assert_eq!(story.outcome(restart), Some(OutcomeKind::Failed));
    story.obeys(1);
    assert_eq!(story.worker_actions(), [terminate(1), Action::Exit]);
}
