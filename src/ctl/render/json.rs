//! JSON as `--json` prints it: the daemon's own text, indented.
//!
//! The text is not parsed and written anew, so that members a newer daemon adds, their order and every digit survive.

/// Indents valid JSON text by two spaces per level and ends it with a line feed.
#[must_use]
pub fn pretty(text: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len() * 2);
    let mut depth = 0usize;
    let mut in_string = false;
    let mut escaped = false;
    let mut bytes = text.iter().copied().peekable();
    let line = |out: &mut Vec<u8>, depth: usize| {
        out.push(b'\n');
        out.resize(out.len() + 2 * depth, b' ');
    };
    while let Some(byte) = bytes.next() {
        if in_string {
            out.push(byte);
            match byte {
                _ if escaped => escaped = false,
                b'\\' => escaped = true,
                b'"' => in_string = false,
                _ => {}
            }
            continue;
        }
        match byte {
            b' ' | b'\n' | b'\r' | b'\t' => {}
            b'"' => {
                in_string = true;
                out.push(byte);
            }
            b'{' | b'[' => {
                out.push(byte);
                while bytes.next_if(u8::is_ascii_whitespace).is_some() {}
                if let Some(close) = bytes.next_if(|next| matches!(next, b'}' | b']')) {
                    out.push(close);
                } else {
                    depth += 1;
                    line(&mut out, depth);
                }
            }
            b'}' | b']' => {
                depth = depth.saturating_sub(1);
                line(&mut out, depth);
                out.push(byte);
            }
            b',' => {
                out.push(byte);
                line(&mut out, depth);
            }
            b':' => out.extend_from_slice(b": "),
            _ => out.push(byte),
        }
    }
    out.push(b'\n');
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_indented_and_nothing_else() {
        let text = br#"{"a":[1.50,{}, [ ]],"b":"x\":{,","c":{"d":null}}"#;
        let expected = "{\n  \"a\": [\n    1.50,\n    {},\n    []\n  ],\n  \"b\": \"x\\\":{,\",\n  \"c\": {\n    \"d\": null\n  }\n}\n";
        assert_eq!(String::from_utf8(pretty(text)).unwrap(), expected);
    }

    proptest::proptest! {
        #[test]
        fn the_value_stays_the_same(keys in proptest::collection::vec(".*", 0..5), number in proptest::prelude::any::<f64>()) {
            let value = serde_json::json!({ "keys": keys, "number": number, "deep": { "list": [[], {}, [keys]] } });
            let text = serde_json::to_vec(&value).unwrap();
            let read = |text: &[u8]| serde_json::from_slice::<serde_json::Value>(text).unwrap();
            proptest::prop_assert_eq!(read(&pretty(&text)), read(&text));
        }
    }
}
