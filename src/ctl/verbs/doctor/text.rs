//! Findings for people: one block per area, the worst first, and what to type next.

use super::finding::{Finding, Findings, Level};
use crate::ctl::render::quantity::plural;
use crate::ctl::render::table::wrap;
use crate::ctl::terminal::Paint;

/// Width of the level's column.
const LEVELS: usize = 9;

/// All findings, and a line that sums them up.
#[must_use]
pub fn table(findings: &Findings, paint: Paint, columns: Option<usize>) -> String {
    let mut out = String::new();
    for (area, list) in findings.areas() {
        out.push_str(&format!("{}\n", paint.bold(area.as_str())));
        for finding in list {
            write(&mut out, finding, paint, columns);
        }
    }
    out.push_str(&format!("\n{}\n", summary(findings)));
    out
}

fn write(out: &mut String, finding: &Finding, paint: Paint, columns: Option<usize>) {
    let word = format!("{:<LEVELS$}", finding.level.as_str());
    let word = match finding.level {
        Level::Problem => paint.bad(&word),
        Level::Warning => paint.warn(&word),
        Level::Note => paint.bold(&word),
        Level::Ok => paint.dim(&word),
    };
    let indent = " ".repeat(LEVELS + 2);
    let room = columns.map(|columns| columns.saturating_sub(LEVELS + 2).max(24));
    let mut lead = format!("  {word}");
    for line in wrap(&finding.what, room, 2) {
        out.push_str(&format!("{lead}{line}\n"));
        lead.clone_from(&indent);
    }
    for line in finding.why.iter().flat_map(|why| wrap(why, room, 2)) {
        out.push_str(&format!("{indent}{}\n", paint.dim(&line)));
    }
    if let Some(mend) = &finding.mend {
        // Never wrapped: it is there to be copied.
        out.push_str(&format!("{indent}→ {mend}\n"));
    }
}

/// `1 problem, 2 warnings, 1 note; begin with: mlxsupctl start`.
#[must_use]
pub fn summary(findings: &Findings) -> String {
    let parts = [
        (findings.count(Level::Problem), "problem", "problems"),
        (findings.count(Level::Warning), "warning", "warnings"),
        (findings.count(Level::Note), "note", "notes"),
    ];
    let counted = parts.iter().filter(|(number, _, _)| *number > 0);
    let counted: Vec<String> = counted.map(|(number, one, many)| plural(*number, one, many)).collect();
    let sum = if counted.is_empty() { "nothing to mend".to_owned() } else { counted.join(", ") };
    match findings.next() {
        Some(next) => format!("{sum}; begin with: {next}"),
        None => sum,
    }
}

#[cfg(test)]
mod tests {
    use super::super::finding::Area;
    use super::*;

    #[test]
    fn a_finding_is_a_sentence_a_reason_and_a_command() {
        let warning = Finding::new(Area::Home, Level::Warning, "x", "one two three four five six")
            .because("seven eight nine ten eleven")
            .mended_by("a command that is longer than the line");
        let fine = Finding::new(Area::Limits, Level::Ok, "y", "enough");
        let findings = Findings::sorted(vec![fine, warning]);
        let expected = "home\n  warning  one two three four five\n             six\n           seven eight nine ten\n             \
                        eleven\n           → a command that is longer than the line\nlimits\n  ok       enough\n\n1 \
                        warning; begin with: a command that is longer than the line\n";
        assert_eq!(table(&findings, Paint::default(), Some(36)), expected);
    }

    #[test]
    fn a_good_machine_is_told_so() {
        let fine = Findings::sorted(vec![Finding::new(Area::Limits, Level::Ok, "y", "enough")]);
        assert_eq!(summary(&fine), "nothing to mend");
    }
}
