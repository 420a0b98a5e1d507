//! Reading one answer off a socket, byte by byte, and what kind of end it had.

use std::io::{ErrorKind, Read};
use std::os::unix::net::UnixStream;
use std::time::Instant;

use serde_json::Value;

use crate::history::{Outcome, Seen};

/// An answer being read.
#[derive(Debug)]
pub struct Answer {
    stream: UnixStream,
    buffer: Vec<u8>,
    /// When its first byte came.
    pub first_byte: Option<Instant>,
    texts: Vec<String>,
    identities: Vec<String>,
    last_piece: Option<Instant>,
}

/// Why no more bytes come.
enum Stop {
    Cut,
    Silent,
}

impl Answer {
    /// Of a request that was sent, with this many choices. The stream has a read timeout.
    pub fn new(stream: UnixStream, choices: u32) -> Self {
        let texts = vec![String::new(); choices as usize];
        Self { stream, buffer: Vec::new(), first_byte: None, texts, identities: Vec::new(), last_piece: None }
    }

    /// Reads to the end, whatever it is.
    pub fn read(mut self, on_first_byte: impl FnOnce(Instant)) -> Seen {
        let read = match self.fill() {
            Ok(()) => {
                on_first_byte(self.first_byte.unwrap_or_else(Instant::now));
                self.read_all()
            }
            Err(stop) => Err(stop),
        };
        let outcome = match read {
            Ok(Ok(outcome)) => outcome,
            Ok(Err(why)) => Outcome::Garbled { why },
            Err(Stop::Cut) => Outcome::Cut,
            Err(Stop::Silent) => Outcome::Silent,
        };
        Seen { outcome, texts: self.texts, identities: self.identities, last_piece: self.last_piece }
    }

    fn fill(&mut self) -> Result<(), Stop> {
        let mut part = [0; 16 << 10];
        match self.stream.read(&mut part) {
            Ok(0) => Err(Stop::Cut),
            Ok(count) => {
                self.first_byte.get_or_insert_with(Instant::now);
                self.buffer.extend_from_slice(&part[..count]);
                Ok(())
            }
            Err(error) if [ErrorKind::WouldBlock, ErrorKind::TimedOut].contains(&error.kind()) => Err(Stop::Silent),
            Err(_) => Err(Stop::Cut),
        }
    }

    fn line(&mut self, end: &[u8]) -> Result<Vec<u8>, Stop> {
        let mut from = 0;
        loop {
            let found = self.buffer[from..].windows(end.len()).position(|window| window == end);
            if let Some(start) = found {
                return Ok(self.buffer.drain(..from + start + end.len()).collect());
            }
            from = self.buffer.len().saturating_sub(end.len());
            self.fill()?;
        }
    }

    fn exactly(&mut self, count: usize) -> Result<Vec<u8>, Stop> {
        while self.buffer.len() < count {
            self.fill()?;
        }
        Ok(self.buffer.drain(..count).collect())
    }

    fn read_all(&mut self) -> Result<Result<Outcome, String>, Stop> {
        let head = String::from_utf8_lossy(&self.line(b"\r\n\r\n")?).to_ascii_lowercase();
        let Some(status) = head.get(9..12).and_then(|status| status.parse::<u16>().ok()) else {
            return Ok(Err(format!("head {head:?}")));
        };
        let header = |name: &str| {
            let value = head.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':').map(str::trim));
            value.map(str::to_owned)
        };
        if let Some(length) = header("content-length") {
            let Ok(length) = length.parse() else { return Ok(Err(format!("content-length {length}"))) };
            let body = self.exactly(length)?;
            return Ok(self.document(status, &body));
        }
        if header("content-type").is_some_and(|kind| kind.starts_with("text/event-stream")) {
            return self.events(status);
        }
        let mut body = Vec::new();
        loop {
            match self.chunk() {
                Ok(Ok(chunk)) if chunk.is_empty() => return Ok(self.document(status, &body)),
                Ok(Ok(chunk)) => body.extend(chunk),
                Ok(Err(why)) => return Ok(Err(why)),
                // An answer that was committed early ends with its error object and without the final chunk.
                Err(stop) => match serde_json::from_slice::<Value>(&body) {
                    Ok(value) if value.get("error").is_some() => return Ok(Ok(error(status, &value))),
                    _ => return Err(stop),
                },
            }
        }
    }

    /// One HTTP chunk; the last one is empty.
    fn chunk(&mut self) -> Result<Result<Vec<u8>, String>, Stop> {
        let line = self.line(b"\r\n")?;
        let text = String::from_utf8_lossy(&line);
        let Ok(size) = usize::from_str_radix(text.trim(), 16) else { return Ok(Err(format!("chunk size {text:?}"))) };
        let mut chunk = self.exactly(size + 2)?;
        chunk.truncate(size);
        Ok(Ok(chunk))
    }

    fn document(&mut self, status: u16, body: &[u8]) -> Result<Outcome, String> {
        let value: Value = serde_json::from_slice(body).map_err(|why| format!("{why}"))?;
        if status != 200 || value.get("error").is_some() {
            return Ok(error(status, &value));
        }
        self.take(&value);
        Ok(Outcome::Complete)
    }

    /// Server-sent events until the final chunk; an event may lie across chunks.
    fn events(&mut self, status: u16) -> Result<Result<Outcome, String>, Stop> {
        let mut text = Vec::new();
        let (mut is_done, mut failure) = (false, None);
        loop {
            // A typed error is the end that counts; afterwards the connection closes without the final chunk.
            let chunk = match (self.chunk(), failure.take()) {
                (Err(_), Some(failure)) => return Ok(Ok(failure)),
                (chunk, kept) => {
                    failure = kept;
                    chunk?
                }
            };
            let chunk = match chunk {
                Ok(chunk) => chunk,
                Err(why) => return Ok(Err(why)),
            };
            if chunk.is_empty() {
                let end = if is_done { Outcome::Complete } else { Outcome::Unterminated };
                return Ok(if failure.is_none() { Ok(end) } else { Err("a failed stream ends cleanly".to_owned()) });
            }
            text.extend(chunk);
            while let Some(end) = text.windows(2).position(|window| window == b"\n\n") {
                let event: Vec<u8> = text.drain(..end + 2).collect();
                let event = String::from_utf8_lossy(&event).into_owned();
                match self.event(status, &event) {
                    Ok(None) if is_note(&event) => {}
                    _ if is_done || failure.is_some() => return Ok(Err(format!("{event:?} after the last event"))),
                    Ok(None) => {}
                    Ok(Some(Outcome::Complete)) => is_done = true,
                    Ok(Some(other)) => failure = Some(other),
                    Err(why) => return Ok(Err(why)),
                }
            }
        }
    }

    fn event(&mut self, status: u16, event: &str) -> Result<Option<Outcome>, String> {
        let field = |name: &str| event.lines().find_map(|line| line.strip_prefix(name));
        let Some(text) = field("data: ") else { return Ok(None) };
        if text == "[DONE]" {
            return Ok(Some(Outcome::Complete));
        }
        let value: Value = serde_json::from_str(text).map_err(|why| format!("{why} in {event:?}"))?;
        if field("event: ") == Some("error") {
            return Ok(Some(error(status, &value)));
        }
        self.take(&value);
        Ok(None)
    }

    /// One chunk, or a whole document.
    fn take(&mut self, value: &Value) {
        self.last_piece = Some(Instant::now());
        let identity = format!("{} {} {}", value["id"], value["created"], value["seed"]);
        if !self.identities.contains(&identity) {
            self.identities.push(identity);
        }
        for choice in value["choices"].as_array().into_iter().flatten() {
            let index = choice["index"].as_u64().and_then(|index| usize::try_from(index).ok());
            let places = [&choice["delta"]["content"], &choice["message"]["content"], &choice["text"]];
            let text = places.into_iter().find_map(Value::as_str).unwrap_or_default();
            if let Some(all) = index.and_then(|index| self.texts.get_mut(index)) {
                all.push_str(text);
            }
        }
    }
}

/// A comment.
fn is_note(event: &str) -> bool {
    event.lines().all(|line| line.is_empty() || line.starts_with(':'))
}

fn error(status: u16, value: &Value) -> Outcome {
    let code = value["error"]["code"].as_str().unwrap_or("no code").to_owned();
    Outcome::Error { status, code }
}
