//! The listening sockets, wherever they come from: the last image, the init system, or our own binding.

use std::net::{SocketAddr, TcpListener as StdTcpListener};
use std::os::unix::net::UnixListener as StdListener;
use std::path::{Path, PathBuf};

use tokio::net::{TcpListener, UnixListener};

use super::home::Home;
use super::instance_lock::InstanceLock;
use super::{DaemonError, sockets};
use crate::config::Config;
use crate::gateway::ClientListeners;
use crate::service::inheritance::{Heirlooms, Inheritance};
use crate::service::{Listeners, take_listeners};

/// Where the client listener comes from, before anything is bound.
#[derive(Debug)]
pub struct Source {
    listeners: Listeners,
    activated: bool,
    control: Option<StdListener>,
}

impl Source {
    /// What the last image left, else what the init system passed, which may be nothing.
    ///
    /// # Errors
    /// When the init system passed something that we cannot serve on.
    pub fn find(inherited: Option<Inheritance>) -> Result<Self, DaemonError> {
        if let Some(Inheritance { listeners, activated, control, .. }) = inherited {
            return Ok(Self { listeners, activated, control });
        }
        let listeners = take_listeners()?;
        Ok(Self { activated: listeners.is_some(), listeners: listeners.unwrap_or_default(), control: None })
    }
}

/// All sockets, listening.
#[derive(Debug)]
pub struct Listening {
    /// For clients.
    pub clients: ClientListeners,
    /// For `mlxsupctl`.
    pub control: UnixListener,
    /// Duplicates for the next image.
    pub heirlooms: Heirlooms,
    /// Socket files to unlink at the end: ours, never the init system's.
    pub own: Vec<PathBuf>,
}

/// Opens what is not open yet. The lock is held.
///
/// # Errors
/// When a socket cannot be bound or used.
pub fn open(source: Source, home: &Home, config: &Config, lock: &InstanceLock) -> Result<Listening, DaemonError> {
    let Source { mut listeners, activated, control } = source;
    let path = home.client_socket(&config.listen.socket);
    let mut own = vec![home.control_socket()];
    let tcp = open_tcp(std::mem::take(&mut listeners.client_tcp), activated, config.listen.tcp)?;
    let client = match listeners.client.take() {
        Some(listener) if activated => usable(listener)?,
        Some(listener) if is_at(&listener, &path) => {
            sockets::set_mode(&path, config.listen.mode)?;
            usable(listener)?
        }
        moved => {
            if let Some(old) = moved.as_ref().and_then(path_of) {
                // The configuration names another place than under the last image.
                let _ = std::fs::remove_file(old);
            }
            drop(moved);
            sockets::bind(&path, config.listen.mode, path.parent() == Some(home.root()))?
        }
    };
    if !activated {
        own.push(path);
    }
    let control = match control {
        Some(listener) => usable(listener)?,
        None => sockets::bind(&home.control_socket(), 0o600, true)?,
    };
    let kept = |source| DaemonError::System { doing: "keep the listeners for the next image", source };
    let mut heirlooms = Heirlooms::new(activated);
    heirlooms.keep_client(&client).map_err(kept)?;
    for listener in &tcp {
        heirlooms.keep_client_tcp(listener).map_err(kept)?;
    }
    heirlooms.keep_control(&control).map_err(kept)?;
    heirlooms.keep_lock(lock.file()).map_err(kept)?;
    Ok(Listening { clients: ClientListeners { unix: client, tcp }, control, heirlooms, own })
}

/// The init system's listeners as they are, whatever the configuration says by now: they change with `mlxsupctl install`.
/// Of the last image's the one that is still wanted. Else our own.
fn open_tcp(
    left: Vec<StdTcpListener>,
    activated: bool,
    wanted: Option<SocketAddr>,
) -> Result<Vec<TcpListener>, DaemonError> {
    let kept: Vec<_> = left
        .into_iter()
        .filter(|listener| activated || wanted.is_some_and(|wanted| listens_at(listener, wanted)))
        .collect();
    let mut listeners = Vec::new();
    for listener in kept {
        listeners.push(
            TcpListener::from_std(listener)
                .map_err(|source| DaemonError::System { doing: "use the TCP socket that was handed over", source })?,
        );
    }
    if let Some(wanted) = wanted.filter(|_| listeners.is_empty()) {
        listeners.push(sockets::bind_tcp(wanted)?);
    }
    for listener in &listeners {
        if let Ok(address) = listener.local_addr() {
            tracing::info!(%address, "listening on TCP");
        }
    }
    Ok(listeners)
}

/// Port 0 was, and is, any port.
fn listens_at(listener: &StdTcpListener, wanted: SocketAddr) -> bool {
    listener.local_addr().is_ok_and(|at| at.ip() == wanted.ip() && (at.port() == wanted.port() || wanted.port() == 0))
}

fn path_of(listener: &StdListener) -> Option<PathBuf> {
    Some(listener.local_addr().ok()?.as_pathname()?.to_owned())
}

/// Whether this listener answers at `path`: bound there, and the file not replaced by another.
fn is_at(listener: &StdListener, path: &Path) -> bool {
    path_of(listener).is_some_and(|own| own == path) && path.exists()
}

fn usable(listener: StdListener) -> Result<UnixListener, DaemonError> {
    UnixListener::from_std(listener)
        .map_err(|source| DaemonError::System { doing: "use the socket that was handed over", source })
}
