//! `mlxsupctl config check|show`: judges a file, or prints it with every default filled in, and what `auto` comes to. Needs
//! no daemon.

use std::path::{Path, PathBuf};

use serde::Serialize;

use crate::config::{self, Config, LoadError, Problem};
use crate::ctl::args::{ConfigAction, ConfigArgs};
use crate::ctl::control::Control;
use crate::ctl::failure::{ExitStatus, Failure, Kind};
use crate::ctl::home::Home;
use crate::ctl::render::json::pretty;
use crate::ctl::render::quantity::plural;
use crate::ctl::reported;
use crate::ctl::terminal::Terminal;
use crate::gateway::Access;
use crate::limits::{self, words};

/// Reads the named file, else the home's, which is also judged as a place for sockets.
pub async fn run(
    args: ConfigArgs,
    home: &Home,
    control: &Control,
    terminal: &mut Terminal,
) -> Result<ExitStatus, Failure> {
    let (chosen, checking) = match args.action {
        ConfigAction::Check(chosen) => (chosen, true),
        ConfigAction::Show(chosen) => (chosen, false),
    };
    let own = chosen.file.is_none().then_some(home.path.as_path());
    let file = chosen.file.unwrap_or_else(|| home.config_file());
    match (Judged::read(&file, own)?, checking, chosen.facts.json) {
        (judged, true, true) => judged.print_json(&file, terminal),
        (Judged::Good(config), true, false) => {
            terminal.print(verdict(&file, &config))?;
            Ok(ExitStatus::Ok)
        }
        (Judged::Good(config), false, true) => {
            let mut document = config::to_json(&config);
            document["resolved"] = match limits::resolve(&config, reported::ask(control).await) {
                Ok(resolved) => serde_json::json!({
                    "machine": resolved.machine, "budget": resolved.budget,
                    "footprint_over_budget": words::footprint_rule(&config, &resolved),
                }),
                Err(error) => serde_json::json!({"problem": error.to_string()}),
            };
            terminal.print(pretty(document.to_string().as_bytes()))?;
            Ok(ExitStatus::Ok)
        }
        (Judged::Good(config), false, false) => {
            let found = limits::resolve(&config, reported::ask(control).await);
            terminal.print(config::show_with(&config, &words::comments(&config, &found)))?;
            Ok(ExitStatus::Ok)
        }
        (Judged::Bad { told, .. }, _, _) => {
            terminal.say(&told)?;
            Ok(ExitStatus::Usage)
        }
    }
}

/// What became of a file that could be read.
enum Judged {
    Good(Box<Config>),
    Bad { told: String, problems: Vec<Listed> },
}

/// `config check --json`.
#[derive(Serialize)]
struct Report<'a> {
    file: &'a Path,
    /// As in `status`; absent while the file is not valid.
    hash: Option<&'a str>,
    problems: &'a [Listed],
}

/// One problem in JSON. Lines and columns count from 1 and are absent where the text has no place to point at.
#[derive(Serialize)]
struct Listed {
    file: PathBuf,
    line: Option<usize>,
    column: Option<usize>,
    key: Option<String>,
    message: String,
    hint: Option<String>,
}

impl From<&Problem> for Listed {
    fn from(problem: &Problem) -> Self {
        let place = |number: usize| (number > 0).then_some(number);
        Self {
            file: problem.file.clone(),
            line: place(problem.line),
            column: place(problem.column),
            key: problem.key.clone(),
            message: problem.what.clone(),
            hint: problem.hint.clone(),
        }
    }
}

impl Judged {
    fn read(file: &Path, home: Option<&Path>) -> Result<Self, Failure> {
        let config = match config::load(file) {
            Ok(config) => config,
            Err(LoadError::Invalid(problems)) => {
                let listed = problems.iter().map(Listed::from).collect();
                return Ok(Self::Bad { told: problems.to_string(), problems: listed });
            }
            Err(error) => return Err(Failure::new(Kind::Configuration, error.to_string().trim_end())),
        };
        let mut problems = home.map(|home| config::check_home(&config, home)).unwrap_or_default();
        if let Some(Err(keys)) = home.map(|home| Access::load(&config, home)) {
            problems.extend(keys);
        }
        if problems.is_empty() {
            return Ok(Self::Good(Box::new(config)));
        }
        let told: Vec<String> = problems.iter().map(Problem::to_string).collect();
        Ok(Self::Bad { told: told.join("\n"), problems: problems.iter().map(Listed::from).collect() })
    }

    fn print_json(&self, file: &Path, terminal: &mut Terminal) -> Result<ExitStatus, Failure> {
        let (hash, problems, status) = match self {
            Self::Good(config) => (Some(config.hash.as_str()), &[] as &[Listed], ExitStatus::Ok),
            Self::Bad { problems, .. } => (None, problems.as_slice(), ExitStatus::Usage),
        };
        let report = serde_json::to_vec(&Report { file, hash, problems })
            .map_err(|error| Failure::new(Kind::Internal, "cannot write the report").caused_by(error))?;
        terminal.print(pretty(&report))?;
        Ok(status)
    }
}

fn verdict(file: &Path, config: &Config) -> String {
    let own_rules = config.rules.iter().filter(|rule| !rule.built_in).count();
    format!(
        "{} is valid: model {}, {}, {} of its own\n",
        file.display(),
        config.worker.model,
        plural(config.schedules.len() as u64, "schedule", "schedules"),
        plural(own_rules as u64, "rule", "rules"),
    )
}
