//! A running generation as server-sent events.
//!
//! Owns the bytes of the two streams: the link's (every event with the ids it carries, named last events) and the plain
//! OpenAI one (`data: [DONE]`). The client's pace drives it: nothing is written before the connection asks, and dropping
//! it cancels the generation.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::{BufMut, Bytes, BytesMut};
use hyper::body::{Body, Frame};
use mlxsup_worker_api::{EventId, envelope::event};

use crate::openai::{Answer, TokenText};
use crate::text::Codec;

use super::generation::{Generation, Step, Token};

/// Bytes written at once; a slow reader finds its events in frames of about this size.
const FRAME_BYTES: usize = 16 << 10;
/// Comments about the prefill come no faster.
const PREFILL_INTERVAL: Duration = Duration::from_secs(1);

/// Which of the streams.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    /// The worker link, around client chunks.
    LinkStream,
    /// The worker link, with one whole answer at the end.
    LinkWhole,
    /// The plain OpenAI API.
    Client,
}

/// A generation that writes itself down.
pub(super) struct EventStream {
    generation: Generation,
    codec: Arc<Codec>,
    answer: Answer,
    form: Form,
    last_comment: Instant,
    ended: bool,
}

impl EventStream {
    pub(super) fn new(generation: Generation, codec: Arc<Codec>, answer: Answer, form: Form) -> Self {
        Self { generation, codec, answer, form, last_comment: Instant::now(), ended: false }
    }

    fn write(&mut self, step: Step, out: &mut BytesMut) {
        match step {
            Step::Prefill { done, total } => {
                if self.last_comment.elapsed() >= PREFILL_INTERVAL {
                    self.last_comment = Instant::now();
                    out.put_slice(format!(": prefill {done}/{total}\n\n").as_bytes());
                }
            }
            Step::Token(token) => self.token(&token, out),
            Step::Ended { choice, end } => {
                if self.form != Form::LinkWhole {
                    let tokens = self.generation.tokens(choice);
                    self.event(choice, tokens, None, Some(&self.answer.finish_chunk(choice, end)), out);
                }
            }
            Step::Failed(refusal) => {
                self.ended = true;
                named(event::ERROR, Some(&refusal.to_json()), out);
            }
            Step::Done => {
                self.ended = true;
                self.end(out);
            }
        }
    }

    fn token(&self, token: &Token, out: &mut BytesMut) {
        if self.form == Form::LinkWhole {
            self.event(token.choice, token.tokens, token.id, None, out);
            return;
        }
        if token.opens
            && let Some(chunk) = self.answer.role_chunk(token.choice)
        {
            self.event(token.choice, 0, None, Some(&chunk), out);
        }
        let logprobs = token.id.zip(token.logprobs.as_ref());
        let logprobs = logprobs.map(|(id, of)| (id, of, token.offset, TokenText(&self.codec.tokenizer)));
        // A token that emits nothing still has an event on the link: the daemon must know its id.
        let chunk = (!token.text.is_empty() || logprobs.is_some())
            .then(|| self.answer.text_chunk(token.choice, &token.text, logprobs));
        self.event(token.choice, token.tokens, token.id, chunk.as_deref(), out);
    }

    fn event(&self, choice: u32, tokens: u32, id: Option<u32>, data: Option<&str>, out: &mut BytesMut) {
        if self.form == Form::Client {
            if let Some(data) = data {
                out.put_slice(format!("data: {data}\n\n").as_bytes());
            }
            return;
        }
        let id = EventId { choice, tokens, new_ids: id.into_iter().collect() };
        out.put_slice(format!("id: {id}\n").as_bytes());
        if let Some(data) = data {
            out.put_slice(format!("data: {data}\n").as_bytes());
        }
        out.put_u8(b'\n');
    }

    fn end(&mut self, out: &mut BytesMut) {
        let usage = self.generation.usage();
        if self.form == Form::LinkWhole {
            let choices = self.generation.take_choices();
            named(event::RESULT, Some(&self.answer.whole(&choices, usage, TokenText(&self.codec.tokenizer))), out);
            return;
        }
        if self.answer.include_usage {
            out.put_slice(format!("data: {}\n\n", self.answer.usage_chunk(usage)).as_bytes());
        }
        if self.form == Form::Client {
            out.put_slice(b"data: [DONE]\n\n");
        } else {
            named(event::END, None, out);
        }
    }
}

fn named(name: &str, data: Option<&str>, out: &mut BytesMut) {
    out.put_slice(format!("event: {name}\n").as_bytes());
    if let Some(data) = data {
        out.put_slice(format!("data: {data}\n").as_bytes());
    }
    out.put_u8(b'\n');
}

impl Body for EventStream {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let this = self.get_mut();
        let mut out = BytesMut::new();
        while !this.ended && out.len() < FRAME_BYTES {
            match this.generation.poll_step(cx) {
                Poll::Ready(step) => this.write(step, &mut out),
                Poll::Pending if out.is_empty() => return Poll::Pending,
                Poll::Pending => break,
            }
        }
        Poll::Ready((!out.is_empty()).then(|| Ok(Frame::data(out.freeze()))))
    }
}
