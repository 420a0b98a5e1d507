//! Any request, cut anywhere, is answered as if nothing had happened.

use mlxsup_worker_api::{Settings, path};
use proptest::prelude::*;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};
use serde_json::{Value, json};

use crate::record::{Asked, Record};
use crate::tiny::Tiny;

const CASES: u32 = 100;
const MOST_TOKENS: u32 = 24;

/// Some of the fields that decide about an answer; null is as good as absent.
fn requests() -> impl Strategy<Value = Asked> {
    let or_null = |value: BoxedStrategy<Value>| prop_oneof![2 => Just(Value::Null), 1 => value].boxed();
    let number = |range: std::ops::Range<f32>| range.prop_map(|number| json!(number)).boxed();
    let stops = prop_oneof![
        Just("STOP"),
        Just("é"),
        Just("東"),
        Just("a"),
        Just("the"),
        Just("\n"),
        Just("🦀"),
        Just("O"),
        Just("EN"),
        Just("<9"),
        Just("x東"),
        Just("\u{FFFD}"),
    ];
    let shape = (any::<bool>(), any::<bool>(), any::<bool>(), 1_u32..=3, 1_u32..=MOST_TOKENS, any::<u64>());
    let choosing = (
        prop_oneof![1 => Just(0.0_f32), 4 => 0.3_f32..2.0],
        or_null(number(0.2..1.0)),
        or_null((1_u32..40).prop_map(|k| json!(k)).boxed()),
        or_null(number(0.0..0.3)),
        or_null(any::<i64>().prop_map(|seed| json!(seed)).boxed()),
    );
    let changing = (
        or_null(number(-2.0..2.0)),
        or_null(number(-2.0..2.0)),
        or_null(number(0.5..2.0)),
        or_null(prop::collection::btree_map(0_u32..128, -5.0_f32..8.0, 0..6).prop_map(|map| json!(map)).boxed()),
    );
    let told = (prop::collection::vec(stops, 0..4), or_null((0_u32..4).prop_map(|top| json!(top)).boxed()));
    let prompt = prop::collection::vec(0_u32..26, 1..12);
    (shape, choosing, changing, told, prompt).prop_map(|(shape, choosing, changing, told, prompt)| {
        let (chat, stream, usage, n, max_tokens, seed) = shape;
        let (temperature, top_p, top_k, min_p, own_seed) = choosing;
        let (frequency, presence, repetition, bias) = changing;
        let mut request = json!({"stream": stream, "n": n, "max_tokens": max_tokens, "temperature": temperature,
            "top_p": top_p, "top_k": top_k, "min_p": min_p, "seed": own_seed, "frequency_penalty": frequency,
            "presence_penalty": presence, "repetition_penalty": repetition, "logit_bias": bias, "stop": told.0});
        if stream {
            request["stream_options"] = json!({"include_usage": usage});
        }
        if chat {
            let text: String = prompt.iter().map(|letter| char::from(b'a' + *letter as u8)).collect();
            request["messages"] = json!([{"role": "user", "content": text}]);
            request["logprobs"] = json!(!told.1.is_null());
            request["top_logprobs"] = told.1;
        } else {
            request["prompt"] = json!(prompt);
            request["logprobs"] = told.1;
        }
        Asked { path: if chat { path::LINK_CHAT } else { path::LINK_COMPLETIONS }, request, seed }
    })
}

#[test]
fn a_cut_anywhere_changes_nothing() {
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("a runtime");
    let worker = runtime.block_on(Tiny::start(Settings { slots: Some(4), ..Settings::default() }));
    let config = Config { cases: CASES, failure_persistence: None, ..Config::default() };
    let mut runner = TestRunner::new_with_rng(config, TestRng::deterministic_rng(RngAlgorithm::ChaCha));
    let cuts = prop::collection::vec(any::<prop::sample::Index>(), 3);
    let outcome = runner.run(&(requests(), cuts), |(asked, cuts)| {
        runtime.block_on(async {
            let whole = asked.events(&worker.link, &json!([])).await;
            // The last event ends the answer: after it there is nothing to carry.
            asked.survives(&worker.link, &whole, cuts.iter().map(|cut| cut.index(whole.len()))).await;
        });
        Ok(())
    });
    if let Err(error) = outcome {
        panic!("{error}");
    }
}

/// A reload between two workers may allow less than the first one did; what it has begun is still finished.
#[tokio::test]
async fn settings_that_came_later_end_an_answer_cleanly() {
    let blue = Tiny::start(Settings { default_max_tokens: 20, ..Settings::default() }).await;
    let green = Tiny::start(Settings {
        default_max_tokens: 5,
        served_names: vec!["another".to_owned()],
        ..Settings::default()
    })
    .await;
    for stream in [true, false] {
        let request = json!({"model": "any", "prompt": [1, 2, 3], "stream": stream, "seed": 3,
            "stop": ["<119>x", "東東", "the end", "éé"],
            "logprobs": if stream { json!(null) } else { json!(1) }, "logit_bias": {"126": -100}});
        let asked = Asked { path: path::LINK_COMPLETIONS, request, seed: 1 };
        let whole = asked.events(&blue.link, &json!([])).await;
        let undisturbed = Record::of(&asked, &whole);
        for cut in 1..=20 {
            let before: Vec<_> = whole.iter().filter(|event| event.id.is_some()).take(cut).cloned().collect();
            let carried = asked.carried(&green.link, &before).await;
            let tokens = cut.max(5);
            if stream {
                assert_eq!(carried.ids(0), &undisturbed.ids(0)[..tokens], "after {cut} tokens");
                // What was held back when it ended is there, once.
                let mut short = asked.clone();
                short.request["max_tokens"] = json!(tokens);
                let short = Record::of(&short, &short.events(&blue.link, &json!([])).await);
                assert_eq!(carried.text(0), short.text(0), "after {cut} tokens");
            } else {
                let result = carried.result();
                assert_eq!(result["usage"]["completion_tokens"], tokens, "after {cut} tokens");
                assert_eq!(result["choices"][0]["finish_reason"], "length");
                let entries = result["choices"][0]["logprobs"]["tokens"].as_array().map(Vec::len);
                assert_eq!(entries, Some(tokens), "after {cut} tokens");
            }
        }
    }
}
