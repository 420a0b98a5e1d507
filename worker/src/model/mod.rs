//! One model: from a name in the configuration to logits.
//!
//! ```text
//! resolve ─ ModelSource ─▶ shape (config.json or GGUF metadata) ─▶ plan (bytes, before anything is read)
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
mod plan;
pub mod resolve;
mod rope;
mod safetensors;
pub mod shape;
#[cfg(test)]
mod tests;
mod weights;

use std::path::{Path, PathBuf};
use std::sync::Arc;

pub use error::ModelError;
pub use kv_cache::KvCache;
pub use llama::{Model, Segment};
pub use plan::{Plan, Precision};
pub use shape::Shape;

use crate::gguf::Header;

/// Where a model's files are.
#[derive(Debug, Clone)]
pub enum ModelSource {
    /// A folder in MLX/Hugging Face layout.
    Folder(PathBuf),
    /// A GGUF file with its header.
    Gguf {
        /// The file.
        path: PathBuf,
        /// Already read; tokenizer and template are in it.
        header: Arc<Header>,
    },
}

impl ModelSource {
    /// The folder or file.
    #[must_use]
    pub fn path(&self) -> &Path {
        match self {
            Self::Folder(path) | Self::Gguf { path, .. } => path,
        }
    }
}

/// A model whose headers were read and found usable; its weights are still on disk.
#[derive(Debug, Clone)]
pub struct OpenedModel {
    /// Where its files are.
    pub source: ModelSource,
    /// The name clients see.
    pub name: String,
    /// Layers, heads, vocabulary.
    pub shape: Shape,
    /// Every tensor in storage, with its bytes.
    pub tensors: Vec<StoredTensor>,
    /// Digest of weights, tokenizer and template.
    pub fingerprint: String,
}

/// A tensor on disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredTensor {
    /// Its name in the Hugging Face convention, for example `model.layers.0.self_attn.q_proj.weight`.
    pub name: String,
    /// Bytes in the file.
    pub bytes: u64,
    /// True when the elements are packed, a few bits each.
    pub quantised: bool,
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
    let fingerprint = fingerprint::of(&source)?;
    Ok(OpenedModel { source, name, shape, tensors, fingerprint })
}
