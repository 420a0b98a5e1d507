//! What a check says: a sentence, why it matters, the command that mends it.
//!
//! Owns levels, areas, their order and the exit status they add up to; looks at nothing.

use serde::Serialize;

use crate::ctl::failure::ExitStatus;

/// How bad it is, worst first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// Something does not work, or will not.
    Problem,
    /// It works, and may not for long.
    Warning,
    /// Worth knowing.
    Note,
    /// As it should be.
    Ok,
}

impl Level {
    /// The word in the terminal and in JSON.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Problem => "problem",
            Self::Warning => "warning",
            Self::Note => "note",
            Self::Ok => "ok",
        }
    }
}

/// What was looked at, in the order of the output.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Area {
    /// Does it run, and serve?
    Daemon,
    /// `mlxsup.toml`.
    Configuration,
    /// The files of the model.
    Model,
    /// launchd or systemd.
    Service,
    /// Sockets, the lock, workers that were left.
    Sockets,
    /// Owner, modes, disk, logs.
    Home,
    /// Which programs, and whether they fit each other.
    Versions,
    /// Memory and the system's settings.
    Machine,
    /// What the kernel allows one process.
    Limits,
    /// Kernel panics.
    Panics,
}

impl Area {
    /// Whether what is wrong there may come from what is wrong elsewhere.
    const fn is_symptom(self) -> bool {
        matches!(self, Self::Daemon | Self::Service | Self::Sockets)
    }

    /// The word in the terminal and in JSON.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Daemon => "daemon",
            Self::Configuration => "configuration",
            Self::Model => "model",
            Self::Service => "service",
            Self::Sockets => "sockets",
            Self::Home => "home",
            Self::Versions => "versions",
            Self::Machine => "machine",
            Self::Limits => "limits",
            Self::Panics => "panics",
        }
    }
}

/// One answer of one check.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// What was looked at.
    pub area: Area,
    /// How bad it is.
    pub level: Level,
    /// Stable word for scripts, for example `socket_stale`.
    pub code: &'static str,
    /// One sentence, without a full stop.
    pub what: String,
    /// What it means for whoever runs the service.
    pub why: Option<String>,
    /// The command that mends it, as it is typed.
    pub mend: Option<String>,
}

impl Finding {
    /// A finding without consequences.
    #[must_use]
    pub fn new(area: Area, level: Level, code: &'static str, what: impl Into<String>) -> Self {
        Self { area, level, code, what: what.into(), why: None, mend: None }
    }

    /// Says what it means.
    #[must_use]
    pub fn because(mut self, why: impl Into<String>) -> Self {
        self.why = Some(why.into());
        self
    }

    /// Says what mends it.
    #[must_use]
    pub fn mended_by(mut self, command: impl Into<String>) -> Self {
        self.mend = Some(command.into());
        self
    }
}

/// Everything that was found, areas in their order, worst first in each.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Findings(Vec<Finding>);

impl Findings {
    /// Sorts; findings of the same level stay in the order they were made.
    #[must_use]
    pub fn sorted(mut all: Vec<Finding>) -> Self {
        all.sort_by_key(|finding| (finding.area, finding.level));
        Self(all)
    }

    /// All of them.
    #[must_use]
    pub fn all(&self) -> &[Finding] {
        &self.0
    }

    /// The areas that said something, the one with the worst finding first.
    #[must_use]
    pub fn areas(&self) -> Vec<(Area, Vec<&Finding>)> {
        let mut areas: Vec<(Area, Vec<&Finding>)> = Vec::new();
        for finding in &self.0 {
            match areas.last_mut() {
                Some((area, findings)) if *area == finding.area => findings.push(finding),
                _ => areas.push((finding.area, vec![finding])),
            }
        }
        areas.sort_by_key(|(_, findings)| findings.first().map(|worst| worst.level));
        areas
    }

    /// How many there are of a level.
    #[must_use]
    pub fn count(&self, level: Level) -> u64 {
        self.0.iter().filter(|finding| finding.level == level).count() as u64
    }

    /// The first command to type: for the worst, and for a cause before its consequences.
    #[must_use]
    pub fn next(&self) -> Option<&str> {
        let bad = |level: Level, symptom: bool| {
            self.0.iter().filter(move |one| one.level == level && one.area.is_symptom() == symptom)
        };
        [(Level::Problem, false), (Level::Problem, true), (Level::Warning, false), (Level::Warning, true)]
            .into_iter()
            .flat_map(|(level, symptom)| bad(level, symptom))
            .find_map(|finding| finding.mend.as_deref())
    }

    /// 0 without a problem. Else what the worst one is about: 2 what is configured, 4 a daemon that should answer and does
    /// not, 3 one that answers and does not serve, 1 everything else.
    #[must_use]
    pub fn exit(&self) -> ExitStatus {
        let problems = || self.0.iter().filter(|finding| finding.level == Level::Problem);
        let any = |codes: &[&str]| problems().any(|problem| codes.contains(&problem.code));
        if problems().next().is_none() {
            ExitStatus::Ok
        } else if problems().any(|problem| matches!(problem.area, Area::Configuration | Area::Model)) {
            ExitStatus::Usage
        } else if any(&["unreachable", "silent", "not_running"]) {
            ExitStatus::Unreachable
        } else if any(&["not_serving"]) {
            ExitStatus::NotServing
        } else {
            ExitStatus::Internal
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn findings(list: &[(Area, Level, &'static str)]) -> Findings {
        Findings::sorted(list.iter().map(|(area, level, code)| Finding::new(*area, *level, code, *code)).collect())
    }

    #[test]
    fn the_worst_comes_first() {
        let all = findings(&[
            (Area::Limits, Level::Ok, "a"),
            (Area::Machine, Level::Problem, "b"),
            (Area::Daemon, Level::Note, "c"),
            (Area::Machine, Level::Ok, "d"),
            (Area::Home, Level::Problem, "e"),
        ]);
        let order: Vec<_> = all.areas().iter().flat_map(|(_, list)| list.iter().map(|finding| finding.code)).collect();
        assert_eq!(order, ["e", "b", "d", "c", "a"]);
        assert_eq!((all.count(Level::Problem), all.count(Level::Warning)), (2, 0));
    }

    #[test]
    fn the_exit_status_says_what_kind_of_problem_there_is() {
        use Area::{Configuration, Daemon, Machine, Sockets};
        let exit = |list: &[(Area, Level, &'static str)]| findings(list).exit();
        assert_eq!(exit(&[(Daemon, Level::Warning, "not_running")]), ExitStatus::Ok);
        assert_eq!(exit(&[(Machine, Level::Problem, "x")]), ExitStatus::Internal);
        let down = (Daemon, Level::Problem, "unreachable");
        assert_eq!(exit(&[down, (Sockets, Level::Problem, "x")]), ExitStatus::Unreachable);
        assert_eq!(exit(&[(Daemon, Level::Problem, "not_serving")]), ExitStatus::NotServing);
        assert_eq!(exit(&[down, (Configuration, Level::Problem, "x")]), ExitStatus::Usage);
    }

    #[test]
    fn the_next_command_is_that_of_the_worst() {
        let warning = Finding::new(Area::Daemon, Level::Warning, "w", "w").mended_by("second");
        let problem = Finding::new(Area::Panics, Level::Problem, "p", "p").mended_by("first");
        let start = Finding::new(Area::Daemon, Level::Problem, "d", "d").mended_by("start it");
        let all = vec![start.clone(), warning.clone(), problem];
        assert_eq!(Findings::sorted(all).next(), Some("first"), "a cause before what follows from it");
        assert_eq!(Findings::sorted(vec![start, warning.clone()]).next(), Some("start it"));
        assert_eq!(Findings::sorted(vec![warning]).next(), Some("second"));
        assert_eq!(Findings::sorted(Vec::new()).next(), None);
    }
}
