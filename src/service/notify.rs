//! Telling systemd how we are (`sd_notify`).
//!
//! Owns the datagrams; when to send which is the daemon's affair. Elsewhere (launchd, a terminal) every call is a no-op.

use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::path::Path;
use std::time::Duration;

/// systemd could not be told.
#[derive(Debug, thiserror::Error)]
pub enum NotifyError {
    /// `NOTIFY_SOCKET` names no address we can speak to.
    #[error("NOTIFY_SOCKET=`{address}` is neither a path nor an abstract socket; readiness cannot be reported")]
    Address {
        /// Its content.
        address: String,
    },
    /// Creating the socket or sending failed. A full receiver (`WouldBlock`) is worth another try at the next occasion.
    #[error("cannot tell systemd `{message}`: {source}")]
    Send {
        /// What was to be said.
        message: String,
        /// What the system said.
        source: io::Error,
    },
}

/// The way to the service manager, if there is one. Never blocks.
#[derive(Debug)]
pub struct Notifier {
    target: Option<(UnixDatagram, SocketAddr)>,
}

impl Notifier {
    /// The notifier for this process's `NOTIFY_SOCKET`; silent without one.
    ///
    /// # Errors
    /// When the variable is set to something unusable.
    pub fn from_env() -> Result<Self, NotifyError> {
        Self::to(std::env::var_os("NOTIFY_SOCKET").as_deref())
    }

    fn to(address: Option<&OsStr>) -> Result<Self, NotifyError> {
        let Some(address) = address.filter(|address| !address.is_empty()) else { return Ok(Self { target: None }) };
        let unusable = || NotifyError::Address { address: address.to_string_lossy().into_owned() };
        let resolved = match address.as_bytes() {
            [b'/', ..] => SocketAddr::from_pathname(Path::new(address)).map_err(|_| unusable())?,
            [b'@', name @ ..] => abstract_address(name).ok_or_else(unusable)?,
            _ => return Err(unusable()),
        };
        let failed = |source| NotifyError::Send { message: "hello".to_owned(), source };
        let socket = UnixDatagram::unbound().map_err(failed)?;
        socket.set_nonblocking(true).map_err(failed)?;
        Ok(Self { target: Some((socket, resolved)) })
    }

    /// True when somebody listens.
    #[must_use]
    pub fn is_active(&self) -> bool {
        self.target.is_some()
    }

    /// The daemon accepts connections (the model may still be loading).
    ///
    /// # Errors
    /// When systemd could not be told; without it the unit stays `activating` until its start timeout.
    pub fn ready(&self) -> Result<(), NotifyError> {
        self.send("READY=1")
    }

    /// The daemon is about to replace its own image; [`Self::ready`] follows, from the next one or from this.
    ///
    /// # Errors
    /// When systemd could not be told; harmless.
    pub fn reloading(&self) -> Result<(), NotifyError> {
        // systemd tells an old message from a new one by this clock, and waits for ever without it.
        let now = nix::time::clock_gettime(nix::time::ClockId::CLOCK_MONOTONIC).map_or(Duration::ZERO, Duration::from);
        self.send(&format!("RELOADING=1\nMONOTONIC_USEC={}", now.as_micros()))
    }

    /// The daemon is on its way out.
    ///
    /// # Errors
    /// When systemd could not be told; harmless.
    pub fn stopping(&self) -> Result<(), NotifyError> {
        self.send("STOPPING=1")
    }

    /// One line for `systemctl status`.
    ///
    /// # Errors
    /// When systemd could not be told; harmless.
    pub fn status(&self, line: &str) -> Result<(), NotifyError> {
        // A line break would start another assignment.
        let line: String = line.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
        self.send(&format!("STATUS={line}"))
    }

    /// The main loop turns. To be sent from that loop itself, at least twice per [`watchdog_interval`].
    ///
    /// # Errors
    /// When systemd could not be told; repeated for a whole interval, it kills the daemon.
    pub fn watchdog(&self) -> Result<(), NotifyError> {
        self.send("WATCHDOG=1")
    }

    /// Starting or stopping may take this much longer than configured, from now on.
    ///
    /// # Errors
    /// When systemd could not be told; the configured timeout then holds.
    pub fn extend_timeout(&self, by: Duration) -> Result<(), NotifyError> {
        self.send(&format!("EXTEND_TIMEOUT_USEC={}", by.as_micros()))
    }

    fn send(&self, message: &str) -> Result<(), NotifyError> {
        let Some((socket, address)) = &self.target else { return Ok(()) };
        match socket.send_to_addr(message.as_bytes(), address) {
            Ok(_) => Ok(()),
            Err(source) => Err(NotifyError::Send { message: message.to_owned(), source }),
        }
    }
}

#[cfg(target_os = "linux")]
fn abstract_address(name: &[u8]) -> Option<SocketAddr> {
    use std::os::linux::net::SocketAddrExt;
    SocketAddr::from_abstract_name(name).ok()
}

#[cfg(not(target_os = "linux"))]
fn abstract_address(_name: &[u8]) -> Option<SocketAddr> {
    None
}

/// The interval within which systemd expects a sign of life from this process; `None` when it watches nobody, or somebody
/// else. Ping at half of it.
#[must_use]
pub fn watchdog_interval() -> Option<Duration> {
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    let own = std::env::var_os("WATCHDOG_PID").is_none()
        || number("WATCHDOG_PID").is_some_and(|pid| pid == u64::from(std::process::id()));
    number("WATCHDOG_USEC").filter(|micros| own && *micros > 0).map(Duration::from_micros)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn heard(socket: &UnixDatagram) -> String {
        let mut buffer = [0; 256];
        let length = socket.recv(&mut buffer).unwrap();
        String::from_utf8_lossy(&buffer[..length]).into_owned()
    }

    #[test]
    fn messages_arrive_at_a_path() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("notify");
        let manager = UnixDatagram::bind(&path).unwrap();
        let notifier = Notifier::to(Some(path.as_os_str())).unwrap();
        assert!(notifier.is_active());
        notifier.ready().unwrap();
        assert_eq!(heard(&manager), "READY=1");
        notifier.status("serving\nMAINPID=1").unwrap();
        assert_eq!(heard(&manager), "STATUS=serving MAINPID=1");
        notifier.watchdog().unwrap();
        assert_eq!(heard(&manager), "WATCHDOG=1");
        notifier.extend_timeout(Duration::from_secs(2)).unwrap();
        assert_eq!(heard(&manager), "EXTEND_TIMEOUT_USEC=2000000");
        notifier.reloading().unwrap();
        let message = heard(&manager);
        let micros = message.strip_prefix("RELOADING=1\nMONOTONIC_USEC=").unwrap();
        assert!(micros.parse::<u64>().unwrap() > 0);
        notifier.stopping().unwrap();
        assert_eq!(heard(&manager), "STOPPING=1");
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn messages_arrive_at_an_abstract_address() {
        use std::os::linux::net::SocketAddrExt;
        let name = format!("mlxsup-notify-{}", std::process::id());
        let manager = UnixDatagram::bind_addr(&SocketAddr::from_abstract_name(&name).unwrap()).unwrap();
        Notifier::to(Some(OsStr::new(&format!("@{name}")))).unwrap().ready().unwrap();
        assert_eq!(heard(&manager), "READY=1");
    }

    #[test]
    fn without_a_manager_nothing_happens() {
        for address in [None, Some(OsStr::new(""))] {
            let silent = Notifier::to(address).unwrap();
            assert!(!silent.is_active());
            silent.ready().unwrap();
        }
    }

    #[test]
    fn a_deaf_manager_is_an_error_not_a_hang() {
        let dir = tempfile::tempdir().unwrap();
        let notifier = Notifier::to(Some(dir.path().join("gone").as_os_str())).unwrap();
        assert!(notifier.ready().unwrap_err().to_string().starts_with("cannot tell systemd `READY=1`"));
        assert!(matches!(Notifier::to(Some(OsStr::new("vsock:2:1"))), Err(NotifyError::Address { .. })));
    }
}
