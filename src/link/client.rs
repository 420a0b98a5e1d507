//! One HTTP exchange with a worker: status and commands. Generation streams are the gateway's.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::{Method, Request, StatusCode};
use hyper_util::rt::TokioIo;
use mlxsup_worker_api::{HEADER_EPOCH, HEADER_NONCE, MemoryFacts, PROTOCOL, WorkerStatus, path};

use super::endpoint::{self, Endpoint, Stream};
use super::foreign::Foreign;
use crate::supervisor::event::CacheKind;

/// Largest reply taken from a worker; a status is about 2 KiB.
const REPLY_LIMIT_BYTES: usize = 1 << 20;

/// How to reach one worker, and the proof that we mean it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Address {
    /// Where it listens.
    pub endpoint: Endpoint,
    /// How to deal with it, if it does not speak the link's generation.
    pub foreign: Option<Arc<Foreign>>,
    /// Its nonce.
    pub nonce: String,
    /// Our epoch.
    pub epoch: u64,
}

/// Why an exchange failed.
#[derive(Debug, thiserror::Error)]
pub enum LinkError {
    /// Nobody listens (yet, or any more).
    #[error("cannot connect to {at}: {source}")]
    Connect {
        /// Where.
        at: Endpoint,
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
    understand(&exchange(address, Method::GET, path::STATUS, Bytes::new(), timeout).await?)
}

fn understand(body: &[u8]) -> Result<WorkerStatus, LinkError> {
    let status: WorkerStatus = serde_json::from_slice(body)?;
    if status.protocol == PROTOCOL { Ok(status) } else { Err(LinkError::Protocol { theirs: status.protocol }) }
}

/// A connection whose other end is still to be judged.
#[derive(Debug)]
pub struct Call {
    stream: Stream,
    /// Process and user at the other end, as the kernel says.
    pub peer: Option<(u32, u32)>,
}

impl Call {
    /// Connects.
    ///
    /// # Errors
    /// When nobody listens.
    pub async fn open(endpoint: &Endpoint) -> Result<Self, LinkError> {
        let stream = connect(endpoint).await?;
        let peer = endpoint::peer(&stream);
        Ok(Self { stream, peer })
    }

    /// `GET /status` of whoever is there. Without a time limit.
    ///
    /// # Errors
    /// When it does not answer sensibly.
    pub async fn status(self, address: &Address) -> Result<WorkerStatus, LinkError> {
        understand(&exchange_on(self.stream, address, Method::GET, path::STATUS, Bytes::new()).await?)
    }
}

/// `POST /control/clear-cache` or `trim-prefix-cache`; the reply is the memory afterwards.
///
/// # Errors
/// When the worker refuses, or does not answer within `timeout`.
pub async fn clear_cache(address: &Address, cache: CacheKind, timeout: Duration) -> Result<MemoryFacts, LinkError> {
    let path = match cache {
        CacheKind::Buffers => path::CLEAR_CACHE,
        CacheKind::Prefixes => path::TRIM_PREFIX_CACHE,
    };
    let body = exchange(address, Method::POST, path, Bytes::new(), timeout).await?;
    Ok(serde_json::from_slice(&body)?)
}

/// `POST /control/save-prefix-cache`; the reply comes when all of it is on disk.
///
/// # Errors
/// When the worker refuses, or has not done it within `timeout`; it goes on all the same.
pub async fn save_prefix_cache(address: &Address, timeout: Duration) -> Result<(), LinkError> {
    exchange(address, Method::POST, path::SAVE_PREFIX_CACHE, Bytes::new(), timeout).await.map(drop)
}

/// One request and its whole reply, which must be a success, within `timeout`.
pub(super) async fn exchange(
    address: &Address,
    method: Method,
    path: &str,
    body: Bytes,
    timeout: Duration,
) -> Result<Bytes, LinkError> {
    tokio::time::timeout(timeout, exchange_now(address, method, path, body))
        .await
        .unwrap_or(Err(LinkError::TimedOut(timeout)))
}

/// The same without a time limit.
pub(super) async fn exchange_now(
    address: &Address,
    method: Method,
    path: &str,
    body: Bytes,
) -> Result<Bytes, LinkError> {
    let stream = connect(&address.endpoint).await?;
    exchange_on(stream, address, method, path, body).await
}

async fn exchange_on(
    stream: Stream,
    address: &Address,
    method: Method,
    path: &str,
    body: Bytes,
) -> Result<Bytes, LinkError> {
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    let request = Request::builder()
        .method(method)
        .uri(path)
        .header(hyper::header::HOST, "worker")
        .header(HEADER_EPOCH, address.epoch)
        .header(HEADER_NONCE, address.nonce.as_str())
        .header(hyper::header::CONTENT_TYPE, "application/json")
        .body(Full::new(body))
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
    over(connection, exchange).await
}

/// Runs an exchange over the connection that drives it. Both live in the caller's task, so dropping the future ends both.
pub(super) async fn over<T>(
    connection: impl Future<Output = hyper::Result<()>>,
    exchange: impl Future<Output = Result<T, LinkError>>,
) -> Result<T, LinkError> {
    tokio::pin!(connection, exchange);
    tokio::select! {
        result = &mut exchange => result,
        ended = &mut connection => {
            ended?;
            // A worker that closes after its reply may have ended the connection in the same turn that brought the
            // reply: what came is still to be read, and what did not come is an error of the exchange.
            exchange.await
        }
    }
}

/// Connects to a worker.
pub(super) async fn connect(endpoint: &Endpoint) -> Result<Stream, LinkError> {
    endpoint.connect().await.map_err(|source| LinkError::Connect { at: endpoint.clone(), source })
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::os::unix::net::UnixListener;

    use super::*;

    /// A worker that answers one request with these bytes and closes.
    fn answering(reply: &'static str) -> (tempfile::TempDir, Address) {
        let home = tempfile::tempdir().unwrap();
        let socket = home.path().join("worker.sock");
        let listener = UnixListener::bind(&socket).unwrap();
        std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            assert!(stream.read(&mut [0; 4096]).unwrap() > 0);
            stream.write_all(reply.as_bytes()).unwrap();
        });
        (home, Address { endpoint: Endpoint::Unix(socket), foreign: None, nonce: "f".repeat(32), epoch: 1 })
    }

    const PATIENCE: Duration = Duration::from_secs(20);

    #[tokio::test]
    async fn a_reply_counts_though_the_worker_closes_right_after_it() {
        let (_home, address) = answering("HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 2\r\n\r\n{}");
        assert_eq!(clear_cache(&address, CacheKind::Buffers, PATIENCE).await.unwrap(), MemoryFacts::default());
    }

    #[tokio::test]
    async fn a_worker_that_closes_without_a_reply_is_an_error() {
        for reply in ["", "HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n{}"] {
            let (_home, address) = answering(reply);
            clear_cache(&address, CacheKind::Buffers, PATIENCE).await.unwrap_err();
        }
    }

    #[tokio::test]
    async fn a_refusal_brings_the_workers_words() {
        let (_home, address) = answering("HTTP/1.1 409 Conflict\r\ncontent-length: 9\r\n\r\nold epoch");
        let error = clear_cache(&address, CacheKind::Buffers, PATIENCE).await.unwrap_err();
        assert_eq!(error.to_string(), "the worker answered 409 Conflict: old epoch");
    }
}
