//! Why a model cannot be used.

use std::path::PathBuf;

use mlxsup_fit::FileError;

use crate::gguf::TensorType;

/// Why a model was not found, not understood or not loaded. Each message names the file and what mends it.
#[derive(Debug, thiserror::Error)]
pub enum ModelError {
    /// The files were not found or are not what they should be.
    #[error(transparent)]
    File(#[from] FileError),
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
