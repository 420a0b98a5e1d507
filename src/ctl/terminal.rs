//! Where output goes and how it may look: data on stdout, talk on stderr, colour only where a person sees it.
//!
//! Owns the two streams, the changing line of progress and the colours; knows nothing of what is printed.

use std::io::{self, IsTerminal, Write};

/// The two streams and what is known about them.
pub struct Terminal {
    out: Box<dyn Write + Send>,
    err: Box<dyn Write + Send>,
    /// Colours of stdout.
    pub out_paint: Paint,
    /// Colours of stderr.
    pub err_paint: Paint,
    /// Columns of stdout if it is a terminal: longer text is wrapped there, and left alone in pipes.
    pub columns: Option<usize>,
    /// True when stdout is a terminal.
    pub out_is_terminal: bool,
    /// True when stderr is a terminal: progress may rewrite its line.
    pub err_is_terminal: bool,
    transient: bool,
}

impl Terminal {
    /// The process's own streams. `NO_COLOR` and `TERM=dumb` are obeyed.
    #[must_use]
    pub fn of_process() -> Self {
        let (out, err) = (io::stdout(), io::stderr());
        let (out_is_terminal, err_is_terminal) = (out.is_terminal(), err.is_terminal());
        let plain = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty())
            || std::env::var_os("TERM").is_some_and(|value| value == "dumb");
        let width = |size: Option<(terminal_size::Width, terminal_size::Height)>| size.map(|(w, _)| usize::from(w.0));
        Self {
            out_paint: Paint { colour: out_is_terminal && !plain },
            err_paint: Paint { colour: err_is_terminal && !plain },
            columns: width(terminal_size::terminal_size_of(&out)),
            out: Box::new(out),
            err: Box::new(err),
            out_is_terminal,
            err_is_terminal,
            transient: false,
        }
    }

    /// Writes data. Fails with `BrokenPipe` once the reader has gone.
    pub fn print(&mut self, text: impl AsRef<[u8]>) -> io::Result<()> {
        self.settle()?;
        self.out.write_all(text.as_ref())?;
        self.out.flush()
    }

    /// Writes one line of talk to stderr.
    pub fn say(&mut self, line: &str) -> io::Result<()> {
        self.settle()?;
        writeln!(self.err, "{line}")
    }

    /// Writes talk to stderr as it is, without a line end: a question's prompt.
    pub fn ask(&mut self, text: &str) -> io::Result<()> {
        self.settle()?;
        self.err.write_all(text.as_bytes())?;
        self.err.flush()
    }

    /// Shows a line that the next output replaces. Only where stderr is a terminal; elsewhere nothing is written.
    pub fn show_transient(&mut self, line: &str) -> io::Result<()> {
        if !self.err_is_terminal {
            return Ok(());
        }
        let room = self.columns.unwrap_or(80).saturating_sub(1);
        let shown: String = line.chars().take(room).collect();
        write!(self.err, "\r\x1b[K{}", self.err_paint.dim(&shown))?;
        self.transient = true;
        self.err.flush()
    }

    /// Removes a transient line, if one is shown.
    pub fn settle(&mut self) -> io::Result<()> {
        if std::mem::take(&mut self.transient) {
            self.err.write_all(b"\r\x1b[K")?;
            self.err.flush()?;
        }
        Ok(())
    }
}

/// Colours, or none.
#[derive(Debug, Clone, Copy, Default)]
pub struct Paint {
    /// False: text passes unchanged.
    pub colour: bool,
}

impl Paint {
    fn wrap(self, code: &str, text: &str) -> String {
        if self.colour { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }

    /// Secondary text.
    #[must_use]
    pub fn dim(self, text: &str) -> String {
        self.wrap("2", text)
    }

    /// What the eye should find first.
    #[must_use]
    pub fn bold(self, text: &str) -> String {
        self.wrap("1", text)
    }

    /// All is well.
    #[must_use]
    pub fn good(self, text: &str) -> String {
        self.wrap("1;32", text)
    }

    /// On its way, or to be watched.
    #[must_use]
    pub fn warn(self, text: &str) -> String {
        self.wrap("1;33", text)
    }

    /// Somebody has to act.
    #[must_use]
    pub fn bad(self, text: &str) -> String {
        self.wrap("1;31", text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_colour_text_passes_unchanged() {
        assert_eq!(Paint { colour: false }.bad("parked"), "parked");
        assert_eq!(Paint { colour: true }.bad("parked"), "\x1b[1;31mparked\x1b[0m");
    }
}
