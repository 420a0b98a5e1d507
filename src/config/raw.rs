//! Typed access to spanned TOML that collects every problem instead of stopping at the first.
//!
//! Owns the wording for wrong types and units. Knows no key's meaning. A reader that
//! meets a bad value reports it and goes on with the default: with a problem on record no `Config` is ever returned.

use std::ops::{Range, RangeInclusive};
use std::path::PathBuf;
use std::time::Duration;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::keys;
use super::quantity::{self, QuantityError};
use super::report::Report;
use super::unknown::table_name;

/// One table of the document, or the place where it would be.
pub(super) struct Section<'d> {
    pub report: &'d Report,
    pub path: String,
    table: Option<&'d DeTable<'d>>,
    pub span: Range<usize>,
}

/// One value with its place.
#[derive(Clone)]
pub(super) struct Entry<'d> {
    pub report: &'d Report,
    pub path: String,
    pub value: &'d DeValue<'d>,
    pub span: Range<usize>,
}

impl<'d> Section<'d> {
    pub fn root(report: &'d Report, table: &'d DeTable<'d>) -> Self {
        Self { report, path: String::new(), table: Some(table), span: 0..0 }
    }

    fn join(&self, key: &str) -> String {
        if self.path.is_empty() { key.to_owned() } else { format!("{}.{key}", self.path) }
    }

    /// The value of a key, if the file gives it.
    pub fn entry(&self, key: &str) -> Option<Entry<'d>> {
        let path = self.join(key);
        debug_assert!(keys::is_known(&path), "`{path}` is missing in the list of keys");
        let value: &'d Spanned<DeValue<'d>> = self.table?.get(key)?;
        self.report.note(&path, value.span());
        Some(Entry { report: self.report, path, value: value.get_ref(), span: value.span() })
    }

    /// A table inside this one; absent tables read as empty.
    pub fn section(&self, key: &str) -> Section<'d> {
        let absent = || Section { report: self.report, path: self.join(key), table: None, span: self.span.clone() };
        let Some(entry) = self.entry(key) else { return absent() };
        match entry.value {
            DeValue::Table(_) => entry.into_section().unwrap_or_else(absent),
            DeValue::Array(_) if self.path.is_empty() => {
                entry.fail(format!("`{key}` is one table, not a list"), format!("write [{key}], not [[{key}]]"));
                absent()
            }
            _ => {
                entry.wrong_type("a table", &format!("write [{}] and its keys below", entry.path));
                absent()
            }
        }
    }

    /// The entries of a list of tables.
    pub fn tables(&self, key: &str) -> Vec<Section<'d>> {
        let Some(entry) = self.entry(key) else { return Vec::new() };
        let is_whole_section = self.path.is_empty();
        let DeValue::Array(items) = entry.value else {
            if is_whole_section {
                entry.fail(format!("`{key}` is a list of tables"), format!("write [[{key}]], with two brackets"));
            } else {
                entry.wrong_type("a list of tables", "write [ { … } ]");
            }
            return Vec::new();
        };
        let items = items.iter().enumerate().map(|(index, item)| entry.item(index, item));
        items
            .filter_map(|item| {
                let found = item.clone().into_section();
                if found.is_none() {
                    item.wrong_type("a table", "write { key = value, … }");
                }
                found
            })
            .collect()
    }

    /// The keys and values of a table whose keys are the user's own.
    pub fn pairs(&self) -> Vec<(String, Entry<'d>)> {
        let pairs = self.table.into_iter().flatten();
        pairs
            .map(|(key, value)| {
                let name = key.get_ref().to_string();
                let path = self.join(&name);
                (name, Entry { report: self.report, path, value: value.get_ref(), span: value.span() })
            })
            .collect()
    }

    /// A required value; its absence is reported at the table.
    pub fn required(&self, key: &str, hint: &str) -> Option<Entry<'d>> {
        let entry = self.entry(key);
        if entry.is_none() {
            let path = self.join(key);
            let what = match self.path.as_str() {
                "schedule" | "rule" | "" => format!("`{key}` is missing"),
                path => format!("`{key}` is missing in {}", table_name(path)),
            };
            self.report.fail_at(Some(&path), self.span.clone(), what, Some(hint.to_owned()));
        }
        entry
    }

    pub fn text(&self, key: &str) -> Option<String> {
        self.entry(key)?.text().map(str::to_owned)
    }

    pub fn texts(&self, key: &str) -> Option<Vec<String>> {
        self.entry(key)?.texts()
    }

    pub fn path(&self, key: &str) -> Option<PathBuf> {
        self.entry(key)?.path()
    }

    pub fn duration(&self, key: &str, default: Duration) -> Duration {
        self.entry(key).and_then(|entry| entry.duration()).unwrap_or(default)
    }

    /// A duration that must not be zero.
    pub fn period(&self, key: &str, default: Duration) -> Duration {
        let Some(entry) = self.entry(key) else { return default };
        match entry.duration() {
            Some(Duration::ZERO) => {
                entry.fail(format!("`{key}` cannot be zero"), "write a time like \"30s\"");
                default
            }
            Some(duration) => duration,
            None => default,
        }
    }

    /// A duration that is not zero, or `word` for none.
    pub fn period_or(&self, key: &str, word: &str, default: Option<Duration>) -> Option<Duration> {
        let Some(entry) = self.entry(key) else { return default };
        if entry.is_word(word) {
            return None;
        }
        match entry.quantity(
            quantity::parse_duration,
            "a duration",
            &format!("write a time like \"30m\", or \"{word}\""),
        ) {
            Some(Duration::ZERO) => {
                entry.fail(format!("`{key}` cannot be zero"), format!("write \"{word}\" to switch it off"));
                default
            }
            Some(duration) => Some(duration),
            None => default,
        }
    }

    pub fn size(&self, key: &str, default: u64) -> u64 {
        self.entry(key).and_then(|entry| entry.size("write a size like \"512MiB\"")).unwrap_or(default)
    }

    pub fn whole(&self, key: &str, range: RangeInclusive<u64>, default: u64) -> u64 {
        self.entry(key).and_then(|entry| entry.whole(range)).unwrap_or(default)
    }

    /// A number that fits 32 bits, as the range must.
    pub fn whole32(&self, key: &str, range: RangeInclusive<u32>, default: u32) -> u32 {
        let range = u64::from(*range.start())..=u64::from(*range.end());
        u32::try_from(self.whole(key, range, u64::from(default))).unwrap_or(default)
    }

    /// A number, or `"auto"` for `None`.
    pub fn whole_or_auto(&self, key: &str, range: RangeInclusive<u32>) -> Option<u32> {
        let entry = self.entry(key)?;
        if entry.is_word("auto") {
            return None;
        }
        let range = u64::from(*range.start())..=u64::from(*range.end());
        if let DeValue::String(text) = entry.value {
            let number = if text.parse::<u32>().is_ok() { text } else { "a number" };
            entry.fail(
                format!("`{key}` is a number or \"auto\", not \"{text}\""),
                format!("write {number} without quotes, or \"auto\""),
            );
            return None;
        }
        u32::try_from(entry.whole(range)?).ok()
    }

    /// A number above `low` and at most `high`.
    pub fn fraction(&self, key: &str, low: f64, high: f64) -> Option<f64> {
        let entry = self.entry(key)?;
        let number = entry.number()?;
        if number > low && number <= high {
            return Some(number);
        }
        entry.fail(
            format!("`{key}` must be above {low} and at most {high}, not {number}"),
            format!("write a number like {}", high / 2.0),
        );
        None
    }

    pub fn one_of<T: Copy>(&self, key: &str, words: &[(&'static str, T)], default: T) -> T {
        self.entry(key).and_then(|entry| entry.one_of(words)).unwrap_or(default)
    }
}

impl<'d> Entry<'d> {
    pub fn fail(&self, what: impl Into<String>, hint: impl Into<String>) {
        self.report.fail_at(Some(&self.path), self.span.clone(), what, Some(hint.into()));
    }

    /// The key's own name.
    pub fn name(&self) -> &str {
        let name = self.path.rsplit('.').next().unwrap_or(&self.path);
        name.split('[').next().unwrap_or(name)
    }

    pub fn wrong_type(&self, wanted: &str, hint: &str) {
        self.fail(format!("`{}` must be {wanted}, not {}", self.name(), described(self.value)), hint);
    }

    pub fn item(&self, index: usize, value: &'d Spanned<DeValue<'d>>) -> Entry<'d> {
        let path = format!("{}[{index}]", self.path);
        self.report.note(&path, value.span());
        Entry { report: self.report, path, value: value.get_ref(), span: value.span() }
    }

    pub fn into_section(self) -> Option<Section<'d>> {
        match self.value {
            DeValue::Table(table) => {
                Some(Section { report: self.report, path: self.path, table: Some(table), span: self.span })
            }
            _ => None,
        }
    }

    pub fn is_word(&self, word: &str) -> bool {
        self.value.as_str() == Some(word)
    }

    /// Text that is not empty.
    pub fn text(&self) -> Option<&'d str> {
        match self.value.as_str() {
            Some("") => {
                self.fail(format!("`{}` is empty", self.name()), "write something between the quotes");
                None
            }
            Some(text) => Some(text),
            None => {
                self.wrong_type("text", "put it in quotes");
                None
            }
        }
    }

    pub fn texts(&self) -> Option<Vec<String>> {
        let DeValue::Array(items) = self.value else {
            self.wrong_type("a list of texts", "write [\"…\", \"…\"]");
            return None;
        };
        let items = items.iter().enumerate().map(|(index, item)| self.item(index, item).text().map(str::to_owned));
        items.collect::<Vec<_>>().into_iter().collect()
    }

    /// A path with `~` expanded.
    pub fn path(&self) -> Option<PathBuf> {
        self.expanded().map(PathBuf::from)
    }

    /// Text with a leading `~/` replaced by the user's home.
    pub fn expanded(&self) -> Option<String> {
        let text = self.text()?;
        if !text.starts_with('~') {
            return Some(text.to_owned());
        }
        let rest = &text[1..];
        if !rest.is_empty() && !rest.starts_with('/') {
            self.fail(format!("`{text}`: only your own `~/` is expanded"), "write the absolute path");
            return None;
        }
        match self.report.user_home().and_then(|home| home.to_str()) {
            Some(home) => Some(format!("{}{rest}", home.trim_end_matches('/'))),
            None => {
                self.fail("`~` cannot be expanded: HOME is not set", "write the absolute path");
                None
            }
        }
    }

    pub fn duration(&self) -> Option<Duration> {
        self.quantity(quantity::parse_duration, "a duration", "write a time like \"30s\" or \"5m\"")
    }

    pub fn size(&self, hint: &str) -> Option<u64> {
        self.quantity(quantity::parse_size, "a size", hint)
    }

    /// Text with a unit; a bare number is told apart from other wrong types.
    pub fn quantity<T>(&self, parse: impl Fn(&str) -> Result<T, QuantityError>, wanted: &str, hint: &str) -> Option<T> {
        let failure = match self.value {
            DeValue::String(text) => match parse(text) {
                Ok(value) => return Some(value),
                Err(error) => error,
            },
            DeValue::Integer(_) | DeValue::Float(_) => {
                let number = self.report.source().slice(self.span.clone()).to_owned();
                match parse(&number) {
                    Err(error) if !number.starts_with(['-', '+']) => {
                        QuantityError { what: format!("`{}` needs a unit: {number}", self.name()), hint: error.hint }
                    }
                    _ => {
                        self.wrong_type(wanted, hint);
                        return None;
                    }
                }
            }
            _ => {
                self.wrong_type(wanted, hint);
                return None;
            }
        };
        self.fail(failure.what, failure.hint);
        None
    }

    pub fn whole(&self, range: RangeInclusive<u64>) -> Option<u64> {
        let DeValue::Integer(integer) = self.value else {
            let hint = match self.value {
                DeValue::String(_) => "write it without quotes",
                _ => "write digits only",
            };
            self.wrong_type("a whole number", hint);
            return None;
        };
        let number = i128::from_str_radix(integer.as_str(), integer.radix()).ok();
        match number.and_then(|number| u64::try_from(number).ok()).filter(|number| range.contains(number)) {
            Some(number) => Some(number),
            None => {
                let (low, high) = (range.start(), range.end());
                let allowed =
                    if *high >= u64::from(u32::MAX) { format!("{low} or more") } else { format!("{low}–{high}") };
                self.fail(format!("`{}` is out of range: {integer}", self.name()), format!("it can be {allowed}"));
                None
            }
        }
    }

    /// A whole or decimal number, finite.
    pub fn number(&self) -> Option<f64> {
        let number = match self.value {
            DeValue::Integer(integer) if integer.radix() == 10 => integer.as_str().parse::<f64>().ok(),
            DeValue::Float(float) => float.as_str().parse::<f64>().ok(),
            _ => None,
        };
        let number = number.filter(|number| number.is_finite());
        if number.is_none() {
            self.wrong_type("a number", "write it without quotes, like 0.5");
        }
        number
    }

    pub fn one_of<T: Copy>(&self, words: &[(&'static str, T)]) -> Option<T> {
        let text = self.text()?;
        if let Some((_, value)) = words.iter().find(|(word, _)| *word == text) {
            return Some(*value);
        }
        let all = words.iter().map(|(word, _)| format!("\"{word}\"")).collect::<Vec<_>>().join(", ");
        let hint = match keys::nearest(text, words.iter().map(|(word, _)| *word)) {
            Some(word) => format!("did you mean \"{word}\"? It can be {all}"),
            None => format!("it can be {all}"),
        };
        self.fail(format!("`{}` cannot be \"{text}\"", self.name()), hint);
        None
    }
}

/// What a value is, for messages.
fn described(value: &DeValue<'_>) -> String {
    match value {
        DeValue::String(text) if text.len() <= 40 => format!("the text \"{text}\""),
        DeValue::String(_) => "a text".to_owned(),
        DeValue::Integer(number) => format!("the number {number}"),
        DeValue::Float(number) => format!("the number {number}"),
        DeValue::Boolean(value) => format!("{value}"),
        DeValue::Datetime(_) => "a date".to_owned(),
        DeValue::Array(_) => "a list".to_owned(),
        DeValue::Table(_) => "a table".to_owned(),
    }
}
