//! The text of one answer as its ids come.
//!
//! Owns the end of an answer: a stop id, a stop string, or the last token allowed. What has been emitted after `k` ids
//! depends on those ids alone, so a worker that takes over pushes them, throws the text away, and goes on. Everything
//! still held back is emitted with the id that ends the answer, never later.

use std::sync::Arc;

use super::detokenizer::Detokenizer;
use super::pieces::Pieces;
use super::stop_matcher::StopMatcher;

/// How an answer ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// A stop id or a stop string.
    Stop,
    /// As many tokens as were allowed.
    Length,
}

/// State of one answer.
#[derive(Debug, Clone)]
pub struct AnswerText {
    pieces: Arc<Pieces>,
    stop_ids: Arc<[u32]>,
    detokenizer: Detokenizer,
    matcher: StopMatcher,
    max_tokens: u32,
    tokens: u32,
    at_start: bool,
    end: Option<End>,
}

impl AnswerText {
    pub(super) fn new(pieces: Arc<Pieces>, stop_ids: Arc<[u32]>, stop: &[String], max_tokens: u32) -> Self {
        Self {
            pieces,
            stop_ids,
            detokenizer: Detokenizer::default(),
            matcher: StopMatcher::new(stop),
            max_tokens,
            tokens: 0,
            at_start: true,
            end: None,
        }
    }

    /// Takes the next id and returns the text it makes safe to emit. Ids after the end emit nothing.
    pub fn push(&mut self, id: u32) -> String {
        let mut emitted = String::new();
        if self.end.is_some() {
            return emitted;
        }
        self.tokens += 1;
        if self.stop_ids.binary_search(&id).is_ok() {
            self.finish(End::Stop, &mut emitted);
            return emitted;
        }
        let mut text = String::new();
        self.detokenizer.push(self.pieces.bytes(id, self.at_start), &mut text);
        self.at_start &= !self.pieces.is_visible(id);
        if self.matcher.push(&text, &mut emitted) {
            self.end = Some(End::Stop);
        } else if self.tokens >= self.max_tokens {
            self.finish(End::Length, &mut emitted);
        }
        emitted
    }

    /// Ends the answer from outside, as when the engine stops early; returns what was held back.
    pub fn cut(&mut self, end: End) -> String {
        let mut emitted = String::new();
        if self.end.is_none() {
            self.finish(end, &mut emitted);
        }
        emitted
    }

    /// Tokens pushed so far, the one that ended the answer included.
    #[must_use]
    pub const fn tokens(&self) -> u32 {
        self.tokens
    }

    /// Set once the answer has ended.
    #[must_use]
    pub const fn end(&self) -> Option<End> {
        self.end
    }

    /// True for ids that end an answer.
    #[must_use]
    pub fn is_stop_id(&self, id: u32) -> bool {
        self.stop_ids.binary_search(&id).is_ok()
    }

    fn finish(&mut self, end: End, emitted: &mut String) {
        let mut text = String::new();
        self.detokenizer.finish(&mut text);
        let stopped = self.matcher.push(&text, emitted);
        if !stopped {
            self.matcher.finish(emitted);
        }
        self.end = Some(if stopped { End::Stop } else { end });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// 256 byte tokens, then one special (256), one stop id (257), and two tokens of several characters.
    fn pieces() -> Arc<Pieces> {
        let mut tokens: Vec<(u32, Option<Vec<u8>>)> = (0_u32..256).map(|b| (b, Some(vec![b as u8]))).collect();
        tokens.extend([(256, None), (257, None), (258, Some(b"END".to_vec())), (259, Some("né🦀".into()))]);
        Arc::new(Pieces::from_bytes(tokens, false))
    }

    fn answer(stop: &[&str], max_tokens: u32) -> AnswerText {
        let stop: Vec<String> = stop.iter().map(ToString::to_string).collect();
        AnswerText::new(pieces(), Arc::from([257]), &stop, max_tokens)
    }

    fn ids(text: &str) -> Vec<u32> {
        text.bytes().map(u32::from).collect()
    }

    #[test]
    fn a_stop_id_gives_back_what_was_held() {
        let mut answer = answer(&["END"], 99);
        let text: String = ids("the EN").into_iter().map(|id| answer.push(id)).collect();
        assert_eq!(text, "the ");
        assert_eq!(answer.push(257), "EN");
        assert_eq!((answer.end(), answer.tokens()), (Some(End::Stop), 7));
        assert_eq!(answer.push(65), "");
    }

    #[test]
    fn the_last_token_allowed_emits_a_broken_character() {
        let mut answer = answer(&[], 2);
        assert_eq!(answer.push(u32::from(b'a')), "a");
        assert_eq!(answer.push(0xF0), "\u{FFFD}");
        assert_eq!(answer.end(), Some(End::Length));
    }

    #[test]
    fn specials_and_unknown_ids_are_silent() {
        let mut answer = answer(&[], 9);
        assert_eq!(answer.push(256) + &answer.push(4_000_000) + &answer.push(65), "A");
    }

    proptest! {
        #[test]
        fn replaying_any_part_in_silence_changes_nothing(
            ids in prop::collection::vec(prop_oneof![8 => 60_u32..90, 2 => 0_u32..260], 0..60),
            replayed in 0_usize..60,
            stop in prop::collection::vec("[@A-Z]{1,3}|END", 0..3),
            max_tokens in 1_u32..70,
        ) {
            let stop: Vec<&str> = stop.iter().map(String::as_str).collect();
            let mut whole = answer(&stop, max_tokens);
            let emitted: Vec<String> = ids.iter().map(|&id| whole.push(id)).collect();
            let replayed = replayed.min(ids.len());
            let mut second = answer(&stop, max_tokens);
            for &id in &ids[..replayed] {
                second.push(id);
            }
            let rest: String = ids[replayed..].iter().map(|&id| second.push(id)).collect();
            prop_assert_eq!(rest, emitted[replayed..].concat());
            prop_assert_eq!((second.end(), second.tokens()), (whole.end(), whole.tokens()));
        }
    }
}
