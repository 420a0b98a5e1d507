//! The text of the service files of a home, from its configuration and this machine.

use std::path::{Path, PathBuf};

use crate::config::Config;
use crate::ctl::args::ServiceManager;
use crate::ctl::failure::{Failure, Kind};
use crate::ctl::home::SYSTEM_CLIENT_SOCKET;
use crate::ctl::service_control::LABEL;
use crate::service::units;
use crate::service::{Owner, UnitFacts};

/// Everything the files depend on.
///
/// # Errors
/// When our own program cannot be found.
pub fn facts(home: &Path, config: &Config, owner: Option<Owner>) -> Result<UnitFacts, Failure> {
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
        machine_bytes: crate::memory::machine_bytes().unwrap_or(0),
        tcp: config.listen.tcp,
    })
}

/// Name and text of each file, in the order the units are started in.
///
/// # Errors
/// When a fact cannot stand in such a file.
pub fn files(manager: ServiceManager, facts: &UnitFacts) -> Result<Vec<(String, String)>, Failure> {
    let unfit = |error| Failure::new(Kind::Usage, "the service files cannot be written").caused_by(error);
    match manager {
        ServiceManager::Launchd => Ok(vec![(format!("{LABEL}.plist"), units::plist(facts).map_err(unfit)?)]),
        ServiceManager::Systemd => {
            let mut files = vec![("mlxsup.socket".to_owned(), units::systemd_socket(facts).map_err(unfit)?)];
            if let Some(tcp) = units::systemd_tcp_socket(facts).map_err(unfit)? {
                files.push(("mlxsup-tcp.socket".to_owned(), tcp));
            }
            files.push(("mlxsup.service".to_owned(), units::systemd_service(facts).map_err(unfit)?));
            Ok(files)
        }
    }
}
