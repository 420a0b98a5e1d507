//! The accept loop over a bound socket, one task per connection.
//!
//! Owns the connection cap and what happens when accepting fails; binds and unlinks nothing.
//! Whether clients are let in is [`crate::daemon::door`]'s affair.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinSet;

use super::GatewayContext;
use super::connection::{Connection, Patience};
use super::routes::{self, Peer};
use crate::daemon::door::{Door, Doorway};

/// Request line and headers together, and what is buffered of an answer.
const BUFFER: usize = 64 << 10;
/// Pause after a failed accept: descriptors come back when connections end, not when one asks again.
const ACCEPT_PAUSE: Duration = Duration::from_millis(200);

/// Serves clients while the door is open; held, it takes none and keeps the listener; closed, it drops the listener and
/// waits until every connection has ended: idle ones at once, others with their answer. Dropping the future breaks all
/// connections off. Keep a clone of the listener's descriptor if the socket must stay bound.
pub async fn serve(listener: UnixListener, context: Arc<GatewayContext>, mut doorway: Doorway) {
    let room = Arc::new(Semaphore::new(context.max_connections.clamp(1, Semaphore::MAX_PERMITS)));
    let mut connections = JoinSet::new();
    let mut failing = false;
    let mut accepting = None;
    loop {
        match doorway.state() {
            Door::Open if accepting.is_none() => accepting = Some(doorway.enter()),
            Door::Open => {}
            Door::Held => accepting = None,
            Door::Closed => break,
        }
        tokio::select! {
            biased;
            () = doorway.changed() => {}
            Some(ended) = connections.join_next(), if !connections.is_empty() => log_panic(ended),
            accepted = accept(&listener, &room), if accepting.is_some() => match accepted {
                Ok((stream, permit)) => {
                    failing = false;
                    let peer = Peer { uid: stream.peer_cred().ok().map(|credentials| credentials.uid()) };
                    let guest = doorway.enter();
                    let conversation = converse(stream, peer, context.clone(), doorway.clone());
                    connections.spawn(async move {
                        conversation.await;
                        drop((permit, guest));
                    });
                }
                Err(error) if is_passing(&error) => {}
                Err(error) => {
                    if !std::mem::replace(&mut failing, true) {
                        tracing::warn!(%error, "cannot accept clients; trying again until it works");
                    }
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            },
        }
    }
    drop((listener, accepting));
    while let Some(ended) = connections.join_next().await {
        log_panic(ended);
    }
}

/// One client, once there is room. Cancel-safe.
async fn accept(listener: &UnixListener, room: &Arc<Semaphore>) -> io::Result<(UnixStream, OwnedSemaphorePermit)> {
    let permit = room.clone().acquire_owned().await.map_err(io::Error::other)?;
    let (stream, _) = listener.accept().await?;
    Ok((stream, permit))
}

/// Concerns the one client that is already gone again.
fn is_passing(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::ConnectionAborted | io::ErrorKind::Interrupted)
}

fn log_panic(ended: Result<(), tokio::task::JoinError>) {
    if let Err(error) = ended
        && error.is_panic()
    {
        tracing::error!(%error, "a connection task panicked; its client was disconnected");
    }
}

/// Serves one connection to its end.
async fn converse<S>(stream: S, peer: Peer, context: Arc<GatewayContext>, mut doorway: Doorway)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (connection, turns) = Connection::new(stream, Patience::default());
    let leaving = turns.clone();
    let service = service_fn(move |request| routes::handle(context.clone(), peer, &turns, request));
    let mut http = std::pin::pin!(
        http1::Builder::new()
            .half_close(false)
            .max_buf_size(BUFFER)
            .header_read_timeout(None)
            .serve_connection(TokioIo::new(connection), service)
    );
    let ended = loop {
        tokio::select! {
            ended = http.as_mut() => break ended,
            () = doorway.changed() => match doorway.state() {
                Door::Open => leaving.leave(false),
                // Not the library's own graceful end: that one closes a connection whose request is already in the
                // socket's buffer.
                Door::Held => leaving.leave(true),
                Door::Closed => {
                    http.as_mut().graceful_shutdown();
                    break http.await;
                }
            },
        }
    };
    if let Err(error) = ended {
        // Hang-ups, timeouts and our own broken-off answers all end here; none is news.
        tracing::debug!(%error, "connection ended");
    }
}
