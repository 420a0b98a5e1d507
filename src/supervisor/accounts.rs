//! What each client has waiting and running, what it was charged, and whose request is next.
//!
//! Two levels with the same rule: principals take turns, and the names inside a principal take turns at its turn. Within
//! one name its interactive requests go before its normal and those before its batch ones, in order of arrival. Owns the
//! counters; knows no requests but those that have never been assigned, and of these only the order.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::fairness::{CLASSES, FIRST_GUESS_TOKENS, Turns, mean_with};
use super::principal::{Account, Principal};
use super::request::{Class, Submission};
use super::{Mono, RequestId};

/// Principals remembered though nothing of them waits or runs.
const PRINCIPALS_KEPT: usize = 256;

/// Whose a request is, and of which class.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lane {
    /// The principal.
    pub principal: u32,
    /// The name inside it.
    pub name: u32,
    /// The class.
    pub class: Class,
}

/// What a waiting request weighs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Load {
    /// Bytes of its body.
    pub bytes: u64,
    /// What it will cost, as guessed at the door.
    pub cost: u64,
}

/// Which requests may take the slot that is free.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Opening {
    /// Only what arrived before this.
    pub line: u64,
    /// The slot is reserved: only interactive requests, and those the ageing guard names.
    pub reserved: bool,
    /// Now, and `queue.max_wait`, for the ageing guard; `None` leaves it out.
    pub guard: Option<(Mono, Duration)>,
}

/// Every client that is or was here.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Accounts {
    keys: BTreeMap<String, u32>,
    principals: BTreeMap<u32, Principal>,
    turns: Turns,
    /// By class, those whose first request stands at the head, by since when.
    heads: [BTreeSet<(Mono, u32)>; 3],
    mean_answer: Option<f64>,
    seen: u64,
    next: u32,
}

impl Accounts {
    /// Whose requests like this one are; its principal's cap is what this one says.
    pub fn open(&mut self, submission: &Submission, now: Mono) -> Lane {
        self.seen += 1;
        let seen = self.seen;
        let key = match self.keys.get(&submission.principal) {
            Some(key) => *key,
            None => self.add(&submission.principal),
        };
        let cap = submission.max_active;
        let label = submission.client.as_deref().unwrap_or_default();
        let name = self.with(key, now, |principal| {
            principal.max_active = cap;
            principal.last_seen = seen;
            principal.open(label, seen)
        });
        Lane { principal: key, name: name.unwrap_or_default(), class: submission.class }
    }

    fn add(&mut self, label: &str) -> u32 {
        if self.principals.len() >= PRINCIPALS_KEPT {
            let idle = self.principals.iter().filter(|(_, principal)| principal.account.is_idle());
            let longest = idle.min_by_key(|(_, principal)| principal.last_seen).map(|(key, _)| *key);
            if let Some(forgotten) = longest.and_then(|key| self.principals.remove(&key)) {
                self.keys.remove(&forgotten.label);
            }
        }
        self.next = self.next.wrapping_add(1);
        self.keys.insert(label.to_owned(), self.next);
        let principal = Principal::new(label, self.turns.floor());
        self.principals.insert(self.next, principal);
        self.next
    }

    /// Changes a principal and keeps every order true.
    fn with<T>(&mut self, key: u32, now: Mono, change: impl FnOnce(&mut Principal) -> T) -> Option<T> {
        let principal = self.principals.get_mut(&key)?;
        let (turn, heads, since) = (principal.turn(), principal.heads(), principal.since);
        let done = change(principal);
        // Neither idling nor standing at its cap earns anything.
        if principal.turn().waits && !turn.waits {
            principal.account.counter = self.turns.lifted(principal.account.counter);
        }
        for (class, (from, to)) in
            heads.into_iter().zip(principal.heads()).enumerate().filter(|(_, (from, to))| from != to)
        {
            principal.since[class] = now;
            if from.is_some() {
                self.heads[class].remove(&(since[class], key));
            }
            if to.is_some() {
                self.heads[class].insert((now, key));
            }
        }
        self.turns.moved(key, turn, principal.turn());
        Some(done)
    }

    /// A request waits: a fresh one with its place, or one that lost its worker.
    pub fn enter(&mut self, lane: Lane, load: Load, fresh: Option<(u64, RequestId)>, now: Mono) {
        let class = lane.class.index();
        self.with(lane.principal, now, |principal| {
            principal.account.enters(lane.class, load);
            principal.account.interrupted += u32::from(fresh.is_none());
            principal.fresh[class].extend(fresh);
            principal.with_name(lane.name, |name| {
                name.account.enters(lane.class, load);
                name.account.interrupted += u32::from(fresh.is_none());
                name.fresh[class].extend(fresh);
            });
        });
    }

    /// It waits no longer; `fresh` as it came.
    pub fn leave(&mut self, lane: Lane, load: Load, fresh: Option<u64>, now: Mono) {
        let class = lane.class.index();
        self.with(lane.principal, now, |principal| {
            principal.account.leaves(lane.class, load);
            principal.account.interrupted -= u32::from(fresh.is_none());
            fresh.map(|seq| principal.fresh[class].remove(&seq));
            principal.with_name(lane.name, |name| {
                name.account.leaves(lane.class, load);
                name.account.interrupted -= u32::from(fresh.is_none());
                fresh.map(|seq| name.fresh[class].remove(&seq));
            });
        });
    }

    /// A request is about to be assigned for the first time; it has not left yet.
    pub fn start(&mut self, lane: Lane, now: Mono) {
        self.turns.pass();
        self.with(lane.principal, now, |principal| {
            principal.turns.pass();
            principal.account.started += 1;
            if let Some(name) = principal.names.get_mut(&lane.name) {
                name.account.started += 1;
            }
        });
    }

    /// A request that was assigned once has ended.
    pub fn finish(&mut self, lane: Lane, now: Mono) {
        self.with(lane.principal, now, |principal| {
            principal.account.started = principal.account.started.saturating_sub(1);
            if let Some(name) = principal.names.get_mut(&lane.name) {
                name.account.started = name.account.started.saturating_sub(1);
            }
        });
    }

    /// What a request was thought to cost is replaced by what is known now.
    pub fn charge(&mut self, lane: Lane, before: u64, after: u64, now: Mono) {
        self.with(lane.principal, now, |principal| {
            principal.account.charge(lane.class, before, after);
            principal.with_name(lane.name, |name| name.account.charge(lane.class, before, after));
        });
    }

    /// Tokens more that were read and generated for a request.
    pub fn served(&mut self, lane: Lane, prompt_tokens: u64, completion_tokens: u64) {
        self.each_account(lane, |account| {
            account.prompt_tokens = account.prompt_tokens.saturating_add(prompt_tokens);
            account.completion_tokens = account.completion_tokens.saturating_add(completion_tokens);
        });
    }

    /// A complete answer had so many tokens.
    pub fn answered(&mut self, lane: Lane, completion_tokens: u64) {
        self.mean_answer = Some(mean_with(self.mean_answer, completion_tokens));
        self.each_account(lane, |account| {
            account.mean_answer = Some(mean_with(account.mean_answer, completion_tokens));
        });
    }

    /// Changes numbers that no order depends on.
    fn each_account(&mut self, lane: Lane, mut change: impl FnMut(&mut Account)) {
        let Some(principal) = self.principals.get_mut(&lane.principal) else { return };
        change(&mut principal.account);
        if let Some(name) = principal.names.get_mut(&lane.name) {
            change(&mut name.account);
        }
    }

    /// How long this client's answers are, tokens: its own mean, else its principal's, else everybody's, else a guess.
    #[must_use]
    pub fn expected_answer(&self, lane: Lane) -> u64 {
        let principal = self.principals.get(&lane.principal);
        let own = principal.and_then(|principal| principal.names.get(&lane.name)?.account.mean_answer);
        let mean = own.or_else(|| principal?.account.mean_answer).or(self.mean_answer).unwrap_or(FIRST_GUESS_TOKENS);
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a mean of counts")]
        let tokens = mean.ceil() as u64;
        tokens
    }

    /// The fresh request whose turn it is.
    #[must_use]
    pub fn next(&self, opening: Opening) -> Option<RequestId> {
        if let Some(overdue) = self.most_overdue(opening) {
            return Some(overdue);
        }
        let principals = self.turns.in_order(opening.reserved).filter_map(|key| self.principals.get(&key));
        principals.filter_map(|principal| principal.first(opening)).next()
    }

    /// Whoever has stood at the head of its class beyond the guard, longest beyond it first.
    fn most_overdue(&self, opening: Opening) -> Option<RequestId> {
        let (now, max_wait) = opening.guard?;
        let overdue = |class: Class| {
            let due = |since: Mono| since + class.guard(max_wait);
            let these = self.heads[class.index()].iter().take_while(move |(since, _)| due(*since) <= now);
            let firsts = these.filter_map(move |(since, key)| {
                let (seq, id) = self.principals.get(key)?.fresh[class.index()].first_key_value()?;
                (*seq < opening.line).then_some((due(*since), *id))
            });
            firsts.min_by_key(|(due, _)| *due)
        };
        CLASSES.into_iter().filter_map(overdue).min_by_key(|(due, _)| *due).map(|(_, id)| id)
    }

    /// When the ageing guard next names somebody it does not name at `now`.
    #[must_use]
    pub fn next_overdue(&self, now: Mono, max_wait: Duration) -> Option<Mono> {
        let dues = CLASSES.into_iter().flat_map(|class| {
            let due = move |(since, _): &(Mono, u32)| *since + class.guard(max_wait);
            self.heads[class.index()].iter().map(due).find(|due| *due > now)
        });
        dues.min()
    }

    /// What is served before a request like this one would be, in cost: of its own principal what is of its class or above,
    /// and of every other as much as brings its counter to where this principal's is by then.
    #[must_use]
    pub fn cost_before(&self, submission: &Submission) -> u64 {
        let own = self.principal(&submission.principal);
        let mut until = self.turns.floor();
        let mut before = 0;
        if let Some(own) = own {
            let above: u32 = own.account.waiting[..=submission.class.index()].iter().sum();
            let part = |whole: u64| scaled(whole, u64::from(above), own.account.waits() as u64);
            before = part(own.account.backlog);
            until = self.turns.lifted(own.account.counter).saturating_add(part(own.account.weighted_backlog));
        }
        let others = self.principals().filter(|other| own.is_none_or(|own| own.label != other.label));
        others.fold(before, |before, other| {
            let gap = until.saturating_sub(other.account.counter).min(other.account.weighted_backlog);
            before.saturating_add(scaled(other.account.backlog, gap, other.account.weighted_backlog))
        })
    }

    /// One principal, by what it is called.
    #[must_use]
    pub fn principal(&self, label: &str) -> Option<&Principal> {
        self.principals.get(self.keys.get(label)?)
    }

    /// All of them.
    pub fn principals(&self) -> impl Iterator<Item = &Principal> + Clone + '_ {
        self.keys.values().filter_map(|key| self.principals.get(key))
    }

    /// The counter of those who wait or come back now, at least.
    #[must_use]
    pub fn floor(&self) -> u64 {
        self.turns.floor()
    }

    /// A copy in which nobody has a cap, to play the order forward.
    #[must_use]
    pub fn uncapped(&self) -> Self {
        let mut copy = self.clone();
        let keys: Vec<u32> = copy.principals.keys().copied().collect();
        for key in keys {
            copy.with(key, Mono(0), |principal| principal.max_active = None);
        }
        copy
    }
}

/// `whole · part / of`; nothing of nothing.
fn scaled(whole: u64, part: u64, of: u64) -> u64 {
    let product = u128::from(whole) * u128::from(part);
    u64::try_from(product.checked_div(u128::from(of)).unwrap_or(0)).unwrap_or(u64::MAX)
}
