//! The bytes every token id stands for.
//!
//! Owns the table that makes detokenising O(1) per token: the decoder named in the tokenizer is applied to each entry of
//! the vocabulary once, at load. Special tokens and ids the vocabulary lacks have no bytes.

use serde_json::Value;

/// Bytes per id in one arena.
#[derive(Debug, Default)]
pub struct Pieces {
    bytes: Vec<u8>,
    /// Where the piece of each id ends; it begins where the one before ends.
    ends: Vec<u32>,
    /// The decoder drops one space at the very beginning of a text.
    trims_first_space: bool,
}

impl Pieces {
    /// From ids with their bytes (`None`: never shown), in any order.
    pub(super) fn from_bytes(mut tokens: Vec<(u32, Option<Vec<u8>>)>, trims_first_space: bool) -> Self {
        tokens.sort_by_key(|(id, _)| *id);
        let mut pieces = Self { trims_first_space, ..Self::default() };
        for (id, bytes) in tokens {
            let end = |pieces: &Self| u32::try_from(pieces.bytes.len()).unwrap_or(u32::MAX);
            // Ids the vocabulary skips are empty.
            pieces.ends.resize(id as usize, end(&pieces));
            pieces.bytes.extend_from_slice(&bytes.unwrap_or_default());
            pieces.ends.push(end(&pieces));
        }
        pieces
    }

    /// What `id` adds to a text; empty for special and unknown ids.
    pub(super) fn bytes(&self, id: u32, at_start: bool) -> &[u8] {
        let bytes = self.whole(id);
        if at_start && self.trims_first_space { bytes.strip_prefix(b" ").unwrap_or(bytes) } else { bytes }
    }

    /// False for special and unknown ids.
    pub(super) fn is_visible(&self, id: u32) -> bool {
        !self.whole(id).is_empty()
    }

    /// The bytes of one id wherever it stands, as log probabilities report them.
    #[must_use]
    pub fn whole(&self, id: u32) -> &[u8] {
        let id = id as usize;
        let Some(&end) = self.ends.get(id) else { return &[] };
        let start = id.checked_sub(1).map_or(0, |before| self.ends[before]);
        self.bytes.get(start as usize..end as usize).unwrap_or_default()
    }

    /// One more than the highest id.
    #[must_use]
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// True without any vocabulary.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }
}

/// What a tokenizer's decoder does to single tokens.
#[derive(Debug, Default)]
pub(super) struct Decoding {
    steps: Vec<Step>,
    pub(super) trims_first_space: bool,
}

#[derive(Debug, PartialEq)]
enum Step {
    /// GPT-2's printable stand-ins for bytes.
    ByteLevel,
    /// `<0x0A>` is a byte.
    ByteFallback,
    /// For example U+2581 for a space.
    Replace { from: String, to: String },
}

impl Decoding {
    pub(super) fn byte_level() -> Self {
        Self { steps: vec![Step::ByteLevel], trims_first_space: false }
    }

    /// From the `decoder` of a tokenizer.json. The error names what is not supported.
    pub(super) fn from_json(decoder: &Value) -> Result<Self, String> {
        let mut decoding = Self::default();
        decoding.add(decoder)?;
        if decoding.steps.is_empty() { Err("the tokenizer has no decoder".to_owned()) } else { Ok(decoding) }
    }

    fn add(&mut self, decoder: &Value) -> Result<(), String> {
        let text = |key: &str| decoder.get(key).and_then(Value::as_str);
        match text("type").unwrap_or("(none)") {
            "Sequence" => {
                for part in decoder.get("decoders").and_then(Value::as_array).into_iter().flatten() {
                    self.add(part)?;
                }
            }
            "ByteLevel" => self.steps.push(Step::ByteLevel),
            "ByteFallback" => self.steps.push(Step::ByteFallback),
            // Joining tokens is what a text is here anyway.
            "Fuse" => {}
            "Replace" => {
                let from = decoder.pointer("/pattern/String").and_then(Value::as_str);
                let (Some(from), Some(to)) = (from, text("content")) else {
                    return Err("its decoder replaces by a regular expression, which is not supported".to_owned());
                };
                self.steps.push(Step::Replace { from: from.to_owned(), to: to.to_owned() });
            }
            "Metaspace" => {
                let from = text("replacement").unwrap_or("\u{2581}").to_owned();
                self.steps.push(Step::Replace { from, to: " ".to_owned() });
                self.trims_first_space = text("prepend_scheme") != Some("never");
            }
            "Strip" if text("content") == Some(" ") && decoder.get("stop").and_then(Value::as_u64) == Some(0) => {
                self.trims_first_space = decoder.get("start").and_then(Value::as_u64) == Some(1);
            }
            other => return Err(format!("its decoder `{other}` is not supported")),
        }
        Ok(())
    }

    /// The bytes of one vocabulary entry.
    pub(super) fn decode(&self, token: &str) -> Vec<u8> {
        let mut token = token.to_owned();
        for step in &self.steps {
            match step {
                Step::ByteLevel => {
                    if let Some(bytes) = token.chars().map(byte_of).collect() {
                        return bytes;
                    }
                }
                Step::ByteFallback => {
                    let digits = token.strip_prefix("<0x").and_then(|rest| rest.strip_suffix('>'));
                    let byte = digits.filter(|d| d.len() == 2).and_then(|d| u8::from_str_radix(d, 16).ok());
                    if let Some(byte) = byte {
                        return vec![byte];
                    }
                }
                Step::Replace { from, to } => token = token.replace(from, to),
            }
        }
        token.into_bytes()
    }
}

/// The byte behind a printable stand-in: printable Latin-1 stands for itself, the other 68 bytes follow from U+0100 on.
fn byte_of(character: char) -> Option<u8> {
    let code = u32::from(character);
    match code {
        0x21..=0x7E | 0xA1..=0xAC | 0xAE..=0xFF => u8::try_from(code).ok(),
        0x100..=0x143 => {
            let index = code - 0x100;
            let byte = match index {
                0..=32 => index,
                33..=66 => 0x7F + (index - 33),
                _ => 0xAD,
            };
            u8::try_from(byte).ok()
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn every_byte_has_one_stand_in() {
        let mut found: Vec<u8> = (0_u32..0x200).filter_map(char::from_u32).filter_map(byte_of).collect();
        found.sort_unstable();
        assert_eq!(found, (0..=255).collect::<Vec<u8>>());
        assert_eq!((byte_of('Ġ'), byte_of('Ċ')), (Some(b' '), Some(b'\n')));
    }

    #[test]
    fn byte_fallback_decoders_turn_tokens_into_bytes() {
        let decoder = json!({"type": "Sequence", "decoders": [
            {"type": "Replace", "pattern": {"String": "▁"}, "content": " "},
            {"type": "ByteFallback"}, {"type": "Fuse"}, {"type": "Strip", "content": " ", "start": 1, "stop": 0}]});
        let decoding = Decoding::from_json(&decoder).expect("a supported decoder");
        assert!(decoding.trims_first_space);
        assert_eq!(decoding.decode("▁the▁"), b" the ");
        assert_eq!(decoding.decode("<0xF0>"), [0xF0]);
        assert_eq!(decoding.decode("<0xF0"), b"<0xF0");
    }

    #[test]
    fn unsupported_decoders_are_named() {
        let error = Decoding::from_json(&json!({"type": "WordPiece"})).expect_err("refused");
        assert!(error.contains("`WordPiece`"), "{error}");
        assert!(Decoding::from_json(&Value::Null).is_err());
    }

    #[test]
    fn gaps_and_specials_are_empty() {
        let pieces = Pieces::from_bytes(vec![(5, Some(b" b".to_vec())), (1, Some(b"a".to_vec())), (3, None)], true);
        let all: Vec<&[u8]> = (0..8).map(|id| pieces.whole(id)).collect();
        assert_eq!(all, [&b""[..], b"a", b"", b"", b"", b" b", b"", b""]);
        assert_eq!(pieces.bytes(5, true), b"b");
        assert_eq!(pieces.len(), 6);
    }
}
