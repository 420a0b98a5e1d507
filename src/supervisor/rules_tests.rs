use super::*;

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
    assert_eq!(explain, "mlx.cache 600 B, under 1000 B; would act after 3 s");
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
        "mlx.cache 2.0 KiB, over its clearing 500 B; parked: canary did not help 3 times in a row; acts again once it has \
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
