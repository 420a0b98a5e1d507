//! Acting through launchd or systemd: loading our unit, seeing that a daemon really came of it, taking it out again.
//!
//! Owns the conversations with both service managers and the files they read. Success is never an exit code: it is a
//! daemon that answers on its control socket under the pid the service manager names.
//!
//! ```text
//! verbs/{install,start} ─▶ bring_up   ─▶ launchd | systemd ─▶ command (launchctl, systemctl)
//! verbs/{uninstall,stop} ─▶ bring_down ─▶       "                 patience: one limit for all retries
//! ```

mod command;
mod home_daemon;
mod launchd;
mod patience;
mod place;
mod systemd;
mod unit_files;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::time::Duration;

pub use command::{CommandError, Tool};
pub use home_daemon::{Running, answering};
use launchd::Launchd;
pub use patience::Patience;
pub use place::{Found, Place, choose, installed, is_same, stop_patience};
use systemd::Systemd;
pub use unit_files::{UnitFiles, Written};

use super::args::ServiceManager;
use super::control::Control;
use super::failure::{Failure, Kind};
use super::terminal::Terminal;
use crate::memory::{footprint, process_start_id};

/// launchd's label, and the name of the plist.
pub const LABEL: &str = "io.github.mlxsup.mlxsupd";

/// How long a daemon may take from the order to its first answer.
pub const START_PATIENCE: Duration = Duration::from_secs(60);

/// Whose service it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// The user's own: runs as that user, from login on.
    User,
    /// The machine's: runs as a named user, from boot on.
    System,
}

/// What a service manager says of our job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Standing {
    /// It is not loaded, or not active.
    Absent,
    /// It is, and this is its process, if it has one.
    Present {
        /// The daemon.
        pid: Option<u32>,
        /// What else is said: the last exit, the unit's state.
        word: Option<String>,
    },
}

impl Standing {
    /// The daemon's process.
    #[must_use]
    pub const fn pid(&self) -> Option<u32> {
        match self {
            Self::Absent => None,
            Self::Present { pid, .. } => *pid,
        }
    }
}

/// One of the two, with our unit.
#[derive(Debug, Clone)]
pub enum ServiceControl {
    /// macOS.
    Launchd(Launchd),
    /// Linux.
    Systemd(Systemd),
}

impl ServiceControl {
    /// The service manager of this place, its program found in PATH.
    #[must_use]
    pub fn of(place: &Place) -> Self {
        match place.manager {
            ServiceManager::Launchd => {
                let plist = place.folder.join(format!("{LABEL}.plist"));
                Self::Launchd(Launchd::new(Tool::new("launchctl"), place.scope, LABEL, plist))
            }
            ServiceManager::Systemd => Self::Systemd(Systemd::new(Tool::new("systemctl"), place.scope)),
        }
    }

    /// Its name.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Launchd(_) => "launchd",
            Self::Systemd(_) => "systemd",
        }
    }

    /// How it names our unit.
    #[must_use]
    pub fn unit(&self) -> String {
        match self {
            Self::Launchd(launchd) => launchd.target(),
            Self::Systemd(_) => systemd::SERVICE.to_owned(),
        }
    }

    /// Looks.
    pub async fn standing(&self, wait: &mut Patience, terminal: &mut Terminal) -> Result<Standing, CommandError> {
        match self {
            Self::Launchd(launchd) => launchd.standing(wait, terminal).await,
            Self::Systemd(systemd) => systemd.standing(wait, terminal).await,
        }
    }

    /// What the service manager has in force for the job, by its own names; empty where it is not asked for that.
    pub async fn properties(
        &self,
        wait: &mut Patience,
        terminal: &mut Terminal,
    ) -> Result<BTreeMap<String, String>, CommandError> {
        match self {
            Self::Launchd(launchd) => launchd.properties(wait, terminal).await,
            Self::Systemd(_) => Ok(BTreeMap::new()),
        }
    }

    /// Loads and starts the units of `files`, at every boot or login too with `enable`, and returns once a daemon answers
    /// under the pid the service manager names. Already running is fine.
    ///
    /// # Errors
    /// When the service manager refuses, or no daemon answers before the patience ends.
    pub async fn bring_up(
        &self,
        files: &[String],
        enable: bool,
        control: &Control,
        wait: &mut Patience,
        terminal: &mut Terminal,
    ) -> Result<Running, Failure> {
        let refused = |error| self.refused("start the daemon", error);
        match self {
            Self::Launchd(launchd) => launchd.enable(wait, terminal).await.map_err(refused)?,
            Self::Systemd(systemd) => {
                systemd.reread(wait, terminal).await.map_err(refused)?;
                systemd
                    .start(files, enable, wait, terminal)
                    .await
                    .map_err(|error| self.with_traces(self.refused("start the daemon", error), control))?;
            }
        }
        let mut complaint = None;
        loop {
            let standing = self.standing(wait, terminal).await.map_err(refused)?;
            let answered = answering(control).await;
            if let Some(running) = &answered
                && standing.pid() == Some(running.pid)
            {
                return Ok(running.clone());
            }
            if let Self::Launchd(launchd) = self {
                let said = launchd.nudge(&standing, wait, terminal).await.map_err(refused)?;
                if said.is_some() && complaint.is_none() {
                    terminal.say("launchd is not ready for the job yet; trying again")?;
                }
                complaint = said.or(complaint);
            }
            let what = match standing.pid() {
                Some(pid) => format!("waiting until the daemon (pid {pid}) answers"),
                None => format!("waiting for {} to start the daemon", self.name()),
            };
            if !wait.again(&what, terminal).await? {
                return Err(self.never_answered(&standing, answered.as_ref(), complaint, control, wait.limit()));
            }
        }
    }

    /// Orders a start and does not look what comes of it.
    ///
    /// # Errors
    /// When the service manager refuses.
    pub async fn only_order_up(
        &self,
        files: &[String],
        wait: &mut Patience,
        terminal: &mut Terminal,
    ) -> Result<(), Failure> {
        let refused = |error| self.refused("start the daemon", error);
        match self {
            Self::Launchd(launchd) => {
                launchd.enable(wait, terminal).await.map_err(refused)?;
                let standing = launchd.standing(wait, terminal).await.map_err(refused)?;
                if let Some(said) = launchd.nudge(&standing, wait, terminal).await.map_err(refused)? {
                    let message = "launchd is not ready for the job yet";
                    return Err(Failure::new(Kind::Internal, message)
                        .caused_by(std::io::Error::other(said))
                        .hint("without --no-wait it is tried again until it works"));
                }
                Ok(())
            }
            Self::Systemd(systemd) => systemd.only_order("start", files, wait, terminal).await.map_err(refused),
        }
    }

    /// Orders a stop and does not wait for the daemon's end.
    ///
    /// # Errors
    /// When the service manager refuses.
    pub async fn only_order_down(
        &self,
        files: &[String],
        wait: &mut Patience,
        terminal: &mut Terminal,
    ) -> Result<(), Failure> {
        let refused = |error| self.refused("stop the daemon", error);
        match self {
            Self::Launchd(launchd) => launchd.order_out(wait, terminal).await.map_err(refused),
            Self::Systemd(systemd) => systemd.only_order("stop", files, wait, terminal).await.map_err(refused),
        }
    }

    /// Lets the service manager forget files that were removed.
    ///
    /// # Errors
    /// When it refuses.
    pub async fn forget_files(&self, wait: &mut Patience, terminal: &mut Terminal) -> Result<(), Failure> {
        match self {
            // A job that is out is forgotten.
            Self::Launchd(_) => Ok(()),
            Self::Systemd(systemd) => {
                systemd.reread(wait, terminal).await.map_err(|error| self.refused("reread its units", error))
            }
        }
    }

    /// Stops the daemon, with `disable` for good, and returns once its process is gone. False when nothing ran.
    ///
    /// # Errors
    /// When the service manager refuses, or the process is still there when the patience ends.
    pub async fn bring_down(
        &self,
        files: &[String],
        disable: bool,
        wait: &mut Patience,
        terminal: &mut Terminal,
    ) -> Result<bool, Failure> {
        let refused = |error| self.refused("stop the daemon", error);
        let before = self.standing(wait, terminal).await.map_err(refused)?;
        let process = before.pid().map(|pid| (pid, process_start_id(pid)));
        match self {
            Self::Launchd(launchd) if before != Standing::Absent => {
                launchd.order_out(wait, terminal).await.map_err(refused)?;
            }
            Self::Launchd(_) => {}
            // Also when the service is down: its socket may be up and start it again.
            Self::Systemd(systemd) => systemd.stop(files, disable, wait, terminal).await.map_err(refused)?,
        }
        loop {
            let standing = self.standing(wait, terminal).await.map_err(refused)?;
            let alive = process.as_ref().filter(|(pid, start)| {
                start.is_some() && process_start_id(*pid) == *start && footprint(*pid).is_some()
            });
            if alive.is_none() && standing == Standing::Absent {
                return Ok(before != Standing::Absent);
            }
            let what = match alive {
                Some((pid, _)) => {
                    format!("waiting until the daemon (pid {pid}) has ended, running requests may finish")
                }
                None => format!("waiting until {} has let go of it", self.name()),
            };
            if !wait.again(&what, terminal).await? {
                let message =
                    format!("{} has not stopped {} within {} s", self.name(), self.unit(), wait.limit().as_secs());
                return Err(Failure::new(Kind::Internal, message)
                    .hint("see `mlxsupctl status`; running requests may be finishing, then do this again")
                    .hint(format!("ask {} itself: `{}`", self.name(), self.question())));
            }
        }
    }

    /// The command that shows a person what the service manager knows.
    fn question(&self) -> String {
        match self {
            Self::Launchd(launchd) => format!("launchctl print {}", launchd.target()),
            Self::Systemd(systemd) => systemd.question(),
        }
    }

    /// A service manager that said no, with what is known of the reason.
    pub fn refused(&self, doing: &str, error: CommandError) -> Failure {
        let text = error.to_string();
        let failure = Failure::new(Kind::Internal, format!("{} did not {doing}", self.name()));
        let (failure, missing) = match error {
            CommandError::Terminal(error) => return error.into(),
            CommandError::Missing { .. } => (failure.caused_by(error), true),
            CommandError::Start { .. } | CommandError::Silent { .. } | CommandError::Failed { .. } => {
                (failure.caused_by(error), false)
            }
        };
        match self {
            _ if missing => {
                let failure = failure.hint("without a service manager, run the daemon itself: `mlxsupd`");
                failure.hint("files for another machine: `mlxsupctl install --for launchd|systemd --into DIR`")
            }
            Self::Launchd(_) if text.contains("with 125") => failure
                .hint("your login session has no screen (ssh?): log in at the screen once, then do this again")
                .hint("or install for the machine: `sudo mlxsupctl install --system`"),
            Self::Systemd(_) if text.contains("connect to") => failure
                .hint(
                    "your user's own systemd does not run: `loginctl enable-linger`, log in again, then do this again",
                )
                .hint("or install for the machine: `sudo mlxsupctl install --system`"),
            Self::Launchd(_) | Self::Systemd(_) => failure.hint(format!("see `{}`", self.question())),
        }
    }

    fn never_answered(
        &self,
        standing: &Standing,
        answered: Option<&Running>,
        complaint: Option<String>,
        control: &Control,
        limit: Duration,
    ) -> Failure {
        let name = self.name();
        let limit = limit.as_secs();
        let message = match (standing, answered) {
            (_, Some(other)) => {
                let pid = other.pid;
                format!("another daemon (pid {pid}) serves this home, so the one {name} starts cannot")
            }
            (Standing::Absent, None) => format!("{name} has not taken {} within {limit} s", self.unit()),
            (Standing::Present { pid: None, .. }, None) => {
                format!("{name} has {}, but no daemon runs after {limit} s", self.unit())
            }
            (Standing::Present { pid: Some(pid), .. }, None) => {
                format!("the daemon (pid {pid}) does not answer on `{}` after {limit} s", control.socket().display())
            }
        };
        let mut details = String::new();
        if let Standing::Present { word: Some(word), .. } = standing {
            details.push_str(&format!("  {name}: {word}\n"));
        }
        if let Some(complaint) = complaint {
            details.push_str(&format!("  last complaint: {complaint}\n"));
        }
        let failure = Failure::new(Kind::Internal, message).with_details(details);
        if answered.is_some() {
            return failure.hint("stop that one, then do this again: `mlxsupctl stop`");
        }
        self.with_traces(failure, control)
    }

    /// Where a daemon that did not come up has left its reasons.
    fn with_traces(&self, failure: Failure, control: &Control) -> Failure {
        let home = control.home().display();
        let failure = failure.hint(format!("see what keeps it from starting: `mlxsupd --home {home} --check`"));
        let failure = match self {
            Self::Launchd(_) => failure.hint(format!("and what it said: {home}/logs/mlxsupd.stderr.log")),
            Self::Systemd(systemd) => failure.hint(format!("and what it said: `{}`", systemd.journal())),
        };
        failure.hint("then `mlxsupctl start`")
    }
}
