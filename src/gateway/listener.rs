//! The accept loops over bound sockets, one task per connection.
//!
//! Owns what happens when accepting fails; binds and unlinks nothing. How many come in is [`super::room`]'s affair.
//! Whether clients are let in is [`crate::daemon::door`]'s affair.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use nix::sys::socket::{setsockopt, sockopt};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio::task::JoinSet;

use super::access::Peer;
use super::connection::{Connection, Patience};
use super::kept_links::KeptLinks;
use super::room::{Place, Room};
use super::{GatewayContext, answer, routes, slack};
use crate::daemon::door::{Door, Doorway};

/// Request line and headers together, and what is buffered of an answer.
const BUFFER: usize = 64 << 10;
/// Pause after a failed accept: descriptors come back when connections end, not when one asks again.
const ACCEPT_PAUSE: Duration = Duration::from_millis(200);

/// Where clients come in.
#[derive(Debug)]
pub struct ClientListeners {
    /// The stable socket.
    pub unix: UnixListener,
    /// TCP, one per address.
    pub tcp: Vec<TcpListener>,
}

/// Serves clients while the door is open; held, it takes none and keeps the listeners; closed, it drops the listeners and
/// waits until every connection has ended: idle ones at once, others with their answer. Dropping the future breaks all
/// connections off. Keep a clone of a listener's descriptor if its socket must stay bound.
pub async fn serve(listeners: ClientListeners, context: Arc<GatewayContext>, doorway: Doorway) {
    let room = Arc::new(Room::new(context.max_connections));
    let links = Arc::new(KeptLinks::default());
    let mut loops = JoinSet::new();
    for listener in listeners.tcp {
        loops.spawn(take_in(listener, context.clone(), (room.clone(), links.clone()), doorway.clone()));
    }
    let mut slack = std::pin::pin!(slack::give_back(Arc::clone(&room)));
    loops.spawn(take_in(listeners.unix, context, (room, links), doorway));
    loop {
        tokio::select! {
            ended = loops.join_next() => match ended {
                Some(ended) => log_panic(ended),
                None => break,
            },
            never = slack.as_mut() => match never {},
        }
    }
}

/// What all connections share.
type Shared = (Arc<Room>, Arc<KeptLinks>);

/// One listener's accept loop.
async fn take_in<L: Accepts>(listener: L, context: Arc<GatewayContext>, shared: Shared, mut doorway: Doorway) {
    let room = &shared.0;
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
            accepted = accept(&listener, room), if accepting.is_some() => match accepted {
                Ok((stream, peer, place)) => {
                    failing = false;
                    let seat = match room.seat(peer) {
                        Ok(seat) => seat,
                        Err(refusal) => {
                            L::turn_away(&stream, &answer::bare(&refusal));
                            continue;
                        }
                    };
                    let guest = doorway.enter();
                    let conversation = converse(stream, peer, context.clone(), shared.clone(), doorway.clone());
                    connections.spawn(async move {
                        conversation.await;
                        drop((place, seat, guest));
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

/// What the accept loop needs of a listener.
trait Accepts: Send + Sync + 'static {
    type Stream: AsyncRead + AsyncWrite + Unpin + Send + Sync + 'static;
    /// Strangers may come.
    const IS_TCP: bool;

    /// One client, and who it is. Cancel-safe.
    fn client(&self) -> impl Future<Output = io::Result<(Self::Stream, Peer)>> + Send;

    /// Says why nobody talks to this client. What its socket does not take at once is not said.
    fn turn_away(stream: &Self::Stream, words: &[u8]);
}

impl Accepts for UnixListener {
    type Stream = UnixStream;
    const IS_TCP: bool = false;

    async fn client(&self) -> io::Result<(UnixStream, Peer)> {
        let (stream, _) = self.accept().await?;
        let uid = stream.peer_cred().ok().map(|credentials| credentials.uid());
        Ok((stream, Peer::Unix { uid }))
    }

    fn turn_away(stream: &UnixStream, words: &[u8]) {
        let _ = stream.try_write(words);
    }
}

impl Accepts for TcpListener {
    type Stream = TcpStream;
    const IS_TCP: bool = true;

    async fn client(&self) -> io::Result<(TcpStream, Peer)> {
        let (stream, from) = self.accept().await?;
        let at = stream.local_addr()?;
        // Tokens are small and each is wanted at once. And a machine that is gone without a word is to be noticed
        // also while a plain request waits in the queue.
        let tuned = stream.set_nodelay(true).and_then(|()| Ok(setsockopt(&stream, sockopt::KeepAlive, &true)?));
        if let Err(error) = tuned {
            tracing::debug!(%error, "a connection is served untuned");
        }
        Ok((stream, Peer::Tcp { from, at }))
    }

    fn turn_away(stream: &TcpStream, words: &[u8]) {
        let _ = stream.try_write(words);
    }
}

/// One client, once there is room. Cancel-safe.
async fn accept<L: Accepts>(listener: &L, room: &Room) -> io::Result<(L::Stream, Peer, Place)> {
    let place = room.place(L::IS_TCP).await?;
    let (stream, peer) = listener.client().await?;
    Ok((stream, peer, place))
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
async fn converse<S>(stream: S, peer: Peer, context: Arc<GatewayContext>, shared: Shared, mut doorway: Doorway)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (connection, turns) = Connection::new(stream, Patience::default());
    let leaving = turns.clone();
    let service = service_fn(move |request| routes::handle(context.clone(), shared.clone(), peer, &turns, request));
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
