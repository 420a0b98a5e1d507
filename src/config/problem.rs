//! What is wrong with a configuration file, and how it is shown.
//!
//! Owns positions, excerpts and the plain rendering. Knows no key: the readers say what is wrong.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Most characters of a source line that are shown.
const EXCERPT: usize = 100;

/// One thing that is wrong, with the place and the remedy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// The file, as it was named.
    pub file: PathBuf,
    /// Line from 1; 0 when the problem has no place in the text (a missing section, the home's own path).
    pub line: usize,
    /// Column in characters from 1; 0 without a place.
    pub column: usize,
    /// Bytes of the text at fault; empty without a place.
    pub span: Range<usize>,
    /// The key, for example `drain.grace`; `None` where the text is no TOML.
    pub key: Option<String>,
    /// What is wrong.
    pub what: String,
    /// What to write instead.
    pub hint: Option<String>,
    excerpt: Option<Excerpt>,
    also: Option<(String, Excerpt)>,
}

/// One line of the source and the part of it that is meant.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Excerpt {
    line: usize,
    column: usize,
    text: String,
    /// Characters before the underline, and its length.
    indent: usize,
    width: usize,
}

/// All problems of one file, in the order of its lines. Never empty.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problems {
    list: Vec<Problem>,
    /// Found beyond the number that is kept.
    more: usize,
}

/// The text a configuration was read from, and where each of its values stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Source {
    file: PathBuf,
    text: Arc<str>,
    places: BTreeMap<String, Range<usize>>,
}

impl Source {
    pub(super) fn new(text: &str, file: &Path) -> Self {
        Self { file: file.to_owned(), text: text.into(), places: BTreeMap::new() }
    }

    /// Remembers where a value stands.
    pub(super) fn note(&mut self, key: &str, span: Range<usize>) {
        self.places.insert(key.to_owned(), span);
    }

    /// The file, as it was named.
    #[must_use]
    pub fn file(&self) -> &Path {
        &self.file
    }

    /// The file's text.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }

    /// True when the file gives this key itself.
    pub(super) fn gives(&self, key: &str) -> bool {
        self.places.contains_key(key)
    }

    /// A problem at a key's value; at its section when the file leaves the key to its default.
    #[must_use]
    pub fn problem(&self, key: &str, what: impl Into<String>, hint: impl Into<String>) -> Problem {
        let mut place = Some(key);
        let span = loop {
            match place.and_then(|key| self.places.get(key)) {
                Some(span) => break span.clone(),
                None => match place.and_then(|key| key.rsplit_once('.')) {
                    Some((parent, _)) => place = Some(parent),
                    None => break 0..0,
                },
            }
        };
        self.problem_at(Some(key), span, what.into(), Some(hint.into()))
    }

    /// A problem at a span; an empty one at the start of the file means the file as a whole.
    pub(super) fn problem_at(
        &self,
        key: Option<&str>,
        span: Range<usize>,
        what: String,
        hint: Option<String>,
    ) -> Problem {
        let excerpt = if span == (0..0) { None } else { Some(self.excerpt(&span)) };
        Problem {
            file: self.file.clone(),
            line: excerpt.as_ref().map_or(0, |excerpt| excerpt.line),
            column: excerpt.as_ref().map_or(0, |excerpt| excerpt.column),
            span,
            key: key.map(str::to_owned),
            what,
            hint,
            excerpt,
            also: None,
        }
    }

    /// Adds a second place to a problem, with what is to be said about it.
    pub(super) fn with_also(&self, mut problem: Problem, note: &str, span: &Range<usize>) -> Problem {
        problem.also = Some((note.to_owned(), self.excerpt(span)));
        problem
    }

    pub(super) fn slice(&self, span: Range<usize>) -> &str {
        self.text.get(span).unwrap_or("")
    }

    fn excerpt(&self, span: &Range<usize>) -> Excerpt {
        let text = &*self.text;
        let start = floor_boundary(text, span.start);
        let line_start = text[..start].rfind('\n').map_or(0, |at| at + 1);
        let line_end = text[start..].find('\n').map_or(text.len(), |at| start + at);
        let whole = text[line_start..line_end].trim_end_matches('\r');
        let end = floor_boundary(text, span.end).clamp(start, line_start + whole.len().max(start - line_start));
        let before = text[line_start..start].chars().count();
        let width = text[start..end].trim_end().chars().count().max(1);
        // Only a window of a very long line, the meant part inside it.
        let skip = if before + width > EXCERPT { before.saturating_sub(EXCERPT / 4) } else { 0 };
        let mut shown: String = whole.chars().skip(skip).take(EXCERPT).map(printable).collect();
        if skip > 0 {
            shown.insert(0, '…');
        }
        if whole.chars().count() > skip + EXCERPT {
            shown.push('…');
        }
        let indent = before - skip + usize::from(skip > 0);
        Excerpt {
            line: text[..line_start].matches('\n').count() + 1,
            column: before + 1,
            width: width.min(shown.chars().count().saturating_sub(indent).max(1)),
            text: shown,
            indent,
        }
    }
}

/// Control characters would move the cursor of whoever reads the message; a tab would shift the underline.
fn printable(letter: char) -> char {
    match letter {
        '\t' => ' ',
        letter if letter.is_control() => '\u{fffd}',
        letter => letter,
    }
}

fn floor_boundary(text: &str, at: usize) -> usize {
    let at = at.min(text.len());
    (0..=at).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0)
}

impl Problem {
    /// A problem of something that is not the file, such as the home's path.
    pub(super) fn without_place(file: &Path, key: &str, what: String, hint: String) -> Self {
        Self {
            file: file.to_owned(),
            line: 0,
            column: 0,
            span: 0..0,
            key: Some(key.to_owned()),
            what,
            hint: Some(hint),
            excerpt: None,
            also: None,
        }
    }

    /// One line without the excerpt, for logs and `status`: `mlxsup.toml:14:9: what; hint`.
    #[must_use]
    pub fn one_line(&self) -> String {
        let place = match self.line {
            0 => self.file.display().to_string(),
            line => format!("{}:{line}:{}", self.file.display(), self.column),
        };
        match &self.hint {
            Some(hint) => format!("{place}: {}; {hint}", self.what),
            None => format!("{place}: {}", self.what),
        }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "error: {}", self.what)?;
        let lines = [self.excerpt.as_ref(), self.also.as_ref().map(|(_, excerpt)| excerpt)];
        let gutter = lines.into_iter().flatten().map(|excerpt| excerpt.line.to_string().len()).max().unwrap_or(1);
        let pad = " ".repeat(gutter);
        let file = self.file.display();
        match &self.excerpt {
            Some(excerpt) => {
                writeln!(f, "{pad}--> {file}:{}:{}", excerpt.line, excerpt.column)?;
                excerpt.render(f, gutter)?;
            }
            None => writeln!(f, "{pad}--> {file}")?,
        }
        if let Some((note, excerpt)) = &self.also {
            writeln!(f, "{pad} = {note}, {file}:{}:{}:", excerpt.line, excerpt.column)?;
            excerpt.render(f, gutter)?;
        }
        if let Some(hint) = &self.hint {
            writeln!(f, "{pad} = hint: {hint}")?;
        }
        Ok(())
    }
}

impl Excerpt {
    fn render(&self, f: &mut fmt::Formatter<'_>, gutter: usize) -> fmt::Result {
        writeln!(f, "{:gutter$} |", "")?;
        writeln!(f, "{:>gutter$} | {}", self.line, self.text)?;
        writeln!(f, "{:gutter$} | {:indent$}{}", "", "", "^".repeat(self.width), indent = self.indent)
    }
}

impl Problems {
    /// Sorts by place; what concerns the file as a whole comes first. `None` when there is nothing wrong.
    pub(super) fn sorted(mut list: Vec<Problem>, more: usize) -> Option<Self> {
        list.sort_by_key(|problem| (problem.line, problem.column));
        list.dedup();
        if list.is_empty() { None } else { Some(Self { list, more }) }
    }

    /// The problems in the order of their lines; at most a hundred.
    pub fn iter(&self) -> impl Iterator<Item = &Problem> {
        self.list.iter()
    }

    /// How many there are, those beyond the hundred included. Never 0.
    #[must_use]
    #[allow(clippy::len_without_is_empty, reason = "never empty by construction")]
    pub fn len(&self) -> usize {
        self.list.len() + self.more
    }
}

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for problem in &self.list {
            writeln!(f, "{problem}")?;
        }
        let file = self.list.first().map(|problem| problem.file.display().to_string()).unwrap_or_default();
        match self.len() {
            1 => write!(f, "1 problem in {file}"),
            count if self.more > 0 => write!(f, "{count} problems in {file}, the first {} shown", self.list.len()),
            count => write!(f, "{count} problems in {file}"),
        }
    }
}

impl std::error::Error for Problems {}
