//! Server-sent events, as they come in pieces off a connection.
//!
//! Owns the line and event rules of the format, comments included; knows nothing of what events mean.

/// Longest event or comment accepted, in bytes; a chat chunk has some hundred.
const EVENT_MAX_BYTES: usize = 4 << 20;

/// One thing that arrived.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Item {
    /// A line that begins with a colon, without it and the space after it.
    Comment(String),
    /// An event.
    Event {
        /// `event:`, empty where none was named.
        name: String,
        /// The `data:` lines, joined with line feeds.
        data: String,
    },
}

/// An event is longer than the limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("an event of the answer is longer than {EVENT_MAX_BYTES} bytes")]
pub struct TooLong;

/// Puts pieces together. Bytes that are no UTF-8 are replaced, as the format asks.
#[derive(Debug, Default)]
pub struct Parser {
    line: Vec<u8>,
    after_return: bool,
    name: String,
    data: String,
    has_data: bool,
}

impl Parser {
    /// Takes the next bytes and gives what they completed.
    ///
    /// # Errors
    /// When an event outgrows the limit.
    pub fn push(&mut self, bytes: &[u8]) -> Result<Vec<Item>, TooLong> {
        let mut items = Vec::new();
        for &byte in bytes {
            let after_return = std::mem::take(&mut self.after_return);
            match byte {
                b'\n' if after_return => {}
                b'\n' => items.extend(self.end_line()),
                b'\r' => {
                    self.after_return = true;
                    items.extend(self.end_line());
                }
                _ => self.line.push(byte),
            }
            if self.line.len() + self.data.len() > EVENT_MAX_BYTES {
                return Err(TooLong);
            }
        }
        Ok(items)
    }

    fn end_line(&mut self) -> Option<Item> {
        let line = String::from_utf8_lossy(&self.line).into_owned();
        self.line.clear();
        if line.is_empty() {
            let (name, data) = (std::mem::take(&mut self.name), std::mem::take(&mut self.data));
            return std::mem::take(&mut self.has_data).then_some(Item::Event { name, data });
        }
        let (field, value) = line.split_once(':').unwrap_or((&line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match field {
            "" => return Some(Item::Comment(value.to_owned())),
            "event" => value.clone_into(&mut self.name),
            "data" => {
                if self.has_data {
                    self.data.push('\n');
                }
                self.has_data = true;
                self.data.push_str(value);
            }
            // `id`, `retry` and fields of the future say nothing to us.
            _ => {}
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(name: &str, data: &str) -> Item {
        Item::Event { name: name.to_owned(), data: data.to_owned() }
    }

    #[test]
    fn events_comments_and_line_ends_of_every_kind() {
        let text =
            b": queued 3 ahead\n\ndata: {\"a\":1}\r\n\r\nevent: error\rdata: x\rdata:y\r\rid: 7\n\ndata: [DONE]\n\n";
        let expected = vec![
            Item::Comment("queued 3 ahead".to_owned()),
            event("", "{\"a\":1}"),
            event("error", "x\ny"),
            event("", "[DONE]"),
        ];
        assert_eq!(Parser::default().push(text).unwrap(), expected);
        // The same bytes one by one: cuts between them, even within CR LF, change nothing.
        let mut parser = Parser::default();
        let pieces: Vec<Item> = text.iter().flat_map(|byte| parser.push(&[*byte]).unwrap()).collect();
        assert_eq!(pieces, expected);
    }

    #[test]
    fn an_endless_line_is_refused() {
        let mut parser = Parser::default();
        let piece = vec![b'x'; 1 << 20];
        assert!((0..5).any(|_| parser.push(&piece) == Err(TooLong)));
    }
}
