//! Opening whole models, good and bad, without reading weights.

use std::fs;
use std::path::{Path, PathBuf};

use super::*;

fn reference(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/reference").join(name)
}

fn open_path(path: &Path) -> Result<OpenedModel, ModelError> {
    open(path.to_str().unwrap())
}

/// The bytes of the small GGUF file with the last occurrence of `from` before the weights replaced.
fn patched(from: &[u8], to: &[u8]) -> (tempfile::TempDir, PathBuf) {
    let mut bytes = fs::read(reference("tiny-mixed.gguf")).unwrap();
    let at = bytes.windows(from.len()).rposition(|window| window == from).unwrap();
    bytes[at..at + to.len()].copy_from_slice(to);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("patched.gguf");
    fs::write(&path, bytes).unwrap();
    (folder, path)
}

#[test]
fn folder_and_gguf_are_opened_alike() {
    let folder = open_path(&reference("tiny-untied")).unwrap();
    let file = open_path(&reference("tiny-mixed.gguf")).unwrap();
    assert_eq!((folder.name.as_str(), file.name.as_str()), ("tiny-untied", "tiny-mixed"));
    assert_eq!(folder.shape, file.shape);
    assert_eq!(folder.shape.tied, Some(false));
    let names = |model: &OpenedModel| {
        let mut names: Vec<_> = model.tensors.iter().map(|tensor| tensor.name.clone()).collect();
        names.sort();
        names
    };
    assert_eq!(names(&folder), names(&file));
    assert_ne!(folder.fingerprint, file.fingerprint);
    assert!(matches!(file.source, ModelSource::Gguf { .. }));
}

#[test]
fn tying_follows_the_configuration_or_the_missing_head() {
    assert_eq!(open_path(&reference("tiny-tied")).unwrap().shape.tied, Some(true));
    let mut shape = open_path(&reference("tiny-untied")).unwrap().shape;
    shape.tied = None;
    assert_eq!(shape.clone().with_tying_from(&[]).tied, Some(true));
    let tensors = open_path(&reference("tiny-untied")).unwrap().tensors;
    assert_eq!(shape.with_tying_from(&tensors).tied, Some(false));
}

#[test]
fn a_gguf_quantisation_that_is_not_supported_is_named_with_its_tensor() {
    // Name, rank 2, 64 × 64, type: Q4_0 becomes Q4_K.
    let entry = |kind: u32| {
        let mut bytes = b"blk.1.attn_q.weight".to_vec();
        bytes.extend(2u32.to_le_bytes());
        bytes.extend([64u64.to_le_bytes(), 64u64.to_le_bytes()].concat());
        bytes.extend(kind.to_le_bytes());
        bytes
    };
    let (_folder, path) = patched(&entry(2), &entry(12));
    let error = open_path(&path).unwrap_err();
    assert!(matches!(error, ModelError::GgufQuantisation { .. }));
    let text = error.to_string();
    for word in ["blk.1.attn_q.weight", "Q4_K", "Q8_0", "patched.gguf"] {
        assert!(text.contains(word), "{text}");
    }
}

#[test]
fn another_architecture_is_named() {
    let value = 5u64.to_le_bytes().to_vec();
    let (_folder, path) = patched(&[&value[..], b"llama"].concat(), &[&value[..], b"qwen2"].concat());
    let error = open_path(&path).unwrap_err().to_string();
    assert!(error.contains("`qwen2`") && error.contains("llama, mistral"), "{error}");
}

#[test]
fn missing_metadata_is_named() {
    let (_folder, path) = patched(b"llama.block_count", b"llama.blokk_count");
    let error = open_path(&path).unwrap_err().to_string();
    assert!(error.contains("llama.block_count"), "{error}");
}

fn plan(model: &OpenedModel, on_cpu: bool, budget: u64) -> Plan {
    Plan::new(model.costs.stored_bytes, model.costs.unpacked_bytes, on_cpu, budget)
}

#[test]
fn the_plan_unpacks_only_on_the_cpu_and_only_what_fits() {
    let model = open_path(&reference("tiny-4bit")).unwrap();
    let roomy = plan(&model, true, 1 << 30);
    assert_eq!(roomy.precision, Precision::Float32);
    assert!(roomy.weights_bytes > 2 * roomy.stored_bytes);
    let loaded = Model::load(&model, roomy.precision, &mut |_| {}).unwrap();
    let resident: u64 = loaded.arrays().map(|array| array.nbytes() as u64).sum();
    assert!(resident <= roomy.weights_bytes && resident * 100 >= roomy.weights_bytes * 95, "{resident} of {roomy:?}");
    assert_eq!(plan(&model, false, 1 << 30).precision, Precision::Stored);
    assert_eq!(plan(&model, true, roomy.weights_bytes).precision, Precision::Stored);
}
