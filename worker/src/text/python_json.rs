//! JSON as Python's `json.dumps` writes it.
//!
//! Chat templates were written against Python: a tool description in another spacing is another prompt, and models
//! notice.

use std::io;

use serde::Serialize;
use serde_json::ser::{Formatter, PrettyFormatter, Serializer};

/// One line with `", "` and `": "`, or indented by `indent` spaces.
pub(super) fn to_string(value: &impl Serialize, indent: Option<usize>) -> Result<String, serde_json::Error> {
    let mut bytes = Vec::new();
    match indent {
        None => value.serialize(&mut Serializer::with_formatter(&mut bytes, Spaced))?,
        Some(width) => {
            let indent = " ".repeat(width);
            value.serialize(&mut Serializer::with_formatter(
                &mut bytes,
                PrettyFormatter::with_indent(indent.as_bytes()),
            ))?;
        }
    }
    String::from_utf8(bytes).map_err(serde::ser::Error::custom)
}

struct Spaced;

impl Formatter for Spaced {
    fn begin_array_value<W: ?Sized + io::Write>(&mut self, writer: &mut W, first: bool) -> io::Result<()> {
        if first { Ok(()) } else { writer.write_all(b", ") }
    }

    fn begin_object_key<W: ?Sized + io::Write>(&mut self, writer: &mut W, first: bool) -> io::Result<()> {
        if first { Ok(()) } else { writer.write_all(b", ") }
    }

    fn begin_object_value<W: ?Sized + io::Write>(&mut self, writer: &mut W) -> io::Result<()> {
        writer.write_all(b": ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn spacing_and_order_are_pythons() {
        let value = json!({"b": [1, 2.5, "é<"], "a": {"x": null, "y": true}});
        let line = to_string(&value, None).expect("JSON");
        assert_eq!(line, r#"{"b": [1, 2.5, "é<"], "a": {"x": null, "y": true}}"#);
        assert_eq!(to_string(&json!({"a": [1]}), Some(2)).expect("JSON"), "{\n  \"a\": [\n    1\n  ]\n}");
    }
}
