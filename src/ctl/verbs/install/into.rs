//! `install --into DIR`: the files alone, for somebody else to load.

use std::path::Path;

use super::{account, home_root, unit_text};
use crate::config::{self, Config, LoadError};
use crate::ctl::args::{InstallArgs, ServiceManager};
use crate::ctl::failure::{ExitStatus, Failure, Kind};
use crate::ctl::home::Home;
use crate::ctl::service_control::{LABEL, UnitFiles};
use crate::ctl::terminal::Terminal;

/// Writes the files and says how to load them. Makes the home of a user's own service, as everything else does.
pub fn run(args: &InstallArgs, into: &Path, home: &Home, terminal: &mut Terminal) -> Result<ExitStatus, Failure> {
    let owner = if args.system { Some(account::owner(args.user.as_deref())?) } else { None };
    let root = home_root(args.system, home)?;
    let config = read_config(&root, terminal)?;
    let facts = unit_text::facts(&root, &config, owner)?;
    if !args.system {
        crate::daemon::home::Home::open(&root)
            .map_err(|error| Failure::new(Kind::Usage, "cannot make the home").caused_by(error))?;
    }
    for (name, text) in unit_text::files(args.manager(), &facts)? {
        UnitFiles::write(into, &name, &text)?;
        terminal.print(format!("{}\n", into.join(name).display()))?;
    }
    terminal.say(&advice(args, into))?;
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

fn advice(args: &InstallArgs, into: &Path) -> String {
    let into = into.display();
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
             --user enable --now mlxsup.socket mlxsup.service"
        ),
        (ServiceManager::Systemd, true) => format!(
            "load them: sudo cp {into}/mlxsup* /etc/systemd/system/ && sudo systemctl daemon-reload && sudo systemctl \
             enable --now mlxsup.socket mlxsup.service"
        ),
    }
}
