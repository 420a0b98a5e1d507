//! A curve in braille dots: two to a column, four to a line, so that a day fits into a terminal.

use super::metric::{Scale, number};
use crate::ctl::terminal::Paint;
use crate::memory::Unit;

/// Dots of a cell by their place in it, left column first, from the top.
const DOTS: [[u32; 4]; 2] = [[0x01, 0x02, 0x04, 0x40], [0x08, 0x10, 0x20, 0x80]];

/// The empty cell.
const BLANK: u32 = 0x2800;

/// Lines of a chart.
pub const LINES: usize = 7;

/// Columns of the numbers beside a chart, with the rule.
pub const MARGIN: usize = 11;

/// What lies between two instants of the axis.
#[derive(Debug, Clone, Copy)]
pub struct Stretch {
    /// Where it begins, 0 at the left edge and 1 at the right.
    pub from: f64,
    /// Where it ends.
    pub until: f64,
    /// The values within.
    pub lowest: f64,
    /// Their mean.
    pub mean: f64,
    /// The highest of them.
    pub highest: f64,
}

/// Draws a curve of `columns` cells, marks as dotted lines behind it, and round numbers at its left.
#[must_use]
pub fn draw(curve: &[Stretch], unit: Unit, columns: usize, marks: &[usize], paint: Paint) -> Vec<String> {
    let lowest = curve.iter().map(|part| part.lowest).fold(f64::INFINITY, f64::min);
    let highest = curve.iter().map(|part| part.highest).fold(f64::NEG_INFINITY, f64::max);
    let scale = Scale::of(lowest, highest, unit, LINES / 2);
    let cells = dots(curve, scale, columns, LINES);
    let mut labels = vec![None; LINES];
    for tick in scale.ticks() {
        let line = ((1.0 - scale.share(tick)) * (LINES - 1) as f64).round() as usize;
        labels[line].get_or_insert_with(|| number(tick, unit));
    }
    let line = |(row, label): (&[u32], Option<String>)| {
        let rule = if label.is_some() { "┤" } else { "│" };
        let label = format!("{:>width$} {rule}", label.unwrap_or_default(), width = MARGIN - 2);
        let cell = |(column, dots): (usize, &u32)| match char::from_u32(BLANK + dots) {
            Some(cell) if *dots > 0 => cell.to_string(),
            Some(_) | None if marks.contains(&column) => paint.dim("┊"),
            Some(_) | None => " ".to_owned(),
        };
        let cells: String = row.iter().enumerate().map(cell).collect();
        format!("{}{}", paint.dim(&label), cells).trim_end().to_owned()
    };
    cells.chunks(columns.max(1)).zip(labels).map(line).collect()
}

/// The bare curve between the ends of `scale`, each line `columns` wide.
#[cfg(feature = "top")]
#[must_use]
pub fn spark(curve: &[Stretch], scale: Scale, columns: usize, lines: usize) -> Vec<String> {
    let cell = |dots: &u32| if *dots == 0 { ' ' } else { char::from_u32(BLANK + dots).unwrap_or(' ') };
    dots(curve, scale, columns, lines).chunks(columns.max(1)).map(|row| row.iter().map(cell).collect()).collect()
}

/// The cells' dots, line by line.
fn dots(curve: &[Stretch], scale: Scale, columns: usize, lines: usize) -> Vec<u32> {
    let mut cells = vec![0; columns * lines];
    let (wide, high) = (columns * 2, lines * 4);
    let height = |value: f64| ((1.0 - scale.share(value)) * (high - 1) as f64).round() as usize;
    let mut before: Option<(usize, usize)> = None;
    for part in curve {
        let first = (part.from * wide as f64).floor().max(0.0) as usize;
        let end = ((part.until * wide as f64).ceil() as usize).min(wide).max(first + 1);
        let (mut top, mut foot) = (height(part.highest), height(part.lowest));
        // Neighbours are joined; a gap is left open.
        if let Some((_, mean)) = before.filter(|(end, _)| first <= *end) {
            top = top.min(mean);
            foot = foot.max(mean);
        }
        for x in first..end.min(wide) {
            let (top, foot) = if x == first { (top, foot) } else { (height(part.highest), height(part.lowest)) };
            for y in top..=foot {
                cells[y / 4 * columns + x / 2] |= DOTS[x % 2][y % 4];
            }
        }
        before = Some((end, height(part.mean)));
    }
    cells
}

#[cfg(test)]
mod tests {
    use super::*;

    fn curve(values: &[f64]) -> Vec<Stretch> {
        let part = |(index, value): (usize, &f64)| Stretch {
            from: index as f64 / values.len() as f64,
            until: (index + 1) as f64 / values.len() as f64,
            lowest: *value,
            mean: *value,
            highest: *value,
        };
        values.iter().enumerate().map(part).collect()
    }

    #[test]
    fn a_ramp_climbs_from_the_foot_to_the_head() {
        let lines = draw(&curve(&[0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0]), Unit::Count, 7, &[6], Paint::default());
        assert!(lines[0].starts_with("        6 ┤") && lines[6].starts_with("        0 ┤"));
    }

    #[test]
    fn every_column_of_a_whole_curve_has_a_dot_and_none_of_a_gap() {
        let mut wave = curve(&(0..40).map(|index| (f64::from(index) / 5.0).sin()).collect::<Vec<_>>());
        wave.drain(10..20);
        let cells = dots(&wave, Scale::of(-1.0, 1.0, Unit::Count, 3), 20, LINES);
        for column in 0..20 {
            let drawn = (0..LINES).any(|line| cells[line * 20 + column] > 0);
            assert_eq!(drawn, !(5..10).contains(&column), "column {column}");
        }
    }
}
