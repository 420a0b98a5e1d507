//! Which configuration a starting daemon serves with, and what it keeps for the next start.
//!
//! In a terminal a bad file ends the start, because somebody reads why. Under an init system nobody does, and an exit
//! would only bring the next start: there the last accepted file is served and the bad one reported; when there is none,
//! the daemon comes up parked, its control socket ready for `reload`. One rule judges files at boot and at reload.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use super::{DaemonError, Options, worker_command};
use crate::config::{self, Config, LoadError, Problem};
use crate::gateway::Access;

/// In the home: the text that was last accepted, at boot or by a reload.
const LAST_GOOD: &str = "mlxsup.last-good.toml";

/// What a start begins with.
#[derive(Debug)]
pub struct BootConfig {
    /// To serve with; a placeholder when there is nothing to serve with.
    pub config: Config,
    /// Where it came from.
    pub verdict: Verdict,
    /// How TCP clients are let in.
    pub access: Access,
}

/// What became of the configuration file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// It is served.
    Accepted,
    /// It is served, but nobody comes in over TCP: its key file is bad.
    WithoutKeys {
        /// Of the key file, one line each.
        problems: Vec<String>,
    },
    /// It is bad, and the last accepted one is served.
    LastGood {
        /// Of the bad one, one line each.
        problems: Vec<String>,
    },
    /// It is bad, and there is no other.
    Unconfigured {
        /// The first problem and what mends it.
        why: String,
        /// All of them, one line each.
        problems: Vec<String>,
    },
}

/// A file that cannot be served with.
#[derive(Debug)]
pub struct Rejection {
    /// As a person at a terminal reads it.
    pub error: DaemonError,
    /// One line each, for `status`, events and the log.
    pub problems: Vec<String>,
}

/// Judges home, file, machine and keys, and changes nothing.
///
/// # Errors
/// The first of them that would keep the daemon from starting.
pub fn judge(options: &Options) -> Result<(Config, Access), Rejection> {
    // First, as a home out of reach would otherwise be told as a configuration that is missing or out of reach.
    super::home::judge(&options.home).map_err(|error| Rejection::of(error.into()))?;
    let config = judge_file(&file_of(options), &options.home)?;
    let access = judge_keys(&config, &options.home)?;
    Ok((config, access))
}

fn file_of(options: &Options) -> PathBuf {
    options.config.clone().unwrap_or_else(|| options.home.join("mlxsup.toml"))
}

/// Reads the keys that this configuration names.
///
/// # Errors
/// All problems of the key file.
pub fn judge_keys(config: &Config, home: &Path) -> Result<Access, Rejection> {
    Access::load(config, home).map_err(|problems| Rejection::of_all(&problems))
}

/// Judges a file for this home on this machine.
///
/// # Errors
/// All problems of the text, else all with the home, else the first with the machine.
pub fn judge_file(file: &Path, home: &Path) -> Result<Config, Rejection> {
    let config = config::load(file).map_err(|error| Rejection::of(error.into()))?;
    let problems = config::check_home(&config, home);
    if !problems.is_empty() {
        return Err(Rejection::of_all(&problems));
    }
    worker_command::check(&config).map_err(|problem| Rejection::of(DaemonError::Machine(problem)))?;
    Ok(config)
}

/// What to start with.
///
/// # Errors
/// When the home cannot be used; without an init system also when the file is bad.
pub fn choose(options: &Options, by_init: bool) -> Result<BootConfig, DaemonError> {
    let rejection = match judge(options) {
        Ok((config, access)) => return Ok(BootConfig { config, access, verdict: Verdict::Accepted }),
        Err(rejection) => rejection,
    };
    if !by_init || matches!(rejection.error, DaemonError::Home(_)) {
        return Err(rejection.error);
    }
    let problems = rejection.problems;
    if let Ok(config) = judge_file(&file_of(options), &options.home) {
        // Clients of the stable socket need no keys.
        return Ok(BootConfig { config, access: Access::Closed, verdict: Verdict::WithoutKeys { problems } });
    }
    if let Ok(config) = judge_file(&options.home.join(LAST_GOOD), &options.home) {
        let access = judge_keys(&config, &options.home).unwrap_or_default();
        return Ok(BootConfig { config, access, verdict: Verdict::LastGood { problems } });
    }
    // The core wants some configuration; nothing is started with this one.
    let placeholder = config::parse(config::MINIMAL, &options.home.join("mlxsup.toml")).map_err(LoadError::from)?;
    let config = Config { hash: String::new(), ..placeholder };
    let first = problems.first().map_or("", String::as_str);
    let more = match problems.len() {
        0 | 1 => String::new(),
        all => format!(" (and {} more)", all - 1),
    };
    let why = format!("{first}{more}; mend it, then `mlxsupctl reload`");
    Ok(BootConfig { config, access: Access::Closed, verdict: Verdict::Unconfigured { why, problems } })
}

/// Keeps an accepted configuration for a start that finds a bad one. A failure is logged: it costs nothing today.
pub fn remember(config: &Config, home: &Path) {
    let path = home.join(LAST_GOOD);
    let text = config.source.text();
    if std::fs::read(&path).is_ok_and(|kept| kept == text.as_bytes()) {
        return;
    }
    if let Err(error) = write(&path, text) {
        tracing::warn!(%error, path = %path.display(), "the accepted configuration was not kept for a later start");
    }
}

/// A crash at any moment leaves the old file or the new one.
fn write(path: &Path, text: &str) -> std::io::Result<()> {
    let fresh = path.with_extension("toml.new");
    // Closed to others, as the environment of a worker may hold a token.
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&fresh)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    std::fs::rename(&fresh, path)?;
    File::open(path.parent().unwrap_or(Path::new(".")))?.sync_all()
}

impl Rejection {
    fn of_all(problems: &[Problem]) -> Self {
        let rendered: Vec<String> = problems.iter().map(ToString::to_string).collect();
        let error = DaemonError::ConfigHome(rendered.join("\n"));
        Self { error, problems: problems.iter().map(Problem::one_line).collect() }
    }

    fn of(error: DaemonError) -> Self {
        let problems = match &error {
            DaemonError::Config(LoadError::Invalid(problems)) => problems.iter().map(Problem::one_line).collect(),
            // Its full text shows two lines to write.
            DaemonError::Config(LoadError::Missing { file }) => {
                vec![format!("there is no configuration at {}; write one", file.display())]
            }
            other => vec![other.to_string()],
        };
        Self { error, problems }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "[worker]\nmodel = \"m\"\ncommand = [\"true\"]\n";
    const BAD: &str = "[worker]\nmodell = \"m\"\nslots = 0\n";

    fn boot(home: &Path, text: Option<&str>, by_init: bool) -> Result<BootConfig, DaemonError> {
        let file = home.join("mlxsup.toml");
        match text {
            Some(text) => std::fs::write(file, text).unwrap(),
            None => {
                let _ = std::fs::remove_file(file);
            }
        }
        choose(&Options { home: home.to_owned(), config: None, record: None }, by_init)
    }

    #[test]
    fn a_terminal_is_told_and_an_init_system_gets_a_daemon() {
        let home = tempfile::tempdir().unwrap();
        for text in [Some(BAD), None] {
            assert!(boot(home.path(), text, false).is_err());
            let boot = boot(home.path(), text, true).unwrap();
            let Verdict::Unconfigured { why, problems } = boot.verdict else { panic!("{:?}", boot.verdict) };
            assert!(why.contains("mlxsup.toml") && why.ends_with("`mlxsupctl reload`"), "{why}");
            assert!(problems.iter().all(|problem| !problem.contains('\n')), "{problems:?}");
        }
    }

    #[test]
    fn what_was_accepted_last_is_served_in_place_of_a_bad_file() {
        let home = tempfile::tempdir().unwrap();
        let first = boot(home.path(), Some(GOOD), true).unwrap();
        assert_eq!(first.verdict, Verdict::Accepted);
        remember(&first.config, home.path());
        let second = boot(home.path(), Some(BAD), true).unwrap();
        assert!(
            matches!(&second.verdict, Verdict::LastGood { problems } if problems.len() == 3),
            "{:?}",
            second.verdict
        );
        assert_eq!(second.config.hash, first.config.hash);
        // What it names may be gone: then it is no better than the bad one.
        let gone = GOOD.replace("\"true\"", "\"/nowhere/worker\"");
        std::fs::write(home.path().join(LAST_GOOD), gone).unwrap();
        assert!(matches!(boot(home.path(), Some(BAD), true).unwrap().verdict, Verdict::Unconfigured { .. }));
    }

    #[test]
    fn bad_keys_close_tcp_and_nothing_else_where_nobody_reads_why() {
        let home = tempfile::tempdir().unwrap();
        let keyed = format!("[listen]\ntcp = \"127.0.0.1:0\"\napi_key_file = \"api.key\"\n{GOOD}");
        let told = boot(home.path(), Some(&keyed), false).unwrap_err().to_string();
        assert!(told.contains("there is no key file at") && told.contains("api_key_file = \"api.key\""), "{told}");
        let boot = boot(home.path(), Some(&keyed), true).unwrap();
        assert_eq!(boot.access, Access::Closed);
        assert!(
            matches!(&boot.verdict, Verdict::WithoutKeys { problems } if problems.len() == 1),
            "{:?}",
            boot.verdict
        );
    }

    #[test]
    fn a_home_that_cannot_be_used_ends_every_start() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("file");
        std::fs::write(&file, "").unwrap();
        let options = Options { home: file, config: None, record: None };
        assert!(matches!(choose(&options, true), Err(DaemonError::Home(_))));
    }
}
