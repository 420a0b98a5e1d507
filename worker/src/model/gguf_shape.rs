//! The shape from GGUF metadata.

use std::path::Path;

use mlxsup_fit::FileError;

use super::ModelError;
use super::shape::{ARCHITECTURES, Rope, RopeScaling, Shape};
use crate::gguf::{Header, Value};

/// Reads and checks the metadata of the GGUF file at `path`.
pub(super) fn read(path: &Path, header: &Header) -> Result<Shape, ModelError> {
    let wrong = |what: String| FileError::config(path, what);
    let architecture = header.metadata("general.architecture").and_then(Value::as_str);
    let architecture = architecture.ok_or_else(|| wrong("`general.architecture` is missing".to_owned()))?;
    if !ARCHITECTURES.contains(&architecture) {
        return Err(ModelError::Architecture { path: path.to_owned(), architecture: architecture.to_owned() });
    }
    let shape = shape(architecture, header).map_err(wrong)?;
    shape.check().map_err(wrong)?;
    Ok(shape)
}

fn shape(architecture: &str, header: &Header) -> Result<Shape, String> {
    let value = |key: &str| header.metadata(&format!("{architecture}.{key}"));
    let optional = |key: &str| value(key).and_then(Value::as_u32);
    let count = |key: &str| optional(key).ok_or_else(|| format!("`{architecture}.{key}` is missing or not a number"));
    #[allow(clippy::cast_possible_truncation, reason = "the model computes in f32")]
    let float = |key: &str| value(key).and_then(Value::as_f64).map(|number| number as f32);

    let hidden = count("embedding_length")?;
    let heads = count("attention.head_count")?;
    let head_dim = optional("attention.key_length").unwrap_or_else(|| hidden.checked_div(heads).unwrap_or(0));
    if let Some(rotated) = optional("rope.dimension_count").filter(|rotated| *rotated != head_dim) {
        return Err(format!("only {rotated} of {head_dim} head dimensions are rotated, which is not supported"));
    }
    if let Some(values) = optional("attention.value_length").filter(|values| *values != head_dim) {
        return Err(format!("values of width {values} beside keys of width {head_dim} are not supported"));
    }
    // The embedding is stored as [hidden, vocabulary]; files without `vocab_size` still have it.
    let embedding = header.tensors().iter().find(|tensor| tensor.name == "token_embd.weight");
    let rows = embedding.and_then(|tensor| tensor.dimensions.get(1).copied());
    let vocabulary = rows.and_then(|rows| u32::try_from(rows).ok()).map_or_else(|| count("vocab_size"), Ok)?;

    let scaling = match value("rope.scaling.type").and_then(Value::as_str).unwrap_or("none") {
        _ if header.tensors().iter().any(|tensor| tensor.name == "rope_freqs.weight") => RopeScaling::Factors,
        "none" => RopeScaling::None,
        "linear" => RopeScaling::Linear(
            float("rope.scaling.factor").filter(|factor| *factor > 0.0).ok_or("rope scaling has no usable factor")?,
        ),
        other => return Err(format!("rope scaling `{other}` is not supported; supported: none, linear")),
    };
    Ok(Shape {
        architecture: architecture.to_owned(),
        layers: count("block_count")?,
        hidden,
        feed_forward: count("feed_forward_length")?,
        heads,
        kv_heads: optional("attention.head_count_kv").unwrap_or(heads),
        head_dim,
        vocabulary,
        context: count("context_length")?,
        norm_epsilon: float("attention.layer_norm_rms_epsilon")
            .ok_or_else(|| format!("`{architecture}.attention.layer_norm_rms_epsilon` is missing"))?,
        rope: Rope { theta: float("rope.freq_base").unwrap_or(10_000.0), traditional: false, scaling },
        tied: None,
    })
}
