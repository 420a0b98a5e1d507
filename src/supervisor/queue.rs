//! Who is next. One queue, bounded by count and bytes; interrupted requests stand at its head, in arrival order.

use std::collections::BTreeSet;

use super::RequestId;

/// Waiting requests in order of service.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Queue {
    order: BTreeSet<Entry>,
    bytes: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Entry {
    /// `false` sorts first: requests that lost their worker.
    fresh: bool,
    seq: u64,
    id: RequestId,
    bytes: u64,
}

impl Queue {
    /// Adds a request; `fresh` ones go behind everybody, others before every fresh one.
    pub fn push(&mut self, id: RequestId, seq: u64, bytes: u64, fresh: bool) {
        if self.order.insert(Entry { fresh, seq, id, bytes }) {
            self.bytes = self.bytes.saturating_add(bytes);
        }
    }

    /// Takes a request out, wherever it stands. Returns whether it was there.
    pub fn remove(&mut self, id: RequestId, seq: u64, bytes: u64) -> bool {
        let removed = [true, false].into_iter().any(|fresh| self.order.remove(&Entry { fresh, seq, id, bytes }));
        if removed {
            self.bytes = self.bytes.saturating_sub(bytes);
        }
        removed
    }

    /// Ids in order of service.
    pub fn iter(&self) -> impl Iterator<Item = RequestId> + '_ {
        self.order.iter().map(|entry| entry.id)
    }

    /// Requests that lost their worker, in order of service.
    pub fn interrupted(&self) -> impl Iterator<Item = RequestId> + '_ {
        self.order.iter().take_while(|entry| !entry.fresh).map(|entry| entry.id)
    }

    /// The first request that has not been assigned yet.
    #[must_use]
    pub fn first_fresh(&self) -> Option<RequestId> {
        let before_all = Entry { fresh: true, seq: 0, id: RequestId(0), bytes: 0 };
        self.order.range(before_all..).next().map(|entry| entry.id)
    }

    /// Requests before this one; `None` if it does not wait.
    #[must_use]
    pub fn position(&self, id: RequestId) -> Option<usize> {
        self.iter().position(|other| other == id)
    }

    /// How many wait.
    #[must_use]
    pub fn len(&self) -> usize {
        self.order.len()
    }

    /// True when nobody waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.order.is_empty()
    }

    /// Bytes of waiting bodies.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn interrupted_requests_come_first_in_arrival_order() {
        let mut queue = Queue::default();
        queue.push(RequestId(3), 3, 10, true);
        queue.push(RequestId(2), 2, 10, false);
        queue.push(RequestId(4), 4, 10, true);
        queue.push(RequestId(1), 1, 10, false);
        assert_eq!(queue.iter().collect::<Vec<_>>(), [1, 2, 3, 4].map(RequestId));
        assert_eq!(queue.position(RequestId(3)), Some(2));
    }

    #[test]
    fn bytes_balance() {
        let mut queue = Queue::default();
        queue.push(RequestId(1), 1, 100, true);
        queue.push(RequestId(1), 1, 100, true);
        queue.push(RequestId(2), 2, 50, false);
        assert_eq!(queue.bytes(), 150, "a double push counts once");
        assert!(queue.remove(RequestId(2), 2, 50));
        assert!(!queue.remove(RequestId(2), 2, 50));
        assert!(queue.remove(RequestId(1), 1, 100));
        assert_eq!((queue.bytes(), queue.is_empty()), (0, true));
    }
}
