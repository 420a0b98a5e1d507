//! A request's way through the core: queue, slot, end. The door is [`super::admission`].
//!
//! Every admitted request ends exactly once: by its session's `Ended`, or by one `Refuse` from here.

use std::time::Duration;

use super::accounts::Opening;
use super::request::{Outcome, Place, Report, Request, Submission};
use super::table::Settlement;
use super::time::Mono;
use super::worker_life::Worker;
use super::{Action, Code, Generation, Refusal, RequestId, Supervisor};
use crate::config::Engine;

/// How long a broken link may wait for news of its worker's death before it counts as a mere link failure.
const JUDGE_WITHIN: Duration = Duration::from_secs(2);

/// Links in a row that may break under a request without a token while the worker lives: a worker that hangs up on one
/// request must not be asked for ever.
const BROKEN_LINKS_ALLOWED: u32 = 2;

/// Slots from which one is kept for interactive requests: of two, one would be half.
const RESERVED_FROM_SLOTS: usize = 3;

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
        if let Err(refusal) = self.admit(&submission, now) {
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

    /// Nobody waits where no worker will come. At every step, not only when such a state begins: sessions report their
    /// broken links after the exit that caused it.
    pub(super) fn refuse_unservable(&mut self, now: Mono) {
        if self.requests.queue().is_empty() {
            return;
        }
        if let Some(refusal) = self.no_worker_will_come() {
            let waiting: Vec<RequestId> = self.requests.queue().iter().collect();
            for id in waiting {
                self.refuse(id, refusal.clone(), now);
            }
        }
    }

    /// Ends everything, at the daemon's end.
    pub(super) fn refuse_all(&mut self, now: Mono) {
        let all: Vec<RequestId> = self.requests.ids().collect();
        for id in all {
            self.refuse(id, stopping_refusal(), now);
        }
    }

    pub(super) fn reported(&mut self, id: RequestId, report: Report, now: Mono) {
        match report {
            Report::Progressed { generation, prompt_tokens, completion_tokens } => {
                self.progressed(id, generation, (prompt_tokens, completion_tokens), now);
            }
            Report::Interrupted { generation, progressed, why } => {
                self.interrupted(id, generation, progressed, &why, now);
            }
            Report::Ended(outcome) => self.ended(id, &outcome, now),
        }
    }

    fn progressed(&mut self, id: RequestId, generation: Generation, tokens: (u64, u64), now: Mono) {
        let model = self.fingerprint(generation);
        if self.requests.progressed(id, generation, tokens, model.as_deref(), now)
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
        let adrift = self.requests.set_adrift(id, generation, progressed, model.as_deref(), judge_at, now);
        let Some(progressed) = adrift else { return };
        // Other engines cannot continue: without a token the request starts afresh, with one it ends.
        if progressed && !self.engine_of(generation).continues() {
            let refusal = Refusal::new(Code::EngineError, format!("The worker was lost in mid-answer ({why}); retry."));
            self.refuse(id, refusal, now);
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
                self.refuse(id, Refusal::new(Code::Poisoned, message), now);
                self.record("request_poisoned", format!("{id} ended two workers and was failed"));
            } else if broken_links > BROKEN_LINKS_ALLOWED {
                let message = format!(
                    "The link to the worker broke {broken_links} times in a row without a token; look at \
                     logs/worker.log, then send the request again."
                );
                self.refuse(id, Refusal::new(Code::EngineError, message), now);
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
        let settlement = match outcome {
            Outcome::Answered { prompt_tokens, completion_tokens } => {
                self.requests.answered(id, *prompt_tokens, *completion_tokens);
                Settlement::Whole
            }
            Outcome::Failed | Outcome::Cancelled => Settlement::SoFar,
            Outcome::Rejected => Settlement::Free,
        };
        let Some(request) = self.requests.remove(id, settlement, now) else { return };
        self.last_busy = now;
        match outcome {
            Outcome::Answered { prompt_tokens, .. } => {
                self.ledger.answered += 1;
                if request.carried > 0 {
                    self.ledger.carried += 1;
                }
                if let Some(since) = request.measured_from {
                    self.pace.ended(request.charged, now - since);
                }
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
                if let Place::Running { on, progressed } = request.place {
                    self.refused_by_worker(on, progressed, now);
                }
            }
            Outcome::Rejected | Outcome::Cancelled => {}
        }
    }

    /// Ends an admitted request with an error of ours.
    fn refuse(&mut self, id: RequestId, refusal: Refusal, now: Mono) {
        if self.requests.remove(id, Settlement::SoFar, now).is_some() {
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
            self.refuse(id, Refusal::new(Code::QueueTimeout, message), now);
        }
    }

    pub(super) fn request_deadline(&self, now: Mono) -> Option<Mono> {
        let expiry = self.requests.first_expiry().map(|(at, _)| at);
        // Only a reserved slot is free while somebody waits; the guard opens it.
        let slots = self.worker.as_ref().filter(|worker| worker.accepts()).map_or(0, |worker| worker.slots() as usize);
        let max_wait = self.config.queue.max_wait;
        let aged = || self.requests.queue().accounts().next_overdue(now, max_wait);
        let aged = (self.running() < slots).then(aged).flatten();
        [expiry, self.requests.first_judgement(), aged].into_iter().flatten().min()
    }

    /// Gives free slots to those whose turn it is.
    pub(super) fn dispatch(&mut self, now: Mono) {
        // A link has just broken and the exit may be on its way: whoever is sent into a dying worker becomes a suspect.
        if !self.requests.adrift().is_empty() {
            return;
        }
        while !self.requests.queue().is_empty() {
            let Some(worker) = self.worker.as_ref().filter(|worker| worker.accepts()) else { return };
            let (generation, slots) = (worker.generation, worker.slots() as usize);
            let running = self.running();
            if running >= slots || self.requests.quarantined(generation) {
                return;
            }
            let opening = self.opening(generation, slots, now);
            let Some((id, request)) = self.requests.next(opening) else { return };
            // A suspect runs alone. Nobody overtakes it meanwhile, so it cannot starve.
            if request.suspect && running > 0 {
                return;
            }
            if self.is_foreign(request) {
                let message = "The model or its engine was changed while this request ran, and another one cannot \
                               continue its answer; send the request again.";
                self.refuse(id, Refusal::new(Code::ModelChanged, message), now);
                self.record("request_failed", format!("{id}: its model was changed in mid-answer"));
                continue;
            }
            self.assign(id, generation, now);
        }
    }

    /// Who may take the next free slot: one of three or more is kept for interactive requests, unless a line is drawn,
    /// behind which they wait anyway.
    fn opening(&self, generation: Generation, slots: usize, now: Mono) -> Opening {
        let line = self.line();
        let keeps_one = slots >= RESERVED_FROM_SLOTS && line == u64::MAX;
        let reserved = keeps_one && self.requests.patient_on(generation) + 1 >= slots;
        Opening { line, reserved, guard: Some((now, self.config.queue.max_wait)) }
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
        self.requests.assign(id, generation, now);
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

pub(super) fn stopping_refusal() -> Refusal {
    Refusal::new(Code::Stopping, "The daemon is stopping; try again once it is back.")
}
