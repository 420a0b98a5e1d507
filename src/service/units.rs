//! The text of our launchd plist and systemd units, as pure functions of a few facts.
//!
//! Owns the templates under `launchd/` and `etc/systemd/` and the escaping each format needs. Writes no file and asks no
//! service manager: `mlxsupctl install` does both.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

mod installed;
mod template;

pub use installed::{Installed, read_plist, read_systemd_service};
use template::{Escape, Template};

const PLIST: &str = include_str!("../../launchd/io.github.mlxsup.mlxsupd.plist.in");
const SERVICE: &str = include_str!("../../etc/systemd/mlxsup.service.in");
const SOCKET: &str = include_str!("../../etc/systemd/mlxsup.socket.in");
const TCP_SOCKET: &str = include_str!("../../etc/systemd/mlxsup-tcp.socket.in");

/// The least that the service manager waits beyond `drain.grace` before it kills the daemon.
pub const STOP_MARGIN: Duration = Duration::from_secs(60);

/// What a worker is given to end after SIGTERM, whatever its size, and what the daemon needs around it: extensions while
/// the footprint shrinks, and a look whether the memory came back.
const STOP_BASE: Duration = Duration::from_secs(40);

/// The stop ladder's patience: a second per so many bytes of a worker.
const BYTES_PER_SECOND_OF_PATIENCE: u64 = 4 << 30;

/// Everything the units depend on. All paths absolute.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnitFacts {
    /// launchd's label, for example `io.github.mlxsup.mlxsupd`.
    pub label: String,
    /// The `mlxsupd` binary.
    pub daemon_path: PathBuf,
    /// The home.
    pub home: PathBuf,
    /// The configuration, if it is not the home's `mlxsup.toml`.
    pub config: Option<PathBuf>,
    /// The stable socket.
    pub socket: PathBuf,
    /// Its permission bits.
    pub mode: u32,
    /// Who runs a system service; `None` for a user's own.
    pub owner: Option<Owner>,
    /// `drain.grace`.
    pub grace: Duration,
    /// The machine's memory: no worker is larger, and ending a large one takes longer.
    pub machine_bytes: u64,
    /// `listen.tcp`.
    pub tcp: Option<SocketAddr>,
}

/// Account of a system service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Owner {
    /// Login name, never root.
    pub user: String,
    /// Group name, if not the user's own.
    pub group: Option<String>,
    /// The user's number: launchd binds sockets as root and wants numbers to give them away.
    pub uid: u32,
    /// The number of that group, or of the user's own.
    pub gid: u32,
}

/// A fact that cannot be written into a unit.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UnitError {
    /// Service managers resolve nothing.
    #[error("the {what} `{path}` must be an absolute path to go into a service file")]
    Relative {
        /// Which fact.
        what: &'static str,
        /// The path.
        path: String,
    },
    /// The formats are text without control characters.
    #[error("the {what} `{text}` cannot go into a service file: {why}; choose another name for it")]
    Unwritable {
        /// Which fact.
        what: &'static str,
        /// The text, control characters masked.
        text: String,
        /// What is wrong with it.
        why: &'static str,
    },
    /// A template names something nobody fills; a mistake in the template.
    #[error("the service template has a placeholder `{0}` that nothing fills; reinstall mlxsup")]
    Placeholder(String),
}

/// The launchd job, ready for `launchctl`.
///
/// # Errors
/// When a fact is relative or has characters that no plist can hold.
pub fn plist(facts: &UnitFacts) -> Result<String, UnitError> {
    let mut template = facts.template(PLIST, Escape::Xml, Escape::Xml)?;
    if let Some(tcp) = facts.tcp {
        template.set("TCP_HOST", &tcp.ip().to_string(), Escape::Xml);
        template.set("TCP_PORT", &tcp.port().to_string(), Escape::Xml);
    }
    if let Some(owner) = &facts.owner {
        template.set("UID", &owner.uid.to_string(), Escape::Xml);
        template.set("GID", &owner.gid.to_string(), Escape::Xml);
    }
    template.set("MODE_DECIMAL", &facts.mode.to_string(), Escape::Xml);
    template.fill().map_err(UnitError::Placeholder)
}

/// `mlxsup.service`.
///
/// # Errors
/// When a fact is relative or has characters that no unit can hold.
pub fn systemd_service(facts: &UnitFacts) -> Result<String, UnitError> {
    let mut template = facts.template(SERVICE, Escape::SystemdWord, Escape::Systemd)?;
    let target = if facts.owner.is_some() { "multi-user.target" } else { "default.target" };
    template.set("WANTED_BY", target, Escape::Systemd);
    template.fill().map_err(UnitError::Placeholder)
}

/// `mlxsup.socket`.
///
/// # Errors
/// When a fact is relative or has characters that no unit can hold.
pub fn systemd_socket(facts: &UnitFacts) -> Result<String, UnitError> {
    let mut template = facts.template(SOCKET, Escape::Systemd, Escape::Systemd)?;
    template.set("MODE_OCTAL", &format!("{:04o}", facts.mode), Escape::Systemd);
    template.fill().map_err(UnitError::Placeholder)
}

/// `mlxsup-tcp.socket`; `None` without `listen.tcp`.
///
/// # Errors
/// When a fact is relative or has characters that no unit can hold.
pub fn systemd_tcp_socket(facts: &UnitFacts) -> Result<Option<String>, UnitError> {
    let Some(tcp) = facts.tcp else { return Ok(None) };
    let mut template = facts.template(TCP_SOCKET, Escape::Systemd, Escape::Systemd)?;
    template.set("TCP", &tcp.to_string(), Escape::Systemd);
    template.fill().map_err(UnitError::Placeholder).map(Some)
}

impl UnitFacts {
    /// From SIGTERM to the service manager's SIGKILL: what runs may finish (`drain.grace`), then the worker ends. Killing
    /// the daemon earlier would cut streams and leave a worker behind.
    #[must_use]
    pub fn stop_timeout(&self) -> Duration {
        let ladder = Duration::from_secs(self.machine_bytes.div_ceil(BYTES_PER_SECOND_OF_PATIENCE));
        self.grace.saturating_add((STOP_BASE + ladder).max(STOP_MARGIN))
    }

    /// A template with what all formats share; `paths` and `names` say how the format escapes each.
    fn template<'t>(&self, text: &'t str, paths: Escape, names: Escape) -> Result<Template<'t>, UnitError> {
        let mut template = Template::new(text);
        template.when("config", self.config.is_some());
        template.when("noconfig", self.config.is_none());
        template.when("tcp", self.tcp.is_some());
        template.when("owner", self.owner.is_some());
        let group = self.owner.as_ref().and_then(|owner| owner.group.as_deref());
        template.when("group", group.is_some());
        template.set("LABEL", writable("label", &self.label)?, names);
        template.set("DAEMON", path("daemon", &self.daemon_path)?, paths);
        template.set("HOME", path("home", &self.home)?, paths);
        template.set("SOCKET", path("socket", &self.socket)?, paths);
        if let Some(config) = &self.config {
            template.set("CONFIG", path("configuration", config)?, paths);
        }
        if let Some(owner) = &self.owner {
            template.set("USER", writable("user", &owner.user)?, names);
        }
        if let Some(group) = group {
            template.set("GROUP", writable("group", group)?, names);
        }
        template.set("STOP_TIMEOUT", &self.stop_timeout().as_secs().to_string(), names);
        Ok(template)
    }
}

fn path<'p>(what: &'static str, path: &'p Path) -> Result<&'p str, UnitError> {
    if !path.is_absolute() {
        return Err(UnitError::Relative { what, path: path.display().to_string() });
    }
    let text = path.to_str().ok_or_else(|| UnitError::Unwritable {
        what,
        text: path.display().to_string(),
        why: "it is not UTF-8",
    })?;
    writable(what, text)
}

fn writable<'t>(what: &'static str, text: &'t str) -> Result<&'t str, UnitError> {
    // XML has no form for most control characters, and a line break would start a new setting in a systemd unit.
    let why = if text.is_empty() {
        "it is empty"
    } else if text.chars().any(char::is_control) {
        "it has control characters"
    } else {
        return Ok(text);
    };
    Err(UnitError::Unwritable { what, text: text.escape_debug().to_string(), why })
}
