//! `mlxsupctl install`: launchd or systemd runs the daemon of this home, now and from now on.
//!
//! Everything that could keep the daemon from starting is judged before anything is written; success is a daemon that
//! answers. With `--into` only the files are written.

pub(super) mod account;
mod into;
pub(super) mod unit_text;

use std::path::{Path, PathBuf};

use crate::config::{self, Config};
use crate::ctl::args::{InstallArgs, ServiceManager};
use crate::ctl::control::Control;
use crate::ctl::failure::{ExitStatus, Failure, Kind};
use crate::ctl::home::{Home, SYSTEM_HOME, Source};
use crate::ctl::service_control::{
    Patience, Place, Running, START_PATIENCE, Scope, ServiceControl, Standing, UnitFiles, Written, answering, is_same,
    stop_patience,
};
use crate::ctl::terminal::Terminal;
use crate::daemon;
use crate::service::Owner;

/// Installs, or only writes the files.
pub async fn run(args: &InstallArgs, home: &Home, terminal: &mut Terminal) -> Result<ExitStatus, Failure> {
    if let Some(folder) = &args.into {
        return into::run(args, folder, home, terminal);
    }
    let scope = if args.system { Scope::System } else { Scope::User };
    judge_caller(scope)?;
    let owner = if args.system { Some(account::owner(args.user.as_deref())?) } else { None };
    let root = home_root(args.system, home)?;
    let config = prepare_home(&root, owner.as_ref())?;
    let facts = unit_text::facts(&root, &config, owner)?;
    if !facts.daemon_path.is_file() {
        let message = format!("there is no daemon at `{}`", facts.daemon_path.display());
        return Err(
            Failure::new(Kind::Usage, message).hint("`mlxsupd` belongs beside `mlxsupctl`: build it with `make build`")
        );
    }
    let texts = unit_text::files(args.manager(), &facts)?;
    let place = Place::of(args.manager(), scope)?;
    let installation = Installation {
        service: ServiceControl::of(&place),
        control: Control::new(Home { path: root.clone(), source: Source::Flag }),
        place,
        root,
        deadline: Patience::new(args.patience.deadline.unwrap_or(START_PATIENCE)),
    };
    let running = installation.carry_out(&texts, terminal).await?;
    report(&running, args, terminal)?;
    Ok(ExitStatus::Ok)
}

/// The home a service gets, absolute.
fn home_root(system: bool, home: &Home) -> Result<PathBuf, Failure> {
    let path = match (&home.source, system) {
        (Source::Flag | Source::Environment, _) => home.path.clone(),
        (Source::User | Source::System(_), true) => PathBuf::from(SYSTEM_HOME),
        (Source::User | Source::System(_), false) => home.of_person().to_owned(),
    };
    std::path::absolute(&path).map_err(|error| {
        Failure::new(Kind::Internal, format!("cannot make the home's path `{}` absolute", path.display()))
            .caused_by(error)
    })
}

fn judge_caller(scope: Scope) -> Result<(), Failure> {
    let is_root = nix::unistd::geteuid().is_root();
    match scope {
        Scope::System if !is_root => Err(Failure::new(Kind::Usage, "a service for the machine is installed by root")
            .hint("`sudo mlxsupctl install --system`; the daemon itself will run as you, or as --user NAME")),
        Scope::User if is_root && std::env::var_os("SUDO_USER").is_some() => {
            Err(Failure::new(Kind::Usage, "with sudo, the service would be root's own")
                .hint("run `mlxsupctl install` without sudo")
                .hint("or install for the machine: `sudo mlxsupctl install --system`"))
        }
        Scope::User | Scope::System => Ok(()),
    }
}

/// The home, made if missing, and its configuration, judged as the daemon will judge it.
fn prepare_home(root: &Path, owner: Option<&Owner>) -> Result<Config, Failure> {
    let file = root.join("mlxsup.toml");
    let bad = |details: String| {
        Failure::new(Kind::Configuration, "the daemon would not start with this configuration; nothing is installed")
            .with_details(details)
            .hint("correct it, see `mlxsupctl config check`, then do this again")
    };
    let Some(owner) = owner else {
        daemon::home::Home::open(root)
            .map_err(|error| Failure::new(Kind::Usage, "cannot make the home").caused_by(error))?;
        let options = daemon::Options { home: root.to_owned(), config: None, record: None };
        return daemon::check(&options).map_err(|error| bad(error.to_string()));
    };
    account::make_home(root, owner)?;
    account::judge_config(&file, owner)?;
    // The model is not looked for: what root can read says nothing about the account.
    let config = config::load(&file).map_err(|error| bad(error.to_string()))?;
    let problems: Vec<String> = config::check_home(&config, root).iter().map(ToString::to_string).collect();
    if problems.is_empty() { Ok(config) } else { Err(bad(problems.join("\n"))) }
}

/// One installation under way.
struct Installation {
    service: ServiceControl,
    control: Control,
    place: Place,
    root: PathBuf,
    deadline: Patience,
}

impl Installation {
    async fn carry_out(mut self, texts: &[(String, String)], terminal: &mut Terminal) -> Result<Running, Failure> {
        let old = self.place.installed();
        if let Some(old) = old.as_ref().filter(|old| !is_same(&old.says.home, &self.root)) {
            let other = old.says.home.display();
            return Err(Failure::new(
                Kind::Denied,
                format!("{} already serves the home `{other}`", self.service.unit()),
            )
            .hint(format!("take that one out first: `mlxsupctl --home {other} uninstall`")));
        }
        let standing = self.service.standing(&mut self.deadline, terminal).await;
        let standing = standing.map_err(|error| self.service.refused("say what it runs", error))?;
        if let Some(other) = answering(&self.control).await.filter(|other| standing.pid() != Some(other.pid)) {
            let message =
                format!("a daemon that {} did not start (pid {}) serves this home", self.service.name(), other.pid);
            return Err(Failure::new(Kind::Denied, message).hint("stop it, then do this again: `mlxsupctl stop`"));
        }
        let before = UnitFiles::existing(&self.place);
        let mut changed = false;
        for (name, text) in texts {
            changed |= UnitFiles::write(&self.place.folder, name, text)? == Written::New;
            terminal.print(format!("{}\n", self.place.folder.join(name).display()))?;
        }
        let names: Vec<String> = texts.iter().map(|(name, _)| name.clone()).collect();
        let stale = before.without(&names);
        if (changed || !stale.names().is_empty()) && standing != Standing::Absent {
            terminal
                .say("the service files have changed: the daemon is restarted, running requests may finish first")?;
            let mut wait = stop_patience(old.as_ref());
            self.service.bring_down(before.names(), false, &mut wait, terminal).await?;
        }
        if !stale.names().is_empty() {
            self.service.bring_down(stale.names(), true, &mut stop_patience(old.as_ref()), terminal).await?;
            stale.remove()?;
        }
        self.service.bring_up(&names, true, &self.control, &mut self.deadline, terminal).await
    }
}

fn report(running: &Running, args: &InstallArgs, terminal: &mut Terminal) -> Result<(), Failure> {
    terminal.print(format!("{running}\n"))?;
    let when = if args.system { "at boot" } else { "at login" };
    terminal.say(&format!("it starts again {when}; `mlxsupctl uninstall` takes it out"))?;
    if args.manager() == ServiceManager::Systemd && !args.system {
        terminal.say("to have it run while you are logged out: `loginctl enable-linger`")?;
    }
    Ok(())
}
