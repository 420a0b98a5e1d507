//! The arithmetic of fair turns: what a request costs, what its class makes of that, and whose turn it is.
//!
//! A weighted virtual token counter (Sheng and others, "Fairness in Serving Large Language Models", 2024): whoever waits
//! with the smallest counter is next, and pays for it. Whoever comes back from idling is lifted to those who waited
//! meanwhile, so that idling earns nothing.
//!
//! Between two clients that wait all the time, one whose counter is ahead gets nothing more until the other has caught
//! up. So their counters are never further apart than `slots · R`, where `R` is the highest weighted price of one request,
//! guessed or real: each running request may turn out by that much dearer (or cheaper) than was charged for it. In any
//! stretch in which both wait, the work they are really given differs by `4 · slots · R` at most: so far their counters may
//! be apart at either end of it, and running requests are charged for what they have not had yet. The ageing guard and
//! the slot kept for interactive requests stand above this. `tests/sim/shares.rs` holds the queue to both bounds.

use std::collections::BTreeSet;
use std::time::Duration;

use super::request::Class;

/// What a token of the answer costs, in tokens of a prompt: decoding takes a step of the engine for each, prefill reads
/// many per step. The published counter uses the same 1 : 2.
const ANSWER_TOKEN: u64 = 2;

/// Bytes of a body per token of its prompt, as a first guess: English text with a little JSON around it.
const BYTES_PER_TOKEN: u64 = 4;

/// Tokens of an answer as long as nobody has had one.
pub const FIRST_GUESS_TOKENS: f64 = 256.0;

/// Weight of the newest answer in a mean: about the last ten count.
const NEWEST: f64 = 0.1;

/// All classes, in order.
pub const CLASSES: [Class; 3] = [Class::Interactive, Class::Normal, Class::Batch];

impl Class {
    /// Its place in a table of classes.
    #[must_use]
    pub const fn index(self) -> usize {
        match self {
            Self::Interactive => 0,
            Self::Normal => 1,
            Self::Batch => 2,
        }
    }

    /// What a token of this class adds to a counter: the class weights 8 : 4 : 2, as prices that stay whole numbers.
    #[must_use]
    pub const fn price(self) -> u64 {
        match self {
            Self::Interactive => 1,
            Self::Normal => 2,
            Self::Batch => 4,
        }
    }

    /// How long a client may stand at the head of this class without being served, before it goes first whatever the
    /// counters say: an eighth, a quarter or half of `queue.max_wait`, so that it is served before its time is over.
    #[must_use]
    pub fn guard(self, max_wait: Duration) -> Duration {
        match self {
            Self::Interactive => max_wait / 8,
            Self::Normal => max_wait / 4,
            Self::Batch => max_wait / 2,
        }
    }
}

/// Tokens of a prompt in a body of so many bytes, as a guess.
#[must_use]
pub fn guessed_prompt(body_bytes: u64) -> u64 {
    body_bytes / BYTES_PER_TOKEN
}

/// What a request costs, in prompt tokens.
#[must_use]
pub fn cost(prompt_tokens: u64, completion_tokens: u64) -> u64 {
    prompt_tokens.saturating_add(completion_tokens.saturating_mul(ANSWER_TOKEN))
}

/// A mean that has seen one more answer.
#[must_use]
pub fn mean_with(mean: Option<f64>, newest_tokens: u64) -> f64 {
    #[expect(clippy::cast_precision_loss, reason = "answers are far below 2^52 tokens")]
    let newest = newest_tokens as f64;
    mean.map_or(newest, |mean| mean + NEWEST * (newest - mean))
}

/// Where one stands among those whose turn it may be.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Turn {
    /// Weighted tokens.
    pub counter: u64,
    /// It has something that may be served.
    pub waits: bool,
    /// Something of it is interactive.
    pub interactive: bool,
}

/// Those who wait, by counter.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Turns {
    all: BTreeSet<(u64, u32)>,
    interactive: BTreeSet<(u64, u32)>,
    /// The smallest counter of those who waited at the last service; never falls.
    floor: u64,
}

impl Turns {
    /// The counter with which somebody begins to wait: no credit for the time it did not.
    #[must_use]
    pub fn lifted(&self, counter: u64) -> u64 {
        counter.max(self.floor)
    }

    /// Somebody's standing has changed.
    pub fn moved(&mut self, key: u32, from: Turn, to: Turn) {
        if from == to {
            return;
        }
        self.all.remove(&(from.counter, key));
        self.interactive.remove(&(from.counter, key));
        if to.waits {
            self.all.insert((to.counter, key));
            if to.interactive {
                self.interactive.insert((to.counter, key));
            }
        }
    }

    /// Somebody is about to be served.
    pub fn pass(&mut self) {
        if let Some((counter, _)) = self.all.first() {
            self.floor = self.floor.max(*counter);
        }
    }

    /// Whose turn it is, then who would be next.
    pub fn in_order(&self, interactive_only: bool) -> impl Iterator<Item = u32> + '_ {
        let these = if interactive_only { &self.interactive } else { &self.all };
        these.iter().map(|(_, key)| *key)
    }

    /// What new counters begin with.
    #[must_use]
    pub fn floor(&self) -> u64 {
        self.floor
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn waiting(counter: u64) -> Turn {
        Turn { counter, waits: true, interactive: false }
    }

    #[test]
    fn who_idled_is_lifted_to_those_who_waited() {
        let mut turns = Turns::default();
        turns.moved(1, Turn::default(), waiting(500));
        turns.moved(2, Turn::default(), waiting(700));
        turns.pass();
        assert_eq!((turns.lifted(20), turns.lifted(900)), (500, 900), "nobody is put back either");
        turns.moved(1, waiting(500), waiting(300));
        turns.pass();
        assert_eq!(turns.lifted(20), 500, "what was refunded to another is no credit for this one");
    }

    #[test]
    fn the_smallest_counter_is_next_and_ties_go_to_the_elder() {
        let mut turns = Turns::default();
        turns.moved(3, Turn::default(), waiting(5));
        turns.moved(1, Turn::default(), waiting(9));
        turns.moved(2, Turn::default(), Turn { interactive: true, ..waiting(5) });
        assert_eq!(turns.in_order(false).collect::<Vec<_>>(), [2, 3, 1]);
        assert_eq!(turns.in_order(true).collect::<Vec<_>>(), [2]);
        turns.moved(2, Turn { interactive: true, ..waiting(5) }, Turn::default());
        assert_eq!((turns.in_order(true).count(), turns.in_order(false).count()), (0, 2));
    }

    #[test]
    fn means_follow_the_last_ten_answers() {
        let first = mean_with(None, 100);
        let mean = (0..10).fold(first, |mean, _| mean_with(Some(mean), 200));
        assert!((160.0..170.0).contains(&mean), "{mean}");
    }
}
