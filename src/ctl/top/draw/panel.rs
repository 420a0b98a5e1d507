//! The lower panel: events, rules or clients, in the words of the verbs of those names.

use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::text::{Line, Span};

use super::{Look, put, rule};
use crate::control::view::{EventView, RuleView};
use crate::ctl::render::human;
use crate::ctl::render::quantity::Now;
use crate::ctl::render::table::wrap;
use crate::ctl::terminal::Paint;
use crate::ctl::top::view::{Known, PANELS, Panel, View};

/// Where the message of an event goes on.
const EVENT_HANG: usize = 10;

/// Title and as many lines as fit from where the person is; returns how many lines that is from where the panel rests.
pub fn draw(buffer: &mut Buffer, area: Rect, view: &View, known: &Known, look: Look) -> usize {
    let columns = usize::from(area.width);
    let lines = match view.panel {
        Panel::Events => events(known.events.iter(), known.now, columns, look),
        Panel::Rules => rules(&known.status.rules, columns, look),
        Panel::Clients => clients(known, look),
    };
    let room = usize::from(area.height.saturating_sub(1));
    let scroll_max = lines.len().saturating_sub(room);
    // Whoever reads old events keeps them before the eyes.
    let newest = known.events.range(known.events.len().saturating_sub(view.arrived)..);
    let arrived = if view.arrived > 0 { events(newest, known.now, columns, look).len() } else { 0 };
    let scroll = view.scroll.saturating_add(arrived).min(scroll_max);
    let first = if view.panel == Panel::Events { scroll_max - scroll } else { scroll };
    let last = (first + room).min(lines.len());
    let place = if scroll_max > 0 { format!(" {}-{last} of {} ", first + 1, lines.len()) } else { String::new() };
    put(buffer, Rect { height: 1, ..area }, &[rule(names(view.panel, look), &place, area.width, look)]);
    put(buffer, below_title(area), &lines[first..last]);
    scroll
}

/// The newest events below a panel that shows something else.
pub fn events_below(buffer: &mut Buffer, area: Rect, known: &Known, look: Look) {
    let lines = events(known.events.iter(), known.now, usize::from(area.width), look);
    let room = usize::from(area.height.saturating_sub(1));
    let title = vec![Span::styled(Panel::Events.name(), look.dim())];
    put(buffer, Rect { height: 1, ..area }, &[rule(title, "", area.width, look)]);
    put(buffer, below_title(area), &lines[lines.len().saturating_sub(room)..]);
}

fn below_title(area: Rect) -> Rect {
    Rect { y: area.y + 1, height: area.height.saturating_sub(1), ..area }
}

/// All panels; the one that is shown stands in brackets, which are seen without colour too.
fn names(shown: Panel, look: Look) -> Vec<Span<'static>> {
    let name = |panel: Panel| {
        if panel == shown {
            Span::styled(format!("[{}] ", panel.name()), look.bold())
        } else {
            Span::styled(format!(" {}  ", panel.name()), look.dim())
        }
    };
    PANELS.into_iter().map(name).collect()
}

fn events<'a>(events: impl Iterator<Item = &'a EventView>, now: Now, columns: usize, look: Look) -> Vec<Line<'static>> {
    let mut lines = Vec::new();
    for event in events {
        let text = human::event(event, now, Paint::default());
        let mut wrapped = wrap(text.trim_end(), Some(columns), EVENT_HANG).into_iter();
        let first = wrapped.next().unwrap_or_default();
        // The time is the same everywhere; what happened is to be found.
        let (time, rest) = first.split_at(now.stamp(&event.at).len().min(first.len()));
        lines.push(Line::from(vec![Span::styled(time.to_owned(), look.dim()), Span::raw(rest.to_owned())]));
        lines.extend(wrapped.map(Line::raw));
    }
    lines
}

fn rules(rules: &[RuleView], columns: usize, look: Look) -> Vec<Line<'static>> {
    if rules.is_empty() {
        return vec![Line::styled("there are no rules", look.dim())];
    }
    let text = human::rules(rules, Some(columns));
    let mut states = rules.iter().map(|rule| look.rule(rule.state));
    let mut style = look.dim();
    let mut lines = Vec::new();
    for line in text.lines() {
        // Continued lines are indented, and no rule's name begins with a space.
        if !line.starts_with(' ') {
            style = states.next().unwrap_or(style);
        }
        lines.push(Line::styled(line.to_owned(), style));
    }
    lines
}

fn clients(known: &Known, look: Look) -> Vec<Line<'static>> {
    if known.clients.is_empty() {
        return vec![Line::styled(human::NO_CLIENTS, look.dim())];
    }
    let text = human::clients(&known.clients);
    let style = |index| if index == 0 { look.dim() } else { ratatui::style::Style::new() };
    text.lines().enumerate().map(|(index, line)| Line::styled(line.to_owned(), style(index))).collect()
}
