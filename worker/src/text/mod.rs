//! Between text and token ids: tokenizer, chat template, detokeniser, stop strings.
//!
//! Owns everything a model folder or GGUF file says about text. What an answer has emitted is a pure function of its
//! ids ([`AnswerText`]), which is what lets another worker replay them in silence and go on. Never touches weights, MLX
//! or sockets.
//!
//! ```text
//! request ─▶ ChatTemplate ─▶ Tokenizer ─▶ prompt ids ─▶ engine
//! client  ◀─ StopMatcher ◀─ Detokenizer ◀─ Pieces ◀─ one id
//! ```

mod answer_text;
mod detokenizer;
mod folder;
mod gguf_vocabulary;
mod pieces;
mod python_json;
#[cfg(test)]
pub(crate) mod sample_folder;
mod stop_matcher;
mod template;
mod tokenizer;

use std::path::PathBuf;
use std::sync::Arc;

use crate::model::ModelSource;

pub use answer_text::{AnswerText, End};
pub use pieces::Pieces;
pub use template::{ChatTemplate, TemplateError, TemplateInput};
pub use tokenizer::Tokenizer;

/// Why a model's text side could not be opened. Every message names the file or key at fault.
#[derive(Debug, thiserror::Error)]
pub enum TextError {
    /// A file of the model folder could not be read.
    #[error("cannot read {}: {source}", path.display())]
    Io {
        /// Which file.
        path: PathBuf,
        /// The system's reason.
        source: std::io::Error,
    },
    /// A JSON file of the model folder is not what it should be.
    #[error("{} is not valid: {what}; download the model again", path.display())]
    Damaged {
        /// Which file.
        path: PathBuf,
        /// What is wrong.
        what: String,
    },
    /// The tokenizer is of a kind that is not supported.
    #[error("{}: {what}", path.display())]
    Unsupported {
        /// Which file.
        path: PathBuf,
        /// The kind, and what to use instead.
        what: String,
    },
}

/// A model's text side, whole.
#[derive(Debug)]
pub struct Codec {
    /// Text to ids.
    pub tokenizer: Tokenizer,
    /// Messages to prompt text; the error is what a chat request is told.
    pub template: Result<ChatTemplate, String>,
    /// Ids that end an answer, ascending.
    pub stop_ids: Arc<[u32]>,
}

impl Codec {
    /// Opens the text side of a Hugging Face folder or of a GGUF file.
    ///
    /// # Errors
    /// [`TextError`] when there is no usable tokenizer. An unusable chat template is not an error: completions work
    /// without one.
    pub fn open(model: &ModelSource) -> Result<Self, TextError> {
        match model {
            ModelSource::Folder(folder) => folder::open(folder),
            ModelSource::Gguf { path, header } => gguf_vocabulary::open(header, path),
        }
    }

    /// A fresh answer: nothing generated, nothing emitted.
    #[must_use]
    pub fn answer(&self, stop: &[String], max_tokens: u32) -> AnswerText {
        AnswerText::new(Arc::clone(self.tokenizer.pieces()), Arc::clone(&self.stop_ids), stop, max_tokens)
    }
}

/// Ascending and without doubles, the form [`Codec::stop_ids`] promises.
fn stop_id_set(mut ids: Vec<u32>) -> Arc<[u32]> {
    ids.sort_unstable();
    ids.dedup();
    ids.into()
}
