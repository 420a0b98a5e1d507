//! Binding our own sockets. Only the lock's holder gets here, so a socket file in the way is a leftover and may go.

use std::net::SocketAddr;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::{Path, PathBuf};

use tokio::net::{TcpListener, TcpSocket, UnixListener};

use crate::config::longest_socket_path;

/// Why a socket could not be bound.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// Too long for the platform.
    #[error(
        "the socket path {path} has {length} bytes, this system allows {}; choose a shorter home (--home) or set \
         listen.socket to a short absolute path",
        longest_socket_path()
    )]
    TooLong {
        /// The path.
        path: PathBuf,
        /// Its length.
        length: usize,
    },
    /// Something that is no socket lies there.
    #[error(
        "cannot bind {0}: there is a file that is not a socket; move it away, or set listen.socket to another path"
    )]
    Occupied(PathBuf),
    /// Somebody else serves there.
    #[error("cannot bind {0}: another program is listening there; stop it, or set listen.socket to another path")]
    InUse(PathBuf),
    /// The system refused a TCP address.
    #[error("cannot listen on {address}: {source}; {}", tcp_advice(.source))]
    Tcp {
        /// The address.
        address: SocketAddr,
        /// The system's word.
        source: std::io::Error,
    },
    /// The system refused.
    #[error("cannot bind {path}: {source}; {}", advice(.source))]
    Io {
        /// The path.
        path: PathBuf,
        /// The system's word.
        source: std::io::Error,
    },
}

fn advice(error: &std::io::Error) -> &'static str {
    match error.kind() {
        std::io::ErrorKind::NotFound => "make its directory, or set listen.socket to another path",
        _ => "check the permissions of its directory",
    }
}

fn tcp_advice(error: &std::io::Error) -> &'static str {
    match error.kind() {
        std::io::ErrorKind::AddrInUse => "stop the program that listens there, or set listen.tcp to another port",
        std::io::ErrorKind::AddrNotAvailable => "set listen.tcp to an address of this machine",
        _ => "set listen.tcp to another address, with a port above 1023",
    }
}

/// Clients that wait while the daemon is replaced; the system may allow fewer.
const BACKLOG: u32 = 1024;

/// Listens on a TCP address. Port 0 is any free one.
///
/// # Errors
/// When the system refuses.
pub fn bind_tcp(address: SocketAddr) -> Result<TcpListener, BindError> {
    let listen = || {
        let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
        // Connections of the last daemon that linger in the kernel do not keep the address.
        socket.set_reuseaddr(true)?;
        socket.bind(address)?;
        socket.listen(BACKLOG)
    };
    listen().map_err(|source| BindError::Tcp { address, source })
}

/// Binds a Unix socket with these permission bits. `ours` says that the path lies in our locked home, where whatever
/// answers can only be a leftover of ours.
///
/// # Errors
/// See [`BindError`]; nothing foreign is removed.
pub fn bind(path: &Path, mode: u32, ours: bool) -> Result<UnixListener, BindError> {
    let io = |source| BindError::Io { path: path.to_owned(), source };
    let length = path.as_os_str().len();
    if length > longest_socket_path() {
        return Err(BindError::TooLong { path: path.to_owned(), length });
    }
    match std::fs::symlink_metadata(path) {
        Ok(metadata) if !metadata.file_type().is_socket() => return Err(BindError::Occupied(path.to_owned())),
        Ok(_) => {
            // Outside the home the lock proves nothing: a socket that somebody serves is left alone. Refused does not
            // prove death on macOS (a full backlog refuses too), so only a file nobody can have open goes: ours.
            if !ours && std::os::unix::net::UnixStream::connect(path).is_ok() {
                return Err(BindError::InUse(path.to_owned()));
            }
            std::fs::remove_file(path).map_err(io)?;
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
        Err(error) => return Err(io(error)),
    }
    let listener = UnixListener::bind(path).map_err(io)?;
    set_mode(path, mode)?;
    Ok(listener)
}

/// Sets a socket's permission bits.
///
/// # Errors
/// When the system refuses.
pub fn set_mode(path: &Path, mode: u32) -> Result<(), BindError> {
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode))
        .map_err(|source| BindError::Io { path: path.to_owned(), source })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_leftover_goes_and_a_served_or_foreign_file_stays() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("x.sock");
        drop(bind(&path, 0o600, true).unwrap());
        let served = bind(&path, 0o600, false).unwrap();
        assert!(matches!(bind(&path, 0o600, false), Err(BindError::InUse(_))));
        drop(served);
        std::fs::remove_file(&path).unwrap();
        std::fs::write(&path, "precious").unwrap();
        assert!(matches!(bind(&path, 0o600, true), Err(BindError::Occupied(_))));
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "precious");
    }

    #[tokio::test]
    async fn a_tcp_address_in_use_or_of_another_machine_is_told() {
        let one = bind_tcp("127.0.0.1:0".parse().unwrap()).unwrap();
        let address = one.local_addr().unwrap();
        let told = bind_tcp(address).unwrap_err().to_string();
        assert!(told.starts_with(&format!("cannot listen on {address}: ")) && told.contains("another port"), "{told}");
        let told = bind_tcp("192.0.2.1:1".parse().unwrap()).unwrap_err().to_string();
        assert!(told.contains("an address of this machine"), "{told}");
    }

    #[tokio::test]
    async fn too_long_a_path_is_told_with_its_length() {
        let path = Path::new("/tmp").join("x".repeat(200));
        assert!(matches!(bind(&path, 0o600, true), Err(BindError::TooLong { length: 205, .. })));
    }
}
