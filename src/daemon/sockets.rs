//! Binding our own sockets. Only the lock's holder gets here, so a socket file in the way is a leftover and may go.

use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::{Path, PathBuf};

use tokio::net::UnixListener;

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
    async fn too_long_a_path_is_told_with_its_length() {
        let path = Path::new("/tmp").join("x".repeat(200));
        assert!(matches!(bind(&path, 0o600, true), Err(BindError::TooLong { length: 205, .. })));
    }
}
