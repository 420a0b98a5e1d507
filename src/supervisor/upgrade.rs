//! Another image of the daemon in this process's place: vet it, drain, exec. One at a time, and every failure leaves the
//! present image serving.
//!
//! ```text
//! asked ─▶ Vetting ── the image runs and accepts home and configuration ─▶ Draining ── nothing left ─▶ Executing
//!             │                                                              ▲─ a request was on its way ┤
//!             │ it does not, or says nothing for 30 s                        │ grace passes              │ exec fails
//!             ▼                                                              ▼                           ▼
//!          failed                                                         postponed                   failed
//! ```
//! While draining no connection is taken: new ones wait in the backlog, which the next image inherits.

use std::path::PathBuf;
use std::time::Duration;

use super::ids::OperationId;
use super::time::Mono;
use super::verbs::{Outcome, OutcomeKind};
use super::{Action, Supervisor, spoken};

/// Longest an image may take to show that it runs.
const VETTING: Duration = Duration::from_secs(30);

/// After `Exec` this process either is another one or hears of the failure at once.
const EXECUTING: Duration = Duration::from_secs(10);

/// An upgrade under way.
#[derive(Debug, Clone, PartialEq)]
pub struct Upgrade {
    to: Option<PathBuf>,
    since: Mono,
    operations: Vec<OperationId>,
    phase: Phase,
}

#[derive(Debug, Clone, PartialEq)]
enum Phase {
    /// Whether the image runs is being tried.
    Vetting { deadline: Mono },
    /// No new connections; what is there ends.
    Draining { deadline: Mono, version: String },
    /// The system call is out.
    Executing { deadline: Mono, version: String },
}

impl Upgrade {
    /// When it must be looked at.
    #[must_use]
    pub fn deadline(&self) -> Mono {
        match self.phase {
            Phase::Vetting { deadline } | Phase::Draining { deadline, .. } | Phase::Executing { deadline, .. } => {
                deadline
            }
        }
    }

    /// Since when connections are held back; `None` while they are taken.
    #[must_use]
    pub fn draining_since(&self) -> Option<Mono> {
        match self.phase {
            Phase::Vetting { .. } => None,
            Phase::Draining { .. } | Phase::Executing { .. } => Some(self.since),
        }
    }
}

impl Supervisor {
    pub(super) fn ask_upgrade(&mut self, to: Option<PathBuf>, operations: Vec<OperationId>, now: Mono) {
        let image = to.as_ref().map_or_else(|| "the installed image".to_owned(), |to| to.display().to_string());
        self.record("upgrade", format!("trying {image}"));
        self.actions.push(Action::VetImage { to: to.clone() });
        self.upgrade = Some(Upgrade { to, since: now, operations, phase: Phase::Vetting { deadline: now + VETTING } });
    }

    pub(super) fn image_vetted(&mut self, result: Result<String, String>, now: Mono) {
        let grace = self.config.drain.grace;
        let Some(upgrade) = self.upgrade.as_mut().filter(|upgrade| matches!(upgrade.phase, Phase::Vetting { .. }))
        else {
            return;
        };
        match result {
            Ok(version) => {
                upgrade.phase = Phase::Draining { deadline: now + grace, version };
                self.actions.push(Action::PauseAccepting);
            }
            Err(why) => self.end_upgrade(OutcomeKind::Failed, &format!("the image does not run here: {why}")),
        }
    }

    pub(super) fn advance_upgrade(&mut self, now: Mono) {
        let Some(upgrade) = &mut self.upgrade else { return };
        let over = now >= upgrade.deadline();
        match &upgrade.phase {
            Phase::Vetting { .. } if over => {
                let message = format!("the image said nothing for {}", spoken(VETTING));
                self.end_upgrade(OutcomeKind::Failed, &message);
            }
            Phase::Draining { version, .. } if self.requests.is_empty() => {
                let message = format!("exec of version {version} after {} of draining", spoken(now - upgrade.since));
                let to = upgrade.to.clone();
                upgrade.phase = Phase::Executing { deadline: now + EXECUTING, version: version.clone() };
                self.record("upgrade_exec", message);
                self.actions.push(Action::Exec { to });
            }
            Phase::Draining { .. } if over => {
                let left = self.requests.len();
                let message = format!(
                    "postponed: {left} requests still here after {}; try again later, or with a longer drain.grace",
                    spoken(now - upgrade.since)
                );
                self.end_upgrade(OutcomeKind::Deadline, &message);
            }
            Phase::Executing { .. } if over => {
                self.end_upgrade(OutcomeKind::Failed, "the exec neither happened nor failed");
            }
            Phase::Vetting { .. } | Phase::Draining { .. } | Phase::Executing { .. } => {}
        }
    }

    /// A request was on its way in when the exec was decided: it is served first.
    pub(super) fn put_off_exec(&mut self, now: Mono) {
        let grace = self.config.drain.grace;
        let Some(upgrade) = &mut self.upgrade else { return };
        if let Phase::Executing { version, .. } = &mut upgrade.phase {
            upgrade.phase = Phase::Draining { deadline: now + grace, version: std::mem::take(version) };
            self.actions.push(Action::PauseAccepting);
        }
    }

    pub(super) fn exec_failed(&mut self, why: &str, _now: Mono) {
        if self.upgrade.as_ref().is_some_and(|upgrade| matches!(upgrade.phase, Phase::Executing { .. })) {
            self.end_upgrade(OutcomeKind::Failed, &format!("exec failed: {why}"));
        }
    }

    /// This image goes on.
    pub(super) fn end_upgrade(&mut self, result: OutcomeKind, why: &str) {
        let Some(upgrade) = self.upgrade.take() else { return };
        if upgrade.draining_since().is_some() {
            self.actions.push(Action::ResumeAccepting);
        }
        let message = format!("{why}; this daemon serves on");
        self.record("upgrade_ended", message.clone());
        self.reply_all(upgrade.operations, &Outcome::new(result, message));
    }
}
