//! What is said to `launchctl`, and what its answers mean.
//!
//! ```text
//! enable ─▶ bootstrap ─▶ kickstart ─▶ print: a pid?        bootout ─▶ print: not registered
//! ```
//! `bootout` returns before the job is gone, and `bootstrap` then fails for some seconds with codes that otherwise mean
//! something else; a job may sit registered without a process until it is kicked. Hence one act per look, until a
//! process is there. `load` and `unload` are not used: they guess the domain and hide errors.

use std::collections::BTreeMap;
use std::path::PathBuf;

use super::command::{CommandError, Ran, Tool};
use super::patience::Patience;
use super::{Scope, Standing};
use crate::ctl::terminal::Terminal;

/// Codes by which `bootstrap` says that an old job is still going: input/output error, operation already in progress, no
/// such service.
const RACES: [i32; 3] = [5, 37, 113];

/// `print` of a job that is not registered.
const NOT_REGISTERED: i32 = 113;

/// Codes by which `bootout` says that the job is going, or is gone already.
const GOING_OR_GONE: [i32; 4] = [0, 3, 36, 113];

/// launchd, seen through its program.
#[derive(Debug, Clone)]
pub struct Launchd {
    tool: Tool,
    domain: String,
    label: &'static str,
    plist: PathBuf,
}

impl Launchd {
    /// The job of this label, defined by this file.
    #[must_use]
    pub fn new(tool: Tool, scope: Scope, label: &'static str, plist: PathBuf) -> Self {
        let domain = match scope {
            Scope::User => format!("gui/{}", nix::unistd::getuid()),
            Scope::System => "system".to_owned(),
        };
        Self { tool, domain, label, plist }
    }

    /// How launchd names the job.
    #[must_use]
    pub fn target(&self) -> String {
        format!("{}/{}", self.domain, self.label)
    }

    /// Looks.
    pub async fn standing(&self, wait: &mut Patience, terminal: &mut Terminal) -> Result<Standing, CommandError> {
        let ran = self.say(&["print", &self.target()], wait, terminal).await?;
        match ran.code {
            Some(0) => Ok(read_print(&ran.out)),
            Some(NOT_REGISTERED) => Ok(Standing::Absent),
            _ => Err(ran.failed()),
        }
    }

    /// The job's own lines of `print`: what launchd has in force, which may differ from what the file says.
    pub async fn properties(
        &self,
        wait: &mut Patience,
        terminal: &mut Terminal,
    ) -> Result<BTreeMap<String, String>, CommandError> {
        let ran = self.say(&["print", &self.target()], wait, terminal).await?.ok()?;
        Ok(own_lines(&ran.out).map(|(name, value)| (name.to_owned(), value.to_owned())).collect())
    }

    /// Lets the job be loaded at all: a disabled one fails with a code that says nothing of it.
    pub async fn enable(&self, wait: &mut Patience, terminal: &mut Terminal) -> Result<(), CommandError> {
        self.say(&["enable", &self.target()], wait, terminal).await?.ok().map(drop)
    }

    /// One act that brings a job without a process nearer to one. A race is no failure: the next look decides.
    pub async fn nudge(
        &self,
        standing: &Standing,
        wait: &mut Patience,
        terminal: &mut Terminal,
    ) -> Result<Option<String>, CommandError> {
        let ran = match standing {
            Standing::Absent => {
                let plist = self.plist.display().to_string();
                let ran = self.say(&["bootstrap", &self.domain, &plist], wait, terminal).await?;
                if ran.code != Some(0) {
                    if !ran.code.is_some_and(|code| RACES.contains(&code)) {
                        return Err(ran.failed());
                    }
                    return Ok(Some(ran.failed().to_string()));
                }
                self.kickstart(wait, terminal).await?
            }
            Standing::Present { pid: None, .. } => self.kickstart(wait, terminal).await?,
            Standing::Present { pid: Some(_), .. } => return Ok(None),
        };
        Ok((ran.code != Some(0)).then(|| ran.failed().to_string()))
    }

    /// Without `-k`: that would be a kill.
    async fn kickstart(&self, wait: &mut Patience, terminal: &mut Terminal) -> Result<Ran, CommandError> {
        self.say(&["kickstart", &self.target()], wait, terminal).await
    }

    /// Orders the job out. Said once: every further one would be a further SIGTERM, which the daemon takes for
    /// impatience.
    pub async fn order_out(&self, wait: &mut Patience, terminal: &mut Terminal) -> Result<(), CommandError> {
        let ran = self.say(&["bootout", &self.target()], wait, terminal).await?;
        if ran.code.is_some_and(|code| GOING_OR_GONE.contains(&code)) { Ok(()) } else { Err(ran.failed()) }
    }

    async fn say(&self, words: &[&str], wait: &mut Patience, terminal: &mut Terminal) -> Result<Ran, CommandError> {
        self.tool.run(words, &format!("launchctl {}", words[0]), wait, terminal).await
    }
}

/// Reads `launchctl print`: only the job's own lines, as its parts have pids and states of their own.
fn own_lines(text: &str) -> impl Iterator<Item = (&str, &str)> {
    let mut depth = 0_usize;
    text.lines().map(str::trim).filter_map(move |line| {
        if line.ends_with('{') {
            depth += 1;
        } else if line == "}" {
            depth = depth.saturating_sub(1);
        } else if depth == 1 {
            return line.split_once(" = ");
        }
        None
    })
}

fn read_print(text: &str) -> Standing {
    let (mut pid, mut last_exit) = (None, None);
    for (name, value) in own_lines(text) {
        match name {
            "pid" => pid = value.parse().ok().filter(|pid| *pid > 0),
            "last exit code" if !value.starts_with("(never") => last_exit = Some(format!("last exit code {value}")),
            "last terminating signal" => last_exit = Some(format!("ended by {value}")),
            _ => {}
        }
    }
    Standing::Present { pid, word: last_exit }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_printed_job_is_read() {
        let running = "gui/501/io.github.mlxsup.mlxsupd = {\n\tactive count = 4\n\tstate = running\n\n\tendpoints = {\n\t\t\"x\" = {\n\t\t\tpid = 1\n\t\t}\n\t}\n\tpid = 812\n\tlast exit code = (never exited)\n}\n";
        assert_eq!(read_print(running), Standing::Present { pid: Some(812), word: None });
        let dead = "gui/501/x = {\n\tstate = spawn scheduled\n\tlast exit code = 2\n}\n";
        assert_eq!(read_print(dead), Standing::Present { pid: None, word: Some("last exit code 2".to_owned()) });
        assert_eq!(read_print(""), Standing::Present { pid: None, word: None });
    }
}
