//! The clients as people see them: what each has waiting and running, what it was given, and how far ahead it is.

use super::Supervisor;
use super::fairness::cost;
use super::principal::Account;

/// One principal, or one name inside it.
#[derive(Debug, Clone, PartialEq)]
pub struct ClientFacts {
    /// What it is called; empty for a principal's requests without a name.
    pub label: String,
    /// Waiting requests: interactive, normal, batch.
    pub waiting: [u32; 3],
    /// Requests that hold a slot.
    pub active: u32,
    /// Requests it may have under way, where that is limited. Of principals only.
    pub max_active: Option<u32>,
    /// Prompt tokens read for it since it was first seen.
    pub prompt_tokens: u64,
    /// Tokens generated for it since then.
    pub completion_tokens: u64,
    /// Weighted tokens by which its counter is above the smallest of those that wait or run beside it.
    pub counter: u64,
    /// Mean length of its answers, tokens; `None` before the first.
    pub mean_answer: Option<f64>,
    /// Its part of all that was given, by cost: of a name, of what its principal was given. Between 0 and 1.
    pub share: f64,
    /// The names inside a principal, in order of first appearance; empty where no request had one.
    pub names: Vec<Self>,
}

impl ClientFacts {
    fn of(label: &str, account: &Account, beside: Beside) -> Self {
        let waiting_again = account.interrupted;
        Self {
            label: label.to_owned(),
            waiting: account.waiting,
            active: account.started.saturating_sub(waiting_again),
            max_active: None,
            prompt_tokens: account.prompt_tokens,
            completion_tokens: account.completion_tokens,
            counter: account.counter.saturating_sub(beside.least),
            mean_answer: account.mean_answer,
            share: part(given(account), beside.given),
            names: Vec::new(),
        }
    }
}

/// Those that share a whole.
#[derive(Debug, Clone, Copy)]
struct Beside {
    /// The smallest counter of those that wait or run.
    least: u64,
    /// What all were given.
    given: u64,
}

impl Beside {
    fn of<'a>(accounts: impl Iterator<Item = &'a Account> + Clone, floor: u64) -> Self {
        let busy = accounts.clone().filter(|account| !account.is_idle());
        Self { least: busy.map(|account| account.counter).min().unwrap_or(floor), given: accounts.map(given).sum() }
    }
}

fn given(account: &Account) -> u64 {
    cost(account.prompt_tokens, account.completion_tokens)
}

#[expect(clippy::cast_precision_loss, reason = "a percentage, for people")]
fn part(of: u64, whole: u64) -> f64 {
    if whole == 0 { 0.0 } else { of as f64 / whole as f64 }
}

impl Supervisor {
    /// The clients that were here since the daemon started, by name; of many idle ones the last.
    #[must_use]
    pub fn clients(&self) -> Vec<ClientFacts> {
        let accounts = self.requests.queue().accounts();
        let beside = Beside::of(accounts.principals().map(|principal| &principal.account), accounts.floor());
        let facts = accounts.principals().map(|principal| {
            let inside = principal.names.values();
            let named = inside.clone().any(|name| !name.label.is_empty());
            let shares = Beside::of(inside.clone().map(|name| &name.account), principal.turns.floor());
            let names = inside.filter(|_| named).map(|name| ClientFacts::of(&name.label, &name.account, shares));
            ClientFacts {
                max_active: principal.max_active,
                names: names.collect(),
                ..ClientFacts::of(&principal.label, &principal.account, beside)
            }
        });
        facts.collect()
    }
}
