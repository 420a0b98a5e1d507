//! Who is next. One queue, bounded by count and bytes: interrupted requests stand at its head, in arrival order; behind
//! them clients take turns ([`super::accounts`]).
//!
//! Owns the order, the bounds' counts and the forecast of places; the requests themselves are the table's.

use std::collections::BTreeMap;

use super::accounts::{Accounts, Lane, Load, Opening};
use super::principal::Principal;
use super::{Mono, RequestId};

/// What the queue knows of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Entry {
    /// The request.
    pub id: RequestId,
    /// Order of arrival.
    pub seq: u64,
    /// Whose it is.
    pub lane: Lane,
    /// What it weighs.
    pub load: Load,
}

/// What stands before a request.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Ahead {
    /// Requests.
    pub requests: usize,
    /// What they will cost, as guessed at the door.
    pub cost: u64,
}

/// Waiting requests, and the accounts that order them.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Queue {
    interrupted: BTreeMap<u64, Entry>,
    fresh: BTreeMap<u64, Entry>,
    accounts: Accounts,
    bytes: u64,
    backlog: u64,
    changes: u64,
    forecast: Forecast,
}

/// Everybody's place, as it was when last asked for.
#[derive(Debug, Clone, Default, PartialEq)]
struct Forecast {
    ahead: BTreeMap<RequestId, Ahead>,
    at_change: u64,
}

/// One changed place in so many makes a forecast stale: playing the order forward costs a few microseconds per request,
/// which this spreads over the changes.
const STALE_SHARE: u64 = 16;

impl Queue {
    /// Adds a request that has never been assigned.
    pub fn push_fresh(&mut self, entry: Entry, now: Mono) {
        if self.fresh.insert(entry.seq, entry).is_none() {
            self.accounts.enter(entry.lane, entry.load, Some((entry.seq, entry.id)), now);
            self.added(entry);
        }
    }

    /// Adds a request that lost its worker: before every fresh one.
    pub fn push_interrupted(&mut self, entry: Entry, now: Mono) {
        if self.interrupted.insert(entry.seq, entry).is_none() {
            self.accounts.enter(entry.lane, entry.load, None, now);
            self.added(entry);
        }
    }

    fn added(&mut self, entry: Entry) {
        self.bytes = self.bytes.saturating_add(entry.load.bytes);
        self.backlog = self.backlog.saturating_add(entry.load.cost);
        self.changes += 1;
    }

    /// Takes a request out, wherever it stands. Returns whether it was there.
    pub fn remove(&mut self, entry: Entry, now: Mono) -> bool {
        if self.fresh.remove(&entry.seq).is_some() {
            self.accounts.leave(entry.lane, entry.load, Some(entry.seq), now);
        } else if self.interrupted.remove(&entry.seq).is_some() {
            self.accounts.leave(entry.lane, entry.load, None, now);
        } else {
            return false;
        }
        self.bytes = self.bytes.saturating_sub(entry.load.bytes);
        self.backlog = self.backlog.saturating_sub(entry.load.cost);
        self.changes += 1;
        true
    }

    /// Those that lost their worker, then the others, each in order of arrival.
    pub fn iter(&self) -> impl Iterator<Item = RequestId> + '_ {
        self.interrupted.values().chain(self.fresh.values()).map(|entry| entry.id)
    }

    /// Requests that lost their worker, in order of service.
    pub fn interrupted(&self) -> impl Iterator<Item = RequestId> + '_ {
        self.interrupted.values().map(|entry| entry.id)
    }

    /// The fresh request that came first.
    #[must_use]
    pub fn oldest_fresh(&self) -> Option<RequestId> {
        self.fresh.first_key_value().map(|(_, entry)| entry.id)
    }

    /// The fresh request whose turn it is.
    #[must_use]
    pub fn next_fresh(&self, opening: Opening) -> Option<RequestId> {
        self.fresh.range(..opening.line).next()?;
        self.accounts.next(opening)
    }

    /// True when somebody from before `line` waits.
    #[must_use]
    pub fn any_before(&self, line: u64) -> bool {
        [&self.interrupted, &self.fresh].into_iter().any(|these| these.range(..line).next().is_some())
    }

    /// How many from before `line` wait. Counts them one by one.
    #[must_use]
    pub fn count_before(&self, line: u64) -> usize {
        self.interrupted.range(..line).count() + self.fresh.range(..line).count()
    }

    /// What will be served before this waiting request if nobody comes or leaves. Caps of principals are left out of
    /// account, and in a long queue one change in sixteen goes unnoticed, so that one that has left may still have a place.
    pub fn ahead(&mut self, id: RequestId) -> Option<Ahead> {
        let since = self.changes - self.forecast.at_change;
        let stale = since > self.fresh.len() as u64 / STALE_SHARE;
        if since > 0 && (stale || !self.forecast.ahead.contains_key(&id)) {
            self.forecast = Forecast { ahead: self.played_forward(), at_change: self.changes };
        }
        self.forecast.ahead.get(&id).copied()
    }

    fn played_forward(&self) -> BTreeMap<RequestId, Ahead> {
        let by_id: BTreeMap<RequestId, Entry> = self.fresh.values().map(|entry| (entry.id, *entry)).collect();
        let mut places = BTreeMap::new();
        let mut ahead = Ahead::default();
        let mut serve = |entry: &Entry| {
            places.insert(entry.id, ahead);
            ahead = Ahead { requests: ahead.requests + 1, cost: ahead.cost.saturating_add(entry.load.cost) };
        };
        self.interrupted.values().for_each(&mut serve);
        let mut accounts = self.accounts.uncapped();
        let anybody = Opening { line: u64::MAX, reserved: false, guard: None };
        while let Some(entry) = accounts.next(anybody).and_then(|id| by_id.get(&id)) {
            serve(entry);
            accounts.leave(entry.lane, entry.load, Some(entry.seq), Mono(0));
            accounts.charge(entry.lane, 0, entry.load.cost, Mono(0));
        }
        places
    }

    /// The clients' accounts.
    #[must_use]
    pub fn accounts(&self) -> &Accounts {
        &self.accounts
    }

    /// The clients' accounts, to be charged.
    pub fn accounts_mut(&mut self) -> &mut Accounts {
        &mut self.accounts
    }

    /// How many wait.
    #[must_use]
    pub fn len(&self) -> usize {
        self.interrupted.len() + self.fresh.len()
    }

    /// True when nobody waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.interrupted.is_empty() && self.fresh.is_empty()
    }

    /// Bytes of waiting bodies.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// What waits will cost, as guessed at the door.
    #[must_use]
    pub fn backlog(&self) -> u64 {
        self.backlog
    }

    /// The sums that are kept must be the sums there are.
    ///
    /// # Errors
    /// The first that is not.
    pub fn check_invariants(&self) -> Result<(), String> {
        let waiting = self.accounts.principals().map(|principal| principal.account.waits()).sum::<usize>();
        let bytes = self.accounts.principals().map(|principal| principal.account.bytes).sum::<u64>();
        if (waiting, bytes) != (self.len(), self.bytes) {
            return Err(format!("{} wait with {} bytes, in accounts {waiting} with {bytes}", self.len(), self.bytes));
        }
        let inside = |principal: &Principal| {
            principal.names.values().map(|name| name.account.waits()).sum::<usize>() != principal.account.waits()
        };
        match self.accounts.principals().find(|principal| inside(principal)) {
            Some(principal) => Err(format!("{}: its names have not what it has", principal.label)),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::fairness::CLASSES;
    use super::super::request::{Class, Submission};
    use super::*;

    const NOW: Mono = Mono(0);
    const ANYBODY: Opening = Opening { line: u64::MAX, reserved: false, guard: None };

    fn submission(principal: &str, body_bytes: u64) -> Submission {
        Submission {
            principal: principal.to_owned(),
            client: None,
            class: Class::Normal,
            body_bytes,
            deadline: None,
            max_active: None,
        }
    }

    fn entry(queue: &mut Queue, seq: u64, principal: &str, bytes: u64) -> Entry {
        let lane = queue.accounts_mut().open(&submission(principal, bytes), NOW);
        Entry { id: RequestId(seq), seq, lane, load: Load { bytes, cost: bytes } }
    }

    /// The order in which all are served, one slot after the other.
    fn served_out(mut queue: Queue) -> Vec<RequestId> {
        let mut served = Vec::new();
        while let Some(id) = queue.next_fresh(ANYBODY) {
            let entry = *queue.fresh.values().find(|entry| entry.id == id).expect("it waits");
            queue.accounts_mut().start(entry.lane, NOW);
            queue.remove(entry, NOW);
            queue.accounts_mut().charge(entry.lane, 0, entry.load.cost, NOW);
            served.push(id);
        }
        served
    }

    #[test]
    fn interrupted_requests_come_first_in_arrival_order() {
        let mut queue = Queue::default();
        for (seq, fresh) in [(3, true), (2, false), (4, true), (1, false)] {
            let entry = entry(&mut queue, seq, "a", 10);
            if fresh { queue.push_fresh(entry, NOW) } else { queue.push_interrupted(entry, NOW) }
        }
        assert_eq!(queue.iter().collect::<Vec<_>>(), [1, 2, 3, 4].map(RequestId));
        assert_eq!(queue.ahead(RequestId(3)), Some(Ahead { requests: 2, cost: 20 }));
        assert_eq!((queue.any_before(1), queue.count_before(4)), (false, 3));
    }

    #[test]
    fn bytes_balance() {
        let mut queue = Queue::default();
        let one = entry(&mut queue, 1, "a", 100);
        let two = entry(&mut queue, 2, "b", 50);
        queue.push_fresh(one, NOW);
        queue.push_fresh(one, NOW);
        queue.push_interrupted(two, NOW);
        assert_eq!((queue.bytes(), queue.backlog()), (150, 150), "a double push counts once");
        assert_eq!(queue.check_invariants(), Ok(()));
        assert!(queue.remove(two, NOW));
        assert!(!queue.remove(two, NOW));
        assert!(queue.remove(one, NOW));
        assert_eq!((queue.bytes(), queue.backlog(), queue.is_empty()), (0, 0, true));
    }

    #[test]
    fn the_forecast_is_the_order_of_service() {
        let mut queue = Queue::default();
        for seq in 1..=40 {
            let principal = ["a", "a", "a", "b", "c"][seq as usize % 5];
            let entry = entry(&mut queue, seq, principal, 10 + seq * 7 % 13);
            queue.push_fresh(entry, NOW);
        }
        let places: BTreeMap<usize, RequestId> =
            (1..=40).map(RequestId).map(|id| (queue.ahead(id).expect("it waits").requests, id)).collect();
        let served = served_out(queue.clone());
        assert_eq!(places.into_values().collect::<Vec<_>>(), served);
        assert_eq!(queue.ahead(RequestId(41)), None);
    }
    proptest! {
        #[test]
        fn who_leaves_changes_nobody_elses_turn(
            requests in prop::collection::vec((0..4_usize, 0..3_usize, 0..3_usize, 1..900_u64), 2..60), leaves: prop::sample::Index,
        ) {
            let mut queue = Queue::default();
            let mut entries = Vec::new();
            for (index, (principal, name, class, cost)) in requests.into_iter().enumerate() {
                let submission = Submission {
                    client: Some(format!("n{name}")),
                    class: CLASSES[class],
                    ..submission(&format!("p{principal}"), cost)
                };
                let lane = queue.accounts_mut().open(&submission, NOW);
                let seq = index as u64 + 1;
                let entry = Entry { id: RequestId(seq), seq, lane, load: Load { bytes: cost, cost } };
                queue.push_fresh(entry, NOW);
                entries.push(entry);
            }
            let gone = *leaves.get(&entries);
            let before = served_out(queue.clone());
            prop_assert_eq!(before.len(), entries.len(), "everybody is served");
            queue.remove(gone, NOW);
            prop_assert_eq!(queue.check_invariants(), Ok(()));
            let after = served_out(queue);
            let of = |id: &RequestId| entries[id.0 as usize - 1].lane;
            let others = |order: &[RequestId]| -> Vec<RequestId> {
                order.iter().filter(|id| of(id).principal != gone.lane.principal).copied().collect()
            };
            prop_assert_eq!(others(&before), others(&after));
            let lane = |order: &[RequestId]| -> Vec<RequestId> {
                order.iter().filter(|id| of(id) == gone.lane && **id != gone.id).copied().collect()
            };
            prop_assert_eq!(lane(&before), lane(&after));
        }
    }
}
