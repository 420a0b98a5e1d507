//! The text form of a log line's values.
//!
//! Owns quoting: whatever a value holds, it stays one word of one line, so that nobody can forge a line or a field.

use std::fmt::Write;

/// Longest value written, in bytes; the rest is replaced by `…`. Causes are sentences, not documents.
const LONGEST: usize = 4096;

/// Appends `key=value` with a separating space if the line has begun.
pub(super) fn field(line: &mut String, key: &str, value: &str) {
    if !line.is_empty() {
        line.push(' ');
    }
    line.push_str(key);
    line.push('=');
    word(line, value);
}

/// Appends a value as one word: plain where that is unambiguous, else in double quotes with escapes.
pub(super) fn word(line: &mut String, value: &str) {
    let plain = |c: char| !c.is_whitespace() && !c.is_control() && !matches!(c, '"' | '=' | '\\');
    if !value.is_empty() && value.chars().all(plain) && value.len() <= LONGEST {
        line.push_str(value);
        return;
    }
    line.push('"');
    text(line, value);
    line.push('"');
}

/// Appends text with everything escaped that could end a line, a quoted value, or confuse a terminal.
pub(super) fn text(line: &mut String, value: &str) {
    let shown = cut(value);
    for c in shown.chars() {
        match c {
            '"' => line.push_str("\\\""),
            '\\' => line.push_str("\\\\"),
            c => control(line, c),
        }
    }
    if shown.len() < value.len() {
        line.push('…');
    }
}

/// Appends a message: as it is but for control characters, which a terminal would obey.
pub(super) fn message(line: &mut String, value: &str) {
    let shown = cut(value);
    for c in shown.chars() {
        control(line, c);
    }
    if shown.len() < value.len() {
        line.push('…');
    }
}

fn control(line: &mut String, c: char) {
    match c {
        '\n' => line.push_str("\\n"),
        '\r' => line.push_str("\\r"),
        '\t' => line.push_str("\\t"),
        // Line and paragraph separators end lines for some readers.
        c if c.is_control() || matches!(c, '\u{2028}' | '\u{2029}') => {
            let _ = write!(line, "\\u{{{:x}}}", u32::from(c));
        }
        c => line.push(c),
    }
}

fn cut(value: &str) -> &str {
    let mut end = value.len().min(LONGEST);
    while !value.is_char_boundary(end) {
        end -= 1;
    }
    value.get(..end).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn written(value: &str) -> String {
        let mut line = String::new();
        word(&mut line, value);
        line
    }

    #[test]
    fn words() {
        assert_eq!(written("plain-1.5/x"), "plain-1.5/x");
        assert_eq!(written(""), r#""""#);
        assert_eq!(written("two words"), r#""two words""#);
        assert_eq!(written("a=b"), r#""a=b""#);
        assert_eq!(written("x\nat=forged"), r#""x\nat=forged""#);
        assert_eq!(written("say \"hi\\\""), r#""say \"hi\\\"""#);
        assert_eq!(written("\u{1b}[31m"), r#""\u{1b}[31m""#);
        assert_eq!(written("\u{2028}"), r#""\u{2028}""#);
    }

    #[test]
    fn long_values_are_cut_at_a_character() {
        let long = "ä".repeat(LONGEST);
        let short = written(&long);
        assert!(short.starts_with("\"ä") && short.ends_with("ä…\""), "{short}");
        assert!(short.len() < LONGEST + 10);
    }

    proptest! {
        #[test]
        fn one_word_of_one_line_whatever_comes(value in "(?s).{0,80}") {
            let mut line = String::new();
            field(&mut line, "key", &value);
            let one_line = !line.contains(['\n', '\r', '\u{1b}', '\u{2028}']);
            prop_assert!(one_line);
            let rest = line.strip_prefix("key=").unwrap();
            let closed = rest.starts_with('"') && rest.ends_with('"') && rest.len() >= 2;
            let plain = !rest.contains([' ', '"', '=']);
            prop_assert!(closed || plain);
        }
    }
}
