//! The view as a picture: what goes where. Pure; the words are those of the verbs that print the same facts.
//!
//! ```text
//! state: what it means for a request                 epoch, time of the reading
//! model, worker, queue, memory of the machine
//! memory of the worker against its limits      │ side by side where there is room,
//! curves of the last minutes                   │ else one above the other
//! ── [events]  rules  clients ──
//! keys
//! ```

mod curves;
mod gauges;
mod head;
mod help;
mod look;
mod panel;

use ratatui::Frame;
use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::style::{Modifier, Style};
use ratatui::text::{Line, Span};

pub use look::Look;

use super::view::{Known, Panel, View};

/// Smaller than this nothing is drawn.
const WIDTH_MIN: u16 = 60;
const HEIGHT_MIN: u16 = 16;

/// From here on gauges stand beside the curves.
const WIDE: u16 = 116;

/// Lines that curves take at most of what is left where everything has its place.
const CURVES_GROW: u16 = 6;

/// Lines of the lower panel that everything else leaves to it, its title among them.
const PANEL_MIN: u16 = 4;

/// From here on the lower panel is parted, so that events are always seen.
const PANEL_PARTED: u16 = 14;

/// Lines of its part for events, their title among them.
const EVENTS_BELOW: u16 = 6;

/// Draws everything, and returns by how many lines the lower panel is away from where it rests.
pub fn draw(frame: &mut Frame<'_>, view: &View, look: Look) -> usize {
    let area = frame.area();
    let buffer = frame.buffer_mut();
    if area.width < WIDTH_MIN || area.height < HEIGHT_MIN {
        too_small(buffer, area);
        return 0;
    }
    let below = Rect { y: area.y + 1, height: area.height - 2, ..area };
    let scroll = match &view.known {
        Some(known) => body(buffer, below, view, known, look),
        None => {
            put(buffer, below, &head::waiting(view));
            0
        }
    };
    if view.silence.is_some() {
        // It was so once; nobody knows whether it still is.
        buffer.set_style(below, Style::new().add_modifier(Modifier::DIM).remove_modifier(Modifier::BOLD));
    }
    put(buffer, area, &[head::headline(view, look, area.width)]);
    let keys = "q quit   p pause   Tab next panel   ↑ ↓ scroll   ? help";
    put(buffer, Rect { y: area.bottom() - 1, height: 1, ..area }, &[Line::styled(keys, look.dim())]);
    if view.shows_help {
        help::draw(buffer, area, look);
    }
    scroll
}

fn body(buffer: &mut Buffer, area: Rect, view: &View, known: &Known, look: Look) -> usize {
    let rows = head::rows(known, view, area.width, area.height, look);
    let rows_height = height_of(rows.len()).min(area.height - PANEL_MIN);
    put(buffer, Rect { height: rows_height, ..area }, &rows);
    let (middle, panel) = split(area, rows_height, known);
    memory(buffer, middle, view, known, look);
    if view.panel == Panel::Events || panel.height < PANEL_PARTED {
        return panel::draw(buffer, panel, view, known, look);
    }
    let above = Rect { height: panel.height - EVENTS_BELOW, ..panel };
    panel::events_below(buffer, Rect { y: above.bottom(), height: EVENTS_BELOW, ..panel }, known, look);
    panel::draw(buffer, above, view, known, look)
}

/// What lies below the first rows: memory in the middle, as high as it can use, and the panel with all the rest.
fn split(area: Rect, rows: u16, known: &Known) -> (Rect, Rect) {
    let room = area.height - rows - PANEL_MIN;
    let gauges = height_of(gauges::count(known));
    let wanted = if area.width >= WIDE {
        gauges.max(curves::HEIGHT_TWO)
    } else {
        // One above the other they are not to push everything else out of sight.
        gauges + curves::HEIGHT_TWO + 2
    };
    let grown = wanted + (room.saturating_sub(wanted) / 2).min(CURVES_GROW);
    let middle = Rect { y: area.y + rows, height: grown.min(room), ..area };
    (middle, Rect { y: middle.bottom(), height: area.bottom() - middle.bottom(), ..area })
}

fn memory(buffer: &mut Buffer, area: Rect, view: &View, known: &Known, look: Look) {
    if area.width >= WIDE {
        let left = Rect { width: area.width / 2, ..area };
        gauges::draw(buffer, left, known, look);
        let right = Rect { x: left.right() + 2, width: area.width - left.width - 2, ..area };
        curves::draw(buffer, right, &view.curves, known.now.unix_ms(), look);
        return;
    }
    // Curves first: that something grows is what a glance is for, and they have the number as well.
    let curves = match area.height {
        9.. => curves::HEIGHT_TWO,
        _ => curves::HEIGHT_ONE.min(area.height),
    };
    let gauges = height_of(gauges::count(known)).min(area.height - curves);
    gauges::draw(buffer, Rect { height: gauges, ..area }, known, look);
    let rest = Rect { y: area.y + gauges, height: area.height - gauges, ..area };
    curves::draw(buffer, rest, &view.curves, known.now.unix_ms(), look);
}

fn too_small(buffer: &mut Buffer, area: Rect) {
    let size = format!("the terminal is too small: {}x{},", area.width, area.height);
    let wanted = format!("`top` needs {WIDTH_MIN}x{HEIGHT_MIN}; q quits");
    put(buffer, area, &[Line::raw(size), Line::raw(wanted)]);
}

/// Lines, one below the other, cut off where the area ends.
fn put(buffer: &mut Buffer, area: Rect, lines: &[Line<'_>]) {
    for (line, row) in lines.iter().zip(area.rows()) {
        buffer.set_line(row.x, row.y, line, row.width);
    }
}

/// Text that fits: what is too much is taken out of its middle, where paths are long.
fn squeezed(text: &str, width: usize) -> String {
    let length = text.chars().count();
    if length <= width {
        return text.to_owned();
    }
    let end = width / 2;
    let begin: String = text.chars().take(width.saturating_sub(end + 1)).collect();
    format!("{begin}…{}", text.chars().skip(length - end).collect::<String>())
}

/// Text that fits: cut, with a sign that it was.
fn cut(text: &str, width: usize) -> String {
    if text.chars().count() <= width {
        return text.to_owned();
    }
    let mut short: String = text.chars().take(width.saturating_sub(1)).collect();
    short.push('…');
    short
}

/// A title within a rule as wide as the area.
fn rule<'a>(mut title: Vec<Span<'a>>, end: &str, width: u16, look: Look) -> Line<'a> {
    title.insert(0, Span::styled("── ", look.dim()));
    let taken: usize = title.iter().map(Span::width).sum::<usize>() + end.chars().count();
    let rest = usize::from(width).saturating_sub(taken + 1);
    title.push(Span::styled(format!(" {}{end}", "─".repeat(rest)), look.dim()));
    Line::from(title)
}

fn height_of(lines: usize) -> u16 {
    u16::try_from(lines).unwrap_or(u16::MAX)
}
