//! Where the worker listens: a Unix socket of its own, or a TCP address when it runs alone.
//!
//! Owns the socket file: a stale one at its path is removed before binding and its own when it goes.

use std::io;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::os::unix::net::UnixStream as StdUnixStream;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};

/// Why the worker cannot listen.
#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    /// Somebody answers there.
    #[error("cannot bind {}: another process is listening on it; stop it or give another path", path.display())]
    Occupied {
        /// The socket.
        path: PathBuf,
    },
    /// Something that is not a socket is there.
    #[error("cannot bind {}: there is a file that is not a socket; remove it or give another path", path.display())]
    NotASocket {
        /// The file.
        path: PathBuf,
    },
    /// The system refused.
    #[error("cannot bind {at}: {source}")]
    Bind {
        /// The path or address.
        at: String,
        /// The system's reason.
        source: io::Error,
    },
}

/// A bound listener.
#[derive(Debug)]
pub enum Listener {
    /// A Unix socket; its file goes with it.
    Unix(UnixListener, PathBuf),
    /// A TCP address.
    Tcp(TcpListener),
}

impl Listener {
    /// Binds a Unix socket that only the owner can reach. Must be called within a tokio runtime.
    ///
    /// # Errors
    /// [`ListenError`], naming the path.
    pub fn unix(path: &Path) -> Result<Self, ListenError> {
        let bind = |source| ListenError::Bind { at: path.display().to_string(), source };
        match std::fs::symlink_metadata(path) {
            Ok(found) if !found.file_type().is_socket() => {
                return Err(ListenError::NotASocket { path: path.to_owned() });
            }
            Ok(_) if StdUnixStream::connect(path).is_ok() => {
                return Err(ListenError::Occupied { path: path.to_owned() });
            }
            Ok(_) => std::fs::remove_file(path).map_err(bind)?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(bind(error)),
        }
        let listener = UnixListener::bind(path).map_err(bind)?;
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600)).map_err(bind)?;
        Ok(Self::Unix(listener, path.to_owned()))
    }

    /// Binds a TCP address.
    ///
    /// # Errors
    /// [`ListenError`], naming the address.
    pub async fn tcp(address: &str) -> Result<Self, ListenError> {
        let bind = |source| ListenError::Bind { at: address.to_owned(), source };
        TcpListener::bind(address).await.map(Self::Tcp).map_err(bind)
    }

    /// Where it listens, for people.
    #[must_use]
    pub fn address(&self) -> String {
        match self {
            Self::Unix(_, path) => path.display().to_string(),
            Self::Tcp(listener) => {
                listener.local_addr().map_or_else(|_| "tcp".to_owned(), |address| address.to_string())
            }
        }
    }

    /// The next connection; dropping the future loses none.
    pub(super) async fn accept(&self) -> io::Result<Stream> {
        match self {
            Self::Unix(listener, _) => Ok(Stream::Unix(listener.accept().await?.0)),
            Self::Tcp(listener) => {
                let stream = listener.accept().await?.0;
                // Tokens are small writes that must not wait for each other.
                stream.set_nodelay(true)?;
                Ok(Stream::Tcp(stream))
            }
        }
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        if let Self::Unix(_, path) = self {
            // Gone already is as good.
            let _ = std::fs::remove_file(path);
        }
    }
}

/// One accepted connection.
#[derive(Debug)]
pub(super) enum Stream {
    Unix(UnixStream),
    Tcp(TcpStream),
}

impl AsyncRead for Stream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Unix(stream) => Pin::new(stream).poll_read(cx, buffer),
            Self::Tcp(stream) => Pin::new(stream).poll_read(cx, buffer),
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Unix(stream) => Pin::new(stream).poll_write(cx, bytes),
            Self::Tcp(stream) => Pin::new(stream).poll_write(cx, bytes),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Unix(stream) => Pin::new(stream).poll_flush(cx),
            Self::Tcp(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Unix(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::Tcp(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_stale_socket_is_replaced_and_a_live_one_respected() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("worker.sock");
        // Bound and gone without unlinking: what a killed worker leaves.
        drop(std::os::unix::net::UnixListener::bind(&path).expect("a socket"));
        let listener = Listener::unix(&path).expect("a listener");
        let mode = std::fs::metadata(&path).expect("the socket").permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        assert!(matches!(Listener::unix(&path), Err(ListenError::Occupied { .. })));
        drop(listener);
        assert!(!path.exists());
        std::fs::write(&path, "mine").expect("a file");
        assert!(matches!(Listener::unix(&path), Err(ListenError::NotASocket { .. })));
    }
}
