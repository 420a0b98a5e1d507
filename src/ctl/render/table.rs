//! Text in columns: labelled rows and plain grids, wrapped only where a terminal says how wide it is.

use crate::ctl::terminal::Paint;

/// Rows of `label  text`, the labels in one column.
#[derive(Debug)]
pub struct Sheet {
    paint: Paint,
    columns: Option<usize>,
    rows: Vec<(String, String)>,
}

/// Width of the label column, gap included.
pub const LABELS: usize = 12;
/// Narrower than this a column is not wrapped into.
const NARROWEST: usize = 24;

impl Sheet {
    /// An empty sheet for a terminal of `columns`, or for a pipe.
    #[must_use]
    pub fn new(paint: Paint, columns: Option<usize>) -> Self {
        Self { paint, columns, rows: Vec::new() }
    }

    /// Adds a row; further lines under the same label are added with an empty one.
    pub fn row(&mut self, label: &str, text: impl Into<String>) {
        self.rows.push((label.to_owned(), text.into()));
    }

    /// Adds a grid whose first line carries the label.
    pub fn grid(&mut self, label: &str, lines: &[Vec<String>]) {
        for (index, line) in grid(lines).into_iter().enumerate() {
            self.row(if index == 0 { label } else { "" }, line);
        }
    }

    /// Its lines, each with its label, which continued lines lack; nothing is painted.
    #[must_use]
    pub fn lines(&self) -> Vec<(&str, String)> {
        let room = self.columns.map(|columns| columns.saturating_sub(LABELS).max(NARROWEST));
        let mut lines = Vec::new();
        for (label, text) in &self.rows {
            let wrapped = wrap(text, room, hanging(text)).into_iter().enumerate();
            lines.extend(wrapped.map(|(index, line)| (if index == 0 { label.as_str() } else { "" }, line)));
        }
        lines
    }

    /// The text, with a line feed after every line.
    #[must_use]
    pub fn finish(self) -> String {
        let mut out = String::new();
        for (label, line) in self.lines() {
            let padded = format!("{label:<LABELS$}");
            let lead = if label.is_empty() { padded } else { self.paint.dim(&padded) };
            out.push_str(format!("{lead}{line}").trim_end());
            out.push('\n');
        }
        out
    }
}

/// Lines of cells, each column as wide as its widest cell, two spaces apart. The last column is not padded.
#[must_use]
pub fn grid(lines: &[Vec<String>]) -> Vec<String> {
    let columns = lines.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column: usize| lines.iter().filter_map(|line| line.get(column)).map(|cell| cell.chars().count()).max();
    let widths: Vec<usize> = (0..columns).map(|column| width(column).unwrap_or(0)).collect();
    let join = |line: &Vec<String>| {
        let mut text = String::new();
        for (column, cell) in line.iter().enumerate() {
            text.push_str(cell);
            if column + 1 < line.len() {
                text.push_str(&" ".repeat(widths[column] - cell.chars().count() + 2));
            }
        }
        text.trim_end().to_owned()
    };
    lines.iter().map(join).collect()
}

/// Where continued lines of a grid line begin: below its last column.
fn hanging(text: &str) -> usize {
    text.rfind("  ").map_or(0, |gap| text[..gap + 2].chars().count())
}

/// Breaks at spaces so that no line is wider than `room`; a longer word stands alone. Continued lines are indented by
/// `hang`, less where that would leave no room.
#[must_use]
pub fn wrap(text: &str, room: Option<usize>, hang: usize) -> Vec<String> {
    let Some(room) = room.filter(|room| text.chars().count() > *room) else { return vec![text.to_owned()] };
    let hang = if hang + NARROWEST > room { 2 } else { hang };
    let mut lines = Vec::new();
    let mut line = String::new();
    let mut width = 0;
    for word in text.split_inclusive(' ') {
        let visible = word.trim_end().chars().count();
        if width + visible > room && !line.trim().is_empty() {
            lines.push(line.trim_end().to_owned());
            line = " ".repeat(hang);
            width = hang;
        }
        // Gaps of a grid are kept within a line and dropped at its beginning.
        if visible > 0 || !line.trim().is_empty() {
            line.push_str(word);
            width += word.chars().count();
        }
    }
    lines.push(line.trim_end().to_owned());
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_text_is_broken_at_spaces_and_hangs() {
        assert_eq!(wrap("short", Some(80), 0), ["short"]);
        assert_eq!(wrap("one two three four", None, 0), ["one two three four"]);
        let text = "cold-weights  off  the cache is größer than ten GiB and stays";
        assert_eq!(
            wrap(text, Some(45), 19),
            ["cold-weights  off  the cache is größer than", "                   ten GiB and stays"]
        );
        assert_eq!(wrap(&"x".repeat(50), Some(30), 0), ["x".repeat(50)]);
    }

    #[test]
    fn rows_and_grids_line_up() {
        let mut sheet = Sheet::new(Paint::default(), Some(44));
        sheet.row("worker", "one two three four five six seven eight");
        sheet.grid(
            "rules",
            &[vec!["a".into(), "off".into(), "why".into()], vec!["long".into(), "on".into(), "so".into()]],
        );
        let expected = "worker      one two three four five six\n            seven eight\nrules       a     off  why\n            long  on   so\n";
        assert_eq!(sheet.finish(), expected);
    }

    proptest::proptest! {
        #[test]
        fn no_word_is_lost(text in "[a-zäö ]{0,200}", room in 1usize..80, hang in 0usize..60) {
            let wrapped = wrap(&text, Some(room), hang).join(" ");
            let words = |text: &str| text.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
            proptest::prop_assert_eq!(words(&wrapped), words(&text));
        }
    }
}
