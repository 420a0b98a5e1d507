//! The first lines: what a request would meet now, and what explains it.

use ratatui::text::{Line, Span};

use super::{Look, squeezed};
use crate::ctl::render::status::{self, Tone};
use crate::ctl::render::table::{LABELS, Sheet};
use crate::ctl::terminal::Paint;
use crate::ctl::top::view::{Known, View};

/// From this height on the picture has room for what seldom changes.
const ROOMY: u16 = 20;

/// … and for what can be looked up elsewhere.
const ROOMIER: u16 = 27;

/// State and meaning, or that nobody answers; at the right which daemon, and when.
pub fn headline(view: &View, look: Look, width: u16) -> Line<'static> {
    let mut end = match &view.known {
        Some(known) => format!("epoch {}  {}", known.status.daemon.epoch, known.now.time_of_day()),
        None => String::new(),
    };
    if view.is_paused {
        end = format!("paused  {end}");
    }
    let width = usize::from(width);
    if let Some(silence) = &view.silence
        && silence.what.chars().count() + end.chars().count() + 2 > width
    {
        end.clear();
    }
    let (word, style, rest) = match (&view.silence, &view.known) {
        (Some(silence), _) => (squeezed(&silence.what, width), look.tone(Tone::Bad), String::new()),
        (None, Some(known)) => {
            let state = known.status.state;
            let rest = format!(": {}", status::meaning(&known.status));
            (state.as_str().to_owned(), look.tone(status::tone(state)), rest)
        }
        (None, None) => ("asking the daemon".to_owned(), look.bold(), String::new()),
    };
    let gap = width.saturating_sub(word.chars().count() + rest.chars().count() + end.chars().count());
    Line::from(vec![
        Span::styled(word, style),
        Span::raw(rest),
        Span::raw(" ".repeat(gap)),
        Span::styled(end, if view.is_paused { look.bold() } else { look.dim() }),
    ])
}

/// What is there to say before anything was read.
pub fn waiting(view: &View) -> Vec<Line<'static>> {
    let mut lines = vec![Line::default()];
    match &view.silence {
        Some(silence) => lines.extend(silence.hints.iter().map(|hint| Line::raw(hint.clone()))),
        None => lines.push(Line::raw(format!("at {}", view.socket.display()))),
    }
    lines
}

/// The rows of `status` that fit here.
pub fn rows(known: &Known, view: &View, width: u16, height: u16, look: Look) -> Vec<Line<'static>> {
    let mut sheet = Sheet::new(Paint::default(), Some(usize::from(width)));
    let (status, now) = (&known.status, known.now);
    status::cause(&mut sheet, status, now);
    if height >= ROOMY {
        status::daemon(&mut sheet, status, &view.home);
    }
    status::worker(&mut sheet, status);
    if height >= ROOMIER {
        status::speed(&mut sheet, status);
    }
    status::transition(&mut sheet, status, now);
    status::queue(&mut sheet, status);
    if status::tone(status.state) != Tone::Good {
        status::failure(&mut sheet, status, now);
    }
    if height >= ROOMY {
        status::ledger(&mut sheet, status);
    }
    status::memory(&mut sheet, &status.memory);
    let row = |(label, text): (&str, String)| {
        Line::from(vec![Span::styled(format!("{label:<LABELS$}"), look.dim()), Span::raw(text)])
    };
    sheet.lines().into_iter().map(row).collect()
}
