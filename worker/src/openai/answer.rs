//! Answers in OpenAI's shapes: chunks of a stream, and whole ones.
//!
//! Owns the documents of one answer, which differ only in what is in them: id, creation time and model come from the
//! request, so that two workers write the same bytes.

use serde::Serialize;

use crate::engine::sequence::TokenLogprobs;
use crate::text::End;

use super::logprobs::{ChatEntry, CompletionLogprobs, TokenText};

/// The constant part of one answer.
#[derive(Debug, Clone)]
pub struct Answer {
    /// `chatcmpl-…` or `cmpl-…`.
    pub id: String,
    /// Seconds since the Unix epoch.
    pub created: u64,
    /// The model's real name.
    pub model: String,
    /// Chat or text completion.
    pub chat: bool,
    /// Streams carry `usage`: null, and the counts in a last chunk.
    pub include_usage: bool,
}

/// Token counts of one request.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Usage {
    /// Tokens of the prompt.
    pub prompt_tokens: u64,
    /// Tokens of all choices, those that ended them included.
    pub completion_tokens: u64,
    /// Both.
    pub total_tokens: u64,
}

/// One choice of a whole answer.
#[derive(Debug, Clone)]
pub struct WholeChoice {
    /// Everything it emitted.
    pub text: String,
    /// How it ended.
    pub end: End,
    /// Ids with their log probabilities and the characters before them; empty when not wanted.
    pub logprobs: Option<Vec<(u32, TokenLogprobs, usize)>>,
}

#[derive(Serialize)]
struct Document<'a, C> {
    id: &'a str,
    object: &'static str,
    created: u64,
    model: &'a str,
    choices: &'a [C],
    #[serde(skip_serializing_if = "Option::is_none")]
    usage: Option<Option<Usage>>,
}

#[derive(Serialize)]
struct Choice<'a> {
    index: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    delta: Option<Delta<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    message: Option<Message<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    text: Option<&'a str>,
    logprobs: Option<Logprobs>,
    finish_reason: Option<&'static str>,
}

#[derive(Default, Serialize)]
struct Delta<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    role: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    content: Option<&'a str>,
}

#[derive(Serialize)]
struct Message<'a> {
    role: &'static str,
    content: &'a str,
    refusal: Option<&'static str>,
}

#[derive(Serialize)]
#[serde(untagged)]
enum Logprobs {
    Chat { content: Vec<ChatEntry>, refusal: Option<&'static str> },
    Completion(CompletionLogprobs),
}

impl Answer {
    /// The chunk that opens a chat choice; `None` for completions, which have none.
    #[must_use]
    pub fn role_chunk(&self, choice: u32) -> Option<String> {
        let delta = Delta { role: Some("assistant"), content: Some("") };
        self.chat.then(|| self.chunk(&Choice { delta: Some(delta), ..Choice::empty(choice) }))
    }

    /// New text, and the log probabilities of the token that brought it.
    #[must_use]
    pub fn text_chunk(
        &self,
        choice: u32,
        text: &str,
        token: Option<(u32, &TokenLogprobs, usize, TokenText<'_>)>,
    ) -> String {
        let logprobs = token.map(|(id, logprobs, offset, of)| self.logprobs([(id, logprobs, offset)].into_iter(), of));
        self.chunk(&Choice { logprobs, ..self.with_text(choice, text) })
    }

    /// The last chunk of a choice.
    #[must_use]
    pub fn finish_chunk(&self, choice: u32, end: End) -> String {
        let shape = if self.chat {
            Choice { delta: Some(Delta::default()), ..Choice::empty(choice) }
        } else {
            self.with_text(choice, "")
        };
        self.chunk(&Choice { finish_reason: Some(finish_reason(end)), ..shape })
    }

    /// The chunk after the last one, for those who asked for counts.
    #[must_use]
    pub fn usage_chunk(&self, usage: Usage) -> String {
        json(&self.document::<Choice<'_>>(&[], self.chunk_object(), Some(Some(usage))))
    }

    /// A whole answer.
    #[must_use]
    pub fn whole(&self, choices: &[WholeChoice], usage: Usage, of: TokenText<'_>) -> String {
        let choices: Vec<Choice<'_>> =
            (0_u32..).zip(choices).map(|(index, whole)| self.whole_choice(index, whole, of)).collect();
        let object = if self.chat { "chat.completion" } else { "text_completion" };
        json(&self.document(&choices, object, Some(Some(usage))))
    }

    fn whole_choice<'a>(&self, index: u32, whole: &'a WholeChoice, of: TokenText<'_>) -> Choice<'a> {
        let logprobs = whole
            .logprobs
            .as_ref()
            .map(|tokens| self.logprobs(tokens.iter().map(|(id, logprobs, offset)| (*id, logprobs, *offset)), of));
        let message = Message { role: "assistant", content: &whole.text, refusal: None };
        Choice {
            message: self.chat.then_some(message),
            text: (!self.chat).then_some(&whole.text),
            logprobs,
            finish_reason: Some(finish_reason(whole.end)),
            ..Choice::empty(index)
        }
    }

    fn with_text<'a>(&self, choice: u32, text: &'a str) -> Choice<'a> {
        if self.chat {
            let delta = Delta { role: None, content: Some(text) };
            Choice { delta: Some(delta), ..Choice::empty(choice) }
        } else {
            Choice { text: Some(text), ..Choice::empty(choice) }
        }
    }

    fn logprobs<'t>(
        &self,
        tokens: impl Iterator<Item = (u32, &'t TokenLogprobs, usize)>,
        of: TokenText<'_>,
    ) -> Logprobs {
        if self.chat {
            let content = tokens.map(|(id, logprobs, _)| ChatEntry::new(id, logprobs, of)).collect();
            return Logprobs::Chat { content, refusal: None };
        }
        let mut entries = CompletionLogprobs::default();
        for (id, logprobs, offset) in tokens {
            entries.push(id, logprobs, offset, of);
        }
        Logprobs::Completion(entries)
    }

    fn chunk(&self, choice: &Choice<'_>) -> String {
        let usage = self.include_usage.then_some(None);
        json(&self.document(std::slice::from_ref(choice), self.chunk_object(), usage))
    }

    const fn chunk_object(&self) -> &'static str {
        if self.chat { "chat.completion.chunk" } else { "text_completion" }
    }

    fn document<'a, C>(
        &'a self,
        choices: &'a [C],
        object: &'static str,
        usage: Option<Option<Usage>>,
    ) -> Document<'a, C> {
        Document { id: &self.id, object, created: self.created, model: &self.model, choices, usage }
    }
}

impl Choice<'_> {
    const fn empty(index: u32) -> Self {
        Self { index, delta: None, message: None, text: None, logprobs: None, finish_reason: None }
    }
}

/// OpenAI's word for how an answer ended.
const fn finish_reason(end: End) -> &'static str {
    match end {
        End::Stop => "stop",
        End::Length => "length",
    }
}

fn json(document: &impl Serialize) -> String {
    // Strings, numbers and options of them always serialise.
    serde_json::to_string(document).unwrap_or_default()
}
