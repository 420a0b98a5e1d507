//! The keys, and where to read on, over the rest of the picture.

use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::text::Line;
use ratatui::widgets::{Block, Clear, Widget};

use super::{Look, height_of, put};

const TEXT: [&str; 13] = [
    "q, Esc, Ctrl-C     leave",
    "p, space           stand still, or go on",
    "Tab, arrows ← →    events, rules, clients",
    "j k, arrows ↑ ↓    scroll, PgUp and PgDn by ten lines,",
    "                   g and G to the first and the last",
    "?                  this help, or away with it",
    "",
    "It only looks. To steer: `mlxsupctl drain`, `restart`,",
    "`unload`, `clear-cache`; `mlxsupctl --help` has all.",
    "",
    "Curves show the last ten minutes, from the lowest to the",
    "highest value of each; `mlxsupctl history` has 90 days.",
    "What the rules would do and when: `mlxsupctl rules`.",
];

/// Columns of the longest line, with the frame.
const WIDTH: u16 = 60;

/// Draws it in the middle.
pub fn draw(buffer: &mut Buffer, area: Rect, look: Look) {
    let height = height_of(TEXT.len() + 2).min(area.height);
    let x = area.x + (area.width - WIDTH.min(area.width)) / 2;
    let place = Rect { x, y: area.y + (area.height - height) / 2, width: WIDTH.min(area.width), height };
    Clear.render(place, buffer);
    let block = Block::bordered().title(" mlxsupctl top ").border_style(look.dim()).title_style(look.bold());
    let inside = block.inner(place);
    block.render(place, buffer);
    put(buffer, inside, &TEXT.map(Line::raw));
}
