//! What mlxsup's own worker can run. Owns the lists; the worker and `mlxsupctl models` both go by them.

use serde_json::Value;

use crate::gguf::TensorType;

/// `model_type` / `general.architecture` values that the native worker runs.
pub const ARCHITECTURES: [&str; 2] = ["llama", "mistral"];

/// GGUF storage types that MLX reads without losing bits.
pub const GGUF_TYPES: [TensorType; 6] =
    [TensorType::F32, TensorType::F16, TensorType::BF16, TensorType::Q4_0, TensorType::Q4_1, TensorType::Q8_0];

/// Bits and group sizes are read off the tensors themselves; only the *kind* of quantisation must be one we know.
///
/// # Errors
/// What is not supported, as a sentence without the file's name.
pub fn check_quantisation(quantisation: Option<&Value>) -> Result<(), String> {
    let Some(Value::Object(map)) = quantisation else { return Ok(()) };
    if let Some(method) = map.get("quant_method").and_then(Value::as_str) {
        return Err(format!("quantisation by `{method}` is not supported; get the model in MLX format or unquantised"));
    }
    let layers = map.values().filter_map(Value::as_object);
    for settings in layers.chain([map]) {
        match settings.get("mode").and_then(Value::as_str) {
            None | Some("affine") => {}
            Some(other) => return Err(format!("quantisation mode `{other}` is not supported, only `affine`")),
        }
    }
    Ok(())
}

/// Layers of one kind only.
///
/// # Errors
/// The first other kind.
pub fn check_layer_types(types: &[String]) -> Result<(), String> {
    match types.iter().find(|kind| *kind != "full_attention") {
        Some(kind) => Err(format!("layers of type `{kind}` are not supported, only `full_attention`")),
        None => Ok(()),
    }
}
