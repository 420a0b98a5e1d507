//! Where a worker listens: its Unix socket, or a port of this machine when its server knows no other way.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use tokio::net::{TcpStream, UnixStream};
use tokio_util::either::Either;

/// A place on this machine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Endpoint {
    /// A Unix socket.
    Unix(PathBuf),
    /// `HOST:PORT`, a loopback address.
    Tcp(String),
}

/// A connection to an endpoint.
pub type Stream = Either<UnixStream, TcpStream>;

impl Endpoint {
    /// The place that a `worker.upstream` without placeholders names: `unix:PATH` or `http://HOST:PORT`.
    #[must_use]
    pub fn parse(upstream: &str) -> Option<Self> {
        match upstream.strip_prefix("unix:") {
            Some(path) => Some(Self::Unix(PathBuf::from(path))),
            None => upstream.strip_prefix("http://").map(|place| Self::Tcp(place.trim_end_matches('/').to_owned())),
        }
    }

    /// Connects. Has no time limit of its own.
    ///
    /// # Errors
    /// When nobody listens there.
    pub async fn connect(&self) -> io::Result<Stream> {
        match self {
            Self::Unix(path) => UnixStream::connect(path).await.map(Either::Left),
            Self::Tcp(place) => {
                let stream = TcpStream::connect(place).await?;
                // Every write is a whole request: waiting for more to send would only delay it.
                stream.set_nodelay(true)?;
                Ok(Either::Right(stream))
            }
        }
    }

    /// The socket's path, if it is one.
    #[must_use]
    pub fn socket(&self) -> Option<&Path> {
        match self {
            Self::Unix(path) => Some(path),
            Self::Tcp(_) => None,
        }
    }
}

/// Process and user at the other end, as the kernel says; nobody can tell over TCP.
#[must_use]
pub fn peer(stream: &Stream) -> Option<(u32, u32)> {
    let Either::Left(stream) = stream else { return None };
    let peer = stream.peer_cred().ok()?;
    Some((u32::try_from(peer.pid()?).ok()?, peer.uid()))
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unix(path) => write!(f, "{}", path.display()),
            Self::Tcp(place) => write!(f, "{place}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn upstreams_name_a_socket_or_a_port() {
        assert_eq!(Endpoint::parse("unix:/run/x.sock"), Some(Endpoint::Unix("/run/x.sock".into())));
        assert_eq!(Endpoint::parse("http://127.0.0.1:8080"), Some(Endpoint::Tcp("127.0.0.1:8080".to_owned())));
        assert_eq!(Endpoint::parse("http://[::1]:8080/"), Some(Endpoint::Tcp("[::1]:8080".to_owned())));
        assert_eq!(Endpoint::parse("https://elsewhere"), None);
    }
}
