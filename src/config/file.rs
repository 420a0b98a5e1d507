//! From text or a file to a [`Config`].
//!
//! Owns the order of the passes and TOML's own syntax errors; what each key may hold is the readers' part.

use std::io::Read;
use std::path::{Path, PathBuf};

use toml::de::DeTable;

use super::problem::Problems;
use super::raw::Section;
use super::report::Report;
use super::unknown::report_unknown_keys;
use super::{Config, combinations, rules, schedules, sections};

/// A complete configuration file, as short as it can be.
pub const MINIMAL: &str = "[worker]\nmodel = \"mlx-community/Qwen3-30B-A3B-8bit\"\n";

/// Largest file that is read: a thousand times a long one.
const MAX_FILE: u64 = 4 << 20;

/// The configuration could not be loaded.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// There is no such file.
    #[error(
        "there is no configuration at {}; write these two lines into it, with your own model:\n\n{MINIMAL}",
        file.display()
    )]
    Missing {
        /// The file looked for.
        file: PathBuf,
    },
    /// It cannot be read.
    #[error("cannot read the configuration {}: {source}; check its owner and mode", file.display())]
    Unreadable {
        /// The file.
        file: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// It is not text.
    #[error("the configuration {} is no UTF-8 text (byte {at} is the first bad one); save it as UTF-8", file.display())]
    NotText {
        /// The file.
        file: PathBuf,
        /// Offset of the first byte that is no UTF-8.
        at: usize,
    },
    /// It is far too large to be one.
    #[error("the configuration {} is larger than 4 MiB; is it the right file?", file.display())]
    TooLarge {
        /// The file.
        file: PathBuf,
    },
    /// It was read and is wrong.
    #[error(transparent)]
    Invalid(#[from] Problems),
}

/// Reads and validates a file. Blocks on the file system.
///
/// # Errors
/// [`LoadError::Invalid`] holds all problems of the text at once; the other variants say why there is no text.
pub fn load(path: &Path) -> Result<Config, LoadError> {
    let unreadable = |source| LoadError::Unreadable { file: path.to_owned(), source };
    let file = match std::fs::File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            return Err(LoadError::Missing { file: path.to_owned() });
        }
        Err(error) => return Err(unreadable(error)),
    };
    let mut bytes = Vec::new();
    file.take(MAX_FILE + 1).read_to_end(&mut bytes).map_err(unreadable)?;
    if bytes.len() as u64 > MAX_FILE {
        return Err(LoadError::TooLarge { file: path.to_owned() });
    }
    let text = String::from_utf8(bytes)
        .map_err(|error| LoadError::NotText { file: path.to_owned(), at: error.utf8_error().valid_up_to() })?;
    Ok(parse(&text, path)?)
}

/// Validates a text; `file` is only named in messages. `~` is expanded from `HOME`.
///
/// # Errors
/// All problems at once. Text that is no TOML is only judged as TOML: its keys cannot be trusted.
pub fn parse(text: &str, file: &Path) -> Result<Config, Problems> {
    parse_for(text, file, std::env::var_os("HOME").map(PathBuf::from))
}

fn parse_for(text: &str, file: &Path, user_home: Option<PathBuf>) -> Result<Config, Problems> {
    let report = Report::new(text, file, user_home);
    let (document, errors) = DeTable::parse_recoverable(text);
    let config = read(&report, document.get_ref(), text);
    if !errors.is_empty() {
        // What the keys say after a syntax error is the parser's guess.
        report.clear();
        report_syntax(&report, text, &errors);
    }
    report.finish().map(|source| Config { source, ..config })
}

fn read(report: &Report, document: &DeTable<'_>, text: &str) -> Config {
    report_unknown_keys(report, "", document);
    let root = Section::root(report, document);
    let worker = sections::worker(&root);
    let restart = sections::restart(&root.section("restart"));
    let config = Config {
        listen: sections::listen(&root.section("listen")),
        health: sections::health(&root.section("health")),
        drain: sections::drain(&root.section("drain")),
        queue: sections::queue(&root.section("queue")),
        log: sections::log(&root.section("log")),
        schedules: schedules::read(&root, worker.engine, restart.mode),
        rules: rules::read(&root, &worker, restart.mode),
        worker,
        restart,
        hash: digest(text),
        source: report.source().clone(),
    };
    combinations::check(&config, report);
    config
}

fn report_syntax(report: &Report, text: &str, errors: &[toml::de::Error]) {
    let mut last_line = None;
    for error in errors {
        let span = error.span().unwrap_or(0..0);
        let start = span.start.min(text.len());
        let line = text.as_bytes()[..start].iter().filter(|byte| **byte == b'\n').count();
        // One slip makes the parser stumble several times in its line.
        if last_line.replace(line) == Some(line) {
            continue;
        }
        let message = error.message();
        let line_text = text.lines().nth(line).unwrap_or("");
        let (message, hint) = if message.starts_with("string values must be quoted") {
            ("text must be in quotes", unquoted_hint(line_text))
        } else if message == "duplicate key" {
            ("this was said before", Some("keep one of the two".to_owned()))
        } else if message.contains("string") && message.ends_with("expected `\"`") {
            ("a text without its end", Some("close it with a quote (\")".to_owned()))
        } else {
            (message, unquoted_hint(line_text))
        };
        // An error at the very start would read as one of the file as a whole.
        let span = if span == (0..0) { 0..1.min(text.len()) } else { span };
        report.fail_at(None, span, format!("this is no TOML: {message}"), hint);
    }
}

/// The usual slip: a value with a unit, or a word, without quotes.
fn unquoted_hint(line: &str) -> Option<String> {
    let (key, value) = line.split_once('=')?;
    let value = value.split('#').next().unwrap_or("").trim();
    let plain =
        !value.is_empty() && value.chars().all(|letter| letter.is_alphanumeric() || "./-_%~ :".contains(letter));
    if plain && value != "true" && value != "false" && value.parse::<f64>().is_err() {
        return Some(format!("write {} = \"{value}\"", key.trim()));
    }
    None
}

/// FNV-1a, 64 bits: tells two texts apart for people; no protection against anyone.
fn digest(text: &str) -> String {
    let hash = text
        .bytes()
        .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3));
    format!("{hash:016x}")
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
