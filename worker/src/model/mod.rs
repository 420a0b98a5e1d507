//! One model: from a name in the configuration to logits.
//!
//! ```text
//! fit ─ ModelSource ─▶ shape (config.json or GGUF metadata), costs and plan (fit: bytes, before anything is read)
//!                                                       │
//!        weights (names, arrays, dequantised or not) ◀──┘──▶ llama (layers) + kv_cache ─▶ logits
//! ```
//!
//! Opening ([`open`]) reads headers only and never touches MLX, so every mistake in a path or a file is known before the
//! engine thread exists. Does not own text: tokenizer and chat template are read elsewhere from the same
//! [`ModelSource`].

pub mod error;
mod fingerprint;
mod folder_shape;
mod gguf_names;
mod gguf_shape;
pub mod kv_cache;
mod linear;
pub mod llama;
mod rope;
pub mod shape;
#[cfg(test)]
mod tests;
mod weights;

pub use error::ModelError;
pub use kv_cache::KvCache;
pub use llama::{Model, Segment};
pub use mlxsup_fit::{ModelSource, Plan, Precision, StoredTensor};
pub use shape::Shape;

use mlxsup_fit::{resolve, safetensors};

/// A model whose headers were read and found usable; its weights are still on disk.
#[derive(Debug, Clone)]
pub struct OpenedModel {
    /// Where its files are.
    pub source: ModelSource,
    /// The name clients see.
    pub name: String,
    /// Layers, heads, vocabulary.
    pub shape: Shape,
    /// What it costs in memory, known without reading a weight.
    pub costs: mlxsup_fit::Model,
    /// Every tensor in storage, with its bytes.
    pub tensors: Vec<StoredTensor>,
    /// Digest of weights, tokenizer and template.
    pub fingerprint: String,
}

/// Finds `model` (a folder, a GGUF file or a hub id) and reads its headers.
///
/// # Errors
/// [`ModelError`], saying which file is at fault and what to do.
pub fn open(model: &str) -> Result<OpenedModel, ModelError> {
    let (source, name) = resolve::resolve(model, &resolve::hub_cache())?;
    let (shape, tensors) = match &source {
        ModelSource::Folder(folder) => {
            let shape = folder_shape::read(folder)?;
            (shape, safetensors::tensors(folder)?)
        }
        ModelSource::Gguf { path, header } => {
            let shape = gguf_shape::read(path, header)?;
            (shape, gguf_names::tensors(path, header)?)
        }
    };
    let shape = shape.with_tying_from(&tensors);
    let costs = mlxsup_fit::Model::of(&source, name.clone())?;
    let fingerprint = fingerprint::of(&source)?;
    Ok(OpenedModel { source, name, shape, costs, tensors, fingerprint })
}
