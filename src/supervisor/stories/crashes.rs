//! Deaths nobody asked for: requeueing, backoff, budget, parking, recovery.

use super::*;

/// Lets worker after worker die while loading until the service parks; returns the last generation.
fn crash_until_parked(story: &mut Story, first: u64) -> u64 {
    for generation in first..first + 6 {
        story.crashes(generation);
        if story.state() == State::Parked {
            return generation;
        }
        story.pass_s(60);
        story.spawned(generation + 1);
    }
    panic!("six crashes did not park");
}

#[test]
fn a_crash_requeues_what_ran_ahead_of_what_waits() {
    let mut story = Story::serving();
    for id in 1..=4 {
        story.submits(id);
    }
    story.gains_token(1, 1);
    story.gains_token(2, 1);
    story.forget();
    story.crashes(1);
    story.loses_link(2, 1, true);
    story.loses_link(1, 1, true);
    assert_eq!((story.state(), story.cause()), (State::Starting, Some("crash_backoff")));
    let cause = story.core.snapshot().cause.map(|cause| cause.message);
    assert_eq!(cause.as_deref(), Some("the worker ended by signal 11 (SIGSEGV), last words: the last words"));
    story.pass_s(2);
    assert_eq!(story.worker_actions(), [spawn(2)], "after about a second");
    story.becomes_ready(2);
    assert_eq!(story.assigned(), [(1, 2), (2, 2)], "arrival order, whatever the order of the reports");
    story.is_answered(1);
    story.is_answered(2);
    assert_eq!(story.assigned(), [(3, 2), (4, 2)]);
    assert_eq!(story.refused(), []);
    let restart = story.core.snapshot().last_restart.expect("a restart was completed");
    assert!(restart.reason.starts_with("crash: "), "{}", restart.reason);
}

#[test]
fn a_link_that_breaks_before_the_exit_is_known_waits_for_the_judgement() {
    let mut story = Story::serving();
    story.submits(1);
    story.loses_link(1, 1, false);
    assert_eq!(story.assigned(), [(1, 1)], "not sent into a worker that may be dead");
    story.crashes(1);
    story.pass_s(2);
    story.becomes_ready(2);
    assert_eq!(story.assigned(), [(1, 2)]);
    assert_eq!(story.core.snapshot().ledger.carried, 0);
    story.is_answered(1);
    assert_eq!(story.core.snapshot().ledger.carried, 1);
}

#[test]
fn a_load_failure_is_told_in_the_workers_words() {
    let mut story = Story::asleep_at_first(|_| {}, &Persistent::default());
    story.send(Event::Tick);
    story.spawned(1);
    let failure = Some("no such file: m/config.json".to_owned());
    let answer = Some(Answer { phase: "failed".to_owned(), failure, ..Answer::default() });
    story.probed(1, Vitals { answer, ..Vitals::default() });
    story.exits(1, ExitStatus::Code(1));
    let cause = story.core.snapshot().cause.map(|cause| cause.message);
    assert_eq!(cause.as_deref(), Some("the worker could not load: no such file: m/config.json"));
}

#[test]
fn a_spawn_that_fails_is_tried_again_and_parks_in_the_end() {
    let mut story = Story::asleep_at_first(|_| {}, &Persistent::default());
    story.send(Event::Tick);
    for generation in 1..=6 {
        story.send(Event::SpawnFailed { generation: Generation(generation), why: "no such program".to_owned() });
        story.pass_s(60);
    }
    assert_eq!(story.state(), State::Parked);
}

#[test]
fn a_spent_budget_parks_and_answers_everything_at_once_whatever_order_the_news_come_in() {
    let mut story = Story::serving();
    crash_until_parked_with_clients(&mut story);
    assert_eq!(story.refused(), [(1, Code::Parked), (2, Code::Parked), (3, Code::Parked)]);
    story.submits(4);
    assert_eq!(story.code(4), Some(Code::Parked));
    assert!(story.refusals[&4].retry_after.is_none());
    assert!(story.refusals[&4].message.contains("6 crashes in 30 min"), "{}", story.refusals[&4].message);
}

/// Five crashes while idle, then one under two running requests and a waiting one.
fn crash_until_parked_with_clients(story: &mut Story) {
    for generation in 1..=5 {
        story.crashes(generation);
        story.pass_s(60);
        story.becomes_ready(generation + 1);
    }
    for id in 1..=3 {
        story.submits(id);
    }
    story.gains_token(1, 6);
    story.loses_link(1, 6, true);
    story.crashes(6);
    // The second session learns of it last.
    story.loses_link(2, 6, false);
    assert_eq!(story.state(), State::Parked);
}

#[test]
fn parked_is_retried_by_itself_and_recovers() {
    let mut story = Story::asleep_at_first(|_| {}, &Persistent::default());
    story.send(Event::Tick);
    let last = crash_until_parked(&mut story, 1);
    story.forget();
    let retry_at = story.core.snapshot().cause.and_then(|cause| cause.retry_at);
    assert_eq!(retry_at, Some(story.now.mono + Duration::from_secs(1800)));
    story.pass_s(1799);
    assert_eq!(story.worker_actions(), []);
    story.pass_s(1);
    assert_eq!(story.worker_actions(), [spawn(last + 1)]);
    story.submits(1);
    assert_eq!(story.code(1), Some(Code::Parked), "a try is not yet a service");
    story.becomes_ready(last + 1);
    story.submits(2);
    assert_eq!((story.state(), story.assigned()), (State::Serving, vec![(2, last + 1)]));
}

#[test]
fn a_retry_that_outlasts_its_own_interval_neither_spins_nor_starts_a_second_worker() {
    let shorter = |config: &mut Config| config.restart.retry_parked = Duration::from_secs(60);
    let mut story = Story::asleep_at_first(shorter, &Persistent::default());
    story.send(Event::Tick);
    let last = crash_until_parked(&mut story, 1);
    let since = story.core.snapshot().cause.map(|cause| cause.since);
    story.forget();
    story.pass_s(60);
    story.spawned(last + 1);
    story.pass_s(300);
    assert_eq!(story.worker_actions(), [spawn(last + 1)]);
    story.crashes(last + 1);
    assert_eq!((story.state(), story.cause()), (State::Parked, Some("crash_budget")));
    assert_eq!(story.core.snapshot().cause.map(|cause| cause.since), since, "parked since the first time");
    story.pass_s(60);
    assert_eq!(story.worker_actions(), [spawn(last + 2)]);
}

#[test]
fn an_operators_restart_ends_parking_and_restores_the_budget() {
    let mut story = Story::asleep_at_first(|_| {}, &Persistent::default());
    story.send(Event::Tick);
    let last = crash_until_parked(&mut story, 1);
    story.forget();
    let operation = story.asks_restart(RestartAsked::Auto);
    assert_eq!((story.worker_actions(), story.state()), (vec![spawn(last + 1)], State::Starting));
    story.submits(1);
    story.crashes(last + 1);
    assert_eq!(story.state(), State::Starting, "the first crash of a new budget");
    story.pass_s(2);
    story.becomes_ready(last + 2);
    assert_eq!((story.outcome(operation), story.assigned()), (Some(OutcomeKind::Done), vec![(1, last + 2)]));
}

#[test]
fn a_verb_that_waits_learns_of_parking() {
    let mut story = Story::serving();
    let operation = story.asks_restart(RestartAsked::Auto);
    story.obeys(1);
    story.spawned(2);
    crash_until_parked(&mut story, 2);
    assert_eq!(story.outcome(operation), Some(OutcomeKind::Failed));
    assert!(story.message(operation).starts_with("parked: "), "{}", story.message(operation));
}

#[test]
fn a_restart_whose_successor_crashes_is_no_hand_over_any_more() {
    let mut story = Story::serving();
    story.asks_restart(RestartAsked::Auto);
    story.obeys(1);
    story.spawned(2);
    assert_eq!(story.state(), State::Handover);
    story.crashes(2);
    assert_eq!((story.state(), story.cause()), (State::Starting, Some("crash_backoff")));
    let again = story.asks_restart(RestartAsked::Auto);
    story.becomes_ready(3);
    assert_eq!(story.outcome(again), Some(OutcomeKind::Done), "the operator need not sit the backoff out");
}

#[test]
fn loads_that_hang_for_ever_park_though_the_window_never_fills() {
    let mut story = Story::asleep_at_first(|_| {}, &Persistent::default());
    story.send(Event::Tick);
    for generation in 1..=6 {
        story.spawned(generation);
        story.pass_s(600);
        story.obeys(generation);
        if generation < 6 {
            assert_eq!(story.state(), State::Starting, "after {generation} hanging loads");
            story.pass_s(400);
        }
    }
    assert_eq!(story.state(), State::Parked, "else an interrupted request would wait for ever");
}

#[test]
fn a_stopped_worker_is_not_said_to_load() {
    let mut story = Story::serving();
    for _ in 0..24 {
        story.pass_s(5);
        story.misses_probe(1);
    }
    assert_eq!((story.state(), story.cause()), (State::Starting, Some("stopping_worker")));
}

#[test]
fn nobody_is_blamed_for_what_a_stranger_kills() {
    let mut story = Story::serving();
    story.submits(1);
    for generation in 1..=4 {
        story.is_killed(generation);
        story.loses_link(1, generation, false);
        story.pass_s(30);
        story.becomes_ready(generation + 1);
    }
    assert_eq!(story.refused(), [], "four workers died under it, none of its doing");
    story.submits(2);
    assert_eq!(story.assigned().last(), Some(&(2, 5)), "and it is no suspect that runs alone");
}

#[test]
fn what_the_kernel_ends_for_memory_counts_against_what_it_ran() {
    let mut story = Story::serving();
    story.submits(1);
    let exit = Exit { status: ExitStatus::Signal(SIGKILL), stderr_tail: Vec::new(), out_of_memory: true };
    story.send(Event::WorkerExited { generation: Generation(1), exit });
    story.loses_link(1, 1, false);
    story.pass_s(2);
    story.becomes_ready(2);
    story.submits(2);
    assert_eq!(story.assigned(), [(1, 1), (1, 2)], "a suspect runs alone");
    assert_eq!(story.core.snapshot().last_failure.map(|(failure, _)| failure.class.as_str()), Some("out_of_memory"));
}
