//! Incremental parser of the worker link's event stream.
//!
//! Owns lines, fields and the size cap; does no I/O and knows nothing of what the events mean. Only complete events come
//! out: a worker that dies in the middle of one leaves no trace of it. Memory held is at most the cap plus the chunk
//! last fed.

use bytes::{Bytes, BytesMut};

/// One complete event.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Event {
    /// The `event:` line; empty for an event without a name.
    pub name: Bytes,
    /// The `id:` line, if any.
    pub id: Option<Bytes>,
    /// The `data:` lines joined by newlines, if any.
    pub data: Option<Bytes>,
}

/// What a stream consists of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Item {
    /// An event, ended by its blank line.
    Event(Event),
    /// A comment line, without its colon and the space after it.
    Comment(Bytes),
}

/// Why a stream cannot be read any further.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum EventError {
    /// A single event or comment outgrew the cap.
    #[error("an event on the worker link is larger than {limit} bytes; the worker does not keep to the protocol")]
    TooLarge {
        /// The cap in bytes.
        limit: usize,
    },
}

/// Turns chunks of bytes, split anywhere, into [`Item`]s.
///
/// Lines end with `\n` or `\r\n`. A line inside one chunk is sliced, not copied.
#[derive(Debug)]
pub struct EventParser {
    limit: usize,
    /// Fed and not yet looked at.
    chunk: Bytes,
    /// The start of a line whose end has not come yet.
    partial: BytesMut,
    /// Fields of the event under way.
    event: Event,
    /// True once the event under way has any field.
    begun: bool,
    /// Bytes of the event under way, line ends not counted.
    size: usize,
    failed: Option<EventError>,
}

impl EventParser {
    /// A parser that refuses events and comments over `limit` bytes.
    #[must_use]
    pub fn new(limit: usize) -> Self {
        Self {
            limit,
            chunk: Bytes::new(),
            partial: BytesMut::new(),
            event: Event::default(),
            begun: false,
            size: 0,
            failed: None,
        }
    }

    /// Adds the next bytes of the stream. Call [`Self::next`] until it answers `None` before feeding again.
    pub fn feed(&mut self, chunk: Bytes) {
        if self.chunk.is_empty() {
            self.chunk = chunk;
        } else {
            let mut joined = BytesMut::with_capacity(self.chunk.len() + chunk.len());
            joined.extend_from_slice(&self.chunk);
            joined.extend_from_slice(&chunk);
            self.chunk = joined.freeze();
        }
    }

    /// The next complete item; `None` when more bytes are needed. Once failed, it stays failed.
    #[allow(clippy::should_implement_trait, reason = "`None` means `feed me`, not `the end`")]
    pub fn next(&mut self) -> Option<Result<Item, EventError>> {
        if let Some(error) = self.failed {
            return Some(Err(error));
        }
        loop {
            let line = match self.line() {
                Ok(line) => line?,
                Err(error) => {
                    self.failed = Some(error);
                    return Some(Err(error));
                }
            };
            if line.is_empty() {
                self.size = 0;
                if std::mem::take(&mut self.begun) {
                    return Some(Ok(Item::Event(std::mem::take(&mut self.event))));
                }
            } else if line[0] == b':' {
                return Some(Ok(Item::Comment(value_of(&line, 1))));
            } else {
                self.size += line.len();
                self.field(&line);
            }
        }
    }

    /// The next whole line without its end.
    fn line(&mut self) -> Result<Option<Bytes>, EventError> {
        let too_large = EventError::TooLarge { limit: self.limit };
        let room = self.limit.saturating_sub(self.size);
        let Some(end) = self.chunk.iter().position(|byte| *byte == b'\n') else {
            // One byte more than fits may still be the `\r` of a line end.
            if self.partial.len() + self.chunk.len() > room + 1 {
                return Err(too_large);
            }
            self.partial.extend_from_slice(&self.chunk);
            self.chunk = Bytes::new();
            return Ok(None);
        };
        let head = self.chunk.split_to(end + 1).slice(..end);
        let mut line = if self.partial.is_empty() {
            head
        } else {
            self.partial.extend_from_slice(&head);
            self.partial.split().freeze()
        };
        if line.last() == Some(&b'\r') {
            line.truncate(line.len() - 1);
        }
        if line.len() > room {
            return Err(too_large);
        }
        Ok(Some(line))
    }

    fn field(&mut self, line: &Bytes) {
        let colon = line.iter().position(|byte| *byte == b':').unwrap_or(line.len());
        let value = value_of(line, (colon + 1).min(line.len()));
        match &line[..colon] {
            b"event" => self.event.name = value,
            b"id" => self.event.id = Some(value),
            b"data" => {
                self.event.data = Some(match self.event.data.take() {
                    None => value,
                    Some(before) => {
                        let mut joined = BytesMut::with_capacity(before.len() + 1 + value.len());
                        joined.extend_from_slice(&before);
                        joined.extend_from_slice(b"\n");
                        joined.extend_from_slice(&value);
                        joined.freeze()
                    }
                });
            }
            // The format asks readers to skip fields that they do not know.
            _ => return,
        }
        self.begun = true;
    }
}

/// The rest of a line from `start`, less one leading space.
fn value_of(line: &Bytes, start: usize) -> Bytes {
    let start = if line.get(start) == Some(&b' ') { start + 1 } else { start };
    line.slice(start..)
}

#[cfg(test)]
mod tests;
