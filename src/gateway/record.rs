//! The line that every generation request leaves in `requests.log`.
//!
//! Owns the facts and their text form; writes no file. Prompts and answers never come near it.

use std::fmt;
use std::sync::Arc;
use std::time::SystemTime;

use chrono::{DateTime, Local, SecondsFormat};
use tokio::time::Instant;

use crate::daemon::handle::Class;
use crate::telemetry::TokenGaps;

/// Takes the record of each ended request. Called from connection tasks: it must not block for long.
pub type RequestSink = Arc<dyn Fn(&RequestRecord) + Send + Sync>;

/// What became of one generation request.
#[derive(Debug, Clone, PartialEq)]
pub struct RequestRecord {
    /// When it arrived.
    pub at: SystemTime,
    /// `x-request-id`.
    pub id: String,
    /// Principal, and the client's own name after a slash, if any.
    pub client: String,
    /// Priority class.
    pub class: Class,
    /// HTTP status, of the error also where 200 was already sent; 499 when the client hung up first.
    pub status: u16,
    /// The error's code; `cancelled` when the client hung up.
    pub code: Option<String>,
    /// Tokens of the prompt, 0 while unknown.
    pub prompt_tokens: u64,
    /// Tokens of the answer, over all choices.
    pub completion_tokens: u64,
    /// Wait for the first assignment, milliseconds; `None` if there never was one.
    pub queue_ms: Option<u64>,
    /// Arrival to first token, milliseconds.
    pub ttft_ms: Option<u64>,
    /// Arrival to end, milliseconds.
    pub total_ms: u64,
    /// Workers that had it, in order.
    pub generations: Vec<u64>,
    /// Why the answer ended: `stop`, `length` …
    pub finish: Option<String>,
    /// How far apart its tokens came; not part of the line.
    pub token_gaps: TokenGaps,
}

impl RequestRecord {
    /// Of a request that has just arrived. Until told otherwise it reads as a hang-up.
    #[must_use]
    pub fn opened(id: String, client: String) -> Self {
        Self {
            at: SystemTime::now(),
            id,
            client,
            class: Class::Normal,
            status: 499,
            code: Some("cancelled".to_owned()),
            prompt_tokens: 0,
            completion_tokens: 0,
            queue_ms: None,
            ttft_ms: None,
            total_ms: 0,
            generations: Vec::new(),
            finish: None,
            token_gaps: TokenGaps::default(),
        }
    }
}

impl fmt::Display for RequestRecord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let at = DateTime::<Local>::from(self.at).to_rfc3339_opts(SecondsFormat::Millis, false);
        write!(f, "at={at} id={} client={} class={}", self.id, self.client, self.class.as_str())?;
        write!(f, " status={} code={}", self.status, Word(self.code.as_deref()))?;
        write!(f, " prompt_tokens={} completion_tokens={}", self.prompt_tokens, self.completion_tokens)?;
        write!(f, " queue_ms={} ttft_ms={}", Number(self.queue_ms), Number(self.ttft_ms))?;
        write!(f, " total_ms={} generations={}", self.total_ms, List(&self.generations))?;
        write!(f, " finish={}", Word(self.finish.as_deref()))
    }
}

/// A word of somebody else's: what a key=value line cannot bear becomes `_`.
struct Word<'a>(Option<&'a str>);

impl fmt::Display for Word<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(word) = self.0 else { return f.write_str("-") };
        for c in word.chars().take(64) {
            let bearable = c.is_ascii_graphic() && c != '=' && c != '"';
            fmt::Write::write_char(f, if bearable { c } else { '_' })?;
        }
        Ok(())
    }
}

struct Number(Option<u64>);

impl fmt::Display for Number {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(number) => write!(f, "{number}"),
            None => f.write_str("-"),
        }
    }
}

/// Comma-separated numbers, `-` for none.
pub(super) struct List<'a>(pub &'a [u64]);

impl fmt::Display for List<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() {
            return f.write_str("-");
        }
        for (index, number) in self.0.iter().enumerate() {
            if index > 0 {
                f.write_str(",")?;
            }
            write!(f, "{number}")?;
        }
        Ok(())
    }
}

/// A record being filled in. Handed to the sink when dropped: a request that ends in any way leaves its line.
pub(super) struct OpenRecord {
    /// The facts so far.
    pub facts: RequestRecord,
    arrived: Instant,
    last_token: Option<Instant>,
    sink: RequestSink,
}

impl OpenRecord {
    /// Opens a record.
    pub fn new(id: String, client: String, sink: RequestSink) -> Self {
        Self { facts: RequestRecord::opened(id, client), arrived: Instant::now(), last_token: None, sink }
    }

    /// When the request arrived.
    pub fn arrived(&self) -> Instant {
        self.arrived
    }

    /// A worker got the request.
    pub fn assigned(&mut self, generation: u64) {
        let waited = self.since_arrival();
        self.facts.queue_ms.get_or_insert(waited);
        self.facts.generations.push(generation);
    }

    /// Tokens came, all of them now.
    pub fn tokens(&mut self, count: u32, now: Instant) {
        match self.last_token.replace(now) {
            Some(last) => self.facts.token_gaps.note(now.saturating_duration_since(last), count),
            None => {
                let waited = now.saturating_duration_since(self.arrived);
                self.facts.ttft_ms = Some(crate::supervisor::time::millis(waited));
            }
        }
    }

    /// How it ends.
    pub fn ended(&mut self, status: u16, code: Option<&str>) {
        self.facts.status = status;
        self.facts.code = code.map(str::to_owned);
    }

    fn since_arrival(&self) -> u64 {
        crate::supervisor::time::millis(Instant::now().saturating_duration_since(self.arrived))
    }
}

impl Drop for OpenRecord {
    fn drop(&mut self) {
        self.facts.total_ms = self.since_arrival();
        (self.sink)(&self.facts);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_is_one_line_of_pairs() {
        let mut record = OpenRecord::new("r-1".into(), "uid:501/agent".into(), Arc::new(|_| {}));
        record.facts.generations = vec![7, 8];
        record.ended(500, Some("engine error=\n"));
        let line = record.facts.to_string();
        let (at, rest) = line.split_once(' ').expect("several pairs");
        assert!(at.starts_with("at=2"), "{at}");
        assert_eq!(
            rest,
            "id=r-1 client=uid:501/agent class=normal status=500 code=engine_error__ prompt_tokens=0 \
             completion_tokens=0 queue_ms=- ttft_ms=- total_ms=0 generations=7,8 finish=-"
        );
    }
}
