//! The worker's HTTP side: `/status`, `/control`, `/link` for the daemon; `/v1` for running alone.
//!
//! Owns connections, bodies and routes. It reads the board and talks to the engine through [`EnginePort`] alone, so it
//! answers `/status` while the engine is wedged. Every failure is an OpenAI error object.

mod control;
mod engine_port;
mod event_stream;
mod footprint;
pub(crate) mod generation;
mod lease;
mod listener;
pub(crate) mod preparation;
mod reply;
mod routes;
mod status;

#[cfg(test)]
mod tests;

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use mlxsup_worker_api::{Phase, Settings};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::Semaphore;

use crate::board::Board;
use crate::openai::Refusal;
use crate::text::Codec;

pub use control::Identity;
pub use engine_port::{EnginePort, Measured};
pub use lease::Lease;
pub use listener::{ListenError, Listener};

/// Connections at once; further ones wait in the listener's backlog.
const MAX_CONNECTIONS: usize = 1024;
/// Headers must be complete within this time.
const HEADER_TIMEOUT: Duration = Duration::from_secs(10);

/// Everything the routes share.
pub struct Worker {
    /// The engine's own report.
    pub board: Arc<Board>,
    /// What this worker was told to be.
    pub settings: Settings,
    /// Who it is.
    pub identity: Identity,
    /// When the daemon was last heard.
    pub lease: Lease,
    /// The text side, once read.
    pub codec: OnceLock<Arc<Codec>>,
    /// The engine, once started.
    pub engine: OnceLock<Arc<dyn EnginePort>>,
}

impl Worker {
    /// A worker that has nothing loaded yet.
    #[must_use]
    pub fn new(board: Arc<Board>, settings: Settings, identity: Identity) -> Self {
        Self { board, settings, identity, lease: Lease::default(), codec: OnceLock::new(), engine: OnceLock::new() }
    }

    /// The engine's phase, held back while the text side is still being read beside it.
    #[must_use]
    pub fn phase(&self) -> Phase {
        match self.board.phase.borrow().0 {
            Phase::Ready if self.codec.get().is_none() => Phase::Warming,
            phase => phase,
        }
    }

    /// The engine, once it takes work.
    fn engine(&self) -> Result<&Arc<dyn EnginePort>, Refusal> {
        let phase = self.phase();
        self.engine.get().filter(|_| phase == Phase::Ready).ok_or_else(|| Refusal::not_ready(phase.as_str()))
    }
}

/// Serves `listener` until dropped; connections end with the future, which cancels what they asked for.
pub async fn serve(worker: Arc<Worker>, listener: Listener) {
    let mut connections = tokio::task::JoinSet::new();
    connections.spawn(footprint::watch(Arc::clone(&worker.board)));
    let room = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    loop {
        // The semaphore is never closed.
        let Ok(permit) = Arc::clone(&room).acquire_owned().await else { return };
        let stream = match listener.accept().await {
            Ok(stream) => stream,
            Err(error) => {
                // Out of descriptors, most likely: waiting lets other connections end.
                tracing::warn!(%error, "a connection could not be accepted");
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        let worker = Arc::clone(&worker);
        connections.spawn(async move {
            connection(worker, stream).await;
            drop(permit);
        });
        while connections.try_join_next().is_some() {}
    }
}

async fn connection(worker: Arc<Worker>, stream: impl AsyncRead + AsyncWrite + Unpin) {
    let service = service_fn(move |request| {
        let worker = Arc::clone(&worker);
        async move { Ok::<_, std::convert::Infallible>(Box::pin(routes::answer(worker, request)).await) }
    });
    let served = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIMEOUT)
        .serve_connection(TokioIo::new(stream), service)
        .await;
    if let Err(error) = served {
        // A client that hangs up in the middle is ordinary.
        tracing::debug!(%error, "a connection ended early");
    }
}
