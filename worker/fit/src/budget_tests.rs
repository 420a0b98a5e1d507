//! The worked numbers of the memory facts, the operator's own machine, and properties that hold for all.

use std::path::PathBuf;

use proptest::prelude::*;
use serde_json::Value;

use super::*;
use crate::attention::Attention;
use crate::attention::tests::{qwen3_30b, qwen35_35b};
use crate::machine::tests::{linux, mac};
use crate::model::Format;

pub(crate) fn model(config: &Value, stored_bytes: u64) -> Model {
    Model {
        name: "m".to_owned(),
        path: PathBuf::from("m"),
        format: Format::Folder,
        architecture: config["model_type"].as_str().unwrap().to_owned(),
        precision: "8-bit affine, group 64".to_owned(),
        stored_bytes,
        on_disk_bytes: stored_bytes,
        left_out_bytes: 0,
        unpacked_bytes: stored_bytes / 17 * 64,
        element_bytes: 2,
        context: 262_144,
        attention: Attention::of_config(config).unwrap(),
        obstacle: None,
    }
}

pub(crate) fn ask<'a>(model: &'a Model, machine: &'a Machine, engine: Engine) -> Question<'a> {
    Question { model, machine, engine, slots: None, context: None, wired_limit: WiredLimit::Auto, memory_limit: None }
}

/// 8-bit weights of both worked models, measured.
pub(crate) const WEIGHTS_30B: u64 = 32_440_578_048;
pub(crate) const WEIGHTS_35B: u64 = 36_827_986_176;

#[test]
fn peaks_are_the_worked_ones() {
    let machine = mac(512.0, 460.0);
    let (small, hybrid) = (model(&qwen3_30b(), WEIGHTS_30B), model(&qwen35_35b(), WEIGHTS_35B));
    let (small, hybrid) =
        (ask(&small, &machine, Engine::MlxLm).answer(), ask(&hybrid, &machine, Engine::MlxLm).answer());
    for (tokens, of_30b, of_35b, of_35b_512) in [
        (8_192, 35.2, 39.2, 38.8),
        (32_768, 37.7, 41.3, 39.7),
        (65_536, 40.9, 44.1, 40.9),
        (131_072, 47.3, 49.8, 43.3),
        (262_144, 60.2, 61.0, 48.2),
    ] {
        for (budget, chunk, expected) in [(&small, 2048, of_30b), (&hybrid, 2048, of_35b), (&hybrid, 512, of_35b_512)] {
            let found = budget.peak_bytes(tokens, chunk) as f64 / 1e9;
            assert!((found - expected).abs() < 0.08, "{tokens} tokens, chunk {chunk}: {found} is not {expected} GB");
        }
    }
}

#[test]
fn the_operators_guess_of_45_gb_is_reached_where_it_was_worked_out() {
    let (machine, model) = (mac(64.0, 51.84), model(&qwen35_35b(), WEIGHTS_35B));
    for (limit, least, most) in [(45_000_000_000, 75_000, 77_000), (45 << 30, 113_000, 116_000)] {
        let question = Question { memory_limit: Some(limit), ..ask(&model, &machine, Engine::MlxLm) };
        let reached = question.answer().longest_with(1);
        assert!((least..most).contains(&reached), "{limit}: {reached}");
    }
}

#[test]
fn the_operators_machine_on_paper() {
    let (machine, model) = (mac(64.0, 51.84), model(&qwen35_35b(), WEIGHTS_35B));
    let budget = ask(&model, &machine, Engine::Native).answer();
    let lines = [&budget.memory_limit, budget.wired_limit.as_ref().unwrap(), &budget.pool, &budget.need];
    let lines: Vec<String> = lines.iter().map(ToString::to_string).collect();
    assert_eq!(
        lines,
        [
            "memory_limit 49.2 GiB = 95 % of the 51.8 GiB working set",
            "wired_limit 34.8 of 51.8 GiB = weights 34.3 + state 0.5",
            "for requests 13.4 GiB = memory_limit 49.2 − weights 34.3 − runtime 1.5",
            "needs 35.9 GiB = weights 34.3 + runtime 1.5 + one request of 2,048 tokens 0.1",
        ]
    );
    assert_eq!((budget.slots, budget.context, budget.too_big_by), (8, 262_144, None));
    let rooms: Vec<_> = budget.rooms.iter().map(|room| (room.slots, room.context)).collect();
    assert_eq!(rooms[0], (1, 262_144));
    assert_eq!(rooms.len(), 4, "1, 2, 4, 8: {rooms:?}");
    assert!((70_000..80_000).contains(&rooms[3].1), "{rooms:?}");
    assert!(budget.twice() > 64 << 30, "two of them do not fit, as the operator's machine knows");
    // A 48 GiB Mac, whose driver refuses the same constant at start.
    let smaller = mac(48.0, 37.44);
    let budget = ask(&model, &smaller, Engine::Native).answer();
    assert!(budget.too_big_by.is_some_and(|bytes| bytes < 1 << 30), "{:?}", budget.too_big_by);
    assert_eq!((budget.slots, budget.context), (1, 2048), "what is least, if somebody tries");
}

#[test]
fn configured_numbers_win_and_are_told_apart() {
    let (machine, model) = (mac(64.0, 51.84), model(&qwen35_35b(), WEIGHTS_35B));
    let question = Question {
        slots: Some(3),
        context: Some(1 << 20),
        wired_limit: WiredLimit::Bytes(60 << 30),
        memory_limit: Some(48 << 30),
        ..ask(&model, &machine, Engine::Native)
    };
    let budget = question.answer();
    assert_eq!((budget.slots, budget.context, budget.memory_limit.bytes), (3, 262_144, 48 << 30));
    assert_eq!(budget.memory_limit.to_string(), "memory_limit 48.0 GiB = as configured");
    assert_eq!(budget.wired_limit.unwrap().to_string(), "wired_limit 51.8 GiB = working set");
    let off = Question { wired_limit: WiredLimit::Off, ..question };
    assert_eq!(off.answer().wired_limit, None);
}

#[test]
fn the_cpu_unpacks_what_fits() {
    let (model, roomy, tight) = (model(&qwen3_30b(), WEIGHTS_30B), linux(256), linux(64));
    let unpacked = ask(&model, &roomy, Engine::Native).answer();
    assert!(unpacked.unpacked && unpacked.weights_bytes == WEIGHTS_30B / 17 * 64);
    assert_eq!((unpacked.kv_bytes_per_token, unpacked.chunk), (2 * 98_304, CHUNK_CPU));
    let stored = ask(&model, &tight, Engine::Native).answer();
    assert_eq!((stored.unpacked, stored.weights_bytes, stored.slots), (false, WEIGHTS_30B, 4));
}

proptest! {
    #[test]
    fn more_memory_never_gives_less(total in 1.0f64..600.0, more in 0.0f64..600.0, weights in 1u64..1 << 38, slots in 1u32..64) {
        let model = model(&qwen35_35b(), weights);
        let machine = |total: f64| Machine {
            working_set: Some(crate::WorkingSet::assumed((total * (1u64 << 30) as f64) as u64)), ..mac(total, 1.0)
        };
        let (small, large) = (machine(total), machine(total + more));
        let (small, large) =
            (ask(&model, &small, Engine::Native).answer(), ask(&model, &large, Engine::Native).answer());
        prop_assert!(small.memory_limit.bytes <= large.memory_limit.bytes);
        prop_assert!(small.pool.bytes <= large.pool.bytes);
        prop_assert!(small.slots <= large.slots && small.context <= large.context);
        prop_assert!(small.longest_with(slots) <= large.longest_with(slots));
        prop_assert!(small.too_big_by.unwrap_or(0) >= large.too_big_by.unwrap_or(0));
    }

    #[test]
    fn sums_stay_within_the_machine(total in 1.0f64..600.0, share in 0.5f64..0.9, weights in 1u64..1 << 38) {
        let (machine, model) = (mac(total, total * share), model(&qwen35_35b(), weights));
        let budget = ask(&model, &machine, Engine::Native).answer();
        let set = machine.working_set_bytes().unwrap();
        let wired = budget.wired_limit.as_ref().unwrap();
        prop_assert!(wired.bytes <= set && wired.bytes <= machine.total_bytes);
        prop_assert!(budget.memory_limit.bytes <= set);
        for room in &budget.rooms {
            let all = budget.weights_bytes + budget.runtime_bytes + budget.sequences_bytes(room.slots, room.context);
            prop_assert!(all <= budget.memory_limit.bytes, "{:?}", room);
        }
        prop_assert!(budget.rooms.windows(2).all(|two| two[0].context >= two[1].context));
    }
}
