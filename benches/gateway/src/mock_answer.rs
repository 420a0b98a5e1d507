//! What the mock engine generates, as a body that makes each event when it is due.
//!
//! Owns the chunks, their ids on the link and the pace. A chunk's text is the time at which it was made, so that the
//! client at the far end can tell how long it was under way.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::OnceLock;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use hyper::body::{Body, Frame, SizeHint};
use serde::Deserialize;
use tokio::time::{Instant, Sleep};

use crate::clients::now;

/// The fields of a request that matter here; the last two are the mock's own.
#[derive(Debug, Deserialize)]
pub struct Asked {
    #[serde(default)]
    pub stream: bool,
    #[serde(default)]
    max_tokens: Option<u32>,
    /// Between two tokens; 0 is as fast as they are taken.
    #[serde(default)]
    mock_interval_ms: u32,
    /// All streams at the same moments.
    #[serde(default)]
    mock_in_step: bool,
}

/// A body.
pub enum Answer {
    /// All of it at once.
    Whole(Option<Bytes>),
    /// Events.
    Stream(Box<Tokens>),
}

/// A stream under way.
pub struct Tokens {
    link: bool,
    id: String,
    /// The next token; 0 is the chunk with the role.
    next: u32,
    last: u32,
    interval: Duration,
    timer: Pin<Box<Sleep>>,
}

impl Answer {
    /// A document.
    pub fn whole(body: Bytes) -> Self {
        Self::Whole(Some(body))
    }

    /// To a request for tokens.
    pub fn to(id: &str, asked: &Asked, link: bool) -> Self {
        let tokens = asked.max_tokens.unwrap_or(16);
        if !asked.stream {
            return Self::whole(if link { on_the_link(id, tokens) } else { Bytes::from(document(id, tokens)) });
        }
        let interval = Duration::from_millis(u64::from(asked.mock_interval_ms));
        let begin = if asked.mock_in_step { next_step(interval) } else { Instant::now() };
        Self::Stream(Box::new(Tokens {
            link,
            id: id.to_owned(),
            next: 0,
            last: tokens,
            interval,
            timer: Box::pin(tokio::time::sleep_until(begin)),
        }))
    }
}

/// The next moment at which streams in step get a token.
fn next_step(interval: Duration) -> Instant {
    static FIRST: OnceLock<Instant> = OnceLock::new();
    let first = *FIRST.get_or_init(Instant::now);
    let interval_ms = interval.as_millis().max(1);
    let steps = first.elapsed().as_millis() / interval_ms + 1;
    first + Duration::from_millis(u64::try_from(steps * interval_ms).unwrap_or(0))
}

/// A plain answer.
fn document(id: &str, tokens: u32) -> String {
    format!(
        r#"{{"id":"{id}","object":"chat.completion","created":1760000000,"model":"mock","choices":[{{"index":0,"message":{{"role":"assistant","content":"The capital of France is Paris. About 2.1 million people live in the city itself."}},"logprobs":null,"finish_reason":"stop"}}],"usage":{{"prompt_tokens":32,"completion_tokens":{tokens},"total_tokens":{}}}}}"#,
        32 + tokens
    )
}

/// The same on the worker link: the ids of its tokens, then the result.
fn on_the_link(id: &str, tokens: u32) -> Bytes {
    let ids: Vec<String> = (1..=tokens).map(|token| token.to_string()).collect();
    let result = document(id, tokens);
    Bytes::from(format!("id: 0:{tokens}:{}\n\nevent: result\ndata: {result}\n\n", ids.join(",")))
}

impl Tokens {
    fn event(&mut self) -> Bytes {
        let token = self.next;
        self.next += 1;
        let delta = match token {
            0 => r#"{"role":"assistant"}"#.to_owned(),
            _ => format!(r#"{{"content":" {}"}}"#, now()),
        };
        let mut text = String::with_capacity(512);
        let mut chunk = |token: u32, new_id: &str, delta: &str, finish: &str| {
            if self.link {
                text.push_str(&format!("id: 0:{token}:{new_id}\n"));
            }
            text.push_str(&format!(
                "data: {{\"id\":\"{}\",\"object\":\"chat.completion.chunk\",\"created\":1760000000,\"model\":\"mock\",\
                 \"choices\":[{{\"index\":0,\"delta\":{delta},\"logprobs\":null,\"finish_reason\":{finish}}}]}}\n\n",
                self.id
            ));
        };
        let new_id = if token == 0 { String::new() } else { token.to_string() };
        chunk(token, &new_id, &delta, "null");
        if token == self.last {
            chunk(token, "", "{}", "\"length\"");
            text.push_str(if self.link { "event: end\n\n" } else { "data: [DONE]\n\n" });
        }
        Bytes::from(text)
    }
}

impl Body for Answer {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let tokens = match self.get_mut() {
            Self::Whole(body) => return Poll::Ready(body.take().map(|body| Ok(Frame::data(body)))),
            Self::Stream(tokens) => tokens,
        };
        if tokens.next > tokens.last {
            return Poll::Ready(None);
        }
        if !tokens.interval.is_zero() {
            ready!(tokens.timer.as_mut().poll(cx));
            let due = tokens.timer.deadline() + tokens.interval;
            tokens.timer.as_mut().reset(due);
        }
        Poll::Ready(Some(Ok(Frame::data(tokens.event()))))
    }

    fn is_end_stream(&self) -> bool {
        matches!(self, Self::Whole(None))
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Whole(body) => SizeHint::with_exact(body.as_ref().map_or(0, |body| body.len() as u64)),
            Self::Stream(_) => SizeHint::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use mlxsup_worker_api::EventId;

    use super::*;

    #[tokio::test]
    async fn a_stream_says_on_the_link_which_tokens_it_carries() {
        let asked: Asked = serde_json::from_str(r#"{"stream":true,"max_tokens":2}"#).unwrap();
        let mut answer = Answer::to("chatcmpl-1", &asked, true);
        let mut text = Vec::new();
        while let Some(Ok(frame)) = std::future::poll_fn(|cx| Pin::new(&mut answer).poll_frame(cx)).await {
            text.extend(frame.into_data().unwrap());
        }
        let text = String::from_utf8(text).unwrap();
        let ids: Vec<EventId> = text.lines().filter_map(|line| line.strip_prefix("id: ")?.parse().ok()).collect();
        let counts: Vec<(u32, usize)> = ids.iter().map(|id| (id.tokens, id.new_ids.len())).collect();
        assert_eq!(counts, [(0, 0), (1, 1), (2, 1), (2, 0)]);
        assert!(text.ends_with("\"finish_reason\":\"length\"}]}\n\nevent: end\n\n"), "{text}");
    }
}
