//! Why a model cannot be used.

use std::io;
use std::path::PathBuf;

use crate::gguf::{GgufError, TensorType};

/// Why a model was not found, not understood or not loaded. Each message names the file and what mends it.
#[derive(Debug, thiserror::Error)]
pub enum ModelError {
    /// Nothing is where the name points.
    #[error(
        "there is no model `{model}`: it is neither a folder, nor a .gguf file, nor a hub id in {}; \
         give an existing path{}",
        hub_cache.display(), download_advice(model)
    )]
    NotFound {
        /// As configured.
        model: String,
        /// Hub cache that was searched.
        hub_cache: PathBuf,
    },
    /// The path exists, but holds no model.
    #[error("{} is not a model: {what}", path.display())]
    NotAModel {
        /// Folder or file.
        path: PathBuf,
        /// What was looked for.
        what: String,
    },
    /// A file of the model could not be read.
    #[error("cannot read {}: {source}", path.display())]
    Io {
        /// Which file.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// The GGUF header is unusable.
    #[error(transparent)]
    Gguf(#[from] GgufError),
    /// A value in `config.json` or the GGUF metadata is missing or wrong.
    #[error("{}: {what}", path.display())]
    Config {
        /// Which file.
        path: PathBuf,
        /// Key and problem.
        what: String,
    },
    /// Another kind of network.
    #[error(
        "the model {} has the architecture `{architecture}`, which this version does not run; supported: {}",
        path.display(), super::shape::ARCHITECTURES.join(", ")
    )]
    Architecture {
        /// Which file.
        path: PathBuf,
        /// What it says.
        architecture: String,
    },
    /// A way of storing numbers that the worker does not read.
    #[error(
        "tensor `{tensor}` of {} is stored as {kind}; supported are F32, F16, BF16, Q4_0, Q4_1 and Q8_0: \
         get the model as Q8_0, Q4_1 or Q4_0, or in MLX format",
        path.display()
    )]
    GgufQuantisation {
        /// Which file.
        path: PathBuf,
        /// The first such tensor.
        tensor: String,
        /// Its storage type.
        kind: TensorType,
    },
    /// Weights and configuration contradict each other.
    #[error("the weights of {} do not fit its configuration: {what}; download or convert the model again", path.display())]
    Weights {
        /// Folder or file.
        path: PathBuf,
        /// Tensor and problem.
        what: String,
    },
    /// MLX failed while the weights were read.
    #[error("MLX failed while {doing}: {message}")]
    Mlx {
        /// What was going on.
        doing: String,
        /// MLX's own words.
        message: String,
    },
}

impl ModelError {
    /// Wraps MLX's error with what was going on.
    pub(crate) fn mlx(doing: impl Into<String>) -> impl FnOnce(mlx_rs::error::Exception) -> Self {
        let doing = doing.into();
        move |error| Self::Mlx { doing, message: error.what().to_owned() }
    }
}

/// Only a name of the form `owner/name` can be downloaded.
fn download_advice(model: &str) -> String {
    let looks_like_an_id = !model.starts_with(['/', '.', '~']) && model.matches('/').count() == 1;
    if looks_like_an_id { format!(", or download it first (`hf download {model}`)") } else { String::new() }
}
