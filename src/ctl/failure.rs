//! What can go wrong on the command line, and what the person is told: one place decides heading and exit status.
//!
//! Library errors stay values and arrive here as sources; hints are attached where the verb knows what to do next.

use std::error::Error;
use std::io;

use super::terminal::Terminal;

/// Exit statuses of `mlxsupctl`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum ExitStatus {
    /// Done, and serving where that was asked.
    Ok = 0,
    /// Something failed that should not.
    Internal = 1,
    /// Wrong arguments or a wrong configuration.
    Usage = 2,
    /// The service does not answer requests now.
    NotServing = 3,
    /// No daemon answers.
    Unreachable = 4,
    /// Not legal in this state.
    Denied = 5,
    /// The deadline passed first.
    Deadline = 6,
    /// Interrupted by the person, as shells count it.
    Interrupted = 130,
}

/// Kinds of failure, each with its own heading and exit status.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Our fault, or the machine's.
    Internal,
    /// Wrong arguments that the parser could not know to be wrong.
    Usage,
    /// A configuration file is bad or missing.
    Configuration,
    /// The service answers no requests now.
    NotServing,
    /// No daemon answers.
    Unreachable,
    /// Not legal in this state.
    Denied,
    /// The deadline passed first.
    Deadline,
    /// Ctrl-C.
    Interrupted,
    /// The reader of our output went away; nothing is said.
    BrokenPipe,
}

/// Heading and exit status of a kind.
const fn judge(kind: Kind) -> (&'static str, ExitStatus) {
    match kind {
        Kind::Internal => ("error", ExitStatus::Internal),
        Kind::Usage => ("error", ExitStatus::Usage),
        Kind::Configuration => ("configuration error", ExitStatus::Usage),
        Kind::NotServing => ("not serving", ExitStatus::NotServing),
        Kind::Unreachable => ("error", ExitStatus::Unreachable),
        Kind::Denied => ("denied", ExitStatus::Denied),
        Kind::Deadline => ("deadline passed", ExitStatus::Deadline),
        Kind::Interrupted => ("interrupted", ExitStatus::Interrupted),
        Kind::BrokenPipe => ("", ExitStatus::Ok),
    }
}

/// A verb that did not do what was asked.
#[derive(Debug)]
pub struct Failure {
    kind: Kind,
    message: String,
    source: Option<Box<dyn Error + Send + Sync>>,
    details: String,
    hints: Vec<String>,
}

impl Failure {
    /// A failure whose message says what failed, on which thing.
    #[must_use]
    pub fn new(kind: Kind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into(), source: None, details: String::new(), hints: Vec::new() }
    }

    /// Keeps the cause; its chain is printed.
    #[must_use]
    pub fn caused_by(mut self, source: impl Error + Send + Sync + 'static) -> Self {
        self.source = Some(Box::new(source));
        self
    }

    /// Adds facts below the causes: whole lines, indented.
    #[must_use]
    pub fn with_details(mut self, lines: String) -> Self {
        self.details = lines;
        self
    }

    /// Says what to do next, with the exact command.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hints.push(hint.into());
        self
    }

    /// What failed, on which thing.
    #[must_use]
    pub fn message(&self) -> &str {
        &self.message
    }

    /// What to do next.
    #[cfg(feature = "top")]
    #[must_use]
    pub fn hints(&self) -> &[String] {
        &self.hints
    }

    /// Which kind.
    #[must_use]
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// The exit status this failure ends the process with.
    #[must_use]
    pub fn status(&self) -> ExitStatus {
        judge(self.kind).1
    }

    /// Tells the person, on stderr: the message, its causes, what to do next.
    pub fn report(&self, terminal: &mut Terminal) -> io::Result<()> {
        let (heading, _) = judge(self.kind);
        if heading.is_empty() {
            return Ok(());
        }
        let paint = terminal.err_paint;
        terminal.say(&format!("{} {}", paint.bad(&format!("{heading}:")), self.message))?;
        let mut cause = self.source.as_deref().map(|source| source as &dyn Error);
        while let Some(error) = cause {
            terminal.say(&format!("{} {error}", paint.dim("  cause:")))?;
            cause = error.source();
        }
        for line in self.details.lines() {
            terminal.say(line)?;
        }
        for hint in &self.hints {
            terminal.say(&format!("{} {hint}", paint.bold("  hint:")))?;
        }
        Ok(())
    }
}

impl From<io::Error> for Failure {
    /// Writing to our own streams is the only I/O converted without a word of its own.
    fn from(error: io::Error) -> Self {
        if error.kind() == io::ErrorKind::BrokenPipe {
            return Self::new(Kind::BrokenPipe, "");
        }
        Self::new(Kind::Internal, "cannot write the output").caused_by(error)
    }
}
