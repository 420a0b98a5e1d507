//! One principal: its numbers, its names, and which of its requests is next at its turn.

use std::collections::BTreeMap;

use super::accounts::{Load, Opening};
use super::fairness::{CLASSES, Turn, Turns};
use super::request::Class;
use super::{Mono, RequestId};

/// Names with an account of their own inside a principal; the rest share one.
pub const NAMES_PER_PRINCIPAL: usize = 32;

/// The label of those that share one.
pub const OTHER: &str = "other";

/// The numbers of a principal, or of a name inside one.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Account {
    /// Weighted tokens charged, and lifts.
    pub counter: u64,
    /// Waiting requests by class, interrupted ones too.
    pub waiting: [u32; 3],
    /// Bytes of their bodies.
    pub bytes: u64,
    /// What they will cost, as guessed.
    pub backlog: u64,
    /// The same at the prices of their classes.
    pub weighted_backlog: u64,
    /// Requests that were assigned once and have not ended.
    pub started: u32,
    /// Those among them that wait for another worker.
    pub interrupted: u32,
    /// Prompt tokens read for it.
    pub prompt_tokens: u64,
    /// Tokens generated for it.
    pub completion_tokens: u64,
    /// Mean length of its answers, tokens.
    pub mean_answer: Option<f64>,
}

impl Account {
    /// How many wait.
    #[must_use]
    pub fn waits(&self) -> usize {
        self.waiting.iter().map(|count| *count as usize).sum()
    }

    /// True when nothing of it is here.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.waits() == 0 && self.started == 0
    }

    pub(super) fn enters(&mut self, class: Class, load: Load) {
        self.waiting[class.index()] += 1;
        self.bytes = self.bytes.saturating_add(load.bytes);
        self.backlog = self.backlog.saturating_add(load.cost);
        self.weighted_backlog = self.weighted_backlog.saturating_add(load.cost.saturating_mul(class.price()));
    }

    pub(super) fn leaves(&mut self, class: Class, load: Load) {
        let waiting = &mut self.waiting[class.index()];
        *waiting = waiting.saturating_sub(1);
        self.bytes = self.bytes.saturating_sub(load.bytes);
        self.backlog = self.backlog.saturating_sub(load.cost);
        self.weighted_backlog = self.weighted_backlog.saturating_sub(load.cost.saturating_mul(class.price()));
    }

    pub(super) fn charge(&mut self, class: Class, before: u64, after: u64) {
        let weighted = |cost: u64| cost.saturating_mul(class.price());
        self.counter = self.counter.saturating_add(weighted(after)).saturating_sub(weighted(before));
    }
}

/// One name inside a principal.
#[derive(Debug, Clone, PartialEq)]
pub struct Name {
    /// As the client says; empty for requests without a name.
    pub label: String,
    /// Its numbers.
    pub account: Account,
    /// Never assigned, by class and arrival.
    pub(super) fresh: [BTreeMap<u64, RequestId>; 3],
    last_seen: u64,
}

impl Name {
    fn turn(&self) -> Turn {
        let waits = self.fresh.iter().any(|lane| !lane.is_empty());
        Turn { counter: self.account.counter, waits, interactive: !self.fresh[0].is_empty() }
    }

    fn first(&self, opening: Opening) -> Option<RequestId> {
        let classes = if opening.reserved { &CLASSES[..1] } else { &CLASSES[..] };
        let firsts = classes.iter().filter_map(|class| self.fresh[class.index()].first_key_value());
        firsts.filter(|(seq, _)| **seq < opening.line).map(|(_, id)| *id).next()
    }
}

/// One principal.
#[derive(Debug, Clone, PartialEq)]
pub struct Principal {
    /// A key's name, a peer's uid or address.
    pub label: String,
    /// Its numbers.
    pub account: Account,
    /// Requests it may have under way at once.
    pub max_active: Option<u32>,
    /// Its names.
    pub names: BTreeMap<u32, Name>,
    pub(super) turns: Turns,
    /// Never assigned, by class and arrival, over all names.
    pub(super) fresh: [BTreeMap<u64, RequestId>; 3],
    /// By class, since when its first request stands at the head.
    pub(super) since: [Mono; 3],
    /// Order of the last submissions.
    pub(super) last_seen: u64,
    next_name: u32,
}

impl Principal {
    /// One that has asked for nothing yet.
    pub(super) fn new(label: &str, counter: u64) -> Self {
        Self {
            label: label.to_owned(),
            account: Account { counter, ..Account::default() },
            max_active: None,
            names: BTreeMap::new(),
            turns: Turns::default(),
            fresh: Default::default(),
            since: [Mono(0); 3],
            last_seen: 0,
            next_name: 0,
        }
    }

    fn is_capped(&self) -> bool {
        self.max_active.is_some_and(|most| self.account.started >= most.max(1))
    }

    pub(super) fn turn(&self) -> Turn {
        let waits = !self.is_capped() && self.fresh.iter().any(|lane| !lane.is_empty());
        Turn { counter: self.account.counter, waits, interactive: waits && !self.fresh[0].is_empty() }
    }

    /// By class, the arrival number of the request that stands at the head.
    pub(super) fn heads(&self) -> [Option<u64>; 3] {
        let capped = self.is_capped();
        CLASSES.map(|class| self.fresh[class.index()].keys().next().filter(|_| !capped).copied())
    }

    pub(super) fn with_name<T>(&mut self, name: u32, change: impl FnOnce(&mut Name) -> T) -> Option<T> {
        let named = self.names.get_mut(&name)?;
        let before = named.turn();
        let done = change(named);
        if named.turn().waits && !before.waits {
            named.account.counter = self.turns.lifted(named.account.counter);
        }
        self.turns.moved(name, before, named.turn());
        Some(done)
    }

    pub(super) fn first(&self, opening: Opening) -> Option<RequestId> {
        let names = self.turns.in_order(opening.reserved).filter_map(|name| self.names.get(&name));
        names.filter_map(|name| name.first(opening)).next()
    }

    /// The name of this label; an idle one makes room for it, or it shares `other`.
    pub(super) fn open(&mut self, label: &str, seen: u64) -> u32 {
        let wanted = |names: &BTreeMap<u32, Name>, label: &str| {
            names.iter().find(|(_, name)| name.label == label).map(|(key, _)| *key)
        };
        let own = self.names.values().filter(|name| !name.label.is_empty() && name.label != OTHER).count();
        let key = match wanted(&self.names, label) {
            Some(key) => key,
            None if label.is_empty() || label == OTHER || own < NAMES_PER_PRINCIPAL => self.add_name(label),
            None => {
                let idle = self.names.iter().filter(|(_, name)| name.account.is_idle() && name.label != OTHER);
                let longest = idle.min_by_key(|(_, name)| name.last_seen).map(|(key, _)| *key);
                match (longest, wanted(&self.names, OTHER)) {
                    (Some(idle), _) => {
                        self.names.remove(&idle);
                        self.add_name(label)
                    }
                    (None, Some(other)) => other,
                    (None, None) => self.add_name(OTHER),
                }
            }
        };
        if let Some(name) = self.names.get_mut(&key) {
            name.last_seen = seen;
        }
        key
    }

    fn add_name(&mut self, label: &str) -> u32 {
        self.next_name = self.next_name.wrapping_add(1);
        let account = Account { counter: self.turns.floor(), ..Account::default() };
        let name = Name { label: label.to_owned(), account, fresh: Default::default(), last_seen: 0 };
        self.names.insert(self.next_name, name);
        self.next_name
    }
}
