//! Advice for the machines and models that the project knows in numbers.

use proptest::prelude::*;

use super::*;
use crate::attention::tests::{qwen3_30b, qwen35_35b};
use crate::budget::tests::{WEIGHTS_35B, ask, model};
use crate::machine::WorkingSet;
use crate::machine::tests::mac;

const DAY: u64 = 24 * 3600;

fn circumstances(question: Question<'_>, observed: Observed) -> Circumstances<'_> {
    Circumstances { question, default_max_tokens: 8192, cache_limit: 512 << 20, observed }
}

#[test]
fn with_history_it_reads_as_a_person_would_write_it() {
    // As in the design's own example: 38.1 of 51.8 GiB, without the state that other hybrids keep.
    let (machine, mut model) = (mac(64.0, 51.84), model(&qwen35_35b(), WEIGHTS_35B));
    model.attention.state_bytes = 0;
    let observed = Observed { seconds: 3 * DAY, kv_bytes: Some((3.8 * GIB as f64) as u64), ..Observed::default() };
    let advice = circumstances(ask(&model, &machine, Engine::Native), observed).advice();
    assert_eq!(advice.wired_limit.unwrap().to_string(), "wired_limit 38.1 of 51.8 GiB = weights 34.3 + KV 3.8");
    assert_eq!(advice.warnings, [""; 0]);
}

#[test]
fn the_operators_guesses_derived() {
    // He wired 45 GiB, capped the memory at 48 and the cache at half a GiB, and warned at 60 GB.
    let (machine, model) = (mac(64.0, 51.84), model(&qwen35_35b(), WEIGHTS_35B));
    let advice = circumstances(ask(&model, &machine, Engine::Native), Observed::default()).advice();
    let wired = advice.wired_limit.unwrap();
    assert_eq!(wired.to_string(), "wired_limit 36.1 of 51.8 GiB = weights 34.3 + state 0.5 + KV 1.3");
    assert_eq!(advice.memory_limit.to_string(), "memory_limit 49.2 GiB = 95 % of the 51.8 GiB working set");
    assert_eq!(advice.cache_limit.to_string(), "cache_limit 512 MiB = as it is");
    let rules: Vec<String> = advice.rules.iter().map(|rule| rule.above.to_string()).collect();
    assert_eq!(rules[1], "system-memory 60.2 GiB = 94 % of memory");
    assert_eq!(rules[3], "footprint-over-budget 50.7 GiB = memory_limit 49.2 + cache_limit 0.5 + process 1.0");
    assert_eq!(advice.rules[0].never.as_deref(), Some("cache_limit is 512 MiB"));
    assert!(advice.warnings.iter().any(|warning| warning.contains("no history")), "{:?}", advice.warnings);
    assert!(advice.warnings.iter().any(|warning| warning.contains("KV is a guess")), "{:?}", advice.warnings);
}

#[test]
fn a_lower_memory_limit_bounds_every_other_sum() {
    let (machine, model) = (mac(64.0, 51.84), model(&qwen35_35b(), WEIGHTS_35B));
    let with = |gib: u64| {
        let question = Question { memory_limit: Some(gib * GIB), ..ask(&model, &machine, Engine::Native) };
        circumstances(question, Observed { seconds: DAY, kv_bytes: Some(30 * GIB), ..Observed::default() }).advice()
    };
    let advice = with(40);
    assert_eq!(advice.memory_limit.to_string(), "memory_limit 40.0 GiB = as you set it; auto would be 49.2 GiB");
    assert_eq!(advice.budget.pool.to_string(), "for requests 4.2 GiB = memory_limit 40.0 − weights 34.3 − runtime 1.5");
    assert!(advice.wired_limit.is_some_and(|wired| wired.bytes <= 40 * GIB));
    assert_eq!(advice.rules[3].above.bytes, (40 + 1) * GIB + (512 << 20));
    // One that the machine cannot give is no decision.
    assert_eq!(with(60).memory_limit.bytes, machine.memory_limit());
}

#[test]
fn a_day_of_history_moves_slots_cache_and_rules() {
    let (machine, model) = (mac(64.0, 51.84), model(&qwen35_35b(), WEIGHTS_35B));
    let observed = Observed {
        seconds: DAY,
        active: Some(2.2),
        cache_bytes: Some(700 << 20),
        compressed_bytes: Some(4 << 30),
        used_bytes: Some(61 << 30),
        ..Observed::default()
    };
    let question = ask(&model, &machine, Engine::Native);
    let advice = circumstances(question, observed).advice();
    assert_eq!((advice.slots.value, advice.cache_limit.bytes), (4, 768 << 20));
    let observed_rules: Vec<&str> = advice.rules.iter().filter(|rule| rule.observed).map(|rule| rule.name).collect();
    assert_eq!(observed_rules, ["system-memory", "cold-weights"]);
    // The same numbers from an hour are none.
    let early = Observed { seconds: 3600, ..observed };
    let advice = circumstances(question, early).advice();
    assert!(advice.slots.value == 8 && advice.rules.iter().all(|rule| !rule.observed));
    assert!(advice.warnings.iter().any(|warning| warning.contains("only 1 h")), "{:?}", advice.warnings);
}

#[test]
fn days_on_which_the_weights_went_cold_teach_no_rule_to_bear_it() {
    // The article's afternoon, every day: 15 GiB of the worker compressed, 60.7 of 64 GiB used.
    let (machine, model) = (mac(64.0, 51.84), model(&qwen35_35b(), WEIGHTS_35B));
    let gib = |count: f64| Some((count * GIB as f64) as u64);
    let observed = Observed {
        seconds: DAY,
        compressed_bytes: gib(15.0),
        used_bytes: gib(60.74),
        kv_bytes: gib(1.0),
        active: Some(0.0),
        ..Observed::default()
    };
    let advice = circumstances(ask(&model, &machine, Engine::Native), observed).advice();
    let rules: Vec<String> = advice.rules.iter().map(|rule| rule.above.to_string()).collect();
    assert_eq!(advice.slots.value, 8, "nobody asked for anything");
    assert_eq!(rules[2], "cold-weights 2.0 GiB = built in");
    assert_eq!(rules[1], "system-memory 62.7 GiB = 98 % of memory, the most");
    let [warning] = advice.warnings.as_slice() else { panic!("{:?}", advice.warnings) };
    assert!(warning.starts_with("15.0 GiB of the worker were compressed at the 99th percentile"), "{warning}");
}

#[test]
fn what_is_assumed_and_what_is_too_big_is_said() {
    let mut machine = mac(48.0, 37.44);
    machine.working_set = Some(WorkingSet::assumed(machine.total_bytes));
    let model = model(&qwen3_30b(), 40 << 30);
    let advice = circumstances(ask(&model, &machine, Engine::MlxLm), Observed::default()).advice();
    assert!(advice.warnings[0].starts_with("the model is too big by "), "{:?}", advice.warnings);
    assert!(advice.warnings[1].contains("assumed"), "{:?}", advice.warnings);
}

proptest! {
    #[test]
    fn what_is_proposed_fits(total in 1.0f64..600.0, weights in 1u64..1 << 38, kv in 0u64..1 << 38, active in 0.0f64..100.0) {
        let (machine, model) = (mac(total, total * 0.75), model(&qwen35_35b(), weights));
        let observed = Observed { seconds: DAY, kv_bytes: Some(kv), active: Some(active), ..Observed::default() };
        let all = circumstances(ask(&model, &machine, Engine::Native), observed);
        let (advice, budget) = (all.advice(), all.budget());
        let wired = advice.wired_limit.unwrap().bytes;
        prop_assert!(wired <= machine.working_set_bytes().unwrap() && wired <= machine.total_bytes);
        prop_assert!(advice.slots.value <= budget.slots && advice.slots.value >= 1);
    }
}
