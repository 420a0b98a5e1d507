//! The door, the queue and what a worker's death means for those inside.

use super::*;
use crate::config::Engine;

#[test]
fn a_full_queue_refuses_with_a_hint_and_admits_again() {
    let mut story = Story::serving_with(|config| config.queue.max_waiting = 2);
    for id in 1..=5 {
        story.submits(id);
    }
    assert_eq!(story.refused(), [(5, Code::QueueFull)], "two run, two wait");
    assert!(story.refusals[&5].retry_after.is_some());
    story.is_answered(1);
    story.submits(6);
    assert_eq!(story.code(6), None);
}

#[test]
fn the_queue_is_bounded_in_bytes_but_takes_one_large_body() {
    let mut story = Story::serving_with(|config| config.queue.max_bytes = 1000);
    for id in 1..=2 {
        story.submits(id);
    }
    story.submits_with(3, |submission| submission.body_bytes = 5000);
    story.submits_with(4, |submission| submission.body_bytes = 1);
    assert_eq!(story.refused(), [(4, Code::QueueFull)]);
}

#[test]
fn who_waits_too_long_for_a_first_assignment_gets_504_and_who_was_assigned_never_does() {
    let mut story = Story::serving();
    let soon = story.now.mono + Duration::from_secs(30);
    story.submits(1);
    story.submits(2);
    story.submits(3);
    story.submits_with(4, |submission| submission.deadline = Some(soon));
    story.pass_s(29);
    assert_eq!(story.refused(), []);
    story.pass_s(1);
    assert_eq!(story.refused(), [(4, Code::QueueTimeout)]);
    story.pass_s(1800);
    assert_eq!(story.refused(), [(3, Code::QueueTimeout), (4, Code::QueueTimeout)]);
}

#[test]
fn the_oldest_wait_is_that_of_the_first_in_the_queue_that_no_worker_has_had() {
    let mut story = Story::serving();
    let oldest = |story: &Story| story.core.snapshot().oldest_admitted_at;
    story.submits(1);
    story.submits(2);
    assert_eq!(oldest(&story), None, "two run, none waits");
    story.pass_s(5);
    story.submits(3);
    let third = story.now.mono;
    story.pass_s(5);
    story.submits(4);
    assert_eq!(oldest(&story), Some(third));
    story.is_answered(1);
    assert_eq!(oldest(&story), Some(story.now.mono), "the third runs now");
}

#[test]
fn a_promise_made_at_the_door_outlives_a_reload() {
    let mut story = Story::serving();
    for id in 1..=3 {
        story.submits(id);
    }
    let mut config = settings::defaults();
    config.queue.max_wait = Duration::from_secs(10);
    story.send(Event::Reconfigured { config: Box::new(config) });
    story.pass_s(60);
    assert_eq!(story.refused(), []);
}

#[test]
fn a_client_that_hangs_up_frees_its_place_wherever_it_stands() {
    let mut story = Story::serving();
    for id in 1..=4 {
        story.submits(id);
    }
    story.hangs_up(3);
    story.hangs_up(1);
    assert_eq!(story.assigned(), [(1, 1), (2, 1), (4, 1)]);
    story.hangs_up(1);
    let snapshot = story.core.snapshot();
    assert_eq!((snapshot.active, snapshot.waiting, snapshot.ledger.lost), (2, 0, 0));
}

#[test]
fn a_suspect_runs_alone_and_a_token_clears_it() {
    let mut story = Story::serving();
    for id in 1..=3 {
        story.submits(id);
    }
    story.gains_token(2, 1);
    story.crashes(1);
    story.loses_link(1, 1, false);
    story.loses_link(2, 1, true);
    story.pass_s(2);
    story.forget();
    story.becomes_ready(2);
    assert_eq!(story.assigned(), [(1, 2)], "1 gained no token: it runs alone");
    story.gains_token(1, 2);
    assert_eq!(story.assigned(), [(2, 2)], "cleared, so others join it, the interrupted first");
    story.is_answered(2);
    assert_eq!(story.assigned(), [(3, 2)]);
}

#[test]
fn a_suspect_that_kills_alone_is_poisoned_and_nobody_else_is() {
    let mut story = Story::serving();
    for id in 1..=3 {
        story.submits(id);
    }
    story.crashes(1);
    story.loses_link(1, 1, false);
    story.loses_link(2, 1, false);
    for generation in 2..=3 {
        story.pass_s(3);
        story.forget();
        story.becomes_ready(generation);
        let alone = story.assigned();
        assert_eq!(alone.len(), 1, "alone in worker {generation}: {alone:?}");
        if generation == 2 {
            story.crashes(2);
            story.loses_link(1, 2, false);
            assert_eq!(story.refused(), [(1, Code::Poisoned)]);
        }
    }
    story.gains_token(2, 3);
    assert_eq!(story.assigned(), [(3, 3)]);
    assert_eq!(story.refused(), [(1, Code::Poisoned)]);
}

#[test]
fn a_suspicion_outlives_a_planned_restart() {
    let mut story = Story::serving();
    story.submits(1);
    story.crashes(1);
    story.loses_link(1, 1, false);
    story.pass_s(2);
    story.becomes_ready(2);
    story.asks_restart(RestartAsked::Now);
    story.loses_link(1, 2, false);
    story.obeys(2);
    story.forget();
    story.becomes_ready(3);
    story.submits(2);
    assert_eq!(story.assigned(), [(1, 3)], "no token yet: still alone");
    story.crashes(3);
    story.loses_link(1, 3, false);
    assert_eq!(story.refused(), [(1, Code::Poisoned)]);
}

#[test]
fn a_stall_counts_against_its_request_even_when_the_exit_takes_long() {
    let mut story = Story::serving();
    story.submits(1);
    for _ in 0..24 {
        story.pass_s(5);
        story.misses_probe(1);
    }
    assert_eq!(story.worker_actions(), [terminate(1)]);
    story.loses_link(1, 1, false);
    story.pass_s(8);
    story.obeys(1);
    story.pass_s(2);
    story.forget();
    story.becomes_ready(2);
    story.submits(2);
    assert_eq!(story.assigned(), [(1, 2)], "it ran when the worker stalled: alone");
}

#[test]
fn a_broken_link_to_a_living_worker_is_retried_twice() {
    let mut story = Story::serving();
    story.submits(1);
    for _ in 0..2 {
        story.loses_link(1, 1, false);
        assert_eq!(story.refused(), []);
        story.pass_s(2);
    }
    assert_eq!(story.assigned(), [(1, 1), (1, 1), (1, 1)]);
    story.loses_link(1, 1, false);
    story.pass_s(2);
    assert_eq!(story.refused(), [(1, Code::EngineError)], "for ever would be too often");
}

#[test]
fn other_engines_retry_what_has_not_begun_and_end_what_has() {
    let mut story = Story::serving_with(|config| config.worker.engine = Engine::OpenAi);
    story.submits(1);
    story.submits(2);
    story.gains_token(2, 1);
    story.crashes(1);
    story.loses_link(1, 1, false);
    story.loses_link(2, 1, true);
    assert_eq!(story.refused(), [(2, Code::EngineError)]);
    story.pass_s(2);
    story.forget();
    story.becomes_ready(2);
    assert_eq!(story.assigned(), [(1, 2)]);
}

/// A worker serves, one request has begun, and the file names another engine from now on.
fn with_another_engine_in_the_file(before: Engine, after: Engine) -> Story {
    let mut story = Story::serving_with(|config| config.worker.engine = before);
    story.submits(1);
    story.gains_token(1, 1);
    let mut config = story.core.config().clone();
    config.worker.engine = after;
    story.send(Event::Reconfigured { config: Box::new(config) });
    story
}

#[test]
fn a_worker_stays_the_engine_it_was_born_as_whatever_the_file_says() {
    let mut story = with_another_engine_in_the_file(Engine::OpenAi, Engine::Native);
    story.crashes(1);
    story.loses_link(1, 1, true);
    assert_eq!(story.refused(), [(1, Code::EngineError)], "nobody can continue what a foreign engine began");

    let mut story = with_another_engine_in_the_file(Engine::Native, Engine::OpenAi);
    story.crashes(1);
    story.loses_link(1, 1, true);
    assert_eq!(story.refused(), [], "it waits for a worker that can continue it");
    story.pass_s(2);
    story.becomes_ready(2);
    assert_eq!(story.refused(), [(1, Code::ModelChanged)], "and this one cannot");
}

#[test]
fn a_planned_change_of_the_engine_waits_for_streams_that_the_next_one_cannot_continue() {
    for (before, after) in [(Engine::OpenAi, Engine::Native), (Engine::Native, Engine::OpenAi)] {
        let mut story = with_another_engine_in_the_file(before, after);
        story.asks_restart(RestartAsked::Sequential);
        story.pass(story.core.config().drain.grace * 2);
        let still_there = !story.worker_actions().contains(&terminate(1));
        assert!(still_there && story.refused().is_empty(), "{before:?} to {after:?}");
    }
}
