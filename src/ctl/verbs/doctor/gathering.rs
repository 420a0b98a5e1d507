//! One look at everything: asks the daemon first, because what is asked of the rest depends on what it says.
//!
//! Never changes anything, and fails at nothing: what cannot be read is a fact like any other.

use std::path::{Path, PathBuf};
use std::time::SystemTime;

use super::finding::{Finding, Findings};
use super::{configuration, daemon, home, host, limits, machine, model, panics, service, sockets, versions};
use crate::config::{Config, Engine, WiredLimit};
use crate::ctl::connection::{self, ConnectionError};
use crate::ctl::control::Control;
use crate::ctl::failure::{Failure, Kind};
use crate::ctl::home::{Home, SYSTEM_CLIENT_SOCKET, Source};
use crate::ctl::reported;
use crate::ctl::service_control::{Found, Scope, installed, is_same};
use crate::ctl::terminal::Terminal;
use crate::limits::{Resolved, Unknown};
use mlxsup_worker_api::settings::Device;

/// Everything that was read.
pub struct Gathered {
    /// The home was named on the command line.
    pub named: bool,
    /// The daemon.
    pub daemon: daemon::Daemon,
    /// Its configuration.
    pub configuration: configuration::Configuration,
    /// The model, where a configuration names one.
    pub model: Option<model::Model>,
    /// What that model gets on this machine, or why nobody knows.
    pub derived: Option<Result<Resolved, Unknown>>,
    /// The installed unit.
    pub service: service::Service,
    /// Sockets, lock, leftovers.
    pub sockets: sockets::Sockets,
    /// The home.
    pub home: home::Home,
    /// Programs.
    pub versions: versions::Versions,
    /// The machine.
    pub machine: machine::Machine,
    /// Limits.
    pub limits: limits::Limits,
    /// Panics.
    pub panics: panics::Panics,
}

/// Looks.
pub async fn gather(home: &Home, terminal: &mut Terminal) -> Gathered {
    let root = std::path::absolute(&home.path).unwrap_or_else(|_| home.path.clone());
    let control = Control::new(Home { path: root.clone(), source: home.source.clone() });
    let unit = installed().into_iter().find(|found| is_same(&found.says.home, &root));
    let daemon = daemon::Daemon {
        answer: ask(&control).await,
        installed: unit.is_some(),
        start: match unit {
            Some(_) => "mlxsupctl start".to_owned(),
            None => format!("mlxsupd --home {}", root.display()),
        },
        home: root.clone(),
    };
    let status = daemon.status();
    let pid = status.map(|status| status.daemon.pid);
    let configuration = configuration::gather(&root, status.map(|status| status.config.clone()));
    let config = configuration.config.as_ref();
    let model = config.map(model::Model::gather);
    let service = service::gather(unit.as_ref(), &root, config, pid, terminal).await;
    let client = config.map(|config| client_socket(config, &root, unit.as_ref()));
    // What an init system holds is only tried while a daemon answers: a connection would start one.
    let may_connect = pid.is_some() || unit.is_none();
    let sockets = sockets::gather(&root, pid, client.clone().map(|path| (path, may_connect))).await;
    let folder = home::gather(&root, config.map(|config| config.log.clone()));
    let running = status.map(|status| status.daemon.version.clone());
    let versions = versions::gather(&root, config, running, terminal).await;
    let compressed = status.and_then(|status| status.memory.get("worker.compressed")).map(|bytes| *bytes as u64);
    let machine = host::gather(compressed, folder.last_written(), terminal).await;
    let derived = match config {
        Some(config) => {
            let told = reported::known(status.and_then(|status| status.limits.as_ref())).await;
            Some(crate::limits::resolve(config, told))
        }
        None => None,
    };
    let bytes = in_memory(derived.as_ref(), model.as_ref());
    let longest = client.into_iter().chain([root.join("worker-9999999999.sock")]);
    let longest = longest.max_by_key(|path| path.as_os_str().len()).unwrap_or_default();
    let limits = limits::gather(longest, bytes.filter(|_| config.is_some_and(locks)), pid, unit.is_some());
    Gathered {
        named: home.source == Source::Flag,
        daemon,
        configuration,
        model,
        derived,
        service,
        sockets,
        home: folder,
        versions,
        machine,
        limits,
        panics: panics::gather(),
    }
}

impl Gathered {
    /// Judges all of it.
    #[must_use]
    pub fn judge(&self, now: SystemTime) -> Findings {
        let status = self.daemon.status();
        let asked = machine::Asked {
            config: self.configuration.config.as_ref(),
            model_bytes: in_memory(self.derived.as_ref(), self.model.as_ref()),
            resident: status.is_some_and(|status| status.worker.is_some()) || !self.sockets.left.is_empty(),
        };
        let mut all: Vec<Finding> = daemon::judge(&self.daemon);
        all.extend(configuration::judge(&self.configuration));
        all.extend(self.model.iter().flat_map(model::judge));
        all.extend(service::judge(&self.service));
        all.extend(sockets::judge(&self.sockets, &self.daemon.start));
        all.extend(home::judge(&self.home));
        all.extend(versions::judge(&self.versions));
        all.extend(machine::judge(&self.machine, asked, now));
        all.extend(limits::judge(&self.limits));
        all.extend(panics::judge(&self.panics, now));
        if self.named {
            for finding in &mut all {
                finding.mend = finding.mend.take().map(|mend| for_home(&mend, &self.daemon.home));
            }
        }
        Findings::sorted(all)
    }
}

/// A command for a home that was named on the command line: without the name it would mean another one.
fn for_home(mend: &str, home: &Path) -> String {
    if mend.contains("--home") {
        return mend.to_owned();
    }
    let named = |program: &str| format!("{program} --home {} ", home.display());
    mend.replace("mlxsupctl ", &named("mlxsupctl")).replace("mlxsupd ", &named("mlxsupd"))
}

async fn ask(control: &Control) -> daemon::Answer {
    use daemon::Answer;

    // First whether anybody is there at all: the ways of being silent are told apart by the error.
    match connection::request(hyper::Method::GET, "/v1/status", None) {
        Ok(request) => match connection::send_within(ANSWER, control.socket(), request).await {
            Ok(_) | Err(ConnectionError::Broken { .. }) => {}
            Err(ConnectionError::Silent { .. }) => return Answer::Silent,
            Err(ConnectionError::Connect { source, .. }) => match source.kind() {
                std::io::ErrorKind::PermissionDenied => return Answer::Closed,
                std::io::ErrorKind::TimedOut => return Answer::Silent,
                _ => return Answer::Nobody,
            },
            Err(other) => return Answer::Strange(other.to_string()),
        },
        Err(error) => return Answer::Strange(error.to_string()),
    }
    match control.status().await {
        Ok(answer) => Answer::Status(Box::new(answer.value)),
        Err(failure) => of_failure(&failure),
    }
}

fn of_failure(failure: &Failure) -> daemon::Answer {
    match failure.kind() {
        Kind::Denied => daemon::Answer::Closed,
        Kind::Unreachable => daemon::Answer::Silent,
        _ => daemon::Answer::Strange(failure.message().to_owned()),
    }
}

/// Facts are answered from memory; a daemon that needs longer is stuck.
const ANSWER: std::time::Duration = std::time::Duration::from_secs(5);

/// Where clients connect: outside the private home where the machine's service has its place.
fn client_socket(config: &Config, root: &Path, unit: Option<&Found>) -> PathBuf {
    let configured = &config.listen.socket;
    let system = unit.is_some_and(|unit| unit.place.scope == Scope::System);
    if system && configured == Path::new("mlxsup.sock") {
        return PathBuf::from(SYSTEM_CLIENT_SOCKET);
    }
    root.join(configured)
}

/// What the weights take in memory, or where that is not known what they take on disk.
fn in_memory(derived: Option<&Result<Resolved, Unknown>>, model: Option<&model::Model>) -> Option<u64> {
    let resolved = derived.and_then(|derived| derived.as_ref().ok());
    resolved.map(|resolved| resolved.budget.weights_bytes).or_else(|| model.and_then(model::Model::bytes))
}

/// Whether the weights will be locked by mlock: only MLX on the CPU does that.
fn locks(config: &Config) -> bool {
    let worker = &config.worker;
    let gpu = worker.device == Device::Gpu || Path::new("/dev/nvidiactl").exists();
    cfg!(target_os = "linux")
        && worker.engine == Engine::Native
        && worker.memory.wired_limit != WiredLimit::Off
        && (worker.device == Device::Cpu || !gpu)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_name_the_home_that_was_named() {
        let told = |mend: &str| for_home(mend, Path::new("/h"));
        assert_eq!(told("mlxsupctl restart"), "mlxsupctl --home /h restart");
        assert_eq!(
            told("set slots in [worker], then: mlxsupctl reload"),
            "set slots in [worker], then: mlxsupctl --home /h reload"
        );
        assert_eq!(told("mlxsupd --check"), "mlxsupd --home /h --check");
        assert_eq!(told("mlxsupd --home /x"), "mlxsupd --home /x");
        assert_eq!(told("chmod 700 /h"), "chmod 700 /h");
    }
}
