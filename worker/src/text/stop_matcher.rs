//! Stop strings in a text that arrives in parts.
//!
//! Owns the end of the text that may still turn out to be the beginning of a stop string; that part is held back.
//! Reading left to right, the first stop string to be complete ends the text (the longest, when several are complete at
//! the same character), whatever parts the text came in.

/// All stop strings of one request with how much of each the text's end matches.
#[derive(Debug, Clone)]
pub(super) struct StopMatcher {
    stops: Vec<Stop>,
    /// Text that is not emitted yet because a stop string may begin in it.
    held: String,
}

/// One stop string as a Knuth-Morris-Pratt automaton.
#[derive(Debug, Clone)]
struct Stop {
    bytes: Vec<u8>,
    /// For each length matched, the longest shorter match that is also an end of it.
    fallback: Vec<usize>,
    matched: usize,
}

impl StopMatcher {
    /// Empty strings are left out: they would stop everything before it begins.
    pub(super) fn new(stops: &[String]) -> Self {
        let stops = stops.iter().filter(|s| !s.is_empty()).map(|s| Stop::new(s)).collect();
        Self { stops, held: String::new() }
    }

    /// Appends what `text` makes safe to emit to `out`. Returns true when a stop string is complete: the text before it
    /// has been appended, it and everything after is gone.
    pub(super) fn push(&mut self, text: &str, out: &mut String) -> bool {
        if self.stops.is_empty() {
            out.push_str(text);
            return false;
        }
        let before = self.held.len();
        self.held.push_str(text);
        for (index, byte) in text.bytes().enumerate() {
            let complete = self.stops.iter_mut().filter_map(|stop| stop.advance(byte)).max();
            if let Some(length) = complete {
                // A stop string is matched from a character's first byte on, so this is a boundary.
                self.held.truncate(before + index + 1 - length);
                out.push_str(&self.held);
                self.held.clear();
                return true;
            }
        }
        let keep = self.stops.iter().map(|stop| stop.matched).max().unwrap_or(0);
        let emitted = self.held.len() - keep;
        out.push_str(&self.held[..emitted]);
        self.held.drain(..emitted);
        false
    }

    /// The answer is over: what was held back is ordinary text.
    pub(super) fn finish(&mut self, out: &mut String) {
        out.push_str(&self.held);
        self.held.clear();
    }
}

impl Stop {
    fn new(text: &str) -> Self {
        let bytes = text.as_bytes().to_vec();
        let mut fallback = vec![0; bytes.len()];
        let mut length = 0;
        for index in 1..bytes.len() {
            while length > 0 && bytes[index] != bytes[length] {
                length = fallback[length - 1];
            }
            if bytes[index] == bytes[length] {
                length += 1;
            }
            fallback[index] = length;
        }
        Self { bytes, fallback, matched: 0 }
    }

    /// Takes one byte; the whole length when it completes the string.
    fn advance(&mut self, byte: u8) -> Option<usize> {
        while self.matched > 0 && self.bytes[self.matched] != byte {
            self.matched = self.fallback[self.matched - 1];
        }
        if self.bytes[self.matched] == byte {
            self.matched += 1;
        }
        (self.matched == self.bytes.len()).then_some(self.matched)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn run(stops: &[&str], parts: &[&str]) -> (Vec<String>, bool) {
        let mut matcher = StopMatcher::new(&stops.iter().map(ToString::to_string).collect::<Vec<_>>());
        let mut emitted = Vec::new();
        for part in parts {
            let mut out = String::new();
            let stopped = matcher.push(part, &mut out);
            emitted.push(out);
            if stopped {
                return (emitted, true);
            }
        }
        let mut out = String::new();
        matcher.finish(&mut out);
        emitted.push(out);
        (emitted, false)
    }

    #[test]
    fn a_stop_across_parts_is_found_and_not_emitted() {
        assert_eq!(
            run(&["\n\nUser:"], &["Hi", "\n", "\nUs", "er", ": x"]),
            (vec!["Hi", "", "", "", ""].into_iter().map(String::from).collect(), true)
        );
    }

    #[test]
    fn a_false_beginning_is_given_back() {
        let (parts, stopped) = run(&["END"], &["the E", "N", "gland", " E"]);
        assert_eq!(parts, ["the ", "", "ENgland", " ", "E"]);
        assert!(!stopped);
    }

    #[test]
    fn overlapping_beginnings_fall_back() {
        let (parts, stopped) = run(&["aab"], &["aa", "ab", "zzz"]);
        assert_eq!((parts.concat().as_str(), stopped), ("a", true));
    }

    #[test]
    fn the_first_complete_stop_wins_and_empty_ones_do_nothing() {
        let (parts, stopped) = run(&["abcd", "c", ""], &["xabcd"]);
        assert_eq!((parts.concat().as_str(), stopped), ("xab", true));
        let (parts, stopped) = run(&["é"], &["caf", "é!"]);
        assert_eq!((parts.concat().as_str(), stopped), ("caf", true));
    }

    proptest! {
        #[test]
        fn parts_do_not_matter(text in "[abé]{0,40}", stops in prop::collection::vec("[abé]{1,4}", 0..4), cut in 1_usize..7) {
            let stops: Vec<&str> = stops.iter().map(String::as_str).collect();
            let characters: Vec<String> = text.chars().map(String::from).collect();
            let parts: Vec<String> = characters.chunks(cut).map(<[String]>::concat).collect();
            let parts: Vec<&str> = parts.iter().map(String::as_str).collect();
            let (whole, whole_stopped) = run(&stops, &[&text]);
            let (cut, cut_stopped) = run(&stops, &parts);
            prop_assert_eq!(whole.concat(), cut.concat());
            prop_assert_eq!(whole_stopped, cut_stopped);
            let first = stops.iter().filter_map(|s| text.find(s).map(|at| at + s.len())).min();
            prop_assert_eq!(whole_stopped, first.is_some());
        }
    }
}
