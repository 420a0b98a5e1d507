//! Room before a start, memory back after an end.

use super::*;
use crate::config::{Action as Asked, RestartMode};
use crate::memory::{Metric, Sample};
use crate::supervisor::Appetite;

const GIB: u64 = 1 << 30;

impl Story {
    /// A sample of a machine of 64 GiB.
    fn has(&mut self, available: u64, wired: u64) {
        let mut sample = Sample::default();
        let mut set = |metric, value: u64| sample.set(metric, Some(value as f64));
        set(Metric::SystemTotal, 64 * GIB);
        set(Metric::SystemAvailable, available);
        set(Metric::SystemWired, wired);
        self.send(Event::Sampled { sample: Box::new(sample) });
    }

    /// A worker of 34 GiB, all of it wired.
    fn large() -> Self {
        Self::large_with(|_| {})
    }

    fn large_with(adjust: impl FnOnce(&mut Config)) -> Self {
        let appetite = Some(Appetite { model: "m".to_owned(), loaded_bytes: 34 * GIB });
        let mut story = Self::asleep_at_first(adjust, &Persistent { appetite, ..Persistent::default() });
        story.has(55 * GIB, 4 * GIB);
        story.becomes_ready(1);
        story.probed(
            1,
            Vitals { footprint_bytes: Some(34 * GIB), answer: Some(Answer::default()), ..Vitals::default() },
        );
        story.has(21 * GIB, 38 * GIB);
        story.forget();
        story
    }
}

#[test]
fn a_start_waits_for_room_and_says_what_is_missing() {
    let appetite = Some(Appetite { model: "m".to_owned(), loaded_bytes: 34 * GIB });
    let mut story = Story::asleep_at_first(|_| {}, &Persistent { appetite, ..Persistent::default() });
    story.has(20 * GIB, 4 * GIB);
    story.submits(1);
    assert_eq!((story.worker_actions(), story.state()), (vec![], State::Starting));
    assert_eq!(story.cause(), Some("memory_gate"));
    let why = story.core.snapshot().cause.unwrap().message;
    assert!(why.contains("needs 34.0 GiB") && why.contains("finds 20.0 GiB"), "{why}");
    story.has(50 * GIB, 4 * GIB);
    story.pass_s(10);
    assert_eq!(story.worker_actions(), [spawn(1)]);
}

#[test]
fn a_model_never_loaded_is_judged_by_its_size_on_disk() {
    let mut story = Story::asleep_at_first(|_| {}, &Persistent::default());
    story.core.respawn = None;
    story.send(Event::ModelMeasured { bytes: Some(40 * GIB) });
    story.core.respawn = Some(crate::supervisor::succession::Respawn::at_once(story.now.mono));
    story.has(45 * GIB, GIB);
    assert_eq!(story.cause(), Some("memory_gate"));
}

#[test]
fn the_next_start_waits_until_the_memory_is_back() {
    let mut story = Story::large();
    story.crashes(1);
    assert_eq!(story.cause(), Some("memory_return"));
    story.pass_s(5);
    story.has(21 * GIB, 38 * GIB);
    assert_eq!(story.cause(), Some("memory_return"), "still wired");
    story.has(54 * GIB, 5 * GIB);
    assert_eq!(story.cause(), Some("crash_backoff"));
    story.pass_s(2);
    assert_eq!(story.worker_actions(), [spawn(2)]);
}

#[test]
fn memory_that_stays_away_locks_starts_out_until_it_is_back() {
    let mut story = Story::large();
    story.submits(1);
    story.crashes(1);
    story.loses_link(1, 1, false);
    for _ in 0..30 {
        story.pass_s(1);
        story.has(21 * GIB, 38 * GIB);
    }
    assert_eq!((story.state(), story.code(1)), (State::Stranded, Some(Code::Stranded)));
    assert!(story.recorded("memory_stranded"));
    let restart = story.asks_restart(RestartAsked::Auto);
    assert_eq!(story.outcome(restart), Some(OutcomeKind::Denied));
    story.pass_s(3600);
    assert_eq!(story.worker_actions(), [], "no restart storm");
    story.has(54 * GIB, 4 * GIB);
    assert_eq!((story.worker_actions(), story.state()), (vec![spawn(2)], State::Starting));
}

#[test]
fn a_load_after_a_stranded_unload_serves_though_a_drain_was_asked_for_meanwhile() {
    let mut story = Story::large();
    story.asks(Verb::Unload { now: true, no_wait: true });
    story.obeys(1);
    story.asks_drain();
    for _ in 0..31 {
        story.pass_s(1);
        story.has(21 * GIB, 38 * GIB);
    }
    assert_eq!(story.state(), State::Stranded);
    story.has(54 * GIB, 5 * GIB);
    assert_eq!(story.state(), State::Unloaded);
    story.asks(Verb::Load { no_wait: true });
    story.becomes_ready(2);
    assert_eq!(story.state(), State::Serving);
}

#[test]
fn what_others_wired_meanwhile_is_not_stranded() {
    let mut story = Story::large();
    story.has(11 * GIB, 48 * GIB);
    let restart = story.asks_restart(RestartAsked::Sequential);
    story.obeys(1);
    story.has(45 * GIB, 14 * GIB);
    story.becomes_ready(2);
    assert_eq!(story.outcome(restart), Some(OutcomeKind::Done), "34 GiB came back; 10 GiB are a virtual machine's");
}

#[test]
fn what_others_wired_is_not_stranded_by_an_adopted_worker_either() {
    let mut first = Story::large();
    first.has(21 * GIB, 38 * GIB);
    let kept = first.persisted.clone().expect("it was kept");
    let mut story = Story::asleep_at_first(|_| {}, &kept);
    let facts = first.core.worker.as_ref().and_then(|worker| worker.facts.clone()).expect("it serves");
    let found = crate::supervisor::event::Inherited::Ready(facts);
    story.send(Event::Adopted { generation: Generation(1), pid: 100, engine: None, found });
    story.has(11 * GIB, 48 * GIB);
    story.crashes(1);
    story.pass_s(1);
    story.has(20 * GIB, 14 * GIB);
    assert_ne!(story.cause(), Some("memory_return"), "34 GiB came back; 10 GiB are a virtual machine's");
}

#[test]
fn stranded_memory_that_returns_is_noticed_though_others_wired_more() {
    let mut story = Story::large();
    story.crashes(1);
    for _ in 0..30 {
        story.pass_s(1);
        story.has(21 * GIB, 38 * GIB);
    }
    assert_eq!(story.state(), State::Stranded);
    story.has(15 * GIB, 44 * GIB);
    assert_eq!(story.state(), State::Stranded);
    story.has(49 * GIB, 10 * GIB);
    assert_eq!(story.state(), State::Starting);
}

#[test]
fn an_unload_proves_what_came_back() {
    let mut story = Story::large();
    let unload = story.asks_unload(false);
    story.obeys(1);
    assert_eq!((story.outcome(unload), story.state()), (None, State::Draining));
    let load = story.asks_load();
    assert_eq!(story.outcome(load), Some(OutcomeKind::Denied), "the unload is not over");
    story.has(55 * GIB, 4 * GIB);
    assert_eq!(story.state(), State::Unloaded);
    assert!(story.message(unload).contains("34.0 GiB returned"), "{}", story.message(unload));
    let returned = story.replies[&unload].facts["returned_bytes"];
    assert_eq!(returned, (34 * GIB) as f64);
}

#[test]
fn nobody_unattended_stops_a_worker_that_would_not_come_back() {
    let mut story = Story::large_with(|config| {
        config.schedules = vec![settings::schedule("nightly", Asked::Restart(RestartMode::Auto))];
    });
    // 34 GiB are held by the worker; others have taken what was left.
    story.probed(1, Vitals { footprint_bytes: Some(20 * GIB), ..Vitals::default() });
    story.has(GIB, 30 * GIB);
    story.send(Event::ScheduleDue { name: "nightly".to_owned(), nominal: Wall(0) });
    assert_eq!((story.worker_actions(), story.state()), (vec![], State::Serving));
    let why = story.records.iter().rev().find(|(kind, _)| *kind == "action_skipped").map(|(_, why)| why.clone());
    assert!(why.as_ref().is_some_and(|why| why.contains("would not come back: needs 34.0 GiB")), "{why:?}");
    story.asks_restart(RestartAsked::Auto);
    assert_eq!(story.worker_actions(), [terminate(1)], "an operator may");
}

#[test]
fn what_a_worker_weighs_when_ready_is_remembered() {
    let mut story = Story::asleep_at_first(|_| {}, &Persistent::default());
    story.send(Event::Tick);
    story.spawned(1);
    story.probed(1, Vitals { footprint_bytes: Some(7 * GIB), ..Vitals::default() });
    story.ready(1);
    let kept = story.persisted.as_ref().and_then(|kept| kept.appetite.clone());
    assert_eq!(kept, Some(Appetite { model: "m".to_owned(), loaded_bytes: 7 * GIB }));
}

#[test]
fn what_others_wire_is_not_taken_for_a_small_workers_remains() {
    let mut story = Story::asleep_at_first(|_| {}, &Persistent::default());
    story.has(50 * GIB, GIB);
    story.becomes_ready(1);
    story.probed(1, Vitals { footprint_bytes: Some(1 << 20), answer: Some(Answer::default()), ..Vitals::default() });
    story.crashes(1);
    story.has(49 * GIB, 2 * GIB);
    assert_eq!(story.cause(), Some("crash_backoff"), "a worker of 1 MiB strands no gibibyte");
}
