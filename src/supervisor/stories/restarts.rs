//! Planned restarts: to the line, then stop, then the next worker, with clients waiting.

use super::*;
use crate::config::Engine;

#[test]
fn a_restart_serves_to_its_line_and_later_requests_wait_for_the_next_worker() {
    let mut story = Story::serving();
    for id in 1..=3 {
        story.submits(id);
    }
    let restart = story.asks_restart(RestartAsked::Auto);
    story.submits(4);
    assert_eq!((story.state(), story.cause()), (State::Handover, Some("restart")));
    for id in 1..=3 {
        assert_eq!(story.worker_actions(), []);
        story.is_answered(id);
    }
    assert_eq!(story.assigned(), [(1, 1), (2, 1), (3, 1)]);
    assert_eq!(story.worker_actions(), [terminate(1)]);
    assert_eq!(story.core.snapshot().handover.map(|handover| handover.phase), Some("stopping"));
    story.obeys(1);
    assert_eq!(story.worker_actions(), [spawn(2)], "no backoff for what we did ourselves");
    assert_eq!(story.state(), State::Handover);
    story.pass_s(7);
    story.becomes_ready(2);
    assert_eq!((story.assigned(), story.state()), (vec![(4, 2)], State::Serving));
    assert_eq!(story.outcome(restart), Some(OutcomeKind::Done));
    assert_eq!(story.message(restart), "operator: restarted in 7.0 s (drain 0.00 s, load 7.00 s, stop 0.00 s)");
    assert_eq!(story.refused(), []);
}

#[test]
fn at_the_deadline_what_still_runs_continues_on_the_next_worker() {
    let mut story = Story::serving();
    for id in 1..=3 {
        story.submits(id);
    }
    story.gains_token(1, 1);
    story.gains_token(2, 1);
    story.asks_restart(RestartAsked::Sequential);
    story.is_answered(2);
    story.pass_s(119);
    assert_eq!(story.worker_actions(), []);
    story.pass_s(1);
    assert_eq!(story.worker_actions(), [terminate(1)]);
    story.loses_link(3, 1, false);
    story.loses_link(1, 1, true);
    story.obeys(1);
    story.forget();
    story.becomes_ready(2);
    assert_eq!(story.assigned(), [(1, 2), (3, 2)], "nobody is a suspect: we stopped the worker");
    assert_eq!(story.refused(), []);
}

#[test]
fn restart_now_does_not_drain() {
    let mut story = Story::serving();
    story.submits(1);
    story.asks_restart(RestartAsked::Now);
    assert_eq!(story.worker_actions(), [terminate(1)]);
}

#[test]
fn a_restart_while_drained_ends_drained_and_does_not_wait_for_the_held_queue() {
    let mut story = Story::serving();
    story.asks_drain();
    story.submits(1);
    let restart = story.asks_restart(RestartAsked::Auto);
    assert_eq!(story.worker_actions(), [terminate(1)], "request 1 is held back: nothing to drain");
    story.obeys(1);
    story.becomes_ready(2);
    assert_eq!((story.state(), story.outcome(restart)), (State::Drained, Some(OutcomeKind::Done)));
    assert_eq!(story.assigned(), []);
}

#[test]
fn a_worker_that_dies_while_retiring_is_simply_replaced() {
    let mut story = Story::serving();
    story.submits(1);
    story.gains_token(1, 1);
    let restart = story.asks_restart(RestartAsked::Auto);
    story.crashes(1);
    assert_eq!(story.worker_actions(), [spawn(2)]);
    story.loses_link(1, 1, true);
    story.becomes_ready(2);
    assert_eq!((story.outcome(restart), story.assigned()), (Some(OutcomeKind::Done), vec![(1, 1), (1, 2)]));
}

#[test]
fn a_worker_that_ignores_term_is_killed_after_patience_for_its_footprint() {
    let mut story = Story::serving();
    story.probed(1, Vitals { footprint_bytes: Some(40 << 30), answer: Some(Answer::default()), ..Vitals::default() });
    story.asks_restart(RestartAsked::Auto);
    story.forget();
    story.pass_s(19);
    assert_eq!(story.worker_actions(), []);
    story.probed(1, Vitals { footprint_bytes: Some(20 << 30), ..Vitals::default() });
    story.pass_s(14);
    assert_eq!(story.worker_actions(), [], "memory is coming back: more patience");
    story.pass_s(1);
    assert_eq!(story.worker_actions(), [kill(1)]);
}

#[test]
fn a_footprint_that_merely_trembles_buys_no_time() {
    let mut story = Story::serving();
    let footprint = |bytes| Vitals { footprint_bytes: Some(bytes), ..Vitals::default() };
    story.probed(1, footprint(40 << 30));
    story.asks_restart(RestartAsked::Auto);
    story.forget();
    for second in 1..=30_u64 {
        story.pass_s(1);
        story.probed(1, footprint((40 << 30) - second * 4096));
    }
    assert_eq!(story.worker_actions(), [kill(1)]);
}

#[test]
fn a_spawn_reported_after_term_is_told_again() {
    let mut story = Story::asleep_at_first(|_| {}, &Persistent::default());
    story.send(Event::Tick);
    story.asks_restart(RestartAsked::Auto);
    assert_eq!(story.worker_actions(), [spawn(1), terminate(1)]);
    story.pass_s(60);
    story.forget();
    story.spawned(1);
    assert_eq!(story.worker_actions(), [terminate(1)], "there was no process to hear the first one");
    story.pass_s(10);
    assert_eq!(story.worker_actions(), [kill(1)]);
    story.crashes(1);
    assert_eq!(story.worker_actions(), [spawn(2)]);
}

#[test]
fn verbs_that_make_no_sense_are_denied_with_a_reason() {
    let mut story = Story::serving();
    let overlap = story.asks_restart(RestartAsked::Overlap);
    assert_eq!(story.outcome(overlap), Some(OutcomeKind::Denied));
    let plan = story.asks(Verb::Restart { mode: RestartAsked::Auto, plan: true, no_wait: false });
    assert_eq!((story.outcome(plan), story.worker_actions()), (Some(OutcomeKind::Done), vec![]));
    story.asks_restart(RestartAsked::Now);
    let verbs = [
        Verb::Drain { deadline: None, refuse: false, no_wait: false },
        Verb::Restart { mode: RestartAsked::Auto, plan: false, no_wait: false },
        Verb::Unload { now: false, no_wait: false },
        Verb::ClearCache,
        Verb::RunSchedule { name: "none".to_owned() },
    ];
    for verb in verbs {
        let operation = story.asks(verb.clone());
        assert_eq!(story.outcome(operation), Some(OutcomeKind::Denied), "{verb:?}: {}", story.message(operation));
    }
}

#[test]
fn other_engines_postpone_a_restart_rather_than_cut_a_stream() {
    let mut story = Story::serving_with(|config| config.worker.engine = Engine::MlxLm);
    story.submits(1);
    story.gains_token(1, 1);
    let restart = story.asks_restart(RestartAsked::Auto);
    story.pass_s(120);
    assert_eq!((story.worker_actions(), story.state()), (vec![], State::Serving));
    assert_eq!(story.outcome(restart), Some(OutcomeKind::Deadline));
    assert!(story.message(restart).contains("--mode now"), "{}", story.message(restart));
    story.asks_restart(RestartAsked::Now);
    assert_eq!(story.worker_actions(), [terminate(1)]);
}
