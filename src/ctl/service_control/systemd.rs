//! What is said to `systemctl`, and what its answers mean.
//!
//! ```text
//! daemon-reload ─▶ enable --now sockets, service ─▶ show: a main pid?     disable --now ─▶ show: inactive
//! ```

use super::command::{CommandError, Ran, Tool};
use super::patience::Patience;
use super::{Scope, Standing};
use crate::ctl::terminal::Terminal;

/// The daemon's unit.
pub const SERVICE: &str = "mlxsup.service";

/// systemd, seen through its program.
#[derive(Debug, Clone)]
pub struct Systemd {
    tool: Tool,
    scope: Scope,
}

impl Systemd {
    /// The user's own systemd, or the machine's.
    #[must_use]
    pub const fn new(tool: Tool, scope: Scope) -> Self {
        Self { tool, scope }
    }

    /// The command that shows a person what systemd knows.
    #[must_use]
    pub fn question(&self) -> String {
        format!("systemctl {}status {SERVICE}", self.scope_flag())
    }

    /// The command that shows what the daemon said before its log was open.
    #[must_use]
    pub fn journal(&self) -> String {
        format!("journalctl {}-u {SERVICE} -n 20", self.scope_flag())
    }

    fn scope_flag(&self) -> &'static str {
        match self.scope {
            Scope::User => "--user ",
            Scope::System => "",
        }
    }

    /// Looks.
    pub async fn standing(&self, wait: &mut Patience, terminal: &mut Terminal) -> Result<Standing, CommandError> {
        let words = ["show", "--property=LoadState,ActiveState,SubState,MainPID,Result", SERVICE];
        let ran = self.say(&words, "asking systemd", wait, terminal).await?.ok()?;
        Ok(read_show(&ran.out))
    }

    /// Takes changed unit files into account.
    pub async fn reread(&self, wait: &mut Patience, terminal: &mut Terminal) -> Result<(), CommandError> {
        self.say(&["daemon-reload"], "systemctl daemon-reload", wait, terminal).await?.ok().map(drop)
    }

    /// Orders a start or stop and does not wait for it.
    pub async fn only_order(
        &self,
        verb: &str,
        units: &[String],
        wait: &mut Patience,
        terminal: &mut Terminal,
    ) -> Result<(), CommandError> {
        self.order(&[verb, "--no-block"], units, "ordering it", wait, terminal).await
    }

    /// Starts the units now and, with `enable`, at every boot or login.
    pub async fn start(
        &self,
        units: &[String],
        enable: bool,
        wait: &mut Patience,
        terminal: &mut Terminal,
    ) -> Result<(), CommandError> {
        let words = if enable { &["enable", "--now"][..] } else { &["start"] };
        self.order(words, units, "systemd starts the daemon", wait, terminal).await
    }

    /// Stops the units in one order, so that the socket does not start the service again, and with `disable` for good.
    pub async fn stop(
        &self,
        units: &[String],
        disable: bool,
        wait: &mut Patience,
        terminal: &mut Terminal,
    ) -> Result<(), CommandError> {
        let words = if disable { &["disable", "--now"][..] } else { &["stop"] };
        self.order(words, units, "systemd stops the daemon, running requests may finish", wait, terminal).await
    }

    async fn order(
        &self,
        words: &[&str],
        units: &[String],
        what: &str,
        wait: &mut Patience,
        terminal: &mut Terminal,
    ) -> Result<(), CommandError> {
        let words: Vec<&str> = words.iter().copied().chain(units.iter().map(String::as_str)).collect();
        self.say(&words, what, wait, terminal).await?.ok().map(drop)
    }

    async fn say(
        &self,
        words: &[&str],
        what: &str,
        wait: &mut Patience,
        terminal: &mut Terminal,
    ) -> Result<Ran, CommandError> {
        let scope = match self.scope {
            Scope::User => Some("--user"),
            Scope::System => None,
        };
        let words: Vec<&str> = scope.into_iter().chain(words.iter().copied()).collect();
        self.tool.run(&words, what, wait, terminal).await
    }
}

/// Reads `systemctl show`: `NAME=value` lines in any order.
fn read_show(text: &str) -> Standing {
    let value = |name: &str| text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix('=')).unwrap_or("");
    let pid = value("MainPID").parse().ok().filter(|pid| *pid > 0);
    let (active, sub, result) = (value("ActiveState"), value("SubState"), value("Result"));
    if pid.is_none() && (value("LoadState") == "not-found" || active == "inactive") {
        return Standing::Absent;
    }
    let mut word = format!("{active} ({sub})");
    if !result.is_empty() && result != "success" {
        word.push_str(&format!(", last result {result}"));
    }
    Standing::Present { pid, word: Some(word) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shown_unit_is_read() {
        let show = |active: &str, sub: &str, pid: u32, result: &str| {
            read_show(&format!(
                "MainPID={pid}\nResult={result}\nLoadState=loaded\nActiveState={active}\nSubState={sub}\n"
            ))
        };
        let running = Standing::Present { pid: Some(812), word: Some("active (running)".to_owned()) };
        assert_eq!(show("active", "running", 812, "success"), running);
        assert_eq!(show("inactive", "dead", 0, "success"), Standing::Absent);
        assert_eq!(read_show("LoadState=not-found\nActiveState=inactive\nMainPID=0\n"), Standing::Absent);
        let waiting = "activating (auto-restart), last result exit-code".to_owned();
        assert_eq!(
            show("activating", "auto-restart", 0, "exit-code"),
            Standing::Present { pid: None, word: Some(waiting) }
        );
    }
}
