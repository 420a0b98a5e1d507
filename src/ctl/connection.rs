//! One HTTP exchange over a Unix socket.
//!
//! Owns connecting, sending and reading with limits; knows neither verbs nor models.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper::body::Incoming;
use hyper::client::conn::http1::SendRequest;
use hyper::{Method, Request, Response};
use hyper_util::rt::TokioIo;
use tokio::net::UnixStream;

/// A full backlog makes connecting wait; so long it may.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// Why an exchange failed.
#[derive(Debug, thiserror::Error)]
pub enum ConnectionError {
    /// Nobody took the connection.
    #[error("cannot connect to `{}`", socket.display())]
    Connect {
        /// Which socket.
        socket: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The answer's head did not come in time.
    #[error("no answer over `{}` within {} s", socket.display(), after.as_secs())]
    Silent {
        /// Which socket.
        socket: PathBuf,
        /// How long was waited.
        after: Duration,
    },
    /// The connection ended, or what came was no HTTP.
    #[error("the connection over `{}` broke off", socket.display())]
    Broken {
        /// Which socket.
        socket: PathBuf,
        /// Why.
        source: hyper::Error,
    },
    /// A path or header that HTTP cannot carry.
    #[error("cannot build the request for `{path}`")]
    Request {
        /// Which path.
        path: String,
        /// Why.
        source: hyper::http::Error,
    },
    /// More bytes than any honest answer has.
    #[error("the answer over `{}` is longer than {limit} bytes", socket.display())]
    TooLong {
        /// Which socket.
        socket: PathBuf,
        /// The limit.
        limit: usize,
    },
}

/// A request with a JSON body, or without one.
///
/// # Errors
/// When the path cannot stand in a request line.
pub fn request(method: Method, path: &str, json: Option<Vec<u8>>) -> Result<Request<Full<Bytes>>, ConnectionError> {
    let mut builder = Request::builder().method(method).uri(path).header("host", "mlxsup");
    if json.is_some() {
        builder = builder.header("content-type", "application/json");
    }
    builder
        .body(Full::new(Bytes::from(json.unwrap_or_default())))
        .map_err(|source| ConnectionError::Request { path: path.to_owned(), source })
}

/// Sends one request over a connection of its own; the connection ends when the response is dropped.
///
/// # Errors
/// When nobody listens, or the connection ends before the answer's head.
pub async fn send(socket: &Path, request: Request<Full<Bytes>>) -> Result<Response<Incoming>, ConnectionError> {
    let mut sender = connect(socket).await?;
    let broken = |source| ConnectionError::Broken { socket: socket.to_owned(), source };
    sender.send_request(request).await.map_err(broken)
}

/// Connects, within the time a full backlog may take. The connection ends with the sender and the last response.
///
/// # Errors
/// When nobody listens.
pub async fn connect(socket: &Path) -> Result<SendRequest<Full<Bytes>>, ConnectionError> {
    let connect = |source| ConnectionError::Connect { socket: socket.to_owned(), source };
    let stream = match tokio::time::timeout(CONNECT_TIMEOUT, UnixStream::connect(socket)).await {
        Ok(connected) => connected.map_err(connect)?,
        Err(_) => return Err(connect(io::ErrorKind::TimedOut.into())),
    };
    let broken = |source| ConnectionError::Broken { socket: socket.to_owned(), source };
    let (sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(broken)?;
    // Its error reaches us through the response or its body.
    tokio::spawn(connection);
    Ok(sender)
}

/// Like [`send`], for answers that are due at once.
///
/// # Errors
/// As [`send`], and [`ConnectionError::Silent`] after `limit`.
pub async fn send_within(
    limit: Duration,
    socket: &Path,
    request: Request<Full<Bytes>>,
) -> Result<Response<Incoming>, ConnectionError> {
    match tokio::time::timeout(limit, send(socket, request)).await {
        Ok(response) => response,
        Err(_) => Err(ConnectionError::Silent { socket: socket.to_owned(), after: limit }),
    }
}

/// The whole body, at most `limit` bytes.
///
/// # Errors
/// When the connection ends early or the body is longer.
pub async fn read(socket: &Path, body: Incoming, limit: usize) -> Result<Bytes, ConnectionError> {
    match Limited::new(body, limit).collect().await {
        Ok(collected) => Ok(collected.to_bytes()),
        Err(error) => Err(match error.downcast::<hyper::Error>() {
            Ok(source) => ConnectionError::Broken { socket: socket.to_owned(), source: *source },
            Err(other) => {
                debug_assert!(other.is::<LengthLimitError>(), "the limit is the only other error");
                ConnectionError::TooLong { socket: socket.to_owned(), limit }
            }
        }),
    }
}
