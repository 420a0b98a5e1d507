//! Unload, load, and sleep: no worker on purpose.

use super::*;

#[test]
fn a_drain_asked_for_in_an_unload_is_answered() {
    let mut story = Story::serving();
    let unload = story.asks_unload(false);
    story.submits(1);
    let drain = story.asks_drain();
    assert_eq!(story.outcome(drain), None, "a request from before it waits");
    story.obeys(1);
    assert_eq!(story.outcome(unload), Some(OutcomeKind::Done));
    assert!(story.outcome(drain).is_some(), "its caller would wait for ever");
}

#[test]
fn an_unload_while_a_crashed_workers_memory_is_awaited_stays_unloaded() {
    let mut story = Story::serving();
    story.send(Event::Sampled { sample: Box::new(machine_of(50)) });
    story.pass_s(1);
    story.crashes(1);
    assert_eq!(story.cause(), Some("memory_return"));
    let unload = story.asks_unload(false);
    story.pass_s(1);
    story.send(Event::Sampled { sample: Box::new(machine_of(60)) });
    story.pass_s(60);
    assert_eq!((story.outcome(unload), story.state()), (Some(OutcomeKind::Done), State::Unloaded));
    assert_eq!(story.worker_actions(), [], "nothing is spawned");
    let load = story.asks_load();
    story.becomes_ready(2);
    assert_eq!((story.outcome(load), story.state()), (Some(OutcomeKind::Done), State::Serving));
}

/// A machine of 64 GiB with so many available.
fn machine_of(available: u64) -> crate::memory::Sample {
    use crate::memory::Metric;
    let mut sample = crate::memory::Sample::default();
    sample.set(Metric::SystemTotal, Some((64_u64 << 30) as f64));
    sample.set(Metric::SystemAvailable, Some((available << 30) as f64));
    sample
}

#[test]
fn unload_drains_stops_and_refuses_until_load() {
    let mut story = Story::serving();
    for id in 1..=3 {
        story.submits(id);
    }
    let unload = story.asks_unload(false);
    story.submits(4);
    for id in 1..=3 {
        story.is_answered(id);
    }
    assert_eq!(story.worker_actions(), [terminate(1)]);
    story.obeys(1);
    assert_eq!((story.state(), story.outcome(unload)), (State::Unloaded, Some(OutcomeKind::Done)));
    assert_eq!(story.refused(), [(4, Code::Unloaded)], "it came after the line");
    assert_eq!(story.persisted.as_ref().map(|persisted| persisted.standing), Some(Standing::Unloaded));
    story.pass_s(100_000);
    assert_eq!(story.worker_actions(), []);
    let load = story.asks_load();
    assert_eq!((story.worker_actions(), story.state()), (vec![spawn(2)], State::Starting));
    story.submits(5);
    story.becomes_ready(2);
    assert_eq!(story.outcome(load), Some(OutcomeKind::Done));
    assert_eq!(story.assigned().last(), Some(&(5, 2)));
}

#[test]
fn a_stream_that_outlasts_the_grace_postpones_an_unload() {
    let mut story = Story::serving();
    story.submits(1);
    let unload = story.asks_unload(false);
    story.submits(2);
    story.pass_s(120);
    assert_eq!((story.outcome(unload), story.state()), (Some(OutcomeKind::Deadline), State::Serving));
    assert!(story.message(unload).contains("--now"), "{}", story.message(unload));
    assert_eq!((story.worker_actions(), story.assigned()), (vec![], vec![(1, 1), (2, 1)]));
}

#[test]
fn unload_now_ends_streams_with_an_error_even_when_their_sessions_report_late() {
    let mut story = Story::serving();
    story.submits(1);
    story.gains_token(1, 1);
    let unload = story.asks_unload(true);
    assert_eq!(story.worker_actions(), [terminate(1)]);
    story.obeys(1);
    assert_eq!(story.outcome(unload), Some(OutcomeKind::Done));
    story.loses_link(1, 1, true);
    assert_eq!(story.refused(), [(1, Code::Unloaded)]);
}

#[test]
fn unload_ends_a_drain_and_load_comes_back_serving() {
    let mut story = Story::asleep_at_first(|_| {}, &Persistent::default());
    story.send(Event::Tick);
    story.submits(1);
    let drain = story.asks_drain();
    assert_eq!(story.outcome(drain), None, "request 1 came before the line");
    let unload = story.asks_unload(false);
    assert_eq!(story.outcome(drain), Some(OutcomeKind::Failed), "overtaken");
    story.spawned(1);
    story.obeys(1);
    assert_eq!((story.outcome(unload), story.refused()), (Some(OutcomeKind::Done), vec![(1, Code::Unloaded)]));
    story.asks_load();
    story.becomes_ready(2);
    assert_eq!(story.state(), State::Serving);
    assert_eq!(story.persisted.map(|persisted| persisted.standing), Some(Standing::Serve));
}

#[test]
fn an_unload_while_drained_lets_nobody_through() {
    let mut story = Story::serving();
    story.asks_drain();
    story.submits(1);
    story.asks_unload(false);
    assert_eq!((story.assigned(), story.worker_actions()), (vec![], vec![terminate(1)]));
    story.obeys(1);
    assert_eq!(story.refused(), [(1, Code::Unloaded)]);
}

#[test]
fn two_unloads_of_a_parked_service_are_both_answered() {
    let mut story = Story::asleep_at_first(|_| {}, &Persistent::default());
    story.send(Event::Tick);
    for generation in 1..=6 {
        story.crashes(generation);
        story.pass_s(60);
    }
    assert_eq!(story.state(), State::Parked);
    story.pass_s(1800);
    let first = story.asks_unload(false);
    let second = story.asks_unload(false);
    story.spawned(7);
    story.obeys(7);
    assert_eq!((story.outcome(first), story.outcome(second)), (Some(OutcomeKind::Done), Some(OutcomeKind::Denied)));
    assert_eq!(story.state(), State::Unloaded);
    story.asks_load();
    story.crashes(8);
    assert_eq!(story.state(), State::Starting, "load gives the new worker a new budget");
}

#[test]
fn load_during_an_unload_is_not_told_that_all_is_well() {
    let mut story = Story::serving();
    story.submits(1);
    story.asks_unload(false);
    let load = story.asks_load();
    assert_eq!(story.outcome(load), Some(OutcomeKind::Denied), "{}", story.message(load));
    story.asks(Verb::Resume);
    story.asks_drain();
    let load = story.asks_load();
    assert_eq!(story.outcome(load), Some(OutcomeKind::Already));
}

#[test]
fn idleness_puts_the_worker_to_sleep_and_a_request_wakes_it() {
    let mut story = Story::serving_with(|config| config.worker.idle_unload = Some(Duration::from_secs(900)));
    story.submits(1);
    story.pass_s(5000);
    assert_eq!(story.worker_actions(), [], "a running request is no idleness");
    story.is_answered(1);
    story.pass_s(899);
    assert_eq!(story.worker_actions(), []);
    story.pass_s(1);
    assert_eq!(story.worker_actions(), [terminate(1)], "at once: there is nothing to drain");
    story.obeys(1);
    assert_eq!((story.state(), story.cause()), (State::Asleep, Some("idle")));
    assert_eq!(story.core.next_deadline(story.now.mono), None, "no wake-ups while asleep");
    story.submits(2);
    assert_eq!((story.worker_actions(), story.state()), (vec![spawn(2)], State::Starting));
    story.becomes_ready(2);
    assert_eq!(story.assigned(), [(1, 1), (2, 2)]);
}

#[test]
fn a_request_that_comes_while_falling_asleep_wakes_it_again() {
    let mut story = Story::serving_with(|config| config.worker.idle_unload = Some(Duration::from_secs(900)));
    story.pass_s(900);
    story.submits(1);
    story.obeys(1);
    assert_eq!(story.worker_actions(), [terminate(1), spawn(2)]);
    assert_eq!(story.state(), State::Starting);
}

#[test]
fn load_wakes_a_sleeping_service() {
    let mut story = Story::serving_with(|config| config.worker.idle_unload = Some(Duration::from_secs(900)));
    story.pass_s(900);
    story.obeys(1);
    let load = story.asks_load();
    story.becomes_ready(2);
    assert_eq!((story.outcome(load), story.state()), (Some(OutcomeKind::Done), State::Serving));
}
