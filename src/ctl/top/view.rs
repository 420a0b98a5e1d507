//! All that is on the screen, as values: what was read last, the curves, and where the person is. Knows no terminal and no
//! socket.

use std::collections::VecDeque;
use std::path::PathBuf;
use std::time::Duration;

use super::asking::Reading;
use super::curves::Curves;
use super::input::Key;
use crate::control::view::{ClientView, EventView, Status};
use crate::ctl::failure::{Failure, Kind};
use crate::ctl::render::quantity::Now;

/// Events that can be scrolled back to.
const EVENTS_MAX: usize = 500;

/// Everything that is drawn.
#[derive(Debug)]
pub struct View {
    /// Whom is asked.
    pub socket: PathBuf,
    /// Its home.
    pub home: PathBuf,
    /// What was read last; `None` before the first answer.
    pub known: Option<Known>,
    /// Why there was no answer to the last question.
    pub silence: Option<Silence>,
    /// The last minutes.
    pub curves: Curves,
    /// What the lower panel shows.
    pub panel: Panel,
    /// Lines the lower panel was moved away from where it rests: from its beginning, and for events from their end.
    pub scroll: usize,
    /// Events that came since the last drawing, while the person looks at older ones.
    pub arrived: usize,
    /// Nothing is asked, so the picture stands still.
    pub is_paused: bool,
    /// The keys are explained.
    pub shows_help: bool,
}

/// What was read last.
#[derive(Debug)]
pub struct Known {
    /// When; all distances in time are from here.
    pub now: Now,
    /// The status.
    pub status: Status,
    /// Who asks for what.
    pub clients: Vec<ClientView>,
    /// What was decided, oldest first.
    pub events: VecDeque<EventView>,
}

/// Why there is no answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Silence {
    /// One sentence.
    pub what: String,
    /// What to do about it.
    pub hints: Vec<String>,
}

/// What the lower panel can show.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Panel {
    /// What was decided.
    Events,
    /// The memory rules.
    Rules,
    /// Who asks for what.
    Clients,
}

/// The panels, in the order they are gone through.
pub const PANELS: [Panel; 3] = [Panel::Events, Panel::Rules, Panel::Clients];

impl Panel {
    /// Its name: that of the verb that prints the same.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Events => "events",
            Self::Rules => "rules",
            Self::Clients => "clients",
        }
    }

    const fn next(self) -> Self {
        match self {
            Self::Events => Self::Rules,
            Self::Rules => Self::Clients,
            Self::Clients => Self::Events,
        }
    }
}

/// What follows from a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    /// The view goes on.
    Stay,
    /// The shell wants the terminal for a while.
    Suspend,
    /// The end.
    Quit,
}

impl View {
    /// Before the first answer.
    #[must_use]
    pub fn new(socket: PathBuf, home: PathBuf, interval: Duration) -> Self {
        Self {
            socket,
            home,
            known: None,
            silence: None,
            curves: Curves::new(interval),
            panel: Panel::Events,
            scroll: 0,
            arrived: 0,
            is_paused: false,
            shows_help: false,
        }
    }

    /// True when the last minutes should be asked for as well.
    #[must_use]
    pub fn wants_past(&self, now: Now) -> bool {
        self.curves.have_hole(now.unix_ms())
    }

    /// The daemon has answered, or has not. One answer may still come into a pause; it was asked for before.
    pub fn answered(&mut self, answer: Result<Reading, Failure>) {
        match answer {
            Ok(reading) => self.read(reading),
            Err(failure) => self.silence = Some(self.silence_of(&failure)),
        }
    }

    fn read(&mut self, reading: Reading) {
        let Reading { now, status, clients, events, past } = reading;
        self.silence = None;
        self.curves.add(now.unix_ms(), &status.memory);
        if let Some(past) = &past {
            self.curves.fill(past);
        }
        if self.panel == Panel::Events && self.scroll > 0 {
            self.arrived = self.arrived.saturating_add(events.len());
        }
        let mut all = self.known.take().map(|known| known.events).unwrap_or_default();
        all.extend(events);
        all.drain(..all.len().saturating_sub(EVENTS_MAX));
        self.known = Some(Known { now, status, clients, events: all });
    }

    fn silence_of(&self, failure: &Failure) -> Silence {
        let what = match failure.kind() {
            Kind::Unreachable => format!("no daemon answers at {}; trying again", self.socket.display()),
            Kind::Internal
            | Kind::Usage
            | Kind::Configuration
            | Kind::NotServing
            | Kind::Denied
            | Kind::Deadline
            | Kind::Interrupted
            | Kind::BrokenPipe => format!("{}; trying again", failure.message()),
        };
        Silence { what, hints: failure.hints().to_vec() }
    }

    /// Somebody pressed a key.
    pub fn key(&mut self, key: Key) -> Next {
        match key {
            Key::Quit => return Next::Quit,
            Key::Escape if self.shows_help => self.shows_help = false,
            Key::Escape => return Next::Quit,
            Key::Suspend => return Next::Suspend,
            Key::Pause => self.is_paused = !self.is_paused,
            Key::Help => self.shows_help = !self.shows_help,
            Key::NextPanel => self.show(self.panel.next()),
            Key::PreviousPanel => self.show(self.panel.next().next()),
            Key::Scroll(lines) => {
                // Events rest at their end, everything else at its beginning.
                let away = if self.panel == Panel::Events { lines.saturating_neg() } else { lines };
                let by = usize::try_from(away.unsigned_abs()).unwrap_or(usize::MAX);
                self.scroll = if away < 0 { self.scroll.saturating_sub(by) } else { self.scroll.saturating_add(by) };
            }
        }
        Next::Stay
    }

    fn show(&mut self, panel: Panel) {
        self.panel = panel;
        (self.scroll, self.arrived) = (0, 0);
    }

    /// The panel was drawn so far away from where it rests: keys pressed beyond its end are forgotten.
    pub fn drawn(&mut self, scroll: usize) {
        (self.scroll, self.arrived) = (scroll, 0);
    }
}
