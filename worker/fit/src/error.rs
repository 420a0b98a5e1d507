//! Why a model's files cannot be used.

use std::io;
use std::path::{Path, PathBuf};

use crate::gguf::GgufError;

/// Why a model was not found, or its headers not understood. Each message names the file and what mends it.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
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
    /// Weights and configuration contradict each other.
    #[error("the weights of {} do not fit its configuration: {what}; download or convert the model again", path.display())]
    Weights {
        /// Folder or file.
        path: PathBuf,
        /// Tensor and problem.
        what: String,
    },
}

impl FileError {
    /// For use with `map_err`: names the file.
    pub fn io(path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io { path, source }
    }

    /// A value of this file is missing or wrong.
    #[must_use]
    pub fn config(path: &Path, what: impl Into<String>) -> Self {
        Self::Config { path: path.to_owned(), what: what.into() }
    }

    /// The weights in this file or folder are not usable.
    #[must_use]
    pub fn weights(path: &Path, what: impl Into<String>) -> Self {
        Self::Weights { path: path.to_owned(), what: what.into() }
    }
}

/// Only a name of the form `owner/name` can be downloaded.
fn download_advice(model: &str) -> String {
    let looks_like_an_id = !model.starts_with(['/', '.', '~']) && model.matches('/').count() == 1;
    if looks_like_an_id { format!(", or download it first (`hf download {model}`)") } else { String::new() }
}
