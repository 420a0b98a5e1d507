//! Memory rules acting on the worker.

use super::*;
use crate::config::{Action as Asked, Rule};
use crate::memory::{Metric, Sample};
use crate::supervisor::event::{CacheCleared, CacheKind};

fn cache_over_a_gib(action: Asked) -> Rule {
    settings::rule("cache", Metric::MlxCache, f64::from(1 << 30), vec![action])
}

impl Story {
    /// One sample a second.
    fn sees_cache(&mut self, bytes: f64, seconds: u64) {
        for _ in 0..seconds {
            let mut sample = Sample::default();
            sample.set(Metric::MlxCache, Some(bytes));
            self.send(Event::Sampled { sample: Box::new(sample) });
            self.pass_s(1);
        }
    }
}

const TWO_GIB: f64 = 2_147_483_648.0;

fn clear_cache(generation: u64) -> Action {
    Action::ClearCache { generation: Generation(generation), cache: CacheKind::Buffers }
}

#[test]
fn a_rule_clears_the_cache_and_again_only_after_its_cooldown() {
    let mut story = Story::serving_with(|config| config.rules = vec![cache_over_a_gib(Asked::ClearCache)]);
    story.sees_cache(TWO_GIB, 60);
    assert_eq!(story.worker_actions(), [clear_cache(1)]);
    story.send(cleared(2 << 30, 2 << 30));
    story.sees_cache(TWO_GIB, 10);
    assert_eq!(story.worker_actions(), [clear_cache(1)]);
    story.send(cleared(2 << 30, 0));
    assert!(story.records.iter().any(|(_, message)| message == "MLX cache: 2.0 GiB → 0 B"));
}

fn cleared(before: u64, after: u64) -> Event {
    emptied(CacheKind::Buffers, before, after)
}

fn emptied(cache: CacheKind, before: u64, after: u64) -> Event {
    let result = Ok(CacheCleared { before_bytes: Some(before), after_bytes: Some(after) });
    Event::CacheCleared { generation: Generation(1), cache, result }
}

impl Story {
    fn sees_footprint(&mut self, bytes: u32) {
        let mut sample = Sample::default();
        sample.set(Metric::WorkerFootprint, Some(f64::from(bytes) * f64::from(1 << 20)));
        self.send(Event::Sampled { sample: Box::new(sample) });
    }

    fn remark(&self) -> Option<&str> {
        self.records.iter().rev().find(|(kind, _)| *kind == "cache_cleared").map(|(_, message)| message.as_str())
    }
}

#[test]
fn a_clearing_is_proved_by_the_footprint_that_follows() {
    let mut story = Story::serving();
    story.sees_footprint(4096);
    let operation = story.asks(Verb::ClearCache);
    story.send(cleared(1 << 30, 0));
    assert!(story.core.is_watching_memory(), "samples come quickly now");
    story.pass(Duration::from_millis(250));
    story.sees_footprint(4090);
    assert_eq!(story.outcome(operation), None, "the system has not counted it off yet");
    story.pass(Duration::from_millis(250));
    story.sees_footprint(3080);
    assert_eq!(story.message(operation), "MLX cache: 1.0 GiB → 0 B; footprint 4.0 GiB → 3.0 GiB after 0.5 s");
    assert!(!story.core.is_watching_memory());
}

#[test]
fn a_footprint_that_does_not_follow_is_told_after_four_seconds() {
    let mut story = Story::serving();
    story.sees_footprint(4096);
    let operation = story.asks(Verb::ClearCache);
    story.send(cleared(1 << 30, 0));
    story.pass_s(1);
    story.sees_footprint(4096);
    story.pass_s(3);
    let said = "MLX cache: 1.0 GiB → 0 B; footprint 4.0 GiB → 4.0 GiB after 4.0 s, less than was freed";
    assert_eq!((story.message(operation), story.remark()), (said, Some(said)));
}

#[test]
fn a_clearing_is_told_though_its_worker_ends_before_the_footprint_follows() {
    let mut story = Story::serving();
    story.sees_footprint(4096);
    let operation = story.asks(Verb::ClearCache);
    story.send(cleared(1 << 30, 0));
    story.crashes(1);
    assert_eq!((story.outcome(operation), story.remark()), (Some(OutcomeKind::Done), Some("MLX cache: 1.0 GiB → 0 B")));
}

impl Story {
    /// One sample a second of a worker that weighs 4 GiB.
    fn sees_prefixes(&mut self, bytes: Option<f64>, seconds: u64) {
        for _ in 0..seconds {
            let mut sample = Sample::default();
            sample.set(Metric::WorkerFootprint, Some(2.0 * TWO_GIB));
            sample.set(Metric::PrefixCacheBytes, bytes);
            self.send(Event::Sampled { sample: Box::new(sample) });
            self.pass_s(1);
        }
    }

    fn told(&self, kind: &str) -> Vec<&str> {
        self.records.iter().filter(|(told, _)| *told == kind).map(|(_, message)| message.as_str()).collect()
    }
}

fn heavy_trims() -> Story {
    let rule = settings::rule("heavy", Metric::WorkerFootprint, TWO_GIB, vec![Asked::TrimPrefixCache]);
    Story::serving_with(|config| config.rules = vec![rule])
}

#[test]
fn a_rule_has_saved_prompts_forgotten_and_the_footprint_proves_it() {
    let mut story = heavy_trims();
    story.sees_prefixes(Some(TWO_GIB), 60);
    assert_eq!(story.worker_actions(), [Action::ClearCache { generation: Generation(1), cache: CacheKind::Prefixes }]);
    let operation = story.asks(Verb::ClearCache);
    assert_eq!(story.worker_actions(), [clear_cache(1)], "one empties the buffers while the other is under way");
    story.send(emptied(CacheKind::Prefixes, 2 << 30, 0));
    story.pass(Duration::from_millis(500));
    story.sees_footprint(2048);
    let said = "prefix cache: 2.0 GiB → 0 B; footprint 4.0 GiB → 2.0 GiB after 0.5 s";
    assert_eq!((story.told("prefix_cache_trimmed"), story.outcome(operation)), (vec![said], None));
    story.send(cleared(1 << 20, 0));
    assert_eq!(story.message(operation), "MLX cache: 1 MiB → 0 B");
}

#[test]
fn a_prefix_cache_that_is_empty_or_unknown_is_not_trimmed() {
    for (bytes, why) in
        [(None, "this worker reports no prefix cache"), (Some(0.0), "the prefix cache is empty already")]
    {
        let mut story = heavy_trims();
        story.sees_prefixes(bytes, 60);
        assert_eq!(story.worker_actions(), []);
        assert_eq!(story.told("action_skipped").first(), Some(&format!("rule heavy: {why}").as_str()));
    }
}

#[test]
fn too_little_to_be_seen_is_not_looked_for() {
    let mut story = Story::serving();
    story.sees_footprint(4096);
    let operation = story.asks(Verb::ClearCache);
    story.send(cleared(1 << 20, 0));
    assert_eq!(story.message(operation), "MLX cache: 1 MiB → 0 B");
}

#[test]
fn who_asks_meanwhile_shares_the_clearing_and_who_asks_later_gets_another() {
    let mut story = Story::serving();
    story.sees_footprint(4096);
    let (first, second) = (story.asks(Verb::ClearCache), story.asks(Verb::ClearCache));
    assert_eq!(story.worker_actions(), [clear_cache(1)]);
    story.send(cleared(1 << 30, 0));
    let third = story.asks(Verb::ClearCache);
    assert_eq!(story.worker_actions(), [clear_cache(1)]);
    assert_eq!(story.outcome(first), Some(OutcomeKind::Done), "it need not wait for the footprint any longer");
    assert_eq!((story.outcome(second), story.outcome(third)), (Some(OutcomeKind::Done), None));
    story.crashes(1);
    assert_eq!(story.outcome(third), Some(OutcomeKind::Failed));
}

#[test]
fn a_restart_in_vain_is_not_repeated_for_ever() {
    let restart = Asked::Restart(crate::config::RestartMode::Auto);
    let mut story = Story::serving_with(|config| config.rules = vec![cache_over_a_gib(restart)]);
    let mut generation = 1;
    for _ in 0..600 {
        story.sees_cache(TWO_GIB, 1);
        if story.worker_actions() == [terminate(generation)] {
            story.obeys(generation);
            generation += 1;
            story.becomes_ready(generation);
            story.forget();
        }
    }
    assert_eq!(generation, 4, "three restarts");
    assert!(story.recorded("rule_parked"));
}

#[test]
fn what_was_skipped_was_not_in_vain() {
    let restart = Asked::Restart(crate::config::RestartMode::Auto);
    let ladder = settings::rule("cache", Metric::MlxCache, f64::from(1 << 30), vec![Asked::Warn, restart]);
    let mut story = Story::serving_with(|config| config.rules = vec![ladder]);
    story.sees_cache(TWO_GIB, 4);
    assert!(story.worker_actions().is_empty(), "the first step only warns");
    story.crashes(1);
    story.pass_s(2);
    story.spawned(2);
    // Six cooldowns in which nothing can be restarted.
    for _ in 0..6 {
        story.sees_cache(TWO_GIB, 60);
    }
    assert!(story.recorded("action_skipped") && !story.recorded("rule_parked"));
    story.ready(2);
    story.forget();
    story.sees_cache(TWO_GIB, 60);
    assert_eq!(story.worker_actions(), [terminate(2)]);
}

#[test]
fn two_rules_do_not_load_and_unload_in_turn() {
    let full = settings::rule("full", Metric::MlxCache, TWO_GIB / 2.0, vec![Asked::Unload]);
    let empty = settings::rule("empty", Metric::SystemAvailable, 1.0, vec![Asked::Load]);
    let mut story = Story::serving_with(|config| config.rules = vec![full, empty]);
    story.sees_cache(TWO_GIB, 5);
    assert_eq!(story.worker_actions(), [terminate(1)]);
    story.obeys(1);
    let mut sees_room = |seconds| {
        for _ in 0..seconds {
            let mut sample = Sample::default();
            sample.set(Metric::SystemAvailable, Some(TWO_GIB));
            story.send(Event::Sampled { sample: Box::new(sample) });
            story.pass_s(1);
        }
        story.state()
    };
    assert_eq!(sees_room(30), State::Unloaded, "within the cooldown of the rule that unloaded");
    assert_eq!(sees_room(90), State::Starting, "after it");
}

#[test]
fn a_rule_restarts_the_worker_without_serving_the_queue_first() {
    let restart = Asked::Restart(crate::config::RestartMode::Auto);
    let mut story = Story::serving_with(|config| config.rules = vec![cache_over_a_gib(restart)]);
    for id in 1..=3 {
        story.submits(id);
    }
    story.sees_cache(TWO_GIB, 4);
    assert_eq!(story.state(), State::Handover);
    story.is_answered(1);
    assert_eq!(story.assigned(), [(1, 1), (2, 1)], "under memory pressure nothing more is assigned");
    story.is_answered(2);
    assert_eq!(story.worker_actions(), [terminate(1)]);
    story.obeys(1);
    story.becomes_ready(2);
    assert_eq!(story.assigned(), [(3, 2)]);
    let reason = story.core.snapshot().last_restart.map(|restart| restart.reason);
    assert_eq!(reason.as_deref(), Some("rule cache"));
}

#[test]
fn a_rule_never_cuts_a_load_or_a_backoff_short() {
    let restart = Asked::Restart(crate::config::RestartMode::Auto);
    let mut story = Story::serving_with(|config| config.rules = vec![cache_over_a_gib(restart)]);
    story.crashes(1);
    story.pass_s(2);
    story.spawned(2);
    story.forget();
    story.sees_cache(TWO_GIB, 10);
    assert_eq!((story.state(), story.worker_actions()), (State::Starting, vec![]));
    assert!(story.recorded("action_skipped"));
}

#[test]
fn a_refusing_rule_refuses_until_it_clears() {
    let mut story = Story::serving_with(|config| config.rules = vec![cache_over_a_gib(Asked::Refuse)]);
    story.sees_cache(TWO_GIB, 4);
    story.submits(1);
    assert_eq!(story.refused(), [(1, Code::MemoryPressure)]);
    assert!(story.refusals[&1].retry_after.is_some_and(|after| after <= Duration::from_secs(20)));
    story.sees_cache(0.0, 1);
    story.submits(2);
    assert_eq!(story.assigned(), [(2, 1)]);
}

#[test]
fn the_verb_clear_cache_is_answered_by_result_failure_and_death() {
    let mut story = Story::serving();
    let ends: [fn(&mut Story); 3] = [
        |story| {
            story.send(cleared(1 << 30, 1 << 20));
        },
        |story| {
            let result = Err("no answer in 2 s".to_owned());
            story.send(Event::CacheCleared { generation: Generation(1), cache: CacheKind::Buffers, result });
        },
        |story| story.crashes(1),
    ];
    let mut outcomes = Vec::new();
    for end in ends {
        let operation = story.asks(Verb::ClearCache);
        assert_eq!(story.worker_actions(), [clear_cache(1)]);
        end(&mut story);
        outcomes.push(story.outcome(operation));
    }
    assert_eq!(outcomes, [Some(OutcomeKind::Done), Some(OutcomeKind::Failed), Some(OutcomeKind::Failed)]);
}
