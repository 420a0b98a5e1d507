//! Hand-overs with two workers: commit, abort edges, and who serves after each.

use super::*;
use crate::config::Engine;
use crate::memory::{Metric, Sample};
use crate::supervisor::Appetite;

const GIB: u64 = 1 << 30;

impl Story {
    /// A sample of a machine with `available` of 128 GiB.
    fn sees_available(&mut self, available: u64) {
        self.sees(available, 1);
    }

    fn sees(&mut self, available: u64, pressure: u64) {
        self.sees_with_prompts(available, pressure, None);
    }

    fn sees_with_prompts(&mut self, available: u64, pressure: u64, prompts: Option<u64>) {
        let mut sample = Sample::default();
        let mut set = |metric, value: u64| sample.set(metric, Some(value as f64));
        set(Metric::SystemTotal, 128 * GIB);
        set(Metric::SystemAvailable, available);
        set(Metric::SystemPressure, pressure);
        if let Some(bytes) = prompts {
            set(Metric::KvBytes, 0);
            set(Metric::PrefixCacheBytes, bytes);
        }
        self.send(Event::Sampled { sample: Box::new(sample) });
    }

    /// A worker of 30 GiB serves on a machine where a second one fits.
    fn roomy() -> Self {
        Self::roomy_with(|_| {})
    }

    fn roomy_with(adjust: impl FnOnce(&mut Config)) -> Self {
        Self::roomy_and_wires(adjust, None)
    }

    fn roomy_and_wires(adjust: impl FnOnce(&mut Config), wiring: Option<Wiring>) -> Self {
        let appetite = Some(Appetite { model: "m".to_owned(), loaded_bytes: 30 * GIB });
        let mut story = Self::asleep_at_first(adjust, &Persistent { appetite, ..Persistent::default() });
        story.sees_available(90 * GIB);
        story.spawned(1);
        story.ready_and_wires(1, "f", 2, wiring);
        story.forget();
        story
    }

    fn rising() -> (Self, OperationId) {
        let mut story = Self::roomy();
        story.submits(1);
        story.gains_token(1, 1);
        let restart = story.asks_restart(RestartAsked::Auto);
        assert_eq!(story.worker_actions(), [spawn(2)]);
        story.spawned(2);
        (story, restart)
    }
}

#[test]
fn samples_come_quickly_while_the_system_warns_of_pressure() {
    let mut story = Story::roomy();
    assert!(!story.core.is_watching_memory());
    story.sees(60 * GIB, 2);
    assert!(story.core.is_watching_memory());
    story.sees(60 * GIB, 1);
    assert!(!story.core.is_watching_memory());
}

#[test]
fn saved_prompts_count_in_the_plan_and_are_on_disk_before_green_serves() {
    let saving = Action::SavePrefixCache { generation: Generation(1) };
    for (prompts, saves) in [(None, false), (Some(0), false), (Some(2 * GIB), true)] {
        let mut story = Story::roomy();
        story.sees_with_prompts(90 * GIB, 1, prompts);
        let restart = story.asks_restart(RestartAsked::Auto);
        assert_eq!((story.worker_actions(), story.asked.contains(&saving)), (vec![spawn(2)], saves));
        let begun = story.records.iter().find(|(kind, _)| *kind == "handover").map(|(_, message)| message.as_str());
        let kept = begun.is_some_and(|begun| begun.contains("2.0 GiB KV and prefix cache"));
        assert_eq!((kept, story.outcome(restart)), (saves, None), "{begun:?}");
    }
}

#[test]
fn a_worker_that_drains_writes_its_prompts_meanwhile() {
    let saving = Action::SavePrefixCache { generation: Generation(1) };
    for running in [false, true] {
        let mut story = Story::roomy();
        story.sees_with_prompts(90 * GIB, 1, Some(GIB));
        if running {
            story.submits(1);
        }
        story.asks_restart(RestartAsked::Sequential);
        assert_eq!(story.asked.contains(&saving), running, "without a drain the end itself does");
    }
}

#[test]
fn green_loads_beside_blue_and_takes_over_when_ready() {
    let (mut story, restart) = Story::rising();
    story.submits(2);
    assert_eq!(story.state(), State::Handover);
    assert_eq!(story.assigned(), [(1, 1), (2, 1)], "blue takes new work until the commit point");
    story.pass_s(20);
    story.ready(2);
    story.submits(3);
    assert_eq!(story.assigned(), [(3, 2)], "from here on green does");
    assert_eq!(story.worker_actions(), [], "blue finishes first");
    story.is_answered(2);
    story.is_answered(1);
    assert_eq!(story.worker_actions(), [terminate(1)]);
    assert_eq!(story.outcome(restart), None);
    story.obeys(1);
    assert_eq!((story.state(), story.outcome(restart)), (State::Serving, Some(OutcomeKind::Done)));
    assert!(story.message(restart).contains("load 20.00 s"), "{}", story.message(restart));
    assert_eq!(story.refused(), []);
}

#[test]
fn what_outlasts_the_grace_is_handed_on() {
    let (mut story, restart) = Story::rising();
    story.ready(2);
    story.pass_s(119);
    assert_eq!(story.worker_actions(), []);
    story.pass_s(1);
    assert_eq!(story.worker_actions(), [terminate(1)]);
    story.loses_link(1, 1, true);
    story.obeys(1);
    assert_eq!(story.assigned(), [(1, 1), (1, 2)]);
    assert!(story.message(restart).contains("handed on 1"), "{}", story.message(restart));
    story.is_answered(1);
    assert_eq!((story.refused(), story.core.snapshot().ledger.carried), (vec![], 1));
}

#[test]
fn a_green_that_fails_leaves_blue_as_it_was() {
    type End = fn(&mut Story);
    let ends: [(&str, End); 4] = [
        ("it crashes", |story| story.crashes(2)),
        ("it hangs", |story| {
            story.pass_s(600);
            assert_eq!(story.worker_actions(), [terminate(2)]);
            story.obeys(2);
        }),
        ("pressure rises", |story| {
            story.sees(40 * GIB, 2);
            assert_eq!(story.worker_actions(), [terminate(2)]);
            story.obeys(2);
        }),
        ("memory runs short", |story| {
            story.sees_available(2 * GIB);
            assert_eq!(story.worker_actions(), [terminate(2)]);
            story.obeys(2);
        }),
    ];
    for (name, end) in ends {
        let (mut story, restart) = Story::rising();
        end(&mut story);
        assert_eq!((story.state(), story.outcome(restart)), (State::Serving, Some(OutcomeKind::Failed)), "{name}");
        assert!(story.message(restart).contains("worker 1 serves on"), "{name}: {}", story.message(restart));
        story.forget();
        story.submits(2);
        assert_eq!((story.assigned(), story.worker_actions()), (vec![(2, 1)], vec![]), "{name}");
        assert!(!story.recorded("crash_backoff"), "{name}: blue's budget is not touched");
    }
}

#[test]
fn resume_takes_an_overlap_back_until_the_commit_point() {
    let (mut story, restart) = Story::rising();
    let resume = story.asks(Verb::Resume);
    assert_eq!((story.outcome(resume), story.outcome(restart)), (Some(OutcomeKind::Done), Some(OutcomeKind::Failed)));
    assert_eq!(story.worker_actions(), [terminate(2)]);
    let again = story.asks_restart(RestartAsked::Overlap);
    assert!(story.message(again).contains("still ending"), "{}", story.message(again));
    story.obeys(2);
    assert_eq!(story.state(), State::Serving);
}

#[test]
fn blue_dying_makes_green_the_one_to_wait_for() {
    let (mut story, restart) = Story::rising();
    story.crashes(1);
    story.loses_link(1, 1, true);
    assert_eq!((story.worker_actions(), story.state()), (vec![], State::Starting), "no third worker");
    story.ready(2);
    assert_eq!((story.assigned(), story.state()), (vec![(1, 1), (1, 2)], State::Serving));
    assert_eq!(story.outcome(restart), Some(OutcomeKind::Done));
}

#[test]
fn green_dying_after_the_commit_point_brings_blue_back() {
    let (mut story, restart) = Story::rising();
    story.ready(2);
    story.submits(2);
    story.crashes(2);
    story.loses_link(2, 2, false);
    assert_eq!(story.assigned(), [(1, 1), (2, 2)], "a suspect waits until it can run alone");
    story.is_answered(1);
    assert_eq!((story.assigned(), story.state()), (vec![(2, 1)], State::Serving));
    assert_eq!((story.outcome(restart), story.worker_actions()), (Some(OutcomeKind::Failed), vec![]));
}

#[test]
fn a_stop_in_mid_hand_over_ends_both() {
    let (mut story, _) = Story::rising();
    story.is_answered(1);
    story.stops();
    assert_eq!(story.worker_actions(), [terminate(2), terminate(1)]);
    story.obeys(1);
    assert_eq!(story.worker_actions(), [], "not while green is there");
    story.obeys(2);
    assert_eq!(story.worker_actions(), [Action::Exit]);
}

#[test]
fn two_that_would_wire_more_than_the_device_may_are_replaced_one_after_the_other() {
    let wires = |gib| Some(Wiring { limit_bytes: gib * GIB, device_bytes: 56 * GIB });
    let mode = |wiring| {
        let mut story = Story::roomy_and_wires(|_| {}, wiring);
        story.probed(1, Vitals { footprint_bytes: Some(30 * GIB), ..Vitals::default() });
        let plan = story.asks(Verb::Restart { mode: RestartAsked::Auto, plan: true, no_wait: false });
        story.message(plan).to_owned()
    };
    assert!(mode(wires(28)).starts_with("overlap: 2 × 30.0 GiB"), "{}", mode(wires(28)));
    let denied = "sequential: both would wire 2 × 30.0 GiB = 60.0 GiB, and the device's working set is 56.0 GiB";
    assert!(mode(wires(30)).starts_with(denied), "{}", mode(wires(30)));
}

#[test]
fn two_that_do_not_fit_are_replaced_one_after_the_other() {
    let mut story = Story::roomy();
    story.probed(1, Vitals { footprint_bytes: Some(30 * GIB), ..Vitals::default() });
    story.sees_available(20 * GIB);
    let plan = story.asks(Verb::Restart { mode: RestartAsked::Auto, plan: true, no_wait: false });
    assert!(story.message(plan).starts_with("sequential: 2 × 30.0 GiB"), "{}", story.message(plan));
    let overlap = story.asks_restart(RestartAsked::Overlap);
    assert_eq!(story.outcome(overlap), Some(OutcomeKind::Denied));
    assert!(story.message(overlap).contains("budget"), "{}", story.message(overlap));
    story.asks_restart(RestartAsked::Auto);
    assert_eq!(story.worker_actions(), [terminate(1)]);
}

#[test]
fn another_model_gets_what_has_not_begun_and_never_continues_what_has() {
    let (mut story, _) = Story::rising();
    story.submits(2);
    story.ready_as(2, "another model");
    story.submits(3);
    assert_eq!(story.assigned(), [(1, 1), (2, 1), (3, 2)]);
    story.pass_s(120);
    story.loses_link(1, 1, true);
    story.loses_link(2, 1, false);
    story.obeys(1);
    assert_eq!((story.code(1), story.code(2)), (Some(Code::ModelChanged), None));
    assert_eq!(story.assigned(), [(2, 2)], "it had no token yet");
}

#[test]
fn engines_that_cannot_continue_a_stream_keep_blue_until_it_ends() {
    let mut story = Story::roomy_with(|config| config.worker.engine = Engine::MlxLm);
    story.submits(1);
    story.gains_token(1, 1);
    story.asks_restart(RestartAsked::Auto);
    story.spawned(2);
    story.ready(2);
    story.forget();
    for second in 0..250 {
        story.pass_s(1);
        story.answers_probe(1, second + 1);
        story.answers_probe(2, 1);
    }
    assert_eq!(story.worker_actions(), []);
    story.is_answered(1);
    assert_eq!(story.worker_actions(), [terminate(1)]);
}
