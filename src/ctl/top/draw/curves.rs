//! Four curves of the last minutes, in two columns, as high as the room allows.

use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::text::{Line, Span};

use super::{Look, cut, put};
use crate::ctl::render::chart::spark;
use crate::ctl::render::metric::{number, words};
use crate::ctl::top::curves::{Curves, SHOWN, WINDOW_MINUTES};

/// Lines of one row of curves: a heading, and two for the dots.
pub const HEIGHT_ONE: u16 = 3;

/// Lines of two rows.
pub const HEIGHT_TWO: u16 = 2 * HEIGHT_ONE;

/// Columns between two curves.
const GAP: u16 = 2;

/// All four, or the first two where only one row fits, or none.
pub fn draw(buffer: &mut Buffer, area: Rect, curves: &Curves, now_ms: i64, look: Look) {
    let rows = (area.height / HEIGHT_ONE).min(2);
    if rows == 0 {
        return;
    }
    let (height, width) = (area.height / rows, (area.width - GAP) / 2);
    for (index, place) in (0..2 * rows).enumerate() {
        let (column, row) = (place % 2, place / 2);
        let cell = Rect { x: area.x + column * (width + GAP), y: area.y + row * height, width, height };
        one(buffer, cell, index, curves, now_ms, look);
    }
}

fn one(buffer: &mut Buffer, area: Rect, index: usize, curves: &Curves, now_ms: i64, look: Look) {
    let (curve, unit) = (curves.stretches(index, now_ms), SHOWN[index].unit());
    let columns = usize::from(area.width);
    let Some(last) = curve.last() else {
        let name = format!("n/a  {}", words(SHOWN[index]));
        put(buffer, area, &[Line::styled(cut(&name, columns), look.dim())]);
        return;
    };
    let scale = Curves::scale(index, &curve);
    let value = number(last.mean, unit);
    let name = cut(&format!("  {}", words(SHOWN[index])), columns.saturating_sub(value.chars().count()));
    let ends = format!("  {} to {}, {WINDOW_MINUTES} min", number(scale.low, unit), number(scale.high, unit));
    let room = columns.saturating_sub(value.chars().count() + name.chars().count());
    let ends = if ends.chars().count() <= room { ends } else { String::new() };
    let heading = vec![Span::styled(value, look.bold()), Span::raw(name), Span::styled(ends, look.dim())];
    let mut lines = vec![Line::from(heading)];
    let drawn = spark(&curve, scale, columns, usize::from(area.height - 1));
    lines.extend(drawn.into_iter().map(|line| Line::styled(line, look.curve())));
    put(buffer, area, &lines);
}
