//! The worker's logits against mlx-lm's, on the same weights.
//!
//! Reference values were made once by `reference/make_reference.py`, which says how to make them again.
#![allow(clippy::unwrap_used, clippy::panic, reason = "helper functions of a test")]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use mlxsup_worker::model::{self, KvCache, Model, Precision, Segment};
use serde::Deserialize;

/// Largest difference accepted between two ways of computing the same 32-bit logit.
const TOLERANCE: f32 = 1e-3;

#[derive(Deserialize)]
struct Reference {
    tokens: Vec<u32>,
    columns: Option<Vec<usize>>,
    rows: BTreeMap<usize, Row>,
    greedy: Vec<u32>,
}

#[derive(Deserialize)]
struct Row {
    values: Vec<f32>,
    argmax: usize,
    max: f32,
    logsumexp: f32,
}

fn reference(name: &str) -> Reference {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/reference").join(name).with_extension("json");
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

fn load(path: &Path, precision: Precision) -> Model {
    mlx_rs::Device::set_default(&mlx_rs::Device::cpu());
    let opened = model::open(path.to_str().unwrap()).unwrap();
    let stored: u64 = opened.tensors.iter().map(|tensor| tensor.bytes).sum();
    let mut read = 0;
    let model = Model::load(&opened, precision, &mut |bytes| read += bytes).unwrap();
    // GGUF packs scales into the blocks; MLX keeps them beside, with a bias for every scale.
    assert!(read >= stored / 10 * 9 && read <= stored / 10 * 13, "progress told {read} of {stored} bytes");
    model
}

fn tiny(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/reference").join(name)
}

/// Runs `tokens` in chunks of at most `chunk` and returns the logits of every position.
fn run(model: &Model, cache: &mut KvCache, tokens: &[u32], chunk: usize) -> Vec<Vec<f32>> {
    let vocabulary = model.shape().vocabulary as usize;
    let mut rows = Vec::new();
    for tokens in tokens.chunks(chunk) {
        let logits = model.step(&mut [Segment { tokens, cache, logits_from: 0 }]).unwrap().remove(0).unwrap();
        rows.extend(logits.chunks(vocabulary).map(<[f32]>::to_vec));
    }
    rows
}

fn argmax(row: &[f32]) -> usize {
    row.iter().enumerate().max_by(|a, b| a.1.total_cmp(b.1)).unwrap().0
}

fn assert_close(found: f32, expected: f32, what: &str) {
    assert!((found - expected).abs() <= TOLERANCE, "{what}: {found} differs from {expected}");
}

fn assert_matches(model: &Model, reference: &Reference, chunk: usize) {
    let mut cache = KvCache::default();
    let rows = run(model, &mut cache, &reference.tokens, chunk);
    for (position, expected) in &reference.rows {
        let row = &rows[*position];
        let columns = reference.columns.clone().unwrap_or_else(|| (0..row.len()).collect());
        assert_eq!(columns.len(), expected.values.len());
        for (column, value) in columns.iter().zip(&expected.values) {
            assert_close(row[*column], *value, &format!("position {position}, id {column}, chunks of {chunk}"));
        }
        assert_eq!(argmax(row), expected.argmax);
        assert_close(row[expected.argmax], expected.max, "largest logit");
        let sum: f64 = row.iter().map(|logit| f64::from(*logit).exp()).sum();
        #[allow(clippy::cast_possible_truncation, reason = "the model computes in f32")]
        assert_close(sum.ln() as f32, expected.logsumexp, "log of the sum of exponentials");
    }
    let mut last = rows.last().unwrap().clone();
    let mut chosen = Vec::new();
    for _ in 0..reference.greedy.len() {
        let token = u32::try_from(argmax(&last)).unwrap();
        chosen.push(token);
        last = run(model, &mut cache, &[token], 1).remove(0);
    }
    assert_eq!(chosen, reference.greedy, "greedy tokens");
}

fn assert_tiny(name: &str) {
    let reference = reference(name);
    for precision in [Precision::Float32, Precision::Stored] {
        let model = load(&tiny(name), precision);
        for chunk in [reference.tokens.len(), 7, 1] {
            assert_matches(&model, &reference, chunk);
        }
    }
}

#[test]
fn a_dense_folder_with_its_own_head() {
    assert_tiny("tiny-untied");
}

#[test]
fn a_dense_folder_with_tied_embedding_and_biases() {
    assert_tiny("tiny-tied");
}

#[test]
fn a_quantised_folder_with_overrides_for_single_layers() {
    assert_tiny("tiny-4bit");
}

#[test]
fn a_quantised_folder_with_tied_embedding() {
    assert_tiny("tiny-4bit-tied");
}

#[test]
fn a_gguf_file_with_every_supported_storage_type() {
    let reference = reference("tiny-mixed");
    let model = load(&tiny("tiny-mixed.gguf"), Precision::Float32);
    for chunk in [reference.tokens.len(), 7] {
        assert_matches(&model, &reference, chunk);
    }
    // As stored, all activations have the embedding's 16 bits, whatever the types of the other tensors.
    let model = load(&tiny("tiny-mixed.gguf"), Precision::Stored);
    assert_eq!(model.dtype(), mlx_rs::Dtype::Float16);
    let mut cache = KvCache::default();
    let rows = run(&model, &mut cache, &reference.tokens, 24);
    assert_eq!(cache.bytes(), u64::from(model::kv_cache::BLOCK) * model.kv_bytes_per_token());
    for (position, expected) in &reference.rows {
        for (found, expected) in rows[*position].iter().zip(&expected.values) {
            assert!((found - expected).abs() < 0.05, "position {position}: {found} differs from {expected}");
        }
    }
}

#[test]
fn llama3_and_linear_rope_scaling() {
    assert_tiny("tiny-llama3-rope");
    assert_tiny("tiny-linear-rope");
}

#[test]
fn sequences_in_one_set_do_not_disturb_each_other() {
    let model = load(&tiny("tiny-4bit"), Precision::Float32);
    let prompts: [&[u32]; 3] = [&[5, 6, 7, 8, 9], &[100, 3], &[1; 300]];
    let mut alone_last = Vec::new();
    for prompt in prompts {
        let mut cache = KvCache::default();
        run(&model, &mut cache, prompt, 300);
        alone_last.push(run(&model, &mut cache, &[42], 1).remove(0));
    }
    let mut caches = [KvCache::default(), KvCache::default(), KvCache::with_reserve(301)];
    for joint in [&prompts[..], &[&[42], &[42], &[42]]] {
        let mut set: Vec<_> = caches
            .iter_mut()
            .zip(joint)
            .map(|(cache, tokens)| Segment { tokens, cache, logits_from: tokens.len() - 1 })
            .collect();
        let logits = model.step(&mut set).unwrap();
        if joint[0].len() == 1 {
            for (found, expected) in logits.iter().zip(&alone_last) {
                for (found, expected) in found.as_ref().unwrap().iter().zip(expected) {
                    assert_close(*found, *expected, "a sequence in a set");
                }
            }
        }
    }
    // 301 tokens take two blocks; the short ones keep to one.
    let block = u64::from(model::kv_cache::BLOCK) * model.kv_bytes_per_token();
    assert_eq!(caches.map(|cache| cache.bytes()), [block, block, 2 * block]);
}

#[test]
fn a_cache_that_grew_agrees_with_one_pass() {
    let model = load(&tiny("tiny-untied"), Precision::Float32);
    let tokens: Vec<u32> = (0..530).map(|i| (i * 31 + i / 7) % 128).collect();
    let once = run(&model, &mut KvCache::default(), &tokens, 530);
    let mut cache = KvCache::default();
    run(&model, &mut cache, &tokens[..250], 250);
    let stepped = run(&model, &mut cache, &tokens[250..], 7);
    for (found, expected) in stepped.iter().flatten().zip(once[250..].iter().flatten()) {
        assert_close(*found, *expected, "after growth");
    }
}

#[test]
fn ids_outside_the_vocabulary_are_an_error_and_not_a_read_elsewhere() {
    let model = load(&tiny("tiny-untied"), Precision::Float32);
    let mut cache = KvCache::default();
    for tokens in [&[128][..], &[u32::MAX], &[]] {
        assert!(model.step(&mut [Segment { tokens, cache: &mut cache, logits_from: 0 }]).is_err());
    }
}

#[test]
fn smollm2_from_gguf() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/models/SmolLM2-135M-Instruct.Q4_1.gguf");
    assert!(path.is_file(), "{} is missing: run `make model`", path.display());
    let reference = reference("smollm2");
    let model = load(&path, Precision::Float32);
    assert_matches(&model, &reference, reference.tokens.len());
    assert_matches(&model, &reference, 5);
}
