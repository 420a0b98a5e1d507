//! Which home is meant: `--home`, then `MLXSUP_HOME`, then `~/.mlxsup` if a daemon lives there, else the system's.
//!
//! Owns the search and the names of the files in a home; opens none of them.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

/// Home of the system service.
#[cfg(target_os = "macos")]
pub const SYSTEM_HOME: &str = "/usr/local/var/mlxsup";
/// Home of the system service.
#[cfg(not(target_os = "macos"))]
pub const SYSTEM_HOME: &str = "/var/lib/mlxsup";

/// Client socket of the system service, outside its private home.
#[cfg(target_os = "macos")]
pub const SYSTEM_CLIENT_SOCKET: &str = "/var/run/mlxsup.sock";
/// Client socket of the system service, outside its private home.
#[cfg(not(target_os = "macos"))]
pub const SYSTEM_CLIENT_SOCKET: &str = "/run/mlxsup/mlxsup.sock";

const CONTROL_SOCKET: &str = "control.sock";

/// How a home came to be chosen; error messages tell it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// `--home`.
    Flag,
    /// `MLXSUP_HOME`.
    Environment,
    /// `~/.mlxsup`.
    User,
    /// The system's, because `~/.mlxsup` (named here, if there is a home directory) has no daemon.
    System(Option<PathBuf>),
}

/// The chosen home.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Home {
    /// Its path.
    pub path: PathBuf,
    /// Why this one.
    pub source: Source,
}

/// What the environment says about homes.
#[derive(Debug, Clone, Default)]
pub struct Surroundings {
    /// `MLXSUP_HOME`.
    pub mlxsup_home: Option<OsString>,
    /// `HOME`.
    pub user_home: Option<OsString>,
}

impl Surroundings {
    /// Reads the process's environment.
    #[must_use]
    pub fn of_process() -> Self {
        Self { mlxsup_home: std::env::var_os("MLXSUP_HOME"), user_home: std::env::var_os("HOME") }
    }
}

impl Home {
    /// The home of the daemon to talk to. Empty variables count as absent.
    #[must_use]
    pub fn of_daemon(flag: Option<&Path>, surroundings: &Surroundings) -> Self {
        Self::holding(flag, surroundings, CONTROL_SOCKET)
    }

    /// Like [`Home::of_daemon`]; when no daemon lives anywhere, `~/.mlxsup` is chosen all the same if it holds `file`:
    /// a configuration is written, and logs are read, while nothing runs.
    #[must_use]
    pub fn holding(flag: Option<&Path>, surroundings: &Surroundings, file: &str) -> Self {
        if let Some(path) = flag {
            return Self { path: path.to_owned(), source: Source::Flag };
        }
        let non_empty = |value: &Option<OsString>| value.clone().filter(|text| !text.is_empty()).map(PathBuf::from);
        if let Some(path) = non_empty(&surroundings.mlxsup_home) {
            return Self { path, source: Source::Environment };
        }
        let user = non_empty(&surroundings.user_home).map(|path| path.join(".mlxsup"));
        let system = Path::new(SYSTEM_HOME);
        if let Some(user) = &user {
            let daemon_here = user.join(CONTROL_SOCKET).exists();
            let daemon_there = system.join(CONTROL_SOCKET).exists();
            if daemon_here || (!daemon_there && user.join(file).exists()) {
                return Self { path: user.clone(), source: Source::User };
            }
        }
        Self { path: system.to_owned(), source: Source::System(user) }
    }

    /// The home of the person's own: this one, or `~/.mlxsup` where the system's was only a last resort.
    #[must_use]
    pub fn of_person(&self) -> &Path {
        match &self.source {
            Source::System(Some(user)) => user,
            Source::Flag | Source::Environment | Source::User | Source::System(None) => &self.path,
        }
    }

    /// The socket of the verbs.
    #[must_use]
    pub fn control_socket(&self) -> PathBuf {
        self.path.join(CONTROL_SOCKET)
    }

    /// The configuration file.
    #[must_use]
    pub fn config_file(&self) -> PathBuf {
        self.path.join("mlxsup.toml")
    }

    /// Samples and events.
    #[must_use]
    pub fn history(&self) -> PathBuf {
        self.path.join(crate::history::FILE)
    }

    /// The folder of the logs.
    #[must_use]
    pub fn logs(&self) -> PathBuf {
        self.path.join("logs")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn surroundings(mlxsup_home: Option<&Path>, user_home: &Path) -> Surroundings {
        Surroundings { mlxsup_home: mlxsup_home.map(Into::into), user_home: Some(user_home.into()) }
    }

    #[test]
    fn the_flag_wins_over_the_variable_and_the_variable_over_the_rest() {
        let user = tempfile::tempdir().unwrap();
        std::fs::create_dir(user.path().join(".mlxsup")).unwrap();
        std::fs::write(user.path().join(".mlxsup/control.sock"), "").unwrap();
        let all = surroundings(Some(Path::new("/from/variable")), user.path());
        assert_eq!(Home::of_daemon(Some(Path::new("/from/flag")), &all).path, Path::new("/from/flag"));
        assert_eq!(Home::of_daemon(None, &all).path, Path::new("/from/variable"));
        let empty = Surroundings { mlxsup_home: Some(OsString::new()), ..all };
        assert_eq!(Home::of_daemon(None, &empty).source, Source::User);
    }

    #[test]
    fn a_user_home_without_a_daemon_is_passed_over_unless_it_holds_the_file() {
        let user = tempfile::tempdir().unwrap();
        let mlxsup = user.path().join(".mlxsup");
        std::fs::create_dir(&mlxsup).unwrap();
        std::fs::write(mlxsup.join("mlxsup.toml"), "").unwrap();
        let here = surroundings(None, user.path());
        let daemon = Home::of_daemon(None, &here);
        assert_eq!(
            (daemon.path.as_path(), daemon.source),
            (Path::new(SYSTEM_HOME), Source::System(Some(mlxsup.clone())))
        );
        assert_eq!(Home::holding(None, &here, "mlxsup.toml").path, mlxsup);
        assert_eq!(Home::holding(None, &Surroundings::default(), "mlxsup.toml").source, Source::System(None));
    }
}
