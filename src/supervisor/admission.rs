//! The door: who is let into the queue, and who is told no at once, with advice.

use std::time::Duration;

use super::pace::hint;
use super::request::Submission;
use super::requests::stopping_refusal;
use super::worker_life::Worker;
use super::{Code, Mono, Refusal, Supervisor};
use crate::config::Queue as Limits;
use crate::control::view::State;

/// What one client may hold of the queue while another waits: `queue.per_client_share` of both bounds, and one place at
/// least.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Share {
    places: usize,
    bytes: u64,
}

impl Share {
    fn of(limits: &Limits) -> Self {
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            clippy::cast_precision_loss,
            reason = "a part of a bound, whole"
        )]
        let part = |whole: u64| (whole as f64 * limits.per_client_share).floor() as u64;
        let places = usize::try_from(part(limits.max_waiting as u64)).unwrap_or(usize::MAX);
        Self { places: places.max(1), bytes: part(limits.max_bytes) }
    }
}

impl Supervisor {
    pub(super) fn admit(&self, submission: &Submission, now: Mono) -> Result<(), Refusal> {
        if let Some(refusal) = self.no_worker_will_come() {
            return Err(refusal);
        }
        if self.drain.as_ref().is_some_and(|drain| drain.refuse) {
            return Err(Refusal::new(Code::Draining, "The service is drained; `mlxsupctl resume` opens it again."));
        }
        if let Some(rule) = self.rules.refusing() {
            let message = format!("Memory rule `{rule}` refuses new requests until it clears; try again shortly.");
            return Err(Refusal::new(Code::MemoryPressure, message).with_retry_after(Duration::from_secs(20)));
        }
        self.room_for(submission)?;
        self.time_for(submission, now)
    }

    /// The queue's bounds, and the client's part of them.
    fn room_for(&self, submission: &Submission) -> Result<(), Refusal> {
        let queue = self.requests.queue();
        let limits = &self.config.queue;
        let own = queue.accounts().principal(&submission.principal).map(|principal| &principal.account);
        let (own_waits, own_bytes) = own.map_or((0, 0), |own| (own.waits(), own.bytes));
        let share = Share::of(limits);
        let over = own_waits >= share.places || own_bytes.saturating_add(submission.body_bytes) > share.bytes;
        if over && own_waits > 0 && queue.len() > own_waits {
            let after = hint(self.estimate(own.map_or(0, |own| own.backlog)));
            let message = format!(
                "{own_waits} of your requests are waiting, your share of the queue while others wait \
                 (queue.per_client_share); try again in {} s, or send less at once.",
                after.as_secs()
            );
            return Err(Refusal::new(Code::ClientShare, message).with_retry_after(after));
        }
        let bytes = queue.bytes().saturating_add(submission.body_bytes);
        let full = if queue.len() >= limits.max_waiting {
            Some(format!("{} requests are waiting (queue.max_waiting)", queue.len()))
        } else if bytes > limits.max_bytes && !queue.is_empty() {
            Some(format!("{} bytes of requests are waiting (queue.max_bytes)", queue.bytes()))
        } else {
            None
        };
        let Some(full) = full else { return Ok(()) };
        // Nobody who came first shuts the others out.
        let crowded = || queue.accounts().principals().any(|principal| principal.account.waits() > 1);
        if own_waits == 0 && limits.per_client_share < 1.0 && crowded() {
            return Ok(());
        }
        let after = hint(self.estimate(queue.backlog()));
        let message = format!("The queue is full: {full}; try again in {} s.", after.as_secs());
        Err(Refusal::new(Code::QueueFull, message).with_retry_after(after))
    }

    /// An early no instead of a late one, where the client's own deadline would pass before its turn comes. Only what was
    /// measured refuses anybody, and only while a worker serves and none of its slots is free.
    fn time_for(&self, submission: &Submission, now: Mono) -> Result<(), Refusal> {
        let Some(deadline) = submission.deadline.filter(|_| self.pace.is_trusted()) else { return Ok(()) };
        let Some(wait) = self.estimate(self.requests.queue().accounts().cost_before(submission)) else { return Ok(()) };
        let patience = deadline - now;
        if self.running() < self.slots() as usize || wait <= patience {
            return Ok(());
        }
        let message = format!(
            "Your turn would come in about {} s, and this request waits {} s at most; try again later, or raise \
             x-mlxsup-timeout.",
            wait.as_secs(),
            patience.as_secs()
        );
        Err(Refusal::new(Code::QueueTimeout, message).with_retry_after(hint(Some(wait.saturating_sub(patience)))))
    }

    /// When what costs so much, and what runs now, will have been served. `None` while that cannot be told: nothing was
    /// measured, or no worker takes requests, or a line holds the queue back.
    pub(super) fn estimate(&self, cost: u64) -> Option<Duration> {
        let worker = self.worker.as_ref().filter(|worker| worker.accepts() && self.line() == u64::MAX)?;
        let left = self.requests.left_to_do(worker.generation);
        self.pace.time_for(cost.saturating_add(left), worker.slots())
    }

    fn slots(&self) -> u32 {
        self.worker.as_ref().map_or(0, Worker::slots)
    }

    /// Why waiting is in vain, in the states where it is.
    pub(super) fn no_worker_will_come(&self) -> Option<Refusal> {
        if let (Some((why, _)), None) = (&self.unconfigured, &self.stopping) {
            let message = format!("There is no valid configuration: {why}; mend it, then run `mlxsupctl reload`.");
            return Some(Refusal::new(Code::ConfigError, message));
        }
        match self.state() {
            State::Stopping => Some(stopping_refusal()),
            State::Unloaded => {
                Some(Refusal::new(Code::Unloaded, "The model is unloaded; `mlxsupctl load` starts it again."))
            }
            State::Parked => {
                let why = self.parked.as_ref().map_or("the worker keeps failing", |parked| parked.why.as_str());
                let message = format!("The worker is parked: {why}. `mlxsupctl restart` tries again.");
                Some(Refusal::new(Code::Parked, message))
            }
            State::Stranded => {
                let message = "A dead worker's memory has not come back; reboot the machine.";
                Some(Refusal::new(Code::Stranded, message))
            }
            State::Starting | State::Serving | State::Handover | State::Draining | State::Drained | State::Asleep => {
                None
            }
        }
    }
}
