//! Keys and signals as inputs, each from a thread that blocks on them. Both threads end with the process.

use std::io;

use ratatui::crossterm::event::{self, Event};
use signal_hook::consts::{SIGCONT, SIGHUP, SIGINT, SIGTERM, SIGTSTP};
use signal_hook::iterator::Signals;
use tokio::sync::mpsc;

use super::input::{Input, Key};

/// Takes over the signals that end or stop a program at a terminal: the terminal has to be given back first.
///
/// # Errors
/// When the process has no descriptor left, or no thread.
pub fn watch_signals(inputs: mpsc::Sender<Input>) -> io::Result<()> {
    let mut signals = Signals::new([SIGINT, SIGTERM, SIGHUP, SIGTSTP, SIGCONT])?;
    let watch = move || {
        for signal in signals.forever() {
            if inputs.blocking_send(Input::Signal(signal)).is_err() {
                return;
            }
        }
    };
    std::thread::Builder::new().name("signals".to_owned()).spawn(watch).map(drop)
}

/// Reads keys, and notices new sizes of the terminal.
///
/// # Errors
/// When there is no thread left.
pub fn watch_keys(inputs: mpsc::Sender<Input>) -> io::Result<()> {
    let watch = move || {
        loop {
            let input = match event::read() {
                Ok(Event::Key(key)) => Key::of(key).map(Input::Key),
                Ok(Event::Resize(..)) => Some(Input::Resized),
                Ok(_) => None,
                Err(error) => {
                    // The view ends with this, or has ended.
                    let _ = inputs.blocking_send(Input::Deaf(error));
                    return;
                }
            };
            if let Some(input) = input
                && inputs.blocking_send(input).is_err()
            {
                return;
            }
        }
    };
    std::thread::Builder::new().name("keys".to_owned()).spawn(watch).map(drop)
}
