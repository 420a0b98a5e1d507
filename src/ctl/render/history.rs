//! Curves for people: one chart per metric, restarts and firings of rules marked on it and listed below.

use chrono::DateTime;

use super::chart::{self, MARGIN, Stretch};
use super::metric::{number, words};
use super::quantity::{Now, plural};
use super::time_axis;
use crate::control::view::EventView;
use crate::ctl::terminal::Paint;
use crate::history::view::{CurveView, HistoryView};
use crate::memory::Metric;

/// Marked events that are listed, the newest.
const LISTED: usize = 8;

/// Columns of a chart where nobody says how wide the terminal is.
const COLUMNS: usize = 80;

/// Columns beyond which a chart gains nothing.
const COLUMNS_MAX: usize = 200;

/// Columns that one number of the time axis needs.
const TICK: usize = 11;

/// What a kind of event looks like on a curve, the gravest first: of several in one place that one is shown.
pub const MARKS: [(char, &str, &[&str]); 6] = [
    ('k', "kernel panic", &["kernel_panic"]),
    ('p', "parked", &["parked"]),
    ('x', "worker died", &["worker_crashed", "worker_dead"]),
    ('f', "rule fired", &["rule_fired"]),
    ('r', "restart", &["restart_done"]),
    ('u', "daemon upgraded", &["upgraded"]),
];

/// Cells beside the numbers.
#[must_use]
pub fn cells(columns: Option<usize>) -> usize {
    columns.unwrap_or(COLUMNS).clamp(MARGIN + TICK, COLUMNS_MAX) - MARGIN
}

/// The charts, the time axis below each, the marks' legend, the last of them in words.
#[must_use]
pub fn charts(view: &HistoryView, columns: Option<usize>, now: Now, paint: Paint) -> String {
    let cells = cells(columns);
    let (from, until) = (seconds(&view.since), seconds(&view.until));
    let share = |at: f64| (at - from) / (until - from).max(1.0);
    let marks = placed(&view.events, |at| (share(at) * cells as f64) as usize, cells);
    let mut text = String::new();
    for curve in &view.metrics {
        text.push_str(&heading(curve, paint));
        if curve.points.is_empty() {
            text.push_str(&format!("{:MARGIN$}{}\n\n", "", paint.dim("nothing recorded; not reported here")));
            continue;
        }
        if is_nothing(curve) {
            text.push('\n');
            continue;
        }
        let stretch = |(at, lowest, mean, highest): &(i64, f64, f64, f64)| Stretch {
            from: share(*at as f64),
            until: share((*at + view.step_s) as f64),
            lowest: *lowest,
            mean: *mean,
            highest: *highest,
        };
        let stretches: Vec<_> = curve.points.iter().map(stretch).collect();
        let places: Vec<_> = marks.iter().map(|(column, _)| *column).collect();
        for line in chart::draw(&stretches, curve_unit(curve), cells, &places, paint) {
            text.push_str(&(line + "\n"));
        }
        text.push_str(&foot(&marks, cells, paint));
        text.push_str(&format!("{}\n\n", paint.dim(&times(from as i64, until as i64, cells))));
    }
    text.push_str(&legend(&view.events, now, paint));
    text
}

/// The letter of a kind of event.
#[must_use]
pub fn mark(kind: &str) -> Option<char> {
    MARKS.iter().find(|(_, _, kinds)| kinds.contains(&kind)).map(|(letter, _, _)| *letter)
}

/// Unix seconds of an RFC 3339 instant.
#[must_use]
pub fn seconds(at: &str) -> f64 {
    DateTime::parse_from_rfc3339(at).map_or(0.0, |at| at.timestamp_millis() as f64 / 1000.0)
}

fn curve_unit(curve: &CurveView) -> crate::memory::Unit {
    curve.metric.parse().map_or(crate::memory::Unit::Count, Metric::unit)
}

/// True for a curve that lies on its foot from end to end: nothing that a drawing could add.
fn is_nothing(curve: &CurveView) -> bool {
    curve.points.iter().all(|(_, lowest, _, highest)| *lowest == 0.0 && *highest == 0.0)
}

/// The metric, what people call it, its last value and its range.
fn heading(curve: &CurveView, paint: Paint) -> String {
    let name = curve.metric.parse().map_or("", words);
    let unit = curve_unit(curve);
    let lowest = curve.points.iter().map(|point| point.1).fold(f64::INFINITY, f64::min);
    let highest = curve.points.iter().map(|point| point.3).fold(f64::NEG_INFINITY, f64::max);
    let said = curve.points.last().map_or_else(String::new, |last| match is_nothing(curve) {
        true => format!("  {} all the time", number(0.0, unit)),
        false => format!("  last {}, {} to {}", number(last.2, unit), number(lowest, unit), number(highest, unit)),
    });
    format!("{}  {name}{}\n", paint.bold(&curve.metric), paint.dim(&said))
}

/// Columns of the marks and their letters, the gravest where several meet.
fn placed(events: &[EventView], column: impl Fn(f64) -> usize, cells: usize) -> Vec<(usize, char)> {
    let mut marks: Vec<(usize, char)> = Vec::new();
    let rank = |letter: char| MARKS.iter().position(|(known, _, _)| *known == letter);
    for event in events {
        let Some(letter) = mark(&event.kind) else { continue };
        let place = column(seconds(&event.at)).min(cells.saturating_sub(1));
        match marks.iter_mut().find(|(taken, _)| *taken == place) {
            Some((_, other)) if rank(letter) < rank(*other) => *other = letter,
            Some(_) => {}
            None => marks.push((place, letter)),
        }
    }
    marks
}

fn foot(marks: &[(usize, char)], cells: usize, paint: Paint) -> String {
    let cell = |column: usize| match marks.iter().find(|(place, _)| *place == column) {
        Some((_, letter @ ('k' | 'p' | 'x'))) => paint.bad(&letter.to_string()),
        Some((_, letter)) => paint.warn(&letter.to_string()),
        None => paint.dim("─"),
    };
    format!("{:>margin$}{}\n", paint.dim("└"), (0..cells).map(cell).collect::<String>(), margin = margin(paint))
}

/// The corner's width, with what its colour takes.
fn margin(paint: Paint) -> usize {
    MARGIN + paint.dim("└").chars().count() - 1
}

fn times(from: i64, until: i64, cells: usize) -> String {
    let mut line = " ".repeat(MARGIN);
    for (at, text) in time_axis::ticks(from, until, cells / TICK) {
        let place = MARGIN + ((at - from) as f64 / (until - from).max(1) as f64 * cells as f64) as usize;
        let width = line.chars().count();
        if place + text.chars().count() > MARGIN + cells {
            continue;
        }
        if place >= width {
            line.push_str(&" ".repeat(place - width));
            line.push_str(&text);
        }
        line.push(' ');
    }
    line.trim_end().to_owned()
}

fn legend(events: &[EventView], now: Now, paint: Paint) -> String {
    let counted = MARKS.iter().filter_map(|(letter, word, kinds)| {
        let count = events.iter().filter(|event| kinds.contains(&event.kind.as_str())).count();
        (count > 0).then(|| format!("{letter} {word} ({count})"))
    });
    let counted: Vec<_> = counted.collect();
    if counted.is_empty() {
        return "no restart, no failure, no rule fired in this time\n".to_owned();
    }
    let mut text = format!("{}\n", counted.join("   "));
    let skipped = events.len().saturating_sub(LISTED);
    if skipped > 0 {
        let earlier = format!("{} before; see `mlxsupctl events --since`", plural(skipped as u64, "more", "more"));
        text.push_str(&format!("  {}\n", paint.dim(&earlier)));
    }
    for event in &events[skipped..] {
        let letter = mark(&event.kind).unwrap_or(' ');
        text.push_str(&format!("  {letter} {}  {}\n", paint.dim(&now.stamp(&event.at)), event.message));
    }
    text
}
