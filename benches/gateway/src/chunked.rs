//! The chunked transfer coding, read incrementally, and the events inside.
//!
//! Owns just enough of HTTP for answers of programs that are known to write it well: no trailers, no extensions.

/// Where reading stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum At {
    /// In a size line; the size so far.
    Size(usize),
    /// So many bytes of data are missing.
    Data(usize),
    /// In the line end after data.
    End,
    /// After the chunk of size 0.
    Over,
}

/// Turns chunks into what they carry.
#[derive(Debug)]
pub struct Dechunker(At);

impl Dechunker {
    /// Before the first chunk.
    pub fn new() -> Self {
        Self(At::Size(0))
    }

    /// True after the last chunk.
    pub fn is_over(&self) -> bool {
        self.0 == At::Over
    }

    /// Appends what `bytes` carry to `to`.
    pub fn feed(&mut self, mut bytes: &[u8], to: &mut Vec<u8>) {
        while let Some(byte) = bytes.first() {
            match self.0 {
                At::Size(size) => {
                    self.0 = match char::from(*byte).to_digit(16) {
                        Some(digit) => At::Size(size * 16 + digit as usize),
                        None if *byte == b'\n' && size == 0 => At::Over,
                        None if *byte == b'\n' => At::Data(size),
                        None => At::Size(size),
                    };
                    bytes = &bytes[1..];
                }
                At::Data(left) => {
                    let count = left.min(bytes.len());
                    to.extend_from_slice(&bytes[..count]);
                    self.0 = if count == left { At::End } else { At::Data(left - count) };
                    bytes = &bytes[count..];
                }
                At::End => {
                    if *byte == b'\n' {
                        self.0 = At::Size(0);
                    }
                    bytes = &bytes[1..];
                }
                At::Over => return,
            }
        }
    }
}

/// Takes every whole event out of `text` and shows it.
pub fn take_events(text: &mut Vec<u8>, mut show: impl FnMut(&[u8])) {
    let mut begin = 0;
    let mut at = 0;
    while at + 1 < text.len() {
        if text[at] == b'\n' && text[at + 1] == b'\n' {
            show(&text[begin..at]);
            begin = at + 2;
            at = begin;
        } else {
            at += 1;
        }
    }
    text.drain(..begin);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chunks_split_anywhere_carry_the_same() {
        let bytes = b"5\r\ndata:\r\n1C\r\n a\n\ndata: 0123456789abcdef\n\n\r\n0\r\n\r\n";
        for step in 1..bytes.len() {
            let (mut dechunker, mut text, mut events) = (Dechunker::new(), Vec::new(), Vec::new());
            for part in bytes.chunks(step) {
                dechunker.feed(part, &mut text);
                take_events(&mut text, |event| events.push(event.to_vec()));
            }
            assert!(dechunker.is_over() && text.is_empty(), "step {step}");
            assert_eq!(events, [&b"data: a"[..], b"data: 0123456789abcdef"], "step {step}");
        }
    }
}
