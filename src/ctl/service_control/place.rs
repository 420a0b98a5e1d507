//! Where units lie, and which installed one is meant.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::systemd::SERVICE;
use super::{LABEL, Patience, Scope, ServiceControl, UnitFiles};
use crate::ctl::args::ServiceManager;
use crate::ctl::failure::{Failure, Kind};
use crate::ctl::home::{Home, Source};
use crate::service::units::{self, Installed};

/// For a unit that does not say how long its daemon may take: `drain.grace` and the margin, at their defaults.
const DEFAULT_STOP: Duration = Duration::from_secs(180);

/// For the service manager, after its SIGKILL.
const CLEAN_UP: Duration = Duration::from_secs(30);

/// One folder of one service manager.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// Who reads it.
    pub manager: ServiceManager,
    /// Whose it is.
    pub scope: Scope,
    /// The folder.
    pub folder: PathBuf,
}

impl Place {
    /// The folder of this manager and scope.
    ///
    /// # Errors
    /// When the environment has no HOME for a user's own.
    pub fn of(manager: ServiceManager, scope: Scope) -> Result<Self, Failure> {
        Self::for_homes(manager, scope, std::env::var_os("HOME"), std::env::var_os("XDG_CONFIG_HOME"))
    }

    fn for_homes(
        manager: ServiceManager,
        scope: Scope,
        home: Option<OsString>,
        config: Option<OsString>,
    ) -> Result<Self, Failure> {
        let absolute = |value: Option<OsString>| value.map(PathBuf::from).filter(|path| path.is_absolute());
        let home = || {
            absolute(home).ok_or_else(|| {
                Failure::new(Kind::Usage, "there is no HOME in the environment, so your service files have no place")
                    .hint("set HOME, or install for the machine with --system")
            })
        };
        let folder = match (manager, scope) {
            (ServiceManager::Launchd, Scope::User) => home()?.join("Library/LaunchAgents"),
            (ServiceManager::Launchd, Scope::System) => PathBuf::from("/Library/LaunchDaemons"),
            (ServiceManager::Systemd, Scope::User) => match absolute(config) {
                Some(config) => config.join("systemd/user"),
                None => home()?.join(".config/systemd/user"),
            },
            (ServiceManager::Systemd, Scope::System) => PathBuf::from("/etc/systemd/system"),
        };
        Ok(Self { manager, scope, folder })
    }

    /// Names of all files we may put there, in the order they are started and stopped in: a socket that is up while its
    /// service goes down would start it again.
    #[must_use]
    pub fn file_names(&self) -> Vec<String> {
        match self.manager {
            ServiceManager::Launchd => vec![format!("{LABEL}.plist")],
            ServiceManager::Systemd => ["mlxsup.socket", "mlxsup-tcp.socket", SERVICE].map(str::to_owned).into(),
        }
    }

    /// What the unit here says, if there is one.
    #[must_use]
    pub fn installed(&self) -> Option<Found> {
        let read = |name: &str| std::fs::read_to_string(self.folder.join(name)).ok();
        let says = match self.manager {
            ServiceManager::Launchd => units::read_plist(&read(&format!("{LABEL}.plist"))?),
            ServiceManager::Systemd => units::read_systemd_service(&read(SERVICE)?),
        }?;
        Some(Found { place: self.clone(), says })
    }
}

/// An installed unit of ours.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// Where it lies.
    pub place: Place,
    /// What it says.
    pub says: Installed,
}

impl Found {
    /// Its service manager.
    #[must_use]
    pub fn control(&self) -> ServiceControl {
        ServiceControl::of(&self.place)
    }

    /// Refuses a caller whom the service manager would refuse with worse words.
    ///
    /// # Errors
    /// When the machine's service is to be changed by somebody who is not root.
    pub fn judge_caller(&self, verb: &str) -> Result<(), Failure> {
        if self.place.scope == Scope::User || nix::unistd::geteuid().is_root() {
            return Ok(());
        }
        Err(Failure::new(Kind::Usage, format!("the service of `{}` is the machine's", self.says.home.display()))
            .hint(format!("do it as root: `sudo mlxsupctl {verb}`")))
    }

    /// Its files that exist.
    #[must_use]
    pub fn files(&self) -> UnitFiles {
        UnitFiles::existing(&self.place)
    }

    /// The home it serves, as if it had been named.
    #[must_use]
    pub fn home(&self) -> Home {
        Home { path: self.says.home.clone(), source: Source::Flag }
    }
}

/// How long a stop may take: what the unit itself allows, and then the service manager's own SIGKILL and clean-up.
#[must_use]
pub fn stop_patience(found: Option<&Found>) -> Patience {
    let allowed = found.and_then(|found| found.says.stop_timeout).unwrap_or(DEFAULT_STOP);
    Patience::new(allowed.saturating_add(CLEAN_UP))
}

/// Every installed unit, the user's own first.
#[must_use]
pub fn installed() -> Vec<Found> {
    let mut found = Vec::new();
    for scope in [Scope::User, Scope::System] {
        for manager in [ServiceManager::Launchd, ServiceManager::Systemd] {
            found.extend(Place::of(manager, scope).ok().and_then(|place| place.installed()));
        }
    }
    found
}

/// The unit that serves this home. A home that was neither named nor has a daemon is only a guess: then the first unit is
/// meant, whichever home it serves.
#[must_use]
pub fn choose(found: Vec<Found>, home: &Home) -> Option<Found> {
    let named = matches!(home.source, Source::Flag | Source::Environment) || home.control_socket().exists();
    found.into_iter().find(|one| !named || is_same(&one.says.home, &home.path))
}

/// True when both name the same folder, through links too.
#[must_use]
pub fn is_same(one: &Path, other: &Path) -> bool {
    let resolved = |path: &Path| path.canonicalize().or_else(|_| std::path::absolute(path)).ok();
    one == other || (resolved(one).is_some() && resolved(one) == resolved(other))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(home: &str, scope: Scope) -> Found {
        let place = Place { manager: ServiceManager::Systemd, scope, folder: PathBuf::new() };
        Found {
            place,
            says: Installed { program: PathBuf::new(), home: PathBuf::from(home), user: None, stop_timeout: None },
        }
    }

    #[test]
    fn folders_are_those_the_service_managers_read() {
        let folder = |manager, scope, config: Option<&str>| {
            Place::for_homes(manager, scope, Some("/home/ann".into()), config.map(Into::into)).unwrap().folder
        };
        use ServiceManager::{Launchd, Systemd};
        assert_eq!(folder(Launchd, Scope::User, None), Path::new("/home/ann/Library/LaunchAgents"));
        assert_eq!(folder(Launchd, Scope::System, None), Path::new("/Library/LaunchDaemons"));
        assert_eq!(folder(Systemd, Scope::User, None), Path::new("/home/ann/.config/systemd/user"));
        assert_eq!(folder(Systemd, Scope::User, Some("/c")), Path::new("/c/systemd/user"));
        assert_eq!(folder(Systemd, Scope::User, Some("")), Path::new("/home/ann/.config/systemd/user"));
        assert_eq!(folder(Systemd, Scope::System, None), Path::new("/etc/systemd/system"));
        assert!(Place::for_homes(Launchd, Scope::User, None, None).is_err());
    }

    #[test]
    fn a_named_home_is_taken_at_its_word_and_a_guessed_one_is_not() {
        let all = || vec![found("/nowhere/a", Scope::User), found("/nowhere/b", Scope::System)];
        let home = |path: &str, source| Home { path: PathBuf::from(path), source };
        assert_eq!(choose(all(), &home("/nowhere/b", Source::Flag)), Some(found("/nowhere/b", Scope::System)));
        assert_eq!(choose(all(), &home("/nowhere/c", Source::Environment)), None);
        assert_eq!(choose(all(), &home("/nowhere/c", Source::System(None))), Some(found("/nowhere/a", Scope::User)));
        assert_eq!(choose(Vec::new(), &home("/nowhere/c", Source::System(None))), None);
    }
}
