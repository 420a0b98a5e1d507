//! A request's way through the core: door, queue, slot, end.
//!
//! Every admitted request ends exactly once: by its session's `Ended`, or by one `Refuse` from here.

use std::time::Duration;

use super::request::{Outcome, Place, Report, Request, Submission};
use super::time::Mono;
use super::{Action, Code, Generation, Refusal, RequestId, Supervisor};
use crate::config::Engine;
use crate::control::view::State;

/// How long a broken link may wait for news of its worker's death before it counts as a mere link failure.
const JUDGE_WITHIN: Duration = Duration::from_secs(2);

impl Supervisor {
    pub(super) fn submitted(&mut self, id: RequestId, submission: Submission, now: Mono) {
        self.last_busy = now;
        if let Err(refusal) = self.admit(&submission) {
            self.actions.push(Action::Refuse { id, refusal });
            return;
        }
        let seq = self.next_seq;
        self.next_seq += 1;
        self.queue.push(id, seq, submission.body_bytes, true);
        self.requests.insert(
            id,
            Request {
                seq,
                submission,
                admitted_at: now,
                place: Place::Queued,
                assigned_before: false,
                carried: 0,
                suspect: false,
            },
        );
        if self.asleep {
            self.wake(now);
        }
    }

    fn admit(&self, submission: &Submission) -> Result<(), Refusal> {
        match self.state() {
            State::Stopping => {
                return Err(Refusal::new(Code::Stopping, "The daemon is stopping; try again once it is back."));
            }
            State::Unloaded => {
                return Err(Refusal::new(Code::Unloaded, "The model is unloaded; `mlxsupctl load` starts it again."));
            }
            State::Parked => return Err(self.parked_refusal()),
            State::Stranded => {
                return Err(Refusal::new(
                    Code::Stranded,
                    "A dead worker's memory has not come back; reboot the machine.",
                ));
            }
            State::Starting | State::Serving | State::Handover | State::Draining | State::Drained | State::Asleep => {}
        }
        if self.drain.as_ref().is_some_and(|drain| drain.refuse) {
            return Err(Refusal::new(Code::Draining, "The service is drained; `mlxsupctl resume` opens it again."));
        }
        if let Some(rule) = self.rules.refusing() {
            let message = format!("Memory rule `{rule}` refuses new requests until it clears; try again shortly.");
            return Err(Refusal::new(Code::MemoryPressure, message).with_retry_after(Duration::from_secs(20)));
        }
        let limits = &self.config.queue;
        let bytes = self.queue.bytes().saturating_add(submission.body_bytes);
        let full = if self.queue.len() >= limits.max_waiting {
            Some(format!("{} requests are waiting (queue.max_waiting)", self.queue.len()))
        } else if bytes > limits.max_bytes && !self.queue.is_empty() {
            Some(format!("{} bytes of requests are waiting (queue.max_bytes)", self.queue.bytes()))
        } else {
            None
        };
        match full {
            Some(full) => {
                let after = self.pace.wait_for(self.queue.len());
                let message = format!("The queue is full: {full}; try again in {} s.", after.as_secs());
                Err(Refusal::new(Code::QueueFull, message).with_retry_after(after))
            }
            None => Ok(()),
        }
    }

    pub(super) fn parked_refusal(&self) -> Refusal {
        let why = self.parked.as_ref().map_or("the worker keeps failing", |parked| parked.why.as_str());
        Refusal::new(Code::Parked, format!("The worker is parked: {why}. `mlxsupctl restart` tries again."))
    }

    pub(super) fn reported(&mut self, id: RequestId, report: Report, now: Mono) {
        match report {
            Report::Progressed { generation, .. } => self.progressed(id, generation, now),
            Report::Interrupted { generation, progressed, why } => {
                self.interrupted(id, generation, progressed, &why, now);
            }
            Report::Ended(outcome) => self.ended(id, &outcome, now),
        }
    }

    fn progressed(&mut self, id: RequestId, generation: Generation, now: Mono) {
        let Some(request) = self.requests.get_mut(&id) else { return };
        if !request.runs_on(generation) {
            return;
        }
        request.place = Place::Running { on: generation, progressed: true };
        request.suspect = false;
        if let Some(worker) = self.worker.as_mut().filter(|worker| worker.generation == generation) {
            worker.token_seen(now);
        }
    }

    fn interrupted(&mut self, id: RequestId, generation: Generation, progressed: bool, why: &str, now: Mono) {
        let Some(request) = self.requests.get_mut(&id) else { return };
        if !request.runs_on(generation) {
            return;
        }
        request.place = Place::Adrift { from: generation, progressed, judge_at: now + JUDGE_WITHIN };
        let (seq, bytes) = (request.seq, request.submission.body_bytes);
        if self.config.worker.engine == Engine::Native {
            self.queue.push(id, seq, bytes, false);
            return;
        }
        // Other engines cannot continue: without a token the request starts afresh, with one it ends.
        if progressed {
            let refusal = Refusal::new(Code::EngineError, format!("The worker was lost in mid-answer ({why}); retry."));
            self.refuse(id, refusal);
        } else {
            self.queue.push(id, seq, bytes, false);
        }
    }

    /// Decides about requests whose link broke, as soon as it is known whether their worker died.
    pub(super) fn judge_adrift(&mut self, now: Mono) {
        let mut refused = Vec::new();
        for (id, request) in &mut self.requests {
            let Place::Adrift { from, progressed, judge_at } = request.place else { continue };
            let death = self.deaths.get(&from);
            if death.is_none() && now < judge_at {
                continue;
            }
            request.place = Place::Queued;
            request.carried += 1;
            let blamed = death.is_some_and(|death| !death.explained) && !progressed;
            if blamed && request.suspect {
                // Suspects run alone, so this second death is its own doing.
                refused.push(*id);
            }
            request.suspect = blamed;
        }
        for id in refused {
            let message = "This request twice ended the worker without gaining a token, the second time running alone; \
                           change the request before sending it again.";
            self.refuse(id, Refusal::new(Code::Poisoned, message));
            self.record("request_poisoned", format!("{id} ended two workers and was failed"));
        }
    }

    fn ended(&mut self, id: RequestId, outcome: &Outcome, now: Mono) {
        let Some(request) = self.requests.remove(&id) else { return };
        self.queue.remove(id, request.seq, request.submission.body_bytes);
        self.last_busy = now;
        match outcome {
            Outcome::Answered { .. } => {
                self.ledger.answered += 1;
                if request.carried > 0 {
                    self.ledger.carried += 1;
                }
                self.pace.ended(now.0);
                if let Place::Running { on, .. } = request.place
                    && let Some(worker) = self.worker.as_mut().filter(|worker| worker.generation == on)
                {
                    worker.answered += 1;
                }
            }
            Outcome::Failed => {
                self.ledger.lost += 1;
                self.pace.ended(now.0);
            }
            Outcome::Rejected => self.pace.ended(now.0),
            Outcome::Cancelled => {}
        }
    }

    /// Ends an admitted request with an error of ours.
    fn refuse(&mut self, id: RequestId, refusal: Refusal) {
        if let Some(request) = self.requests.remove(&id) {
            self.queue.remove(id, request.seq, request.submission.body_bytes);
            self.ledger.lost += 1;
            self.actions.push(Action::Refuse { id, refusal });
        }
    }

    /// Ends everything that waits.
    pub(super) fn refuse_waiting(&mut self, refusal: &Refusal) {
        let waiting: Vec<RequestId> =
            self.requests.iter().filter(|(_, request)| request.is_waiting()).map(|(id, _)| *id).collect();
        for id in waiting {
            self.refuse(id, refusal.clone());
        }
    }

    pub(super) fn expire_waiting(&mut self, now: Mono) {
        let expired: Vec<RequestId> = self
            .requests
            .iter()
            .filter(|(_, request)| self.expiry(request).is_some_and(|expiry| now >= expiry))
            .map(|(id, _)| *id)
            .collect();
        for id in expired {
            let waited = self.requests.get(&id).map_or(Duration::ZERO, |request| now - request.admitted_at);
            let message = format!(
                "No worker was free within {} s; raise x-mlxsup-timeout or queue.max_wait, or send less at once.",
                waited.as_secs()
            );
            self.refuse(id, Refusal::new(Code::QueueTimeout, message));
        }
    }

    /// When a request gives up waiting; `None` once it has been assigned.
    fn expiry(&self, request: &Request) -> Option<Mono> {
        if request.assigned_before || !request.is_waiting() {
            return None;
        }
        let longest = request.admitted_at + self.config.queue.max_wait;
        Some(request.submission.deadline.map_or(longest, |deadline| deadline.min(longest)))
    }

    pub(super) fn request_deadline(&self) -> Option<Mono> {
        self.requests
            .values()
            .filter_map(|request| match request.place {
                Place::Adrift { judge_at, .. } => Some(judge_at),
                Place::Queued | Place::Running { .. } => self.expiry(request),
            })
            .min()
    }

    /// Pairs the queue's head with free slots.
    pub(super) fn dispatch(&mut self, now: Mono) {
        loop {
            let Some(worker) = self.worker.as_ref().filter(|worker| worker.accepts()) else { return };
            let (generation, slots) = (worker.generation, worker.slots() as usize);
            let running = self.running();
            let quarantine = self
                .requests
                .values()
                .any(|request| request.suspect && matches!(request.place, Place::Running { progressed: false, .. }));
            if running >= slots || quarantine {
                return;
            }
            let line = self.line();
            let next = self.queue.iter().find_map(|id| {
                let request = self.requests.get(&id)?;
                (request.place == Place::Queued && request.seq < line).then_some((id, request.suspect))
            });
            let Some((id, suspect)) = next else { return };
            // A suspect runs alone. Nobody overtakes it meanwhile, so it cannot starve.
            if suspect && running > 0 {
                return;
            }
            self.assign(id, generation, now);
        }
    }

    fn assign(&mut self, id: RequestId, generation: Generation, now: Mono) {
        let idle_before = self.running() == 0;
        let Some(request) = self.requests.get_mut(&id) else { return };
        self.queue.remove(id, request.seq, request.submission.body_bytes);
        request.place = Place::Running { on: generation, progressed: false };
        if !request.assigned_before {
            request.assigned_before = true;
            self.ledger.longest_wait = self.ledger.longest_wait.max(now - request.admitted_at);
        }
        if idle_before && let Some(worker) = self.worker.as_mut() {
            worker.work_began(now);
        }
        self.last_busy = now;
        self.actions.push(Action::Assign { id, generation });
    }

    /// Requests that arrived before this may be assigned; later ones wait.
    fn line(&self) -> u64 {
        let retirement = self.retirement.as_ref().map_or(u64::MAX, |retirement| retirement.line);
        let drain = self.drain.as_ref().map_or(u64::MAX, |drain| drain.line);
        retirement.min(drain)
    }

    /// Requests that hold a slot of the present worker.
    pub(super) fn running(&self) -> usize {
        let Some(worker) = &self.worker else { return 0 };
        self.requests.values().filter(|request| request.runs_on(worker.generation)).count()
    }

    /// Requests from before `line` that still wait.
    pub(super) fn waiting_before(&self, line: u64) -> usize {
        self.requests.values().filter(|request| request.is_waiting() && request.seq < line).count()
    }
}
