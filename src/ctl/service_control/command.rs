//! Running `launchctl`, `systemctl` and other programs that answer and end: bounded in time, output kept, exit codes told apart.
//!
//! Owns the processes it starts and nothing of what their answers mean.

use std::borrow::Cow;
use std::ffi::OsString;
use std::io::{self, Read};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use super::patience::Patience;
use crate::ctl::terminal::Terminal;

/// For output that a child of the program still holds open after its end.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// A program that answers on its standard output.
#[derive(Debug, Clone)]
pub struct Tool {
    program: Cow<'static, str>,
    path: Option<OsString>,
}

/// How a run ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ran {
    /// The command line, for messages.
    pub command: String,
    /// Exit code; `None` when a signal ended it.
    pub code: Option<i32>,
    /// Standard output.
    pub out: String,
    /// Standard error.
    pub err: String,
}

/// A command that gave no usable answer.
#[derive(Debug, thiserror::Error)]
pub enum CommandError {
    /// It is not there.
    #[error("there is no `{program}` in PATH")]
    Missing {
        /// Which.
        program: String,
    },
    /// It cannot be started.
    #[error("cannot run `{command}`: {source}")]
    Start {
        /// The command line.
        command: String,
        /// The system's word.
        source: io::Error,
    },
    /// It did not end.
    #[error("`{command}` was still running after {} s and was ended", after.as_secs())]
    Silent {
        /// The command line.
        command: String,
        /// The limit.
        after: Duration,
    },
    /// It said no.
    #[error("`{command}` {how}{}{said}", if said.is_empty() { "" } else { ": " })]
    Failed {
        /// The command line.
        command: String,
        /// Its exit code, in words.
        how: String,
        /// What it wrote, on one line.
        said: String,
    },
    /// Our own terminal is gone.
    #[error("cannot write to the terminal: {0}")]
    Terminal(#[from] io::Error),
}

impl Tool {
    /// The program of this name, found in PATH.
    #[must_use]
    pub const fn new(program: &'static str) -> Self {
        Self { program: Cow::Borrowed(program), path: None }
    }

    /// The program at this path.
    #[must_use]
    pub fn at(path: &Path) -> Self {
        Self { program: Cow::Owned(path.to_string_lossy().into_owned()), path: None }
    }

    /// The same, looked for in these folders.
    #[cfg(test)]
    pub fn found_in(program: &'static str, path: OsString) -> Self {
        Self { program: Cow::Borrowed(program), path: Some(path) }
    }

    /// Runs it to its end or to the end of the patience; `what` is shown meanwhile.
    ///
    /// # Errors
    /// When it cannot be run or does not end. A bad exit code is an answer: see [`Ran::ok`].
    pub async fn run(
        &self,
        arguments: &[&str],
        what: &str,
        patience: &mut Patience,
        terminal: &mut Terminal,
    ) -> Result<Ran, CommandError> {
        let command_line = format!("{} {}", self.program, arguments.join(" "));
        let mut command = Command::new(self.program.as_ref());
        // Messages are read by this program, so they must not be translated.
        command.args(arguments).env("LC_ALL", "C").stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        if let Some(path) = &self.path {
            command.env("PATH", path);
        }
        let began = Instant::now();
        let mut child = match command.spawn() {
            Ok(child) => child,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(CommandError::Missing { program: self.program.clone().into_owned() });
            }
            Err(source) => return Err(CommandError::Start { command: command_line, source }),
        };
        let (out, err) = (collect(child.stdout.take()), collect(child.stderr.take()));
        loop {
            match child.try_wait() {
                Ok(Some(status)) => {
                    let text = |end: mpsc::Receiver<String>| end.recv_timeout(LAST_WORDS).unwrap_or_default();
                    return Ok(Ran { command: command_line, code: status.code(), out: text(out), err: text(err) });
                }
                Ok(None) => {}
                Err(source) => return Err(CommandError::Start { command: command_line, source }),
            }
            match patience.soon(began, what, terminal).await {
                Ok(true) => {}
                Ok(false) => {
                    end(&mut child);
                    return Err(CommandError::Silent { command: command_line, after: began.elapsed() });
                }
                Err(error) => {
                    end(&mut child);
                    return Err(error.into());
                }
            }
        }
    }
}

impl Ran {
    /// The run itself when it ended with 0.
    ///
    /// # Errors
    /// [`CommandError::Failed`] otherwise.
    pub fn ok(self) -> Result<Self, CommandError> {
        if self.code == Some(0) { Ok(self) } else { Err(self.failed()) }
    }

    /// The run as the reason of a failure.
    #[must_use]
    pub fn failed(&self) -> CommandError {
        let how = self.code.map_or_else(|| "was killed".to_owned(), |code| format!("ended with {code}"));
        let said: Vec<&str> =
            self.err.lines().chain(self.out.lines()).map(str::trim).filter(|l| !l.is_empty()).collect();
        CommandError::Failed { command: self.command.clone(), how, said: said.join("; ") }
    }
}

/// Reads a stream to its end on a thread of its own, so that a full pipe never stops the child.
fn collect(stream: Option<impl Read + Send + 'static>) -> mpsc::Receiver<String> {
    let (sender, receiver) = mpsc::channel();
    if let Some(mut stream) = stream {
        std::thread::spawn(move || {
            let mut bytes = Vec::new();
            let _ = stream.read_to_end(&mut bytes);
            // Nobody waits for it any more when the child was ended.
            let _ = sender.send(String::from_utf8_lossy(&bytes).into_owned());
        });
    }
    receiver
}

fn end(child: &mut Child) {
    let _ = child.kill();
    let _ = child.wait();
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn run(program: &'static str, arguments: &[&str], limit: Duration) -> Result<Ran, CommandError> {
        let mut patience = Patience::new(limit);
        Tool::new(program).run(arguments, "trying", &mut patience, &mut Terminal::of_process()).await
    }

    #[tokio::test]
    async fn output_and_code_are_kept_apart() {
        let ran = run("sh", &["-c", "echo out; echo err >&2; exit 5"], Duration::from_secs(30)).await.unwrap();
        assert_eq!((ran.code, ran.out.as_str(), ran.err.as_str()), (Some(5), "out\n", "err\n"));
        let message = ran.ok().unwrap_err().to_string();
        assert_eq!(message, "`sh -c echo out; echo err >&2; exit 5` ended with 5: err; out");
    }

    #[tokio::test]
    async fn a_program_that_is_not_there_is_named() {
        let error = run("no-such-launchctl", &[], Duration::from_secs(1)).await.unwrap_err();
        assert!(matches!(error, CommandError::Missing { .. }), "{error}");
    }
}
