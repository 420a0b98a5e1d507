//! Sockets that are bound before their job runs and stay bound after it.

use std::fs::Permissions;
use std::net::TcpListener;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener;

use nix::sys::socket::{Backlog, listen};

use crate::job_file::{Place, SocketEntry};

/// macOS's limit, which launchd's -1 amounts to.
const BACKLOG: i32 = 128;

/// One listening socket and the name under which its job gets it.
#[derive(Debug)]
pub struct Held {
    pub name: String,
    listener: OwnedFd,
}

impl Held {
    /// Binds; what lies at the path is removed first, as launchctl does. Nobody removes it afterwards.
    pub fn bind(entry: &SocketEntry) -> Result<Self, String> {
        let told = |why: &dyn std::fmt::Display| format!("Sockets/{}: {why}", entry.name);
        let listener = match &entry.place {
            Place::Path { path, mode } => {
                let _ = std::fs::remove_file(path);
                let listener = UnixListener::bind(path).map_err(|why| told(&why))?;
                std::fs::set_permissions(path, Permissions::from_mode(*mode)).map_err(|why| told(&why))?;
                // The standard library's own backlog is the system's, which is longer.
                let backlog = Backlog::new(BACKLOG).map_err(|why| told(&why))?;
                listen(&listener, backlog).map_err(|why| told(&why))?;
                listener.into()
            }
            Place::Tcp { address } => TcpListener::bind(address).map_err(|why| told(&why))?.into(),
        };
        Ok(Self { name: entry.name.clone(), listener })
    }
}

impl AsFd for Held {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.listener.as_fd()
    }
}
