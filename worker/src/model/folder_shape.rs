//! The shape from a `config.json` in Hugging Face or MLX layout.

use std::fs;
use std::path::Path;

use mlxsup_fit::{FileError, native};
use serde::Deserialize;
use serde_json::{Map, Value};

use super::ModelError;
use super::shape::{ARCHITECTURES, Rope, RopeScaling, Shape};

/// Bytes a `config.json` may have; real ones have a few kilobytes, per-layer quantisation brings some hundreds.
const MAX_CONFIG: u64 = 16 << 20;

#[derive(Debug, Deserialize)]
struct Config {
    model_type: String,
    hidden_size: u32,
    num_hidden_layers: u32,
    intermediate_size: u32,
    num_attention_heads: u32,
    num_key_value_heads: Option<u32>,
    head_dim: Option<u32>,
    vocab_size: u32,
    rms_norm_eps: f32,
    max_position_embeddings: Option<u32>,
    rope_theta: Option<f32>,
    #[serde(default)]
    rope_traditional: bool,
    rope_scaling: Option<Map<String, Value>>,
    rope_parameters: Option<Map<String, Value>>,
    tie_word_embeddings: Option<bool>,
    layer_types: Option<Vec<String>>,
    quantization: Option<Value>,
    quantization_config: Option<Value>,
}

/// Reads and checks `config.json` in `folder`.
pub(super) fn read(folder: &Path) -> Result<Shape, ModelError> {
    let path = folder.join("config.json");
    let wrong = |what: String| FileError::config(&path, what);
    if fs::metadata(&path).map_err(FileError::io(&path))?.len() > MAX_CONFIG {
        return Err(wrong(format!("it is larger than {MAX_CONFIG} bytes")).into());
    }
    let document: Value = serde_json::from_slice(&fs::read(&path).map_err(FileError::io(&path))?)
        .map_err(|error| wrong(format!("not JSON: {error}")))?;
    let architecture = document.get("model_type").and_then(Value::as_str);
    let architecture = architecture.ok_or_else(|| wrong("`model_type` is missing".to_owned()))?;
    if !ARCHITECTURES.contains(&architecture) {
        return Err(ModelError::Architecture { path, architecture: architecture.to_owned() });
    }
    let config: Config = serde_json::from_value(document).map_err(|error| wrong(error.to_string()))?;
    let shape = shape(config).map_err(wrong)?;
    shape.check().map_err(wrong)?;
    Ok(shape)
}

fn shape(config: Config) -> Result<Shape, String> {
    native::check_quantisation(config.quantization.as_ref().or(config.quantization_config.as_ref()))?;
    native::check_layer_types(config.layer_types.as_deref().unwrap_or_default())?;
    let nested = config.rope_parameters.as_ref();
    let theta = config.rope_theta.or_else(|| number(nested?, "rope_theta")).unwrap_or(10_000.0);
    let scaling = config.rope_scaling.as_ref().or(nested).map_or(Ok(RopeScaling::None), scaling)?;
    let heads = config.num_attention_heads;
    Ok(Shape {
        architecture: config.model_type,
        layers: config.num_hidden_layers,
        hidden: config.hidden_size,
        feed_forward: config.intermediate_size,
        heads,
        kv_heads: config.num_key_value_heads.unwrap_or(heads),
        head_dim: config.head_dim.unwrap_or_else(|| config.hidden_size.checked_div(heads).unwrap_or(0)),
        vocabulary: config.vocab_size,
        context: config.max_position_embeddings.unwrap_or(2048),
        norm_epsilon: config.rms_norm_eps,
        rope: Rope { theta, traditional: config.rope_traditional, scaling },
        tied: config.tie_word_embeddings,
    })
}

fn number(map: &Map<String, Value>, key: &str) -> Option<f32> {
    #[allow(clippy::cast_possible_truncation, reason = "the model computes in f32")]
    map.get(key).and_then(Value::as_f64).map(|number| number as f32)
}

fn scaling(map: &Map<String, Value>) -> Result<RopeScaling, String> {
    let kind = map.get("rope_type").or_else(|| map.get("type")).and_then(Value::as_str).unwrap_or("default");
    let factor = || number(map, "factor").filter(|factor| *factor > 0.0).ok_or("rope scaling has no usable `factor`");
    match kind {
        "default" => Ok(RopeScaling::None),
        "linear" => Ok(RopeScaling::Linear(factor()?)),
        "llama3" => Ok(RopeScaling::Llama3 {
            factor: factor()?,
            low_freq_factor: number(map, "low_freq_factor").unwrap_or(1.0),
            high_freq_factor: number(map, "high_freq_factor").unwrap_or(4.0),
            original_context: number(map, "original_max_position_embeddings").unwrap_or(8192.0),
        }),
        other => Err(format!("rope scaling `{other}` is not supported; supported: default, linear, llama3")),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn base() -> Value {
        json!({
            "model_type": "llama", "hidden_size": 64, "num_hidden_layers": 2, "intermediate_size": 128,
            "num_attention_heads": 4, "num_key_value_heads": 2, "vocab_size": 96, "rms_norm_eps": 1e-5,
            "max_position_embeddings": 512, "rope_theta": 10000.0
        })
    }

    fn read_with(changes: &Value) -> Result<Shape, ModelError> {
        let folder = tempfile::tempdir().unwrap();
        let mut config = base();
        for (key, value) in changes.as_object().unwrap() {
            config[key] = value.clone();
        }
        fs::write(folder.path().join("config.json"), config.to_string()).unwrap();
        read(folder.path())
    }

    #[test]
    fn a_plain_llama_is_read() {
        let shape = read_with(&json!({})).unwrap();
        assert_eq!((shape.layers, shape.heads, shape.kv_heads, shape.head_dim), (2, 4, 2, 16));
        assert_eq!((shape.rope.scaling, shape.tied), (RopeScaling::None, None));
    }

    #[test]
    fn both_spellings_of_rope_settings_are_read() {
        let llama3 = json!({"rope_type": "llama3", "factor": 32.0, "original_max_position_embeddings": 8192});
        let old = read_with(&json!({"rope_scaling": llama3})).unwrap();
        let new = read_with(&json!({"rope_parameters": llama3})).unwrap();
        assert_eq!(old.rope.scaling, new.rope.scaling);
        assert!(matches!(old.rope.scaling, RopeScaling::Llama3 { .. }));
        let linear = read_with(&json!({"rope_scaling": {"type": "linear", "factor": 2.0}})).unwrap();
        assert_eq!(linear.rope.scaling, RopeScaling::Linear(2.0));
    }

    #[test]
    fn what_is_not_supported_is_named() {
        for (changes, word) in [
            (json!({"model_type": "gemma3"}), "gemma3"),
            (json!({"quantization_config": {"quant_method": "gptq"}}), "gptq"),
            (json!({"quantization": {"bits": 4, "group_size": 32, "mode": "mxfp4"}}), "mxfp4"),
            (json!({"quantization": {"bits": 4, "group_size": 64, "lm_head": {"mode": "nvfp4"}}}), "nvfp4"),
            (json!({"rope_scaling": {"rope_type": "yarn", "factor": 2.0}}), "yarn"),
            (json!({"layer_types": ["full_attention", "sliding_attention"]}), "sliding_attention"),
            (json!({"num_attention_heads": 0}), "heads"),
            (json!({"num_key_value_heads": 3}), "evenly"),
            (json!({"hidden_size": "wide"}), "u32"),
        ] {
            let error = read_with(&changes).unwrap_err().to_string();
            assert!(error.contains(word) && error.contains("config.json"), "{error}");
        }
    }

    #[test]
    fn per_layer_overrides_are_accepted() {
        let quantisation =
            json!({"bits": 4, "group_size": 64, "model.embed_tokens": {"bits": 8, "group_size": 64}, "lm_head": false});
        assert!(read_with(&json!({"quantization": quantisation})).is_ok());
    }
}
