//! What can happen to the view, and which key means what.

use std::io;

use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyEventKind, KeyModifiers};

use super::asking::Reading;
use crate::ctl::failure::Failure;

/// What can happen.
#[derive(Debug)]
pub enum Input {
    /// Somebody pressed a key that means something.
    Key(Key),
    /// The terminal has another size.
    Resized,
    /// Keys cannot be read any more.
    Deaf(io::Error),
    /// A signal came.
    Signal(i32),
    /// The daemon has answered, or has not.
    Answer(Box<Result<Reading, Failure>>),
}

/// What a key means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Key {
    /// Enough seen.
    Quit,
    /// Closes what lies on top; without anything there, enough seen.
    Escape,
    /// The picture stands still, or goes on.
    Pause,
    /// Which keys there are.
    Help,
    /// The lower panel shows the next thing.
    NextPanel,
    /// … the one before.
    PreviousPanel,
    /// The lower panel moves by so many lines, up where they are negative.
    Scroll(i32),
    /// Back to the shell, for a while.
    Suspend,
}

/// Lines of a page.
const PAGE: i32 = 10;

impl Key {
    /// The meaning of a key; `None` for all others, and for its release where a terminal tells of that.
    #[must_use]
    pub fn of(event: KeyEvent) -> Option<Self> {
        if event.kind == KeyEventKind::Release {
            return None;
        }
        if event.modifiers.contains(KeyModifiers::CONTROL) {
            return match event.code {
                KeyCode::Char('c' | 'd') => Some(Self::Quit),
                KeyCode::Char('z') => Some(Self::Suspend),
                _ => None,
            };
        }
        match event.code {
            KeyCode::Char('q' | 'Q') => Some(Self::Quit),
            KeyCode::Esc => Some(Self::Escape),
            KeyCode::Char('p' | ' ') => Some(Self::Pause),
            KeyCode::Char('?' | 'h') | KeyCode::F(1) => Some(Self::Help),
            KeyCode::Tab | KeyCode::Right => Some(Self::NextPanel),
            KeyCode::BackTab | KeyCode::Left => Some(Self::PreviousPanel),
            KeyCode::Up | KeyCode::Char('k') => Some(Self::Scroll(-1)),
            KeyCode::Down | KeyCode::Char('j') => Some(Self::Scroll(1)),
            KeyCode::PageUp => Some(Self::Scroll(-PAGE)),
            KeyCode::PageDown => Some(Self::Scroll(PAGE)),
            KeyCode::Home | KeyCode::Char('g') => Some(Self::Scroll(i32::MIN)),
            KeyCode::End | KeyCode::Char('G') => Some(Self::Scroll(i32::MAX)),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_is_not_mistaken_for_the_letter() {
        let key = |code, modifiers| Key::of(KeyEvent::new(code, modifiers));
        assert_eq!(key(KeyCode::Char('c'), KeyModifiers::CONTROL), Some(Key::Quit));
        assert_eq!(key(KeyCode::Char('c'), KeyModifiers::NONE), None);
        assert_eq!(key(KeyCode::Char('p'), KeyModifiers::CONTROL), None);
        assert_eq!(key(KeyCode::Char('G'), KeyModifiers::SHIFT), Some(Key::Scroll(i32::MAX)));
        let released = KeyEvent { kind: KeyEventKind::Release, ..KeyEvent::from(KeyCode::Char('q')) };
        assert_eq!(Key::of(released), None);
    }
}
