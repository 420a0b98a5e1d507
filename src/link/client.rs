//! One HTTP exchange with a worker: status and commands. Generation streams are the gateway's.

use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::{Method, Request, StatusCode};
use hyper_util::rt::TokioIo;
use mlxsup_worker_api::{HEADER_EPOCH, HEADER_NONCE, MemoryFacts, PROTOCOL, WorkerStatus, path};
use tokio::net::UnixStream;

/// Largest reply taken from a worker; a status is about 2 KiB.
const REPLY_LIMIT_BYTES: usize = 1 << 20;

/// How to reach one worker, and the proof that we mean it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Address {
    /// Its socket.
    pub socket: PathBuf,
    /// Its nonce.
    pub nonce: String,
    /// Our epoch.
    pub epoch: u64,
}

/// Why an exchange failed.
#[derive(Debug, thiserror::Error)]
pub enum LinkError {
    /// Nobody listens (yet, or any more).
    #[error("cannot connect to {socket}: {source}")]
    Connect {
        /// Where.
        socket: PathBuf,
        /// The system's word.
        source: std::io::Error,
    },
    /// The conversation broke off.
    #[error("the worker's socket broke: {0}")]
    Http(#[from] hyper::Error),
    /// The reply was too large or broke off.
    #[error("the worker's reply could not be read: {0}")]
    Body(String),
    /// No reply in time.
    #[error("no answer within {} ms", .0.as_millis())]
    TimedOut(Duration),
    /// It answered with an error.
    #[error("the worker answered {status}: {body}")]
    Status {
        /// The HTTP status.
        status: StatusCode,
        /// What it said.
        body: String,
    },
    /// It answered something else than the contract says.
    #[error("the worker's reply makes no sense: {0}")]
    Nonsense(#[from] serde_json::Error),
    /// It speaks another protocol.
    #[error("the worker speaks link protocol {theirs}, this daemon {}; install both from one release", PROTOCOL)]
    Protocol {
        /// Its version.
        theirs: u32,
    },
}

/// `GET /status`.
///
/// # Errors
/// When the worker does not answer sensibly within `timeout`.
pub async fn status(address: &Address, timeout: Duration) -> Result<WorkerStatus, LinkError> {
    let body = exchange(address, Method::GET, path::STATUS, timeout).await?;
    let status: WorkerStatus = serde_json::from_slice(&body)?;
    if status.protocol == PROTOCOL { Ok(status) } else { Err(LinkError::Protocol { theirs: status.protocol }) }
}

/// `POST /control/clear-cache`; the reply is the memory afterwards.
///
/// # Errors
/// When the worker refuses, or does not answer within `timeout`.
pub async fn clear_cache(address: &Address, timeout: Duration) -> Result<MemoryFacts, LinkError> {
    let body = exchange(address, Method::POST, path::CLEAR_CACHE, timeout).await?;
    Ok(serde_json::from_slice(&body)?)
}

async fn exchange(address: &Address, method: Method, path: &str, timeout: Duration) -> Result<Bytes, LinkError> {
    tokio::time::timeout(timeout, exchange_now(address, method, path))
        .await
        .unwrap_or(Err(LinkError::TimedOut(timeout)))
}

async fn exchange_now(address: &Address, method: Method, path: &str) -> Result<Bytes, LinkError> {
    let stream = connect(&address.socket).await?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    let request = Request::builder()
        .method(method)
        .uri(path)
        .header(hyper::header::HOST, "worker")
        .header(HEADER_EPOCH, address.epoch)
        .header(HEADER_NONCE, address.nonce.as_str())
        .body(Full::<Bytes>::default())
        .map_err(|error| LinkError::Body(error.to_string()))?;
    let exchange = async {
        let response = sender.send_request(request).await?;
        let status = response.status();
        let body = Limited::new(response.into_body(), REPLY_LIMIT_BYTES)
            .collect()
            .await
            .map_err(|error| LinkError::Body(error.to_string()))?
            .to_bytes();
        if status.is_success() {
            Ok(body)
        } else {
            Err(LinkError::Status { status, body: String::from_utf8_lossy(&body).trim().to_owned() })
        }
    };
    // The connection future drives the exchange; both live in this task, so dropping the caller's future ends both.
    tokio::pin!(connection);
    tokio::select! {
        result = exchange => result,
        ended = &mut connection => {
            ended?;
            Err(LinkError::Body("the worker closed the connection without a reply".to_owned()))
        }
    }
}

async fn connect(socket: &Path) -> Result<UnixStream, LinkError> {
    UnixStream::connect(socket).await.map_err(|source| LinkError::Connect { socket: socket.to_owned(), source })
}
