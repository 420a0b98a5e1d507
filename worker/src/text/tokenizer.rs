//! Text to ids.
//!
//! Owns the tokenizer of one model, wherever it was described, and the table of its pieces. Special tokens written out
//! in a text become their ids, as chat templates need it.

use std::sync::Arc;

use tokenizers::Tokenizer as Inner;

use super::pieces::{Decoding, Pieces};

/// One model's tokenizer.
pub struct Tokenizer {
    inner: Inner,
    pieces: Arc<Pieces>,
    /// Put before a bare prompt when the tokenizer's own rules do not say so themselves (GGUF).
    first: Option<u32>,
}

impl std::fmt::Debug for Tokenizer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tokenizer").field("ids", &self.pieces.len()).finish_non_exhaustive()
    }
}

/// A text the tokenizer could not take; the reason is the tokenizer's own.
#[derive(Debug, thiserror::Error)]
#[error("the tokenizer refused the text: {0}")]
pub struct EncodeError(String);

impl Tokenizer {
    /// Builds the piece table by applying `decoding` to the whole vocabulary once.
    pub(super) fn new(inner: Inner, decoding: &Decoding, first: Option<u32>) -> Self {
        let added = inner.get_added_tokens_decoder();
        let vocabulary = inner.get_vocab(true);
        let tokens = vocabulary
            .into_iter()
            .map(|(token, id)| match added.get(&id) {
                Some(added) if added.special => (id, None),
                // Added tokens are written as they are, not in the byte alphabet.
                Some(added) => (id, Some(added.content.clone().into_bytes())),
                None => (id, Some(decoding.decode(&token))),
            })
            .collect();
        let pieces = Arc::new(Pieces::from_bytes(tokens, decoding.trims_first_space));
        Self { inner, pieces, first }
    }

    /// Ids of a prompt that a chat template has rendered: the template wrote every special token itself.
    ///
    /// # Errors
    /// [`EncodeError`] when the tokenizer cannot express the text.
    pub fn encode_rendered(&self, text: &str) -> Result<Vec<u32>, EncodeError> {
        self.encode(text, false)
    }

    /// Ids of a bare prompt, with the tokens the model wants at the beginning of a text.
    ///
    /// # Errors
    /// [`EncodeError`] when the tokenizer cannot express the text.
    pub fn encode_prompt(&self, text: &str) -> Result<Vec<u32>, EncodeError> {
        let mut ids = self.encode(text, true)?;
        if let Some(first) = self.first.filter(|first| ids.first() != Some(first)) {
            ids.insert(0, first);
        }
        Ok(ids)
    }

    fn encode(&self, text: &str, special: bool) -> Result<Vec<u32>, EncodeError> {
        let encoding = self.inner.encode_fast(text, special).map_err(|error| EncodeError(error.to_string()))?;
        Ok(encoding.get_ids().to_vec())
    }

    /// Bytes per id.
    #[must_use]
    pub const fn pieces(&self) -> &Arc<Pieces> {
        &self.pieces
    }

    /// The id of exactly this token.
    #[must_use]
    pub fn id_of(&self, token: &str) -> Option<u32> {
        self.inner.token_to_id(token)
    }

    /// The token as the vocabulary spells it, for log probabilities of special tokens.
    #[must_use]
    pub fn token_of(&self, id: u32) -> Option<String> {
        self.inner.id_to_token(id)
    }
}
