//! The worker's HTTP side: `/status`, `/control`, `/link` for the daemon; `/v1` for running alone.
//!
//! Owns connections, bodies and routes. It reads the board and talks to the engine through [`EnginePort`] alone, so it
//! answers `/status` while the engine is wedged. Every failure is an OpenAI error object.

mod control;
mod event_stream;
mod footprint;
mod generation;
mod lease;
mod listener;
mod preparation;
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
use mlxsup_worker_api::settings::Limits;
use mlxsup_worker_api::{Phase, Settings};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::{Semaphore, oneshot};

use crate::board::Board;
use crate::engine::sequence::SequenceRequest;
use crate::openai::Refusal;
use crate::text::Codec;

pub use control::Identity;
pub use lease::Lease;
pub use listener::{ListenError, Listener};

/// Connections at once; further ones wait in the listener's backlog.
const MAX_CONNECTIONS: usize = 1024;
/// Headers must be complete within this time.
const HEADER_TIMEOUT: Duration = Duration::from_secs(10);

/// What the HTTP side needs from the engine.
pub trait EnginePort: Send + Sync {
    /// Takes one sequence; its events come through the request's own channel.
    ///
    /// # Errors
    /// A refusal for the client when the engine has stopped or can never run this sequence.
    fn submit(&self, request: SequenceRequest) -> Result<(), Refusal>;

    /// Drops MLX's free-buffer cache; the answer comes when the board shows it.
    fn clear_cache(&self) -> oneshot::Receiver<Result<(), String>>;

    /// Changes what is present; the answer comes when the board shows it.
    fn set_limits(&self, limits: Limits) -> oneshot::Receiver<Result<(), String>>;
}

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
    /// Set before the phase becomes ready.
    pub codec: OnceLock<Arc<Codec>>,
    /// Set before the phase becomes ready.
    pub engine: OnceLock<Arc<dyn EnginePort>>,
}

impl Worker {
    /// A worker that has nothing loaded yet.
    #[must_use]
    pub fn new(board: Arc<Board>, settings: Settings, identity: Identity) -> Self {
        Self { board, settings, identity, lease: Lease::default(), codec: OnceLock::new(), engine: OnceLock::new() }
    }

    /// The engine, once it takes work.
    fn engine(&self) -> Result<&Arc<dyn EnginePort>, Refusal> {
        let phase = self.board.phase.borrow().0;
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
