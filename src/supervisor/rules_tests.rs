use super::*;
use crate::config::{Condition, Side, Threshold};
use crate::memory::Metric;

fn rule(actions: Vec<Action>) -> Rule {
    Rule {
        name: "cache".to_owned(),
        when: vec![Condition {
            metric: Metric::MlxCache,
            side: Side::Above,
            threshold: Threshold::Fixed(1000.0),
            clear: Some(Threshold::Fixed(500.0)),
        }],
        dwell: Duration::from_secs(3),
        actions,
        cooldown: Duration::from_secs(10),
        break_streams_after: None,
        built_in: false,
    }
}

fn book(actions: Vec<Action>) -> RuleBook {
    RuleBook::new(&[rule(actions)], &RuleBook::default())
}

fn cache(value: f64) -> Sample {
    let mut sample = Sample::default();
    sample.set(Metric::MlxCache, Some(value));
    sample
}

fn state(book: &RuleBook) -> RuleState {
    book.views().next().map(|view| view.1).unwrap()
}

#[test]
fn it_acts_after_its_dwell_and_again_only_after_its_cooldown() {
    let mut book = book(vec![Action::ClearCache]);
    let fired: Vec<u64> =
        (0..30).filter(|second| !book.evaluate(&cache(2000.0), Mono(second * 1000)).is_empty()).collect();
    assert_eq!(fired, [3, 13, 23]);
}

#[test]
fn the_ladder_climbs_and_stays_on_its_last_step() {
    let mut book = book(vec![Action::ClearCache, Action::Warn]);
    let fired: Vec<Action> = (0..40)
        .flat_map(|second| book.evaluate(&cache(2000.0), Mono(second * 1000)))
        .map(|fired| fired.action)
        .collect();
    assert_eq!(fired, [Action::ClearCache, Action::Warn, Action::Warn, Action::Warn]);
}

#[test]
fn between_the_two_thresholds_it_keeps_its_state() {
    let mut book = book(vec![Action::Warn]);
    book.evaluate(&cache(700.0), Mono(0));
    assert_eq!(state(&book), RuleState::Inactive, "700 does not start it");
    book.evaluate(&cache(1500.0), Mono(1000));
    book.evaluate(&cache(700.0), Mono(2000));
    assert_eq!(state(&book), RuleState::Pending, "700 does not end it");
    book.evaluate(&cache(400.0), Mono(3000));
    assert_eq!(state(&book), RuleState::Inactive);
}

#[test]
fn a_gap_between_samples_restarts_the_dwell() {
    let mut book = book(vec![Action::Warn]);
    book.evaluate(&cache(2000.0), Mono(0));
    assert!(book.evaluate(&cache(2000.0), Mono(60_000)).is_empty());
    assert!(!book.evaluate(&cache(2000.0), Mono(63_000)).is_empty());
}

#[test]
fn a_metric_nobody_reports_switches_the_rule_off_with_a_reason() {
    let mut book = book(vec![Action::Warn]);
    book.evaluate(&Sample::default(), Mono(0));
    let (_, state, explain) = book.views().next().unwrap();
    assert_eq!((state, explain), (RuleState::Off, "mlx.cache is not reported here"));
}

#[test]
fn explanations_carry_units() {
    let mut book = book(vec![Action::Warn]);
    book.evaluate(&cache(600.0), Mono(0));
    let explain = book.views().next().map(|view| view.2.to_owned()).unwrap();
    assert_eq!(explain, "mlx.cache 600 B, under 1000 B; would act after 3 s: warn");
}

#[test]
fn refusing_ends_when_the_rule_clears() {
    let mut book = book(vec![Action::Refuse]);
    for second in 0..4 {
        book.evaluate(&cache(2000.0), Mono(second * 1000));
    }
    assert_eq!(book.refusing(), Some("cache"));
    book.evaluate(&cache(100.0), Mono(5000));
    assert_eq!(book.refusing(), None);
}

#[test]
fn what_did_not_help_three_times_is_not_done_a_fourth_time() {
    let mut book = book(vec![Action::ClearCache, Action::Canary]);
    let fired = (0..200).filter(|second| !book.evaluate(&cache(2000.0), Mono(second * 1000)).is_empty()).count();
    assert_eq!((fired, state(&book)), (4, RuleState::Off), "one step, and the last one three times");
    let parked = book.take_parked();
    assert_eq!(parked.len(), 1, "said once: {parked:?}");
    assert_eq!(
        parked[0].why,
        "mlx.cache 2 KiB, over 1000 B; parked: canary did not help 3 times in a row; acts again once it has \
         cleared"
    );
    book.evaluate(&cache(100.0), Mono(200_000));
    assert_eq!(state(&book), RuleState::Inactive);
    let again: Vec<Action> = (201..210)
        .flat_map(|second| book.evaluate(&cache(2000.0), Mono(second * 1000)))
        .map(|fired| fired.action)
        .collect();
    assert_eq!(again, [Action::ClearCache], "it has cleared, so the ladder begins anew");
}

/// What fires first in 40 s of one sample a second, the metric over its threshold and so many bytes of prompts saved.
fn fired_with_prompts(prompts: Option<f64>) -> Vec<Action> {
    let mut book = book(vec![Action::ClearCache, Action::TrimPrefixCache, Action::Canary]);
    let mut fired = Vec::new();
    for second in 0..40_u64 {
        let mut sample = cache(2000.0);
        sample.set(Metric::PrefixCacheBytes, prompts);
        fired.extend(book.evaluate(&sample, Mono(second * 1000)).into_iter().map(|fired| fired.action));
    }
    fired.truncate(3);
    fired
}

#[test]
fn a_step_that_has_nothing_to_do_is_not_in_the_way_of_the_next() {
    let without = [Action::ClearCache, Action::Canary, Action::Canary];
    assert_eq!(fired_with_prompts(None), without);
    assert_eq!(fired_with_prompts(Some(0.0)), without);
    assert_eq!(fired_with_prompts(Some(1.0)), [Action::ClearCache, Action::TrimPrefixCache, Action::Canary]);
}

#[test]
fn explanations_name_the_step_that_comes_next() {
    let mut book = book(vec![Action::ClearCache, Action::Canary]);
    let mut told = |second: u64, value: f64| {
        book.evaluate(&cache(value), Mono(second * 1000));
        book.views().next().map(|view| view.2.to_owned()).unwrap()
    };
    assert_eq!(told(0, 1000.0), "mlx.cache 1000 B, not over 1000 B; would act after 3 s: clear-cache, then canary");
    assert_eq!(told(1, 2000.0), "mlx.cache 2 KiB, over 1000 B for 0 s; acts in 3 s: clear-cache");
    assert_eq!(told(4, 2000.0), "mlx.cache 2 KiB, over 1000 B for 3 s");
    let told: Vec<String> = (5..38).map(|second| told(second, 2000.0)).collect();
    assert_eq!(told[0], "mlx.cache 2 KiB, over 1000 B; acted, may act again in 9 s: canary");
    assert_eq!(told[32], "mlx.cache 2 KiB, over 1000 B; acted, gives up in 7 s unless it clears");
}

#[test]
fn spans_are_told_in_the_units_people_use() {
    let lasting = |seconds| conditions::lasting(Duration::from_secs(seconds));
    let told = [0, 119, 120, 1860, 7200, 13_489].map(lasting);
    assert_eq!(told, ["0 s", "119 s", "2 min", "31 min", "2 h", "3 h 44 min"]);
    assert_eq!(conditions::quantity(13_489.0, Metric::WorkerUptime), "3 h 44 min");
    assert_eq!(conditions::quantity(0.4, Metric::LatencyTtftP50), "0.4 s");
}

#[test]
fn a_refusal_goes_on_until_the_rule_clears() {
    let mut book = book(vec![Action::Refuse]);
    for second in 0..200 {
        book.evaluate(&cache(2000.0), Mono(second * 1000));
    }
    assert_eq!(book.take_parked(), []);
    assert_eq!(book.refusing(), Some("cache"));
}

#[test]
fn a_rule_that_waits_for_more_than_the_limit_says_so() {
    let explain = |limit: u64, value: f64| {
        let mut book = book(vec![Action::Warn]).with_cache_limit(limit);
        book.evaluate(&cache(value), Mono(0));
        book.views().next().map(|(_, state, explain)| (state, explain.to_owned())).unwrap()
    };
    let never = "mlx.cache 600 B, under 1000 B; can never act: cache_limit is 1000 B";
    assert_eq!(explain(1000, 600.0), (RuleState::Off, never.to_owned()));
    assert_eq!(explain(1001, 600.0).0, RuleState::Inactive);
    // The worker of before a reload may have a larger cache.
    assert_eq!(explain(1000, 1500.0).0, RuleState::Pending);
}

const WEEK: Duration = Duration::from_secs(7 * 86_400);

fn unusual(at_least: Option<f64>) -> RuleBook {
    let mut rule = rule(vec![Action::Warn]);
    let threshold = Threshold::Percentile { percentile: 99.0, of: WEEK, factor: 1.1, at_least };
    rule.when[0].threshold = threshold;
    RuleBook::new(&[rule], &RuleBook::default())
}

fn learned(value: f64, recorded: Duration) -> Vec<Learned> {
    vec![Learned { metric: Metric::MlxCache, percentile: 99.0, of: WEEK, value: Some(value), recorded }]
}

fn said(book: &mut RuleBook, value: f64) -> (RuleState, String) {
    book.evaluate(&cache(value), Mono(0));
    book.views().next().map(|(_, state, explain)| (state, explain.to_owned())).unwrap()
}

#[test]
fn a_percentile_counts_once_a_quarter_of_its_time_is_recorded() {
    let mut book = unusual(None);
    let (state, why) = said(&mut book, 2000.0);
    assert_eq!(state, RuleState::Off);
    assert_eq!(why, "mlx.cache: learning, 0.0 s of the 42 h it needs are recorded, and it has no at_least");
    book.learn(learned(1000.0, WEEK / 4 - Duration::from_secs(10)));
    assert_eq!(said(&mut book, 2000.0).0, RuleState::Off);
    book.learn(learned(1000.0, WEEK / 4));
    assert_eq!(said(&mut book, 1101.0).0, RuleState::Pending, "the percentile and ten percent");
    let mut book = unusual(None);
    book.learn(learned(1000.0, WEEK));
    assert_eq!(
        said(&mut book, 1099.0),
        (RuleState::Inactive, "mlx.cache 1.1 KiB, just under 1.1 KiB; would act after 3 s: warn".to_owned())
    );
}

#[test]
fn at_least_holds_while_learning_and_is_a_floor_afterwards() {
    let mut book = unusual(Some(5000.0));
    assert_eq!(said(&mut book, 4999.0).0, RuleState::Inactive);
    book.learn(learned(1000.0, WEEK));
    assert_eq!(said(&mut book, 4999.0).0, RuleState::Inactive, "a quiet week makes no nervous rule");
    book.learn(learned(6000.0, WEEK));
    assert_eq!(said(&mut book, 6000.0).0, RuleState::Inactive);
    assert_eq!(said(&mut book, 6601.0).0, RuleState::Pending);
}

#[test]
fn a_percentile_of_another_time_is_not_taken() {
    let mut book = unusual(None);
    let mut other = learned(1000.0, WEEK);
    other[0].of = WEEK / 7;
    book.learn(other);
    assert_eq!(said(&mut book, 2000.0).0, RuleState::Off);
}
