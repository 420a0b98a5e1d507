//! `mlxsup.toml`: is it good, is it in force, is what it names there?
//!
//! Reads what the daemon would read at its next start, and compares with what a running one says.

use std::path::{Path, PathBuf};

use super::finding::{Area, Finding, Level};
use crate::config::{self, Config, LoadError, Problem};
use crate::control::view::ConfigView;
use crate::daemon::worker_command;
use crate::gateway::Access;

/// What was read.
#[derive(Debug, Clone, Default)]
pub struct Configuration {
    /// The file.
    pub file: PathBuf,
    /// It, if it is good; else the last accepted one, if there is one.
    pub config: Option<Config>,
    /// Everything that is wrong with it, and the remedy.
    pub problems: Vec<(String, Option<String>)>,
    /// There is no such file.
    pub missing: bool,
    /// What it names and is not there.
    pub machine_problem: Option<String>,
    /// What the running daemon says of the configuration in force.
    pub in_force: Option<ConfigView>,
}

/// Reads the file of a home.
#[must_use]
pub fn gather(home: &Path, in_force: Option<ConfigView>) -> Configuration {
    let file = home.join("mlxsup.toml");
    let mut found = Configuration { in_force, ..Configuration::default() };
    let pair = |problem: &Problem| {
        let mut problem = problem.clone();
        let hint = problem.hint.take();
        (problem.one_line(), hint)
    };
    match config::load(&file) {
        Ok(config) => {
            let mut problems = config::check_home(&config, home);
            if let Err(keys) = Access::load(&config, home) {
                problems.extend(keys);
            }
            found.problems = problems.iter().map(pair).collect();
            found.machine_problem = worker_command::check(&config).err();
            found.config = Some(config);
        }
        Err(LoadError::Invalid(problems)) => found.problems = problems.iter().map(pair).collect(),
        Err(LoadError::Missing { .. }) => found.missing = true,
        Err(error) => found.problems = vec![(error.to_string(), None)],
    }
    if found.config.is_none() {
        // What an init system's daemon would serve with meanwhile.
        found.config = config::load(&home.join("mlxsup.last-good.toml")).ok();
    }
    found.file = file;
    found
}

/// Judges it.
#[must_use]
pub fn judge(found: &Configuration) -> Vec<Finding> {
    let finding = |level, code, what: String| Finding::new(Area::Configuration, level, code, what);
    let file = found.file.display();
    let mut findings = Vec::new();
    if found.missing {
        return vec![
            finding(Level::Problem, "config_missing", format!("there is no configuration at {file}"))
                .because("the daemon does not know which model to serve")
                .mended_by("mlxsupctl init"),
        ];
    }
    for (problem, hint) in &found.problems {
        let mut one = finding(Level::Problem, "config_bad", problem.clone()).mended_by("mlxsupctl config check");
        if let Some(hint) = hint {
            one = one.because(hint.clone());
            if let Some(command) = command_in(hint) {
                one = one.mended_by(command);
            }
        }
        findings.push(one);
    }
    if let Some(problem) = &found.machine_problem {
        let (what, why) = problem.split_once("; ").unwrap_or((problem, "the worker cannot start"));
        let mend = command_in(why).unwrap_or("mlxsupd --check").to_owned();
        findings.push(finding(Level::Problem, "config_machine", what.to_owned()).because(why).mended_by(mend));
    }
    let in_force = found.in_force.as_ref();
    let good = found.config.as_ref().filter(|_| findings.is_empty());
    if let Some(view) = in_force {
        if !view.problems.is_empty() && !findings.is_empty() {
            findings.push(
                finding(
                    Level::Note,
                    "config_last_good",
                    "the daemon serves with the last accepted configuration".to_owned(),
                )
                .because("what changed since then is not in force"),
            );
        }
        if let Some(config) = good
            && config.hash != view.hash
        {
            findings.push(
                finding(Level::Warning, "config_not_read", format!("{file} has changed and is not in force"))
                    .because("the daemon reads it when it is told to")
                    .mended_by("mlxsupctl reload"),
            );
        }
        if !view.pending.is_empty() {
            findings.push(
                finding(Level::Note, "config_pending", format!("{} for the next worker", waits(&view.pending)))
                    .because("these keys are what a worker is started with")
                    .mended_by("mlxsupctl restart"),
            );
        }
    }
    if let Some(config) = good {
        let what = format!("{file} is valid: model {}, engine {}", config.worker.model, config.worker.engine.as_str());
        findings.push(finding(Level::Ok, "config", what));
    }
    findings
}

/// The first command that a hint quotes.
fn command_in(hint: &str) -> Option<&str> {
    hint.split('`').nth(1).filter(|command| !command.is_empty())
}

fn waits(keys: &[String]) -> String {
    format!("{} {}", keys.join(", "), if keys.len() == 1 { "waits" } else { "wait" })
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "[worker]\nmodel = \"m\"\ncommand = [\"true\"]\n";

    fn judged(text: Option<&str>, in_force: Option<ConfigView>) -> Vec<(Level, &'static str)> {
        let home = tempfile::tempdir().unwrap();
        if let Some(text) = text {
            std::fs::write(home.path().join("mlxsup.toml"), text).unwrap();
        }
        let findings = judge(&gather(home.path(), in_force));
        findings.iter().map(|finding| (finding.level, finding.code)).collect()
    }

    fn view(text: &str) -> ConfigView {
        let config = config::parse(text, Path::new("t")).unwrap();
        ConfigView { hash: config.hash, ..ConfigView::default() }
    }

    #[test]
    fn good_missing_and_bad_files() {
        assert_eq!(judged(Some(GOOD), None), [(Level::Ok, "config")]);
        assert_eq!(judged(None, None), [(Level::Problem, "config_missing")]);
        let bad = "[worker]\nmodell = \"m\"\nslots = 0\n";
        assert_eq!(judged(Some(bad), None), [(Level::Problem, "config_bad"); 3]);
        let gone = GOOD.replace("\"true\"", "\"/nowhere/worker\"");
        assert_eq!(judged(Some(&gone), None), [(Level::Problem, "config_machine")]);
        let keyed = format!("[listen]\ntcp = \"127.0.0.1:0\"\napi_key_file = \"api.key\"\n{GOOD}");
        assert_eq!(judged(Some(&keyed), None), [(Level::Problem, "config_bad")]);
    }

    #[test]
    fn a_running_daemon_may_have_read_another_text() {
        assert_eq!(judged(Some(GOOD), Some(view(GOOD))), [(Level::Ok, "config")]);
        let other = ConfigView { hash: "0".to_owned(), pending: vec!["worker.slots".to_owned()], problems: vec![] };
        let expected = [(Level::Warning, "config_not_read"), (Level::Note, "config_pending"), (Level::Ok, "config")];
        assert_eq!(judged(Some(GOOD), Some(other)), expected);
        let served = ConfigView { problems: vec!["bad".to_owned()], ..view(GOOD) };
        let expected = [(Level::Problem, "config_bad"), (Level::Note, "config_last_good")];
        assert_eq!(judged(Some("[worker]\nmodel = 7\n"), Some(served)), expected);
    }

    #[test]
    fn with_a_bad_file_the_last_accepted_one_tells_the_rest() {
        let home = tempfile::tempdir().unwrap();
        std::fs::write(home.path().join("mlxsup.toml"), "[").unwrap();
        std::fs::write(home.path().join("mlxsup.last-good.toml"), GOOD).unwrap();
        assert_eq!(gather(home.path(), None).config.map(|config| config.worker.model), Some("m".to_owned()));
    }
}
