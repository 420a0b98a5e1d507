//! The OpenAI API as documents: request bodies in, chunks and whole answers out.
//!
//! Owns field names, ranges, defaults and the exact shapes; does no I/O, knows no sockets and no engine. `null` means
//! absent, unknown fields are ignored, and what is wrong is refused with the name of the field.

mod answer;
mod chat;
mod fields;
mod logprobs;
mod refusal;
mod request;

#[cfg(test)]
mod tests;

pub use answer::{Answer, Usage, WholeChoice};
pub use chat::Chat;
pub use logprobs::TokenText;
pub use refusal::Refusal;
pub use request::{Kind, MAX_CHOICES, Prompt, Request, parse_chat, parse_completion};
