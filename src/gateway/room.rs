//! How much there is room for: connections in all, over TCP and per peer, and bytes of bodies that are being read.
//!
//! Owns the counts; what is told to those for whom there is none is said here too. Waiting and accepting are
//! [`super::listener`]'s part.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::access::Peer;
use crate::supervisor::{Code, Refusal};

/// When somebody for whom there was no room should try again.
const AGAIN: Duration = Duration::from_secs(1);

/// One for all listeners.
#[derive(Debug)]
pub(super) struct Room {
    all: Arc<Semaphore>,
    /// Strangers may reach TCP: however many come, the stable socket keeps some.
    tcp: Arc<Semaphore>,
    /// For one peer, so that others find some.
    each: usize,
    peers: Mutex<HashMap<Party, usize>>,
    body_bytes: AtomicU64,
    /// Connections now, and at most since a crowd last left.
    seated: AtomicUsize,
    most_seated: AtomicUsize,
}

/// Whose connections are counted together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Party {
    Uid(Option<u32>),
    /// An IPv6 network of one customer counts as one, as they have all addresses in it.
    Address(IpAddr),
}

impl From<Peer> for Party {
    fn from(peer: Peer) -> Self {
        match peer {
            Peer::Unix { uid } => Self::Uid(uid),
            Peer::Tcp { from, .. } => Self::Address(match from.ip().to_canonical() {
                IpAddr::V6(ip) => IpAddr::V6(Ipv6Addr::from_bits(ip.to_bits() & !(u128::MAX >> 64))),
                ip @ IpAddr::V4(_) => ip,
            }),
        }
    }
}

/// Held while a connection may be accepted, and as long as it lasts.
#[derive(Debug)]
pub(super) struct Place {
    _all: OwnedSemaphorePermit,
    _tcp: Option<OwnedSemaphorePermit>,
}

impl Room {
    /// For so many connections.
    pub fn new(connections: usize) -> Self {
        let connections = connections.clamp(4, Semaphore::MAX_PERMITS);
        let most = connections - connections / 4;
        Self {
            all: Arc::new(Semaphore::new(connections)),
            tcp: Arc::new(Semaphore::new(most)),
            each: most,
            peers: Mutex::new(HashMap::new()),
            body_bytes: AtomicU64::new(0),
            seated: AtomicUsize::new(0),
            most_seated: AtomicUsize::new(0),
        }
    }

    /// Waits until there is room for one more connection; meanwhile clients wait in the backlog. Cancel-safe.
    pub async fn place(&self, tcp: bool) -> std::io::Result<Place> {
        let closed = std::io::Error::other;
        // First the one that strangers can use up, or they would hold what the others wait for.
        let tcp = if tcp { Some(self.tcp.clone().acquire_owned().await.map_err(closed)?) } else { None };
        let all = self.all.clone().acquire_owned().await.map_err(closed)?;
        Ok(Place { _all: all, _tcp: tcp })
    }

    /// Counts one more connection of this peer.
    pub fn seat(self: &Arc<Self>, peer: Peer) -> Result<Seat, Refusal> {
        let party = Party::from(peer);
        let mut peers = self.peers();
        let count = peers.entry(party).or_insert(0);
        if *count >= self.each {
            let message = format!("{} has {count} connections open, which is its share; close some", peer.name());
            return Err(Refusal::new(Code::ClientShare, message).with_retry_after(AGAIN));
        }
        *count += 1;
        let seated = self.seated.fetch_add(1, Ordering::Relaxed) + 1;
        self.most_seated.fetch_max(seated, Ordering::Relaxed);
        Ok(Seat { room: Arc::clone(self), party })
    }

    /// True when at least so many connections have ended since there were most. Then counting begins anew.
    pub fn has_lost(&self, crowd: usize) -> bool {
        let now = self.seated.load(Ordering::Relaxed);
        let lost = self.most_seated.load(Ordering::Relaxed) >= now + crowd;
        if lost {
            self.most_seated.store(now, Ordering::Relaxed);
        }
        lost
    }

    fn peers(&self) -> MutexGuard<'_, HashMap<Party, usize>> {
        self.peers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// For a body that is going to be read.
    pub fn body(&self, most: u64) -> BodyRoom<'_> {
        BodyRoom { read: &self.body_bytes, most, taken: 0 }
    }
}

/// One connection of a peer, counted until it is dropped.
#[derive(Debug)]
pub(super) struct Seat {
    room: Arc<Room>,
    party: Party,
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.room.seated.fetch_sub(1, Ordering::Relaxed);
        let mut peers = self.room.peers();
        if let Some(count) = peers.get_mut(&self.party) {
            *count -= 1;
            if *count == 0 {
                peers.remove(&self.party);
            }
        }
    }
}

/// What a body that is being read takes of the bytes there are for all of them. Given back when dropped.
#[derive(Debug)]
pub(super) struct BodyRoom<'r> {
    read: &'r AtomicU64,
    most: u64,
    taken: u64,
}

impl BodyRoom<'_> {
    /// Some more of the body has come.
    pub fn take(&mut self, bytes: u64) -> Result<(), Refusal> {
        self.taken += bytes;
        if self.read.fetch_add(bytes, Ordering::Relaxed) + bytes <= self.most {
            return Ok(());
        }
        let message =
            format!("bodies of more than {} bytes are being read; try again, or raise queue.max_bytes", self.most);
        Err(Refusal::new(Code::QueueFull, message).with_retry_after(AGAIN))
    }
}

impl Drop for BodyRoom<'_> {
    fn drop(&mut self) {
        self.read.fetch_sub(self.taken, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tcp(from: &str) -> Peer {
        Peer::Tcp { from: from.parse().unwrap(), at: "127.0.0.1:1".parse().unwrap() }
    }

    #[tokio::test]
    async fn a_peer_has_its_share_and_gets_it_back() {
        let room = Arc::new(Room::new(8));
        let us = Peer::Unix { uid: Some(501) };
        let mut seats: Vec<_> = (0..6).map(|_| room.seat(us).unwrap()).collect();
        let refusal = room.seat(us).unwrap_err();
        assert_eq!((refusal.code, refusal.retry_after), (Code::ClientShare, Some(AGAIN)));
        let other = room.seat(tcp("[2001:db8::1]:1")).unwrap();
        let same = room.seat(tcp("[2001:db8::2]:9")).unwrap();
        assert_eq!(room.peers().len(), 2);
        seats.pop();
        seats.push(room.seat(us).unwrap());
        drop((seats, other, same));
        assert!(room.peers().is_empty(), "nobody is remembered who has left");
    }

    #[tokio::test]
    async fn tcp_leaves_room_for_the_stable_socket() {
        let room = Room::new(8);
        let mut strangers = Vec::new();
        for _ in 0..6 {
            strangers.push(room.place(true).await.unwrap());
        }
        assert!(tokio::time::timeout(Duration::ZERO, room.place(true)).await.is_err());
        let ours = [room.place(false).await.unwrap(), room.place(false).await.unwrap()];
        assert!(tokio::time::timeout(Duration::ZERO, room.place(false)).await.is_err());
        drop(ours);
        strangers.pop();
        room.place(true).await.unwrap();
    }

    #[test]
    fn a_crowd_that_has_left_is_noticed_once() {
        let room = Arc::new(Room::new(8));
        let us = Peer::Unix { uid: Some(501) };
        let mut seats: Vec<_> = (0..4).map(|_| room.seat(us).unwrap()).collect();
        seats.pop();
        assert!(!room.has_lost(2));
        seats.pop();
        assert!(room.has_lost(2));
        assert!(!room.has_lost(2));
        seats.clear();
        assert!(room.has_lost(2));
    }

    #[test]
    fn bodies_under_way_share_their_bytes() {
        let room = Room::new(8);
        let mut first = room.body(100);
        first.take(60).unwrap();
        assert_eq!(room.body(100).take(41).unwrap_err().code, Code::QueueFull);
        room.body(100).take(40).unwrap();
        drop(first);
        room.body(100).take(100).unwrap();
    }
}
