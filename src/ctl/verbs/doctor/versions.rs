//! Programs and libraries: which versions there are, and whether they fit each other.

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::finding::{Area, Finding, Level};
use crate::config::{Config, Engine};
use crate::ctl::service_control::{CommandError, Patience, Tool};
use crate::ctl::terminal::Terminal;
use crate::daemon::program::Program;
use crate::daemon::{mlx_lm, state_file, worker_command};

/// A program tells its version at once; Python takes a moment for its libraries.
const PATIENCE: Duration = Duration::from_secs(15);

/// Prints the versions an mlx-lm worker would have.
const ASK_PYTHON: &str = "import sys\nfrom importlib.metadata import version\n\
    print('python', sys.version.split()[0])\nfor name in ('mlx', 'mlx-lm'): print(name, version(name))";

/// What was read.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Versions {
    /// Of this program.
    pub own: String,
    /// Of the `mlxsupd` beside it; the error says why it could not be asked.
    pub daemon: Option<Result<String, String>>,
    /// Of the daemon that runs.
    pub running: Option<String>,
    /// Of the native worker, where mlxsup's own is used.
    pub worker: Option<Result<String, String>>,
    /// Python, mlx and mlx-lm, where that engine is used.
    pub python: Option<Result<Vec<(String, String)>, String>>,
    /// A worker that runs from another program than is installed now.
    pub outdated: Option<u64>,
}

/// Asks every program.
pub async fn gather(
    home: &Path,
    config: Option<&Config>,
    running: Option<String>,
    terminal: &mut Terminal,
) -> Versions {
    let mut versions = Versions { own: env!("CARGO_PKG_VERSION").to_owned(), running, ..Versions::default() };
    let beside = |name: &str| std::env::current_exe().ok().map(|own| own.with_file_name(name));
    if let Some(daemon) = beside("mlxsupd").filter(|path| path.is_file()) {
        versions.daemon = Some(ask(daemon, terminal).await);
    }
    let Some(config) = config else { return versions };
    match config.worker.engine {
        Engine::Native if config.worker.command.is_none() => {
            if let Some(worker) = beside("mlxsup-worker").filter(|path| path.is_file()) {
                versions.worker = Some(ask(worker, terminal).await);
            }
        }
        Engine::MlxLm => versions.python = Some(ask_python(config, terminal).await),
        Engine::Native | Engine::OpenAi => {}
    }
    versions.outdated = outdated(home, config);
    versions
}

/// `NAME VERSION`, the last word of what the program says.
async fn ask(program: PathBuf, terminal: &mut Terminal) -> Result<String, String> {
    let text = say(&Tool::at(&program), &["--version"], terminal).await?;
    text.split_whitespace().last().map(str::to_owned).ok_or_else(|| "it said nothing".to_owned())
}

async fn say(tool: &Tool, words: &[&str], terminal: &mut Terminal) -> Result<String, String> {
    let ran = tool.run(words, "asking for versions", &mut Patience::new(PATIENCE), terminal).await;
    match ran.and_then(|ran| ran.ok()) {
        Ok(ran) => Ok(ran.out),
        // The command itself may be a page long.
        Err(CommandError::Failed { said, .. }) if !said.is_empty() => Err(said),
        Err(error) => Err(error.to_string()),
    }
}

async fn ask_python(config: &Config, terminal: &mut Terminal) -> Result<Vec<(String, String)>, String> {
    // The very search the daemon does, with a question in the bridge's place.
    let command = mlx_lm::command(config.worker.python.as_deref(), Path::new("-c"));
    let words: Vec<String> = command.iter().map(|word| word.to_string_lossy().into_owned()).collect();
    let Some((program, words)) = words.split_first() else { return Err("there is no command".to_owned()) };
    let words: Vec<&str> = words.iter().map(String::as_str).chain([ASK_PYTHON]).collect();
    let text = say(&Tool::at(Path::new(program)), &words, terminal).await?;
    Ok(text.lines().filter_map(|line| line.split_once(' ')).map(|(n, v)| (n.to_owned(), v.to_owned())).collect())
}

fn outdated(home: &Path, config: &Config) -> Option<u64> {
    let state = state_file::look(&home.join("state.json")).ok()?;
    let newest = state.workers.iter().max_by_key(|record| record.generation)?;
    let installed = Program::of_command(&worker_command::program(config).ok()??)?;
    (newest.program.as_ref()? != &installed).then_some(newest.generation)
}

/// Judges them.
#[must_use]
pub fn judge(versions: &Versions) -> Vec<Finding> {
    let finding = |level, code, what: String| Finding::new(Area::Versions, level, code, what);
    let own = &versions.own;
    let mut findings = Vec::new();
    let broken = |name: &str, why: &str| {
        finding(Level::Problem, "program_broken", format!("{name} does not run: {why}"))
            .because("it was built for another machine, or a library it needs is gone")
            .mended_by("make build")
    };
    match &versions.daemon {
        None => findings.push(
            finding(Level::Note, "daemon_elsewhere", "there is no mlxsupd beside mlxsupctl".to_owned())
                .because("install and upgrade look for it there"),
        ),
        Some(Err(why)) => findings.push(broken("mlxsupd", why)),
        Some(Ok(daemon)) if daemon != own => findings.push(
            finding(Level::Warning, "daemon_other", format!("mlxsupctl is {own}, mlxsupd is {daemon}"))
                .because("the two are built together; of another version one may not understand the other")
                .mended_by("make build"),
        ),
        Some(Ok(_)) => {}
    }
    if let (Some(running), Some(Ok(daemon))) = (&versions.running, &versions.daemon)
        && running != daemon
    {
        findings.push(
            finding(Level::Warning, "daemon_old", format!("the daemon that runs is {running}, installed is {daemon}"))
                .because("what was mended in between is not in force; an upgrade refuses nobody")
                .mended_by("mlxsupctl upgrade"),
        );
    }
    match &versions.worker {
        Some(Err(why)) => findings.push(broken("mlxsup-worker", why)),
        Some(Ok(worker)) if worker != own => findings.push(
            finding(Level::Warning, "worker_other", format!("mlxsupctl is {own}, mlxsup-worker is {worker}"))
                .because("daemon and worker are built together")
                .mended_by("make build"),
        ),
        Some(Ok(_)) | None => {}
    }
    if let Some(generation) = versions.outdated {
        findings.push(
            finding(Level::Warning, "worker_old", format!("worker {generation} runs from a program that was replaced"))
                .because("the new program is not in use yet")
                .mended_by("mlxsupctl restart"),
        );
    }
    findings.extend(python(versions.python.as_ref()));
    if findings.iter().all(|finding| finding.level == Level::Ok) {
        findings.insert(0, finding(Level::Ok, "versions", format!("mlxsup {own}, all programs alike")));
    }
    findings
}

/// The search's own words without the folders it went through, which fill a screen, and without the advice that follows here.
fn without_path(why: &str) -> String {
    match why.split_once(" (") {
        Some((looked, rest)) if rest.contains(") has mlx-lm") => format!("{looked} has mlx-lm"),
        Some(_) | None => format!("no Python with mlx-lm: {why}"),
    }
}

fn python(asked: Option<&Result<Vec<(String, String)>, String>>) -> Vec<Finding> {
    let finding = |level, code, what: String| Finding::new(Area::Versions, level, code, what);
    let found = match asked {
        None => return Vec::new(),
        Some(Ok(found)) => found,
        Some(Err(why)) => {
            return vec![
                finding(Level::Problem, "no_mlx_lm", without_path(why))
                    .because("the worker cannot start; worker.python may name a Python elsewhere that has it")
                    .mended_by("python3 -m pip install mlx-lm"),
            ];
        }
    };
    let all: Vec<String> = found.iter().map(|(name, version)| format!("{name} {version}")).collect();
    let mlx = found.iter().find(|(name, _)| name == "mlx").map(|(_, version)| version.as_str());
    let parts = |text: &str| text.split('.').map(|part| part.parse().unwrap_or(0)).collect::<Vec<u32>>();
    let upgrade = "python3 -m pip install --upgrade mlx mlx-lm";
    let one = match mlx.map(parts) {
        Some(version) if version.starts_with(&[0, 32, 0]) => {
            finding(Level::Warning, "mlx_zeros", "mlx 0.32.0 may answer with zeros after a GPU error".to_owned())
                .because("a failed computation could pass for a result; 0.32.1 raises an error")
                .mended_by(upgrade)
        }
        Some(version) if version < vec![0, 32, 0] => {
            finding(Level::Note, "mlx_aborts", format!("mlx {} ends its process at a GPU error", mlx.unwrap_or("")))
                .because("the worker is replaced then; from 0.32.1 on it can tell what happened first")
                .mended_by(upgrade)
        }
        Some(_) | None => finding(Level::Ok, "python", all.join(", ")),
    };
    vec![one]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn same() -> Versions {
        let v = || "0.1.0".to_owned();
        Versions {
            own: v(),
            daemon: Some(Ok(v())),
            running: Some(v()),
            worker: Some(Ok(v())),
            python: None,
            outdated: None,
        }
    }

    fn judged(versions: &Versions) -> Vec<(Level, &'static str)> {
        judge(versions).iter().map(|finding| (finding.level, finding.code)).collect()
    }

    #[test]
    fn alike_is_one_line() {
        assert_eq!(judged(&same()), [(Level::Ok, "versions")]);
        assert_eq!(judged(&Versions { daemon: None, ..same() }), [(Level::Note, "daemon_elsewhere")]);
    }

    #[test]
    fn each_difference_has_its_own_remedy() {
        let new = || Some(Ok("0.2.0".to_owned()));
        assert_eq!(
            judged(&Versions { daemon: new(), ..same() }),
            [(Level::Warning, "daemon_other"), (Level::Warning, "daemon_old")]
        );
        assert_eq!(judged(&Versions { worker: new(), ..same() }), [(Level::Warning, "worker_other")]);
        assert_eq!(judged(&Versions { outdated: Some(3), ..same() }), [(Level::Warning, "worker_old")]);
        let broken = Versions { worker: Some(Err("libmlx.so: not found".to_owned())), ..same() };
        assert_eq!(judged(&broken), [(Level::Problem, "program_broken")]);
    }

    #[test]
    fn what_is_known_of_mlxs_releases_is_told() {
        let with = |mlx: &str| {
            let found = vec![("python".to_owned(), "3.12.1".to_owned()), ("mlx".to_owned(), mlx.to_owned())];
            judged(&Versions { python: Some(Ok(found)), ..same() })
        };
        assert_eq!(with("0.32.2"), [(Level::Ok, "versions"), (Level::Ok, "python")]);
        assert_eq!(with("0.32.0"), [(Level::Warning, "mlx_zeros")]);
        assert_eq!(with("0.31.2"), [(Level::Note, "mlx_aborts")]);
        let none = Versions { python: Some(Err("no python3 in PATH".to_owned())), ..same() };
        assert_eq!(judged(&none), [(Level::Problem, "no_mlx_lm")]);
        let searched =
            "no python3 in PATH (/a:/b) has mlx-lm; pip install mlx-lm, or set worker.python to one that has it";
        assert_eq!(without_path(searched), "no python3 in PATH has mlx-lm");
        assert_eq!(without_path("no such file (2)"), "no Python with mlx-lm: no such file (2)");
    }
}
