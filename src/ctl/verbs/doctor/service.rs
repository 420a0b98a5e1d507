//! The installed unit: what install would write now, loaded, and patient enough for a drain.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::finding::{Area, Finding, Level};
use crate::config::Config;
use crate::ctl::service_control::{Found, Patience, Scope, Standing};
use crate::ctl::terminal::Terminal;
use crate::ctl::verbs::install::{account, unit_text};
use crate::service::units::STOP_MARGIN;

/// A service manager answers at once or not at all.
const PATIENCE: Duration = Duration::from_secs(5);

/// What was read.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Service {
    /// The daemon that answers in the home.
    pub daemon: Option<u32>,
    /// `drain.grace`.
    pub grace: Option<Duration>,
    /// The unit that serves the home.
    pub unit: Option<Unit>,
}

/// An installed unit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unit {
    /// launchd or systemd.
    pub manager: &'static str,
    /// Its name there.
    pub name: String,
    /// It is the machine's, not the user's own.
    pub system: bool,
    /// The daemon it starts.
    pub program: PathBuf,
    /// Whether that is a file.
    pub program_there: bool,
    /// From SIGTERM to SIGKILL, as the file says.
    pub stop_timeout: Option<Duration>,
    /// The same, as the service manager has it in force, where it tells.
    pub live_stop_timeout: Option<Duration>,
    /// `spawn type` of launchd: decides how fast the worker may run.
    pub spawn_type: Option<String>,
    /// Files that are not what install would write now; `None` when that could not be told.
    pub differs: Option<Vec<PathBuf>>,
    /// Files that others may write to.
    pub open: Vec<PathBuf>,
    /// What the service manager says.
    pub standing: Result<Standing, String>,
}

/// Looks at the unit and asks its service manager.
pub async fn gather(
    found: Option<&Found>,
    home: &Path,
    config: Option<&Config>,
    daemon: Option<u32>,
    terminal: &mut Terminal,
) -> Service {
    let mut service = Service { daemon, grace: config.map(|config| config.drain.grace), unit: None };
    let Some(found) = found else { return service };
    let control = found.control();
    let mut wait = Patience::new(PATIENCE);
    let standing = control.standing(&mut wait, terminal).await.map_err(|error| error.to_string());
    let properties = control.properties(&mut wait, terminal).await.unwrap_or_default();
    let seconds = |name: &str| properties.get(name).and_then(|text| text.parse().ok()).map(Duration::from_secs);
    let files: Vec<PathBuf> = found.files().paths().collect();
    let is_open = |path: &&PathBuf| path.metadata().is_ok_and(|found| found.mode() & 0o022 != 0);
    service.unit = Some(Unit {
        manager: control.name(),
        name: control.unit(),
        system: found.place.scope == Scope::System,
        program: found.says.program.clone(),
        program_there: found.says.program.is_file(),
        stop_timeout: found.says.stop_timeout,
        live_stop_timeout: seconds("exit timeout"),
        spawn_type: properties.get("spawn type").cloned(),
        differs: config.and_then(|config| differing(found, home, config)),
        open: files.iter().filter(is_open).cloned().collect(),
        standing,
    });
    service
}

/// Compares with what install would write for this home now.
fn differing(found: &Found, home: &Path, config: &Config) -> Option<Vec<PathBuf>> {
    let owner = match (&found.says.user, found.place.scope) {
        (Some(user), Scope::System) => Some(account::owner(Some(user)).ok()?),
        (None, Scope::System) => return None,
        (_, Scope::User) => None,
    };
    let home = std::path::absolute(home).ok()?;
    let facts = unit_text::facts(&home, config, owner).ok()?;
    let wanted = unit_text::files(found.place.manager, &facts).ok()?;
    let path = |name: &String| found.place.folder.join(name);
    let differs = wanted.iter().filter(|(name, text)| std::fs::read_to_string(path(name)).ok().as_ref() != Some(text));
    let mut differs: Vec<PathBuf> = differs.map(|(name, _)| path(name)).collect();
    let names: Vec<String> = wanted.iter().map(|(name, _)| name.clone()).collect();
    differs.extend(found.files().without(&names).paths());
    Some(differs)
}

/// Judges it.
#[must_use]
pub fn judge(service: &Service) -> Vec<Finding> {
    let finding = |level, code, what: String| Finding::new(Area::Service, level, code, what);
    let Some(unit) = &service.unit else {
        return vec![
            finding(Level::Note, "not_installed", "no service manager runs the daemon of this home".to_owned())
                .because("it does not start by itself, and nobody holds its socket while it is replaced")
                .mended_by("mlxsupctl install"),
        ];
    };
    let install = if unit.system { "sudo mlxsupctl install --system" } else { "mlxsupctl install" };
    let mut findings = Vec::new();
    if !unit.program_there {
        findings.push(
            finding(
                Level::Problem,
                "program_gone",
                format!("{} starts {}, which is not there", unit.name, unit.program.display()),
            )
            .because("the service cannot start; was the checkout moved or cleaned?")
            .mended_by(format!("make build && {install}")),
        );
    }
    if !unit.open.is_empty() {
        let (files, list) = spoken(&unit.open);
        findings.push(
            finding(Level::Problem, "unit_open", format!("others may write to {files}"))
                .because("whoever does runs what they like as this user; launchd refuses such a file")
                .mended_by(format!("chmod go-w {list}")),
        );
    }
    if let Some(differs) = unit.differs.as_ref().filter(|differs| !differs.is_empty()) {
        let (files, _) = spoken(differs);
        findings.push(
            finding(Level::Warning, "unit_differs", format!("{files} is not what install would write now"))
                .because("the configuration or mlxsup has changed since; sockets, paths or time limits may be old")
                .mended_by(install),
        );
    }
    findings.extend(patience(service, unit, install));
    findings.extend(spawn_type(unit));
    findings.extend(standing(service, unit));
    if findings.is_empty() {
        let pid = service.daemon.map(|pid| format!(", pid {pid}")).unwrap_or_default();
        findings.push(finding(Level::Ok, "service", format!("{} runs {}{pid}", unit.manager, unit.name)));
    }
    findings
}

fn spoken(paths: &[PathBuf]) -> (String, String) {
    let names: Vec<String> = paths.iter().map(|path| path.display().to_string()).collect();
    (names.join(", "), names.join(" "))
}

/// A service manager that kills the daemon before its drain is over cuts streams and may strand the worker's memory.
fn patience(service: &Service, unit: &Unit, install: &str) -> Option<Finding> {
    let grace = service.grace?;
    let needed = (grace + STOP_MARGIN).as_secs();
    let finding = |code, what: String| Finding::new(Area::Service, Level::Warning, code, what);
    let cut = "streams still running then are cut, and a worker killed while it ends may keep its memory wired";
    let (written, live) = (unit.stop_timeout.map(|limit| limit.as_secs()), unit.live_stop_timeout.map(|l| l.as_secs()));
    if let Some(written) = written.filter(|written| *written < needed) {
        let what = format!("{} kills the daemon {written} s after it asked it to stop", unit.manager);
        let why = format!("drain.grace is {} s and the worker needs time to end: {cut}", grace.as_secs());
        return Some(finding("stop_timeout", what).because(why).mended_by(install));
    }
    let live = live.filter(|live| *live < needed)?;
    let written = written.map(|written| format!(", though the file says {written} s")).unwrap_or_default();
    let what = format!("{} really kills the daemon after {live} s{written}", unit.manager);
    Some(
        finding("stop_timeout_live", what)
            .because(format!("it caps what a user's own service may take: {cut}"))
            .mended_by(match live.checked_sub(STOP_MARGIN.as_secs()).filter(|grace| *grace > 0) {
                Some(grace) => format!("set grace = \"{grace}s\" in [drain], then: {install}"),
                None => "mlxsupctl uninstall && sudo mlxsupctl install --system".to_owned(),
            }),
    )
}

fn spawn_type(unit: &Unit) -> Option<Finding> {
    let kind = unit.spawn_type.as_ref().filter(|kind| !kind.starts_with("interactive"))?;
    Some(
        Finding::new(Area::Service, Level::Warning, "spawn_type", format!("launchd runs the daemon as {kind}"))
            .because("what is not interactive is throttled, and the worker inherits it: several times slower")
            .mended_by(if unit.system { "sudo mlxsupctl install --system" } else { "mlxsupctl install" }),
    )
}

fn standing(service: &Service, unit: &Unit) -> Option<Finding> {
    let finding = |level, code, what: String| Finding::new(Area::Service, level, code, what);
    let (manager, name) = (unit.manager, &unit.name);
    match (&unit.standing, service.daemon) {
        (Err(why), _) => Some(
            finding(Level::Note, "standing_unknown", format!("{manager} does not say whether {name} runs: {why}"))
                .because("in a session without a screen, or in a container, there may be no service manager to ask"),
        ),
        (Ok(Standing::Absent), Some(pid)) => Some(
            finding(Level::Warning, "other_daemon", format!("the daemon (pid {pid}) was not started by {manager}"))
                .because("after a crash nobody starts it again, and the service cannot start beside it")
                .mended_by("mlxsupctl stop && mlxsupctl start"),
        ),
        (Ok(Standing::Absent), None) => Some(
            finding(Level::Problem, "not_loaded", format!("{name} is installed and not loaded"))
                .because("nobody starts the daemon")
                .mended_by("mlxsupctl start"),
        ),
        (Ok(Standing::Present { pid: Some(theirs), .. }), Some(pid)) if *theirs != pid => Some(
            finding(
                Level::Problem,
                "other_daemon",
                format!("{manager} runs pid {theirs}, but pid {pid} serves the home"),
            )
            .because("the service's own daemon cannot start while the other one holds the home")
            .mended_by("mlxsupctl stop && mlxsupctl start"),
        ),
        (Ok(Standing::Present { pid: None, word }), _) => {
            let word = word.as_ref().map(|word| format!(": {word}")).unwrap_or_default();
            Some(
                finding(Level::Problem, "no_process", format!("{manager} has {name}, but no daemon runs{word}"))
                    .because("it ends as soon as it starts; the next command says why")
                    .mended_by("mlxsupd --check"),
            )
        }
        (Ok(Standing::Present { pid: Some(_), .. }), _) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn running() -> Service {
        let unit = Unit {
            manager: "launchd",
            name: "gui/501/x".to_owned(),
            system: false,
            program: PathBuf::from("/p/mlxsupd"),
            program_there: true,
            stop_timeout: Some(Duration::from_secs(184)),
            live_stop_timeout: None,
            spawn_type: Some("interactive (4)".to_owned()),
            differs: Some(Vec::new()),
            open: Vec::new(),
            standing: Ok(Standing::Present { pid: Some(812), word: None }),
        };
        Service { daemon: Some(812), grace: Some(Duration::from_secs(120)), unit: Some(unit) }
    }

    fn judged(change: impl FnOnce(&mut Service, &mut Unit)) -> Vec<(Level, &'static str)> {
        let mut service = running();
        let mut unit = service.unit.take().unwrap();
        change(&mut service, &mut unit);
        service.unit = Some(unit);
        judge(&service).iter().map(|finding| (finding.level, finding.code)).collect()
    }

    #[test]
    fn a_running_service_is_one_line_and_none_a_note() {
        assert_eq!(judged(|_, _| {}), [(Level::Ok, "service")]);
        assert_eq!(judge(&Service::default())[0].code, "not_installed");
    }

    #[test]
    fn a_service_manager_without_patience_is_noticed_as_written_and_as_in_force() {
        let short = judged(|_, unit| unit.stop_timeout = Some(Duration::from_secs(20)));
        assert_eq!(short, [(Level::Warning, "stop_timeout")]);
        let capped = judged(|_, unit| unit.live_stop_timeout = Some(Duration::from_secs(60)));
        assert_eq!(capped, [(Level::Warning, "stop_timeout_live")]);
        assert_eq!(judged(|service, _| service.grace = None), [(Level::Ok, "service")]);
    }

    #[test]
    fn who_runs_what_is_compared() {
        let absent = |daemon| {
            judged(move |service, unit| {
                service.daemon = daemon;
                unit.standing = Ok(Standing::Absent);
            })
        };
        assert_eq!(absent(None), [(Level::Problem, "not_loaded")]);
        assert_eq!(absent(Some(3)), [(Level::Warning, "other_daemon")]);
        assert_eq!(judged(|service, _| service.daemon = Some(9)), [(Level::Problem, "other_daemon")]);
        let dead = judged(|service, unit| {
            service.daemon = None;
            unit.standing = Ok(Standing::Present { pid: None, word: Some("last exit code 2".to_owned()) });
        });
        assert_eq!(dead, [(Level::Problem, "no_process")]);
        assert_eq!(judged(|_, unit| unit.standing = Err("no bus".to_owned())), [(Level::Note, "standing_unknown")]);
    }

    #[test]
    fn files_and_kind_are_looked_at() {
        let found = judged(|_, unit| {
            unit.program_there = false;
            unit.open = vec![PathBuf::from("/a.plist")];
            unit.differs = Some(vec![PathBuf::from("/a.plist")]);
            unit.spawn_type = Some("daemon (3)".to_owned());
        });
        let expected = [
            (Level::Problem, "program_gone"),
            (Level::Problem, "unit_open"),
            (Level::Warning, "unit_differs"),
            (Level::Warning, "spawn_type"),
        ];
        assert_eq!(found, expected);
    }
}
