//! GGUF tensor names and types: what they are called in the Hugging Face convention, and which can be read.

use std::path::Path;

use mlxsup_fit::native;

use super::{ModelError, StoredTensor};
use crate::gguf::{Header, TensorType};

/// The tensor list under Hugging Face names.
///
/// # Errors
/// [`ModelError::GgufQuantisation`] for the first tensor in a storage type that is not supported.
pub(super) fn tensors(path: &Path, header: &Header) -> Result<Vec<StoredTensor>, ModelError> {
    let mut tensors = Vec::with_capacity(header.tensors().len());
    for tensor in header.tensors() {
        let unsupported =
            || ModelError::GgufQuantisation { path: path.to_owned(), tensor: tensor.name.clone(), kind: tensor.kind };
        if !native::GGUF_TYPES.contains(&tensor.kind) {
            return Err(unsupported());
        }
        tensors.push(StoredTensor {
            name: hugging_face_name(&tensor.name).unwrap_or_else(|| tensor.name.clone()),
            bytes: tensor.bytes().ok_or_else(unsupported)?,
            quantised: matches!(tensor.kind, TensorType::Q4_0 | TensorType::Q4_1 | TensorType::Q8_0),
            elements: tensor.elements().ok_or_else(unsupported)?,
            element_bytes: tensor.kind.block().filter(|(elements, _)| *elements == 1).map(|(_, bytes)| bytes),
        });
    }
    Ok(tensors)
}

/// `blk.3.attn_q.weight` → `model.layers.3.self_attn.q_proj.weight`; `None` for names llama models do not have.
pub(super) fn hugging_face_name(name: &str) -> Option<String> {
    let (path, kind) = name.rsplit_once('.')?;
    let path = match path {
        "token_embd" => "model.embed_tokens".to_owned(),
        "output_norm" => "model.norm".to_owned(),
        "output" => "lm_head".to_owned(),
        _ => {
            let (layer, part) = path.strip_prefix("blk.")?.split_once('.')?;
            let layer: u32 = layer.parse().ok()?;
            let part = match part {
                "attn_norm" => "input_layernorm",
                "ffn_norm" => "post_attention_layernorm",
                "attn_q" => "self_attn.q_proj",
                "attn_k" => "self_attn.k_proj",
                "attn_v" => "self_attn.v_proj",
                "attn_output" => "self_attn.o_proj",
                "ffn_gate" => "mlp.gate_proj",
                "ffn_up" => "mlp.up_proj",
                "ffn_down" => "mlp.down_proj",
                _ => return None,
            };
            format!("model.layers.{layer}.{part}")
        }
    };
    Some(format!("{path}.{kind}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_follow_the_hugging_face_convention() {
        for (gguf, expected) in [
            ("token_embd.weight", Some("model.embed_tokens.weight")),
            ("output.scales", Some("lm_head.scales")),
            ("output_norm.weight", Some("model.norm.weight")),
            ("blk.12.attn_k.biases", Some("model.layers.12.self_attn.k_proj.biases")),
            ("blk.0.ffn_down.weight", Some("model.layers.0.mlp.down_proj.weight")),
            ("blk.x.ffn_down.weight", None),
            ("blk.0.ssm_a.weight", None),
            ("rope_freqs.weight", None),
            ("nameless", None),
        ] {
            assert_eq!(hugging_face_name(gguf).as_deref(), expected, "{gguf}");
        }
    }
}
