//! Styles, with colour or without. Bold and dim stay without it: they are no colours, and the picture needs them.

use ratatui::style::{Color, Modifier, Style};

use crate::control::view::RuleState;
use crate::ctl::render::status::Tone;

/// How things look.
#[derive(Debug, Clone, Copy)]
pub struct Look {
    /// False where `NO_COLOR` asks for none.
    pub colour: bool,
}

impl Look {
    fn strong(self, colour: Color) -> Style {
        let style = self.bold();
        if self.colour { style.fg(colour) } else { style }
    }

    /// What the eye should find first.
    pub const fn bold(self) -> Style {
        Style::new().add_modifier(Modifier::BOLD)
    }

    /// Secondary text.
    pub const fn dim(self) -> Style {
        Style::new().add_modifier(Modifier::DIM)
    }

    /// The curve itself.
    pub fn curve(self) -> Style {
        if self.colour { Style::new().fg(Color::Cyan) } else { Style::new() }
    }

    /// A state of the service.
    pub fn tone(self, tone: Tone) -> Style {
        match tone {
            Tone::Good => self.strong(Color::Green),
            Tone::Warn => self.strong(Color::Yellow),
            Tone::Bad => self.strong(Color::Red),
        }
    }

    /// A rule.
    pub fn rule(self, state: RuleState) -> Style {
        match state {
            RuleState::Inactive => Style::new(),
            RuleState::Pending | RuleState::Cooldown => self.tone(Tone::Warn),
            RuleState::Firing => self.tone(Tone::Bad),
            RuleState::Off => self.dim(),
        }
    }
}
