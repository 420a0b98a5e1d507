//! Log probabilities in the shapes of the two APIs.

use serde::Serialize;

use crate::engine::sequence::TokenLogprobs;
use crate::text::Tokenizer;

/// What JSON cannot write as a number: impossible tokens.
const LOWEST: f32 = -9999.0;

/// Turns ids into what log probabilities show of them.
#[derive(Debug, Clone, Copy)]
pub struct TokenText<'a>(pub &'a Tokenizer);

impl TokenText<'_> {
    /// The token's text and bytes; special tokens show their name.
    fn of(self, id: u32) -> (String, Vec<u8>) {
        let bytes = self.0.pieces().whole(id);
        if bytes.is_empty() {
            let name = self.0.token_of(id).unwrap_or_default();
            let bytes = name.clone().into_bytes();
            return (name, bytes);
        }
        (String::from_utf8_lossy(bytes).into_owned(), bytes.to_vec())
    }
}

/// One entry of a chat answer's `logprobs.content`.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(super) struct ChatEntry {
    token: String,
    logprob: f32,
    bytes: Vec<u8>,
    top_logprobs: Vec<Alternative>,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
struct Alternative {
    token: String,
    logprob: f32,
    bytes: Vec<u8>,
}

impl ChatEntry {
    pub(super) fn new(id: u32, logprobs: &TokenLogprobs, text: TokenText<'_>) -> Self {
        let (token, bytes) = text.of(id);
        let top_logprobs = logprobs.top.iter().map(|&(id, logprob)| {
            let (token, bytes) = text.of(id);
            Alternative { token, logprob: logprob.max(LOWEST), bytes }
        });
        Self { token, logprob: logprobs.chosen.max(LOWEST), bytes, top_logprobs: top_logprobs.collect() }
    }
}

/// `logprobs` of a completions answer: parallel arrays.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub(super) struct CompletionLogprobs {
    tokens: Vec<String>,
    token_logprobs: Vec<f32>,
    top_logprobs: Vec<serde_json::Map<String, serde_json::Value>>,
    text_offset: Vec<usize>,
}

impl CompletionLogprobs {
    /// `offset` is the number of characters of the answer before this token.
    pub(super) fn push(&mut self, id: u32, logprobs: &TokenLogprobs, offset: usize, text: TokenText<'_>) {
        self.tokens.push(text.of(id).0);
        self.token_logprobs.push(logprobs.chosen.max(LOWEST));
        let top = logprobs.top.iter().map(|&(id, logprob)| (text.of(id).0, logprob.max(LOWEST).into()));
        self.top_logprobs.push(top.collect());
        self.text_offset.push(offset);
    }
}
