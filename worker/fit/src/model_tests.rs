//! Headers written by the test: the worked models of the memory facts, and files that lie.

use serde_json::{Value, json};

use super::*;
use crate::attention::tests::{qwen3_30b, qwen35_35b};

/// A folder whose weight file claims these tensors (name, dtype, shape, bytes) and has no data: sparse, as large as told.
pub(crate) fn folder(config: &Value, tensors: &[(&str, &str, &[u64], u64)]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let mut header = serde_json::Map::new();
    let mut end = 0;
    for (name, dtype, shape, bytes) in tensors {
        header.insert((*name).to_owned(), json!({"dtype": dtype, "shape": shape, "data_offsets": [end, end + bytes]}));
        end += bytes;
    }
    let text = Value::Object(header).to_string();
    let path = folder.path().join("model.safetensors");
    fs::write(&path, [&(text.len() as u64).to_le_bytes()[..], text.as_bytes()].concat()).unwrap();
    let file = fs::OpenOptions::new().write(true).open(&path).unwrap();
    file.set_len(8 + text.len() as u64 + end).unwrap();
    fs::write(folder.path().join("config.json"), config.to_string()).unwrap();
    folder
}

fn opened(folder: &tempfile::TempDir) -> Result<Model, FileError> {
    Model::of(&ModelSource::Folder(folder.path().to_owned()), "m".to_owned())
}

/// Eight bits and a group of 64 cost 8.5 bits a weight.
fn eight_bit(parameters: u64) -> [(&'static str, &'static str, &'static [u64], u64); 3] {
    let words: &'static [u64] = &[1];
    [
        ("model.layers.0.mlp.weight", "U32", words, parameters),
        ("model.layers.0.mlp.scales", "BF16", words, parameters / 32),
        ("model.layers.0.mlp.biases", "BF16", words, parameters / 32),
    ]
}

#[test]
fn the_worked_models_weigh_what_was_measured() {
    for (config, parameters, gib) in [(qwen3_30b(), 30_532_122_624, 30.21), (qwen35_35b(), 34_660_610_688, 34.30)] {
        let model = opened(&folder(&config, &eight_bit(parameters))).unwrap();
        let found = model.stored_bytes as f64 / f64::from(1 << 30);
        assert!((found - gib).abs() < 0.02, "{found}");
        assert_eq!((model.precision.as_str(), model.context), ("8-bit affine, group 64", 262_144));
        assert_eq!((model.unpacked_bytes, model.element_bytes), (parameters * 4, 2));
        assert!(model.obstacle.unwrap().contains("qwen3"));
    }
}

#[test]
fn what_a_text_engine_does_not_load_is_left_out() {
    let config = json!({
        "model_type": "gemma3", "text_config": {"num_hidden_layers": 2, "num_attention_heads": 2, "head_dim": 4,
        "max_position_embeddings": 512}
    });
    let tensors: [(&str, &str, &[u64], u64); 2] =
        [("language_model.a.weight", "BF16", &[10, 10], 200), ("vision_tower.b.weight", "BF16", &[50], 100)];
    let model = opened(&folder(&config, &tensors)).unwrap();
    assert_eq!((model.stored_bytes, model.left_out_bytes, model.unpacked_bytes), (200, 100, 400));
    assert!(model.on_disk_bytes > 300, "the header lies there too: {}", model.on_disk_bytes);
    assert_eq!((model.context, model.precision.as_str()), (512, "16-bit"));
}

#[test]
fn a_layer_may_have_bits_of_its_own() {
    let config = json!({
        "model_type": "llama", "num_hidden_layers": 1, "num_attention_heads": 1, "head_dim": 4,
        "quantization": {"bits": 4, "group_size": 64, "wide": {"bits": 8, "group_size": 64}}
    });
    let tensors: [(&str, &str, &[u64], u64); 4] = [
        ("wide.weight", "U32", &[1], 64),
        ("wide.scales", "F16", &[1], 2),
        ("thin.weight", "U32", &[1], 64),
        ("thin.scales", "F16", &[1], 2),
    ];
    let model = opened(&folder(&config, &tensors)).unwrap();
    assert_eq!((model.unpacked_bytes, model.obstacle), ((64 + 128) * 4, None));
}

#[test]
fn damaged_and_odd_folders_are_named() {
    let good = json!({"model_type": "llama", "num_hidden_layers": 1, "num_attention_heads": 1, "head_dim": 4});
    for (config, word) in [
        (json!({"num_hidden_layers": 1}), "model_type"),
        (json!({"model_type": "llama"}), "num_hidden_layers"),
        (json!([1]), "model_type"),
    ] {
        let error = opened(&folder(&config, &[])).unwrap_err().to_string();
        assert!(error.contains(word) && error.contains("config.json"), "{error}");
    }
    let empty = folder(&good, &[]);
    fs::remove_file(empty.path().join("model.safetensors")).unwrap();
    assert!(opened(&empty).unwrap_err().to_string().contains("no model*.safetensors"));
    let other = folder(
        &json!({"model_type": "llama", "num_hidden_layers": 1, "num_attention_heads": 1, "head_dim": 4,
        "layer_types": ["sliding_attention"]}),
        &[],
    );
    assert!(opened(&other).unwrap().obstacle.unwrap().contains("sliding_attention"));
}
