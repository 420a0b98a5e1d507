//! A request's way through the core: door, queue, slot, end.
//!
//! Every admitted request ends exactly once: by its session's `Ended`, or by one `Refuse` from here.

use std::time::Duration;

use super::request::{Outcome, Place, Report, Request, Submission};
use super::time::Mono;
use super::worker_life::Worker;
use super::{Action, Code, Generation, Refusal, RequestId, Supervisor};
use crate::config::Engine;
use crate::control::view::State;

/// How long a broken link may wait for news of its worker's death before it counts as a mere link failure.
const JUDGE_WITHIN: Duration = Duration::from_secs(2);

/// Links in a row that may break under a request without a token while the worker lives: a worker that hangs up on one
/// request must not be asked for ever.
const BROKEN_LINKS_ALLOWED: u32 = 2;

/// What became of the worker a request was lost from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    /// It lives, or its exit has not been reported yet.
    Unknown,
    /// We stopped it as planned.
    Stopped,
    /// It died, or was found dead.
    Died,
}

impl Supervisor {
    pub(super) fn submitted(&mut self, id: RequestId, submission: Submission, now: Mono) {
        self.last_busy = now;
        if let Err(refusal) = self.admit(&submission) {
            self.actions.push(Action::Refuse { id, refusal });
            return;
        }
        let longest = now + self.config.queue.max_wait;
        let expires_at = submission.deadline.map_or(longest, |deadline| deadline.min(longest));
        self.requests.admit(id, submission, expires_at, now);
        self.put_off_exec(now);
        if self.asleep {
            self.wake(now);
        }
    }

    fn admit(&self, submission: &Submission) -> Result<(), Refusal> {
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
        let limits = &self.config.queue;
        let bytes = self.requests.queue().bytes().saturating_add(submission.body_bytes);
        let full = if self.requests.queue().len() >= limits.max_waiting {
            Some(format!("{} requests are waiting (queue.max_waiting)", self.requests.queue().len()))
        } else if bytes > limits.max_bytes && !self.requests.queue().is_empty() {
            Some(format!("{} bytes of requests are waiting (queue.max_bytes)", self.requests.queue().bytes()))
        } else {
            None
        };
        match full {
            Some(full) => {
                let after = self.pace.wait_for(self.requests.queue().len());
                let message = format!("The queue is full: {full}; try again in {} s.", after.as_secs());
                Err(Refusal::new(Code::QueueFull, message).with_retry_after(after))
            }
            None => Ok(()),
        }
    }

    /// Why waiting is in vain, in the states where it is.
    fn no_worker_will_come(&self) -> Option<Refusal> {
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

    /// Nobody waits where no worker will come. At every step, not only when such a state begins: sessions report their
    /// broken links after the exit that caused it.
    pub(super) fn refuse_unservable(&mut self) {
        if self.requests.queue().is_empty() {
            return;
        }
        if let Some(refusal) = self.no_worker_will_come() {
            let waiting: Vec<RequestId> = self.requests.queue().iter().collect();
            for id in waiting {
                self.refuse(id, refusal.clone());
            }
        }
    }

    /// Ends everything, at the daemon's end.
    pub(super) fn refuse_all(&mut self) {
        let all: Vec<RequestId> = self.requests.ids().collect();
        for id in all {
            self.refuse(id, stopping_refusal());
        }
    }

    pub(super) fn reported(&mut self, id: RequestId, report: Report, now: Mono) {
        match report {
            Report::Progressed { generation, prompt_tokens, completion_tokens } => {
                self.progressed(id, generation, prompt_tokens.saturating_add(completion_tokens), now);
            }
            Report::Interrupted { generation, progressed, why } => {
                self.interrupted(id, generation, progressed, &why, now);
            }
            Report::Ended(outcome) => self.ended(id, &outcome, now),
        }
    }

    fn progressed(&mut self, id: RequestId, generation: Generation, tokens: u64, now: Mono) {
        let model = self.fingerprint(generation);
        if self.requests.progressed(id, generation, tokens, model.as_deref())
            && let Some(worker) = self.worker_mut(generation)
        {
            worker.token_seen(now);
        }
    }

    /// What a worker serves, also of one that has died lately.
    fn fingerprint(&self, generation: Generation) -> Option<String> {
        let living = self.worker_of(generation).and_then(|worker| worker.facts.as_ref());
        let dead = || self.deaths.get(&generation).and_then(|death| death.fingerprint.clone());
        living.map(|facts| facts.fingerprint.clone()).or_else(dead)
    }

    /// What a worker is, or was.
    fn engine_of(&self, generation: Generation) -> Engine {
        let living = self.worker_of(generation).map(|worker| worker.engine);
        let dead = || self.deaths.get(&generation).map(|death| death.engine);
        living.or_else(dead).unwrap_or(self.config.worker.engine)
    }

    fn interrupted(&mut self, id: RequestId, generation: Generation, progressed: bool, why: &str, now: Mono) {
        let model = self.fingerprint(generation);
        let judge_at = now + JUDGE_WITHIN;
        let adrift = self.requests.set_adrift(id, generation, progressed, model.as_deref(), judge_at);
        let Some(progressed) = adrift else { return };
        // Other engines cannot continue: without a token the request starts afresh, with one it ends.
        if progressed && !self.engine_of(generation).continues() {
            let refusal = Refusal::new(Code::EngineError, format!("The worker was lost in mid-answer ({why}); retry."));
            self.refuse(id, refusal);
        }
    }

    /// Decides about requests whose link broke, as soon as it is known whether their worker died.
    pub(super) fn judge_adrift(&mut self, now: Mono) {
        if self.requests.adrift().is_empty() {
            return;
        }
        let adrift: Vec<RequestId> = self.requests.adrift().iter().copied().collect();
        for id in adrift {
            let Some(request) = self.requests.get(id) else { continue };
            let Place::Adrift { from, progressed, judge_at } = request.place else { continue };
            let fate = self.fate(from);
            if fate == Fate::Unknown && now < judge_at {
                continue;
            }
            // Only a token clears a suspicion: a planned stop or a broken link proves nothing.
            let suspected = request.suspect && !progressed;
            let blamed = fate == Fate::Died && !progressed;
            let broken_links = match fate {
                Fate::Unknown if !progressed => request.broken_links + 1,
                Fate::Unknown => 1,
                Fate::Died | Fate::Stopped => 0,
            };
            self.requests.judged(id, fate != Fate::Unknown, suspected || blamed, broken_links);
            if suspected && blamed {
                // Suspects run alone, so this second death is its own doing.
                let message = "This request twice ended the worker without gaining a token, the second time running \
                               alone; change the request before sending it again.";
                self.refuse(id, Refusal::new(Code::Poisoned, message));
                self.record("request_poisoned", format!("{id} ended two workers and was failed"));
            } else if broken_links > BROKEN_LINKS_ALLOWED {
                let message = format!(
                    "The link to the worker broke {broken_links} times in a row without a token; look at \
                     logs/worker.log, then send the request again."
                );
                self.refuse(id, Refusal::new(Code::EngineError, message));
                self.record("request_failed", format!("{id}: its link broke {broken_links} times in a row"));
            }
        }
    }

    /// What became of a worker, as far as is known.
    fn fate(&self, generation: Generation) -> Fate {
        let planned = match self.deaths.get(&generation) {
            Some(death) => Some(death.explained),
            // A worker under TERM may close its links long before it is gone.
            None => self.worker_of(generation).and_then(Worker::is_stopped),
        };
        match planned {
            Some(true) => Fate::Stopped,
            Some(false) => Fate::Died,
            None => Fate::Unknown,
        }
    }

    fn ended(&mut self, id: RequestId, outcome: &Outcome, now: Mono) {
        let Some(request) = self.requests.remove(id) else { return };
        self.last_busy = now;
        match outcome {
            Outcome::Answered { prompt_tokens, .. } => {
                self.ledger.answered += 1;
                if request.carried > 0 {
                    self.ledger.carried += 1;
                }
                self.pace.ended(now.0);
                if let Place::Running { on, .. } = request.place
                    && let Some(worker) = self.worker_mut(on)
                {
                    worker.answered += 1;
                    worker.prompt_tokens = worker.prompt_tokens.saturating_add(*prompt_tokens);
                    worker.token_seen(now);
                }
            }
            Outcome::Failed => {
                self.ledger.lost += 1;
                self.pace.ended(now.0);
                if let Place::Running { on, progressed } = request.place {
                    self.refused_by_worker(on, progressed, now);
                }
            }
            Outcome::Rejected => self.pace.ended(now.0),
            Outcome::Cancelled => {}
        }
    }

    /// Ends an admitted request with an error of ours.
    fn refuse(&mut self, id: RequestId, refusal: Refusal) {
        if self.requests.remove(id).is_some() {
            self.ledger.lost += 1;
            self.actions.push(Action::Refuse { id, refusal });
        }
    }

    pub(super) fn expire_waiting(&mut self, now: Mono) {
        while let Some((at, id)) = self.requests.first_expiry().filter(|(at, _)| now >= *at) {
            let waited = self.requests.get(id).map_or(Duration::ZERO, |request| at - request.admitted_at);
            let message = format!(
                "No worker was free within {} s; raise x-mlxsup-timeout or queue.max_wait, or send less at once.",
                waited.as_secs()
            );
            self.refuse(id, Refusal::new(Code::QueueTimeout, message));
        }
    }

    pub(super) fn request_deadline(&self) -> Option<Mono> {
        let expiry = self.requests.first_expiry().map(|(at, _)| at);
        [expiry, self.requests.first_judgement()].into_iter().flatten().min()
    }

    /// Pairs the queue's head with free slots.
    pub(super) fn dispatch(&mut self, now: Mono) {
        // A link has just broken and the exit may be on its way: whoever is sent into a dying worker becomes a suspect.
        if !self.requests.adrift().is_empty() {
            return;
        }
        loop {
            let Some(worker) = self.worker.as_ref().filter(|worker| worker.accepts()) else { return };
            let (generation, slots) = (worker.generation, worker.slots() as usize);
            let running = self.running();
            if running >= slots || self.requests.quarantined(generation) {
                return;
            }
            let Some((id, request)) = self.requests.next_before(self.line()) else { return };
            // A suspect runs alone. Nobody overtakes it meanwhile, so it cannot starve.
            if request.suspect && running > 0 {
                return;
            }
            if self.is_foreign(request) {
                let message = "The model or its engine was changed while this request ran, and another one cannot \
                               continue its answer; send the request again.";
                self.refuse(id, Refusal::new(Code::ModelChanged, message));
                self.record("request_failed", format!("{id}: its model was changed in mid-answer"));
                continue;
            }
            self.assign(id, generation, now);
        }
    }

    /// True when another model than the serving one began this answer, or an engine serves that cannot go on with any.
    fn is_foreign(&self, request: &Request) -> bool {
        let Some(model) = &request.model else { return false };
        let Some(worker) = &self.worker else { return false };
        let serves = worker.facts.as_ref().map(|facts| &facts.fingerprint).filter(|serves| !serves.is_empty());
        !worker.engine.continues() || !model.is_empty() && serves.is_some_and(|serves| serves != model)
    }

    fn assign(&mut self, id: RequestId, generation: Generation, now: Mono) {
        let idle_before = self.running() == 0;
        let Some(request) = self.requests.get(id) else { return };
        if !request.assigned_before {
            self.ledger.longest_wait = self.ledger.longest_wait.max(now - request.admitted_at);
        }
        self.requests.assign(id, generation);
        if let Some(worker) = self.worker.as_mut().filter(|worker| idle_before || worker.says_idle()) {
            worker.work_began(now);
        }
        self.last_busy = now;
        self.actions.push(Action::Assign { id, generation });
    }

    /// Requests that arrived before this may be assigned; later ones wait.
    pub(super) fn line(&self) -> u64 {
        let retirement = self.retirement.as_ref().map_or(u64::MAX, |retirement| retirement.line);
        let drain = self.drain.as_ref().map_or(u64::MAX, |drain| drain.line);
        retirement.min(drain)
    }

    /// Requests that hold a slot of the present worker.
    pub(super) fn running(&self) -> usize {
        self.worker.as_ref().map_or(0, |worker| self.requests.running_on(worker.generation))
    }
}

fn stopping_refusal() -> Refusal {
    Refusal::new(Code::Stopping, "The daemon is stopping; try again once it is back.")
}
