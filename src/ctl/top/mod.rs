//! `mlxsupctl top`: what the service is doing, over the whole terminal, drawn anew with every answer. It looks and never
//! steers, and outlives the daemon it looks at.
//!
//! ```text
//! senses (keys, signals) ──┐
//! asking (control.sock) ───┴─ input ─▶ view ─▶ draw ─▶ screen
//!     ▲ one question at a time            pure    pure
//!     └──────────── every interval, but in a pause
//! ```
//! This file is the loop between them, and the only part that knows all of the others.

mod asking;
mod curves;
mod draw;
mod input;
mod kept;
mod screen;
mod senses;
#[cfg(test)]
mod tests;
mod view;

use std::io;
use std::time::Duration;

use signal_hook::consts::{SIGCONT, SIGTSTP};
use signal_hook::low_level::emulate_default_handler;
use tokio::sync::mpsc;
use tokio::time::MissedTickBehavior;

use super::control::Control;
use super::failure::{ExitStatus, Failure, Kind};
use super::render::quantity::Now;
use draw::Look;
use input::Input;
use screen::Screen;
use view::{Next, View};

/// Inputs that may lie before the loop; threads wait beyond that.
const INPUTS_MAX: usize = 16;

/// Shows the service until the person has seen enough. Whether a daemon answers decides nothing: it may come back.
///
/// # Errors
/// When the terminal cannot be used, or is gone.
pub async fn run(control: &Control, interval: Duration, colour: bool) -> Result<ExitStatus, Failure> {
    let (sender, mut inputs) = mpsc::channel(INPUTS_MAX);
    let lost = |error| Failure::new(Kind::Internal, "cannot use the terminal").caused_by(error);
    senses::watch_signals(sender.clone()).map_err(lost)?;
    let view = View::new(control.socket().to_owned(), control.home().to_owned(), interval);
    let screen = Screen::enter().map_err(lost)?;
    senses::watch_keys(sender.clone()).map_err(lost)?;
    let questions = asking::start(control.clone(), sender);
    let mut top = Top { view, screen: Some(screen), look: Look { colour } };
    let mut ticks = tokio::time::interval(interval);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut is_asking = false;
    loop {
        top.draw().map_err(lost)?;
        let next = tokio::select! {
            input = inputs.recv() => match input {
                Some(input) => {
                    is_asking &= !matches!(input, Input::Answer(_));
                    top.take(input).map_err(lost)?
                }
                None => Next::Quit,
            },
            _ = ticks.tick() => {
                // The task that asks holds an end of the inputs for as long as it lives, and takes one question at a time.
                if !is_asking && !top.view.is_paused {
                    is_asking = questions.try_send(top.view.wants_past(Now::of_machine())).is_ok();
                }
                Next::Stay
            }
        };
        match next {
            Next::Stay => {}
            Next::Suspend => top.suspend(SIGTSTP).map_err(lost)?,
            Next::Quit => return Ok(ExitStatus::Ok),
        }
    }
}

struct Top {
    view: View,
    /// `None` only while the shell has the terminal.
    screen: Option<Screen>,
    look: Look,
}

impl Top {
    fn draw(&mut self) -> io::Result<()> {
        match &mut self.screen {
            Some(screen) => screen.draw(&mut self.view, self.look),
            None => Ok(()),
        }
    }

    fn take(&mut self, input: Input) -> io::Result<Next> {
        match input {
            Input::Key(key) => return Ok(self.view.key(key)),
            Input::Answer(answer) => self.view.answered(*answer),
            // The next drawing sees the size.
            Input::Resized => {}
            Input::Deaf(error) => return Err(error),
            Input::Signal(SIGTSTP) => return Ok(Next::Suspend),
            // Stopped by somebody who asked nobody: the shell may have changed the terminal meanwhile.
            Input::Signal(SIGCONT) => self.take_over()?,
            // Ends the process, and whoever waits for it learns by which signal.
            Input::Signal(signal) => self.suspend(signal)?,
        }
        Ok(Next::Stay)
    }

    /// Gives the terminal back, does what the signal would have done, and takes the terminal again if that was not the end.
    fn suspend(&mut self, signal: i32) -> io::Result<()> {
        self.screen = None;
        emulate_default_handler(signal)?;
        self.take_over()
    }

    fn take_over(&mut self) -> io::Result<()> {
        // First out, then in: the screen remembers what the terminal was like when it was entered.
        self.screen = None;
        self.screen = Some(Screen::enter()?);
        Ok(())
    }
}
