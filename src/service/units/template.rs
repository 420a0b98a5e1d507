//! Filling a text template: `@NAME@` becomes a value, lines between `@if NAME` and `@end` stay or go.
//!
//! Owns this small notation and the escaping of values. The markers sit in comments of the target format, so that an
//! unfilled template is well-formed, too.

use std::collections::BTreeMap;

/// How a value is written so that it reads back as itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Escape {
    /// Character data of XML.
    Xml,
    /// The value of a systemd setting that is taken whole.
    Systemd,
    /// One word of a systemd command line.
    SystemdWord,
}

impl Escape {
    fn write(self, value: &str) -> String {
        match self {
            Self::Xml => value.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;"),
            // `%h` and the like would be replaced.
            Self::Systemd => value.replace('%', "%%"),
            Self::SystemdWord => {
                let value = value.replace('%', "%%").replace('$', "$$");
                let plain = |c: char| c.is_ascii_alphanumeric() || "/._-+:@%$=,~".contains(c);
                if value.chars().all(plain) {
                    value
                } else {
                    format!("\"{}\"", value.replace('\\', "\\\\").replace('"', "\\\""))
                }
            }
        }
    }
}

/// A template with the values known so far.
#[derive(Debug)]
pub(super) struct Template<'t> {
    text: &'t str,
    conditions: BTreeMap<&'static str, bool>,
    values: BTreeMap<&'static str, String>,
}

impl<'t> Template<'t> {
    pub(super) fn new(text: &'t str) -> Self {
        Self { text, conditions: BTreeMap::new(), values: BTreeMap::new() }
    }

    /// Decides what happens to `@if name` blocks.
    pub(super) fn when(&mut self, name: &'static str, holds: bool) {
        self.conditions.insert(name, holds);
    }

    /// Gives `@name@` its value.
    pub(super) fn set(&mut self, name: &'static str, value: &str, escape: Escape) {
        self.values.insert(name, escape.write(value));
    }

    /// The finished text, without markers and without the template's own heading comment.
    ///
    /// # Errors
    /// The placeholder or condition nobody set.
    pub(super) fn fill(&self) -> Result<String, String> {
        let mut out = String::with_capacity(self.text.len());
        let mut skipping = false;
        for line in self.text.lines() {
            if let Some(name) = marker(line, "@if ") {
                skipping = !*self.conditions.get(name).ok_or_else(|| format!("@if {name}"))?;
            } else if marker(line, "@end").is_some() {
                skipping = false;
            } else if !skipping && !is_heading(line) {
                self.fill_line(line, &mut out)?;
                out.push('\n');
            }
        }
        Ok(out)
    }

    fn fill_line(&self, line: &str, out: &mut String) -> Result<(), String> {
        let mut rest = line;
        while let Some((before, after)) = rest.split_once('@') {
            out.push_str(before);
            let (name, after) = after.split_once('@').ok_or_else(|| after.to_owned())?;
            out.push_str(self.values.get(name).ok_or_else(|| name.to_owned())?);
            rest = after;
        }
        out.push_str(rest);
        Ok(())
    }
}

/// What follows `key` when the line is a marker: `#@if tcp`, `<!--@if tcp-->`.
fn marker<'l>(line: &'l str, key: &str) -> Option<&'l str> {
    let line = line.trim();
    let inner = line.strip_prefix('#').or_else(|| line.strip_prefix("<!--")?.strip_suffix("-->"))?;
    inner.strip_prefix(key).map(str::trim)
}

/// The comment that explains the template to its readers.
fn is_heading(line: &str) -> bool {
    line.starts_with("# Template:") || line.starts_with("<!-- Template:")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_and_values() {
        let text = "# Template: for you\na=@A@ @B@\n#@if x\nx\n#@end\n  <!--@if y-->\ny=@A@\n<!--@end-->\nz\n";
        let mut template = Template::new(text);
        template.set("A", "1%", Escape::Systemd);
        template.set("B", "<b>", Escape::Xml);
        template.when("x", false);
        template.when("y", true);
        assert_eq!(template.fill().unwrap(), "a=1%% &lt;b&gt;\ny=1%%\nz\n");
    }

    #[test]
    fn what_nobody_set_is_an_error() {
        assert_eq!(Template::new("@A@").fill(), Err("A".to_owned()));
        assert_eq!(Template::new("#@if x\n#@end").fill(), Err("@if x".to_owned()));
        assert_eq!(Template::new("mail@example").fill(), Err("example".to_owned()));
    }

    #[test]
    fn words_of_a_command_line() {
        let word = |text| Escape::SystemdWord.write(text);
        assert_eq!(word("/usr/bin/mlxsupd"), "/usr/bin/mlxsupd");
        assert_eq!(word("/my models/\"a\\b\" 100%/$HOME"), r#""/my models/\"a\\b\" 100%%/$$HOME""#);
    }
}
