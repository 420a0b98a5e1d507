//! The daemon: does it answer, does it serve, what has gone wrong lately?

use std::path::PathBuf;

use super::finding::{Area, Finding, Level};
use crate::control::view::{State, Status};

/// How `stat` is asked for an owner's name.
const OWNER: &str = if cfg!(target_os = "macos") { "-f %Su" } else { "-c %U" };

/// What was learnt of it.
#[derive(Debug, Clone)]
pub struct Daemon {
    /// What it said.
    pub answer: Answer,
    /// The home asked for.
    pub home: PathBuf,
    /// A service manager should be running it.
    pub installed: bool,
    /// What starts it.
    pub start: String,
}

/// What came of asking for its status.
#[derive(Debug, Clone)]
pub enum Answer {
    /// It answered.
    Status(Box<Status>),
    /// Nobody listens on its control socket.
    Nobody,
    /// Somebody listens and says nothing.
    Silent,
    /// The control socket is somebody else's.
    Closed,
    /// It answered with something else than a status.
    Strange(String),
}

impl Daemon {
    /// Its status, if it gave one.
    #[must_use]
    pub fn status(&self) -> Option<&Status> {
        match &self.answer {
            Answer::Status(status) => Some(status),
            Answer::Nobody | Answer::Silent | Answer::Closed | Answer::Strange(_) => None,
        }
    }
}

/// Judges it.
#[must_use]
pub fn judge(daemon: &Daemon) -> Vec<Finding> {
    let finding = |level, code, what: String| Finding::new(Area::Daemon, level, code, what);
    let home = daemon.home.display();
    match &daemon.answer {
        Answer::Status(status) => of_status(status),
        Answer::Nobody if daemon.installed => vec![
            finding(Level::Problem, "unreachable", "the service is installed, but no daemon answers".to_owned())
                .because("clients wait in the socket's backlog or are refused")
                .mended_by(&daemon.start),
        ],
        Answer::Nobody => vec![
            finding(Level::Warning, "not_running", format!("no daemon runs in {home}"))
                .because("nobody serves clients")
                .mended_by(&daemon.start),
        ],
        Answer::Silent => vec![
            finding(Level::Problem, "silent", "the daemon holds its control socket and does not answer".to_owned())
                .because("it may be stuck; an installed service is ended by its watchdog on Linux, not on macOS")
                .mended_by(format!("mlxsupctl --home {home} logs")),
        ],
        Answer::Closed => vec![
            finding(Level::Problem, "closed", "the control socket belongs to another user".to_owned())
                .because("what the daemon knows could not be asked")
                .mended_by(format!("sudo -u \"$(stat {OWNER} {home})\" mlxsupctl --home {home} doctor")),
        ],
        Answer::Strange(why) => vec![
            finding(Level::Problem, "strange", format!("the daemon's status cannot be understood: {why}"))
                .because("it may be of another version than this program")
                .mended_by("mlxsupctl --version; mlxsupd --version"),
        ],
    }
}

fn of_status(status: &Status) -> Vec<Finding> {
    let finding = |level, code, what: String| Finding::new(Area::Daemon, level, code, what);
    let mut findings = Vec::new();
    let pid = status.daemon.pid;
    let state = status.state.as_str();
    let cause = status.cause.as_ref();
    let why = cause.map(|cause| cause.message.clone());
    let explained = |mut one: Finding| {
        one.why = why.clone();
        one.mend = cause.and_then(|cause| cause.next.clone());
        one
    };
    findings.push(match status.state {
        State::Serving | State::Handover | State::Asleep => {
            let worker = status.worker.as_ref().map(|worker| format!(" with worker {}", worker.generation));
            finding(Level::Ok, "serving", format!("mlxsupd (pid {pid}) is {state}{}", worker.unwrap_or_default()))
        }
        State::Parked | State::Stranded => {
            explained(finding(Level::Problem, "not_serving", format!("the service is {state}")))
        }
        State::Starting | State::Draining | State::Drained | State::Unloaded | State::Stopping => {
            explained(finding(Level::Note, "not_now", format!("mlxsupd (pid {pid}) is {state}")))
        }
    });
    if let Some(failure) = &status.last_failure {
        findings.push(
            finding(Level::Warning, "last_failure", format!("the last worker failed: {}", failure.message))
                .because(format!("{}, at {}", failure.class.replace('_', " "), failure.at))
                .mended_by("mlxsupctl events"),
        );
    }
    if status.ledger.lost > 0 {
        let what =
            format!("{} of {} requests were lost", status.ledger.lost, status.ledger.lost + status.ledger.answered);
        findings.push(
            finding(Level::Note, "lost", what)
                .because("they ended with an error of the service; the log says which")
                .mended_by("mlxsupctl logs requests"),
        );
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::view::{Cause, FailureView};

    fn judged(answer: Answer, installed: bool) -> Vec<(Level, &'static str)> {
        let daemon = Daemon { answer, home: PathBuf::from("/h"), installed, start: "mlxsupctl start".to_owned() };
        judge(&daemon).iter().map(|finding| (finding.level, finding.code)).collect()
    }

    fn status(state: &str) -> Box<Status> {
        let json = serde_json::json!({
            "schema": 1, "state": state, "cause": null,
            "daemon": { "pid": 812, "version": "0.1.0", "uptime_s": 9, "epoch": 1 }, "worker": null,
            "queue": { "waiting": 0, "active": 0, "slots": 0 }, "handover": null, "memory": {}, "schedules": [],
            "last_restart": null, "rules": [],
            "ledger": { "answered": 9, "carried": 0, "lost": 0, "restarts": 0, "longest_wait_s": 0.0 },
            "config": { "hash": "", "pending": [], "problems": [] },
        });
        Box::new(serde_json::from_value(json).unwrap())
    }

    #[test]
    fn a_daemon_that_should_answer_and_does_not_is_a_problem() {
        assert_eq!(judged(Answer::Nobody, true), [(Level::Problem, "unreachable")]);
        assert_eq!(judged(Answer::Nobody, false), [(Level::Warning, "not_running")]);
        assert_eq!(judged(Answer::Silent, false), [(Level::Problem, "silent")]);
        assert_eq!(judged(Answer::Closed, false), [(Level::Problem, "closed")]);
        assert_eq!(judged(Answer::Strange("x".to_owned()), false), [(Level::Problem, "strange")]);
    }

    #[test]
    fn states_are_judged_by_whether_somebody_must_act() {
        assert_eq!(judged(Answer::Status(status("serving")), true), [(Level::Ok, "serving")]);
        assert_eq!(judged(Answer::Status(status("draining")), true), [(Level::Note, "not_now")]);
        let mut parked = status("parked");
        parked.cause = Some(Cause {
            code: "crash_budget".to_owned(),
            message: "5 crashes in 30 min".to_owned(),
            since: String::new(),
            retry_at: None,
            next: Some("mlxsupctl restart".to_owned()),
        });
        let found = of_status(&parked);
        assert_eq!((found[0].code, found[0].mend.as_deref()), ("not_serving", Some("mlxsupctl restart")));
    }

    #[test]
    fn what_went_wrong_lately_is_told() {
        let mut bruised = status("serving");
        bruised.ledger.lost = 2;
        let at = "2026-03-04T04:00:00Z".to_owned();
        bruised.last_failure =
            Some(FailureView { class: "out_of_memory".to_owned(), message: "killed".to_owned(), at });
        let expected = [(Level::Ok, "serving"), (Level::Warning, "last_failure"), (Level::Note, "lost")];
        assert_eq!(judged(Answer::Status(bruised), true), expected);
    }
}
