//! `mlxsupctl install --into DIR`: the service files of this home, filled in and ready for the service manager to take.
//!
//! Writes the files and makes the home; loading them is left to the person who asked (the commands are printed).

use std::path::{Path, PathBuf};

use crate::config::{self, Config, LoadError};
use crate::ctl::args::{InstallArgs, ServiceManager};
use crate::ctl::failure::{ExitStatus, Failure, Kind};
use crate::ctl::home::{Home, SYSTEM_CLIENT_SOCKET, SYSTEM_HOME};
use crate::ctl::terminal::Terminal;
use crate::service::units;
use crate::service::{Owner, UnitFacts};

/// launchd's label, and the name of the plist.
const LABEL: &str = "io.github.mlxsup.mlxsupd";

/// Writes the files and says how to load them.
pub fn run(args: &InstallArgs, home: &Home, terminal: &mut Terminal) -> Result<ExitStatus, Failure> {
    let owner = if args.system { Some(owner(args.user.as_deref())?) } else { None };
    let root = if args.system { PathBuf::from(SYSTEM_HOME) } else { home.path.clone() };
    let root = std::path::absolute(&root).map_err(|error| failed("make the home's path absolute", &root, error))?;
    let config = read_config(&root, terminal)?;
    let facts = facts(&root, &config, owner)?;
    if !args.system {
        crate::daemon::home::Home::open(&root)
            .map_err(|error| Failure::new(Kind::Usage, "cannot make the home").caused_by(error))?;
    }
    std::fs::create_dir_all(&args.into).map_err(|error| failed("make", &args.into, error))?;
    for (name, text) in files(args.manager(), &facts)? {
        let path = args.into.join(name);
        std::fs::write(&path, text).map_err(|error| failed("write", &path, error))?;
        terminal.print(format!("{}\n", path.display()))?;
    }
    terminal.say(&advice(args))?;
    Ok(ExitStatus::Ok)
}

/// The home's configuration; a missing one means the defaults, because only listeners and grace matter here.
fn read_config(home: &Path, terminal: &mut Terminal) -> Result<Config, Failure> {
    let file = home.join("mlxsup.toml");
    match config::load(&file) {
        Ok(config) => Ok(config),
        Err(LoadError::Missing { .. }) => {
            terminal.say(&format!("{} does not exist yet; the service files assume its defaults", file.display()))?;
            config::parse(config::MINIMAL, &file)
                .map_err(|error| Failure::new(Kind::Internal, "the default configuration is bad").caused_by(error))
        }
        Err(error) => {
            Err(Failure::new(Kind::Configuration, "the configuration is not valid").with_details(error.to_string()))
        }
    }
}

fn facts(home: &Path, config: &Config, owner: Option<Owner>) -> Result<UnitFacts, Failure> {
    let own = std::env::current_exe()
        .map_err(|error| Failure::new(Kind::Internal, "cannot find our own program").caused_by(error))?;
    // The system service's home is private, so its stable socket lies outside unless the file says where.
    let configured = &config.listen.socket;
    let socket = if owner.is_some() && configured == Path::new("mlxsup.sock") {
        PathBuf::from(SYSTEM_CLIENT_SOCKET)
    } else {
        home.join(configured)
    };
    Ok(UnitFacts {
        label: LABEL.to_owned(),
        daemon_path: own.with_file_name("mlxsupd"),
        home: home.to_owned(),
        config: None,
        socket,
        mode: config.listen.mode,
        owner,
        grace: config.drain.grace,
        tcp: config.listen.tcp,
    })
}

/// The account that runs a system service: named, else whoever called sudo; never root.
fn owner(user: Option<&str>) -> Result<Owner, Failure> {
    let named = user.map(str::to_owned).or_else(|| std::env::var("SUDO_USER").ok());
    let usage = |message: &str| Failure::new(Kind::Usage, message).hint("name an account with --user NAME");
    let name = named.ok_or_else(|| usage("a system service runs as a named account"))?;
    let account = nix::unistd::User::from_name(&name)
        .map_err(|error| Failure::new(Kind::Internal, format!("cannot look up the account `{name}`")).caused_by(error))?
        .ok_or_else(|| usage(&format!("there is no account `{name}`")))?;
    if account.uid.is_root() {
        return Err(usage("a system service never runs as root"));
    }
    Ok(Owner { user: name, group: None, uid: account.uid.as_raw(), gid: account.gid.as_raw() })
}

fn files(manager: ServiceManager, facts: &UnitFacts) -> Result<Vec<(String, String)>, Failure> {
    let unfit = |error| Failure::new(Kind::Usage, "the service files cannot be written").caused_by(error);
    match manager {
        ServiceManager::Launchd => Ok(vec![(format!("{LABEL}.plist"), units::plist(facts).map_err(unfit)?)]),
        ServiceManager::Systemd => {
            let mut files = vec![
                ("mlxsup.service".to_owned(), units::systemd_service(facts).map_err(unfit)?),
                ("mlxsup.socket".to_owned(), units::systemd_socket(facts).map_err(unfit)?),
            ];
            if let Some(tcp) = units::systemd_tcp_socket(facts).map_err(unfit)? {
                files.push(("mlxsup-tcp.socket".to_owned(), tcp));
            }
            Ok(files)
        }
    }
}

fn advice(args: &InstallArgs) -> String {
    let into = args.into.display();
    match (args.manager(), args.system) {
        (ServiceManager::Launchd, false) => format!(
            "load it: cp {into}/{LABEL}.plist ~/Library/LaunchAgents/ && launchctl bootstrap gui/$(id -u) \
             ~/Library/LaunchAgents/{LABEL}.plist"
        ),
        (ServiceManager::Launchd, true) => format!(
            "load it: sudo cp {into}/{LABEL}.plist /Library/LaunchDaemons/ && sudo launchctl bootstrap system \
             /Library/LaunchDaemons/{LABEL}.plist"
        ),
        (ServiceManager::Systemd, false) => format!(
            "load them: cp {into}/mlxsup* ~/.config/systemd/user/ && systemctl --user daemon-reload && systemctl \
             --user enable --now mlxsup.socket"
        ),
        (ServiceManager::Systemd, true) => format!(
            "load them: sudo cp {into}/mlxsup* /etc/systemd/system/ && sudo systemctl daemon-reload && sudo systemctl \
             enable --now mlxsup.socket"
        ),
    }
}

fn failed(doing: &str, path: &Path, error: std::io::Error) -> Failure {
    Failure::new(Kind::Internal, format!("cannot {doing} {}", path.display())).caused_by(error)
}
