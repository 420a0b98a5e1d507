//! The terminal as a screen: taken over, drawn on, and given back however this ends.

use std::io::{self, Stdout};
use std::sync::Once;

use ratatui::Terminal;
use ratatui::backend::CrosstermBackend;
use ratatui::crossterm::cursor::{Hide, Show};
use ratatui::crossterm::execute;
use ratatui::crossterm::terminal::{
    Clear, ClearType, EnterAlternateScreen, LeaveAlternateScreen, disable_raw_mode, enable_raw_mode,
};

use super::draw::{self, Look};
use super::view::View;

/// The screen, until it is dropped.
pub struct Screen {
    terminal: Terminal<CrosstermBackend<Stdout>>,
}

impl Screen {
    /// Takes the terminal over: what was on it comes back when this is dropped, or when the process panics.
    ///
    /// # Errors
    /// When there is none, or it is gone.
    pub fn enter() -> io::Result<Self> {
        give_back_on_panic();
        enable_raw_mode()?;
        let entered = execute!(io::stdout(), EnterAlternateScreen, Clear(ClearType::All), Hide)
            .and_then(|()| Terminal::new(CrosstermBackend::new(io::stdout())));
        match entered {
            Ok(terminal) => Ok(Self { terminal }),
            Err(error) => {
                leave();
                Err(error)
            }
        }
    }

    /// Draws the view, and tells it where its panel is. A new size of the terminal is seen here.
    ///
    /// # Errors
    /// When the terminal is gone.
    pub fn draw(&mut self, view: &mut View, look: Look) -> io::Result<()> {
        let mut scroll = view.scroll;
        self.terminal.draw(|frame| scroll = draw::draw(frame, view, look))?;
        view.drawn(scroll);
        Ok(())
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        leave();
    }
}

/// Whoever is gone cannot be given anything back, so errors mean nothing here.
fn leave() {
    let _ = execute!(io::stdout(), LeaveAlternateScreen, Show);
    let _ = disable_raw_mode();
}

/// A panic's message would go to a screen that is dropped a moment later.
fn give_back_on_panic() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |what| {
            leave();
            before(what);
        }));
    });
}
