//! Bytes of tokens to text, one token at a time.
//!
//! Owns the bytes of a character that has begun and not ended; such bytes wait until the character is whole. Bytes that
//! can never become a character turn into U+FFFD, as in a lossy conversion of the whole. Knows nothing of ids.

/// Bytes waiting for the rest of their character: at most three.
#[derive(Debug, Clone, Default)]
pub(super) struct Detokenizer {
    pending: Vec<u8>,
}

impl Detokenizer {
    /// Appends the text that `bytes` complete to `out`.
    pub(super) fn push(&mut self, bytes: &[u8], out: &mut String) {
        self.pending.extend_from_slice(bytes);
        let mut start = 0;
        loop {
            match std::str::from_utf8(&self.pending[start..]) {
                Ok(text) => {
                    out.push_str(text);
                    self.pending.clear();
                    return;
                }
                Err(error) => {
                    let valid = start + error.valid_up_to();
                    out.push_str(std::str::from_utf8(&self.pending[start..valid]).unwrap_or_default());
                    let Some(bad) = error.error_len() else {
                        self.pending.drain(..valid);
                        return;
                    };
                    out.push(char::REPLACEMENT_CHARACTER);
                    start = valid + bad;
                }
            }
        }
    }

    /// The answer is over: what waits will never be whole.
    pub(super) fn finish(&mut self, out: &mut String) {
        if !self.pending.is_empty() {
            self.pending.clear();
            out.push(char::REPLACEMENT_CHARACTER);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn any_cut_gives_the_lossy_text(
            bytes in prop_oneof![
                prop::collection::vec(any::<u8>(), 0..60),
                any::<String>().prop_map(String::into_bytes),
            ],
            cuts in prop::collection::vec(0_usize..60, 0..20),
        ) {
            let mut cuts: Vec<usize> = cuts.into_iter().map(|c| c.min(bytes.len())).collect();
            cuts.extend([0, bytes.len()]);
            cuts.sort_unstable();
            let mut detokenizer = Detokenizer::default();
            let mut text = String::new();
            for pair in cuts.windows(2) {
                detokenizer.push(&bytes[pair[0]..pair[1]], &mut text);
                prop_assert!(detokenizer.pending.len() < 4);
            }
            detokenizer.finish(&mut text);
            prop_assert_eq!(text, String::from_utf8_lossy(&bytes).into_owned());
        }
    }

    #[test]
    fn a_character_is_never_split() {
        let mut detokenizer = Detokenizer::default();
        let mut seen = Vec::new();
        for byte in "aé🦀".bytes() {
            let mut out = String::new();
            detokenizer.push(&[byte], &mut out);
            seen.push(out);
        }
        assert_eq!(seen, ["a", "", "é", "", "", "", "🦀"]);
    }
}
