//! All admitted requests, and the indexes that keep every decision cheap: who waits, who runs where, who expires next.
//!
//! Owns the agreement between a request's place and the indexes: a place changes only here. Decides nothing.

use std::collections::{BTreeMap, BTreeSet};

use super::accounts::{Load, Opening};
use super::fairness::{cost, guessed_prompt};
use super::queue::{Ahead, Entry, Queue};
use super::request::{Class, Place, Request, Submission};
use super::{Generation, Mono, RequestId};

/// The admitted requests that have not ended.
#[derive(Debug, Clone, Default)]
pub struct RequestTable {
    by_id: BTreeMap<RequestId, Request>,
    /// `Queued` and `Adrift` ones.
    queue: Queue,
    /// By worker. A worker that is gone stays listed until the last of its sessions has reported.
    running: BTreeMap<Generation, BTreeSet<RequestId>>,
    adrift: BTreeSet<RequestId>,
    /// Those never assigned, by the instant they give up.
    expiries: BTreeSet<(Mono, RequestId)>,
    arrivals: u64,
}

/// What a request that is over has cost its client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Settlement {
    /// The whole answer: as long as told, or as expected where the engine tells nothing.
    Whole,
    /// Its prompt, and the answer as far as it came.
    SoFar,
    /// The worker would not serve it.
    Free,
}

impl RequestTable {
    /// Takes in a request behind all others. `expires_at` holds until its first assignment; an id that is known already
    /// changes nothing.
    pub fn admit(&mut self, id: RequestId, submission: Submission, expires_at: Mono, now: Mono) {
        if self.by_id.contains_key(&id) {
            return;
        }
        let seq = self.next_seq();
        self.arrivals += 1;
        let lane = self.queue.accounts_mut().open(&submission, now);
        let answer = self.queue.accounts().expected_answer(lane);
        let load = Load { bytes: submission.body_bytes, cost: cost(guessed_prompt(submission.body_bytes), answer) };
        let entry = Entry { id, seq, lane, load };
        self.queue.push_fresh(entry, now);
        self.expiries.insert((expires_at, id));
        self.by_id.insert(id, Request::admitted(entry, submission, expires_at, now));
    }

    /// The arrival number of the next request: a line drawn here has everybody present before it.
    #[must_use]
    pub fn next_seq(&self) -> u64 {
        self.arrivals + 1
    }

    /// One request.
    #[must_use]
    pub fn get(&self, id: RequestId) -> Option<&Request> {
        self.by_id.get(&id)
    }

    /// True when nothing waits or runs.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.by_id.is_empty()
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.by_id.len()
    }

    /// Every id, in order.
    pub fn ids(&self) -> impl Iterator<Item = RequestId> + '_ {
        self.by_id.keys().copied()
    }

    /// The waiting requests.
    #[must_use]
    pub fn queue(&self) -> &Queue {
        &self.queue
    }

    /// The one that has waited longest of those that were never assigned.
    #[must_use]
    pub fn oldest_fresh(&self) -> Option<&Request> {
        self.get(self.queue.oldest_fresh()?)
    }

    /// What is served before this one; `None` if it does not wait.
    pub fn ahead(&mut self, id: RequestId) -> Option<Ahead> {
        let waits = |request: &Request| !matches!(request.place, Place::Running { .. });
        self.by_id.get(&id).filter(|request| waits(request))?;
        self.queue.ahead(id)
    }

    /// Gives a waiting request to a worker. The first time its client is charged for it.
    pub fn assign(&mut self, id: RequestId, generation: Generation, now: Mono) {
        let Some(request) = self.by_id.get_mut(&id) else { return };
        let (entry, lane) = (request.entry, request.entry.lane);
        let accounts = self.queue.accounts_mut();
        if !request.assigned_before {
            request.expected_answer = accounts.expected_answer(lane);
            request.measured_from = Some(now);
            accounts.start(lane, now);
        }
        self.queue.remove(entry, now);
        self.charge(id, Request::cost_expected, now);
        let Some(request) = self.by_id.get_mut(&id) else { return };
        self.expiries.remove(&(request.expires_at, id));
        self.adrift.remove(&id);
        request.place = Place::Running { on: generation, progressed: false };
        request.assigned_before = true;
        self.running.entry(generation).or_default().insert(id);
    }

    /// Replaces what a request was charged by what it costs as far as is known now.
    fn charge(&mut self, id: RequestId, cost: fn(&Request) -> u64, now: Mono) {
        let Some(request) = self.by_id.get_mut(&id) else { return };
        let (before, after) = (request.charged, cost(request));
        if before != after {
            request.charged = after;
            self.queue.accounts_mut().charge(request.entry.lane, before, after, now);
        }
    }

    /// Counts the tokens a request has had by now; a smaller number than before is none.
    fn count(&mut self, id: RequestId, prompt_tokens: u64, completion_tokens: u64) {
        let Some(request) = self.by_id.get_mut(&id) else { return };
        let prompt = prompt_tokens.max(request.prompt_tokens);
        let completion = completion_tokens.max(request.completion_tokens);
        let more = (prompt - request.prompt_tokens, completion - request.completion_tokens);
        (request.prompt_tokens, request.completion_tokens) = (prompt, completion);
        self.queue.accounts_mut().served(request.entry.lane, more.0, more.1);
    }

    /// A token of a request running on `generation` arrived; `by` is that worker's fingerprint, the counts are of the
    /// whole request. False when it does not run there.
    pub fn progressed(
        &mut self,
        id: RequestId,
        generation: Generation,
        tokens: (u64, u64),
        by: Option<&str>,
        now: Mono,
    ) -> bool {
        let Some(request) = self.by_id.get_mut(&id).filter(|request| request.runs_on(generation)) else { return false };
        request.begun_by(by);
        request.place = Place::Running { on: generation, progressed: true };
        request.suspect = false;
        request.broken_links = 0;
        self.count(id, tokens.0, tokens.1);
        self.charge(id, Request::cost_expected, now);
        true
    }

    /// A request was answered completely, with this usage; the zeros of an engine that tells none leave what was guessed.
    pub fn answered(&mut self, id: RequestId, prompt_tokens: u64, completion_tokens: u64) {
        self.count(id, prompt_tokens, completion_tokens);
        let Some(request) = self.by_id.get_mut(&id) else { return };
        if request.completion_tokens > 0 {
            request.expected_answer = request.completion_tokens;
            self.queue.accounts_mut().answered(request.entry.lane, request.completion_tokens);
        }
    }

    /// The link of a request running on `from` broke: it waits at the queue's head until judged. `None` when it does
    /// not run there, else whether it had gained a token.
    pub fn set_adrift(
        &mut self,
        id: RequestId,
        from: Generation,
        progressed: bool,
        by: Option<&str>,
        judge_at: Mono,
        now: Mono,
    ) -> Option<bool> {
        let request = self.by_id.get_mut(&id)?;
        let Place::Running { on, progressed: seen } = request.place else { return None };
        if on != from {
            return None;
        }
        let progressed = progressed || seen;
        if progressed {
            request.begun_by(by);
        }
        request.place = Place::Adrift { from, progressed, judge_at };
        request.measured_from = None;
        self.adrift.insert(id);
        self.queue.push_interrupted(request.entry, now);
        self.leave(id, from);
        Some(progressed)
    }

    /// Tokens, prompts included, that waiting requests have behind them and the next worker reads again.
    #[must_use]
    pub fn interrupted_tokens(&self) -> u64 {
        let tokens = |id: RequestId| self.by_id.get(&id).map(Request::tokens);
        self.queue.interrupted().filter_map(tokens).sum()
    }

    /// The requests to be judged.
    #[must_use]
    pub fn adrift(&self) -> &BTreeSet<RequestId> {
        &self.adrift
    }

    /// A judged request waits like any other. `outlived`: the worker it was lost from is gone or going.
    pub fn judged(&mut self, id: RequestId, outlived: bool, suspect: bool, broken_links: u32) {
        let Some(request) = self.by_id.get_mut(&id) else { return };
        self.adrift.remove(&id);
        request.place = Place::Queued;
        request.carried += u32::from(outlived);
        request.suspect = suspect;
        request.broken_links = broken_links;
    }

    /// Takes a request out, wherever it is; one that was assigned is settled.
    pub fn remove(&mut self, id: RequestId, settlement: Settlement, now: Mono) -> Option<Request> {
        if self.by_id.get(&id)?.assigned_before {
            let cost = match settlement {
                Settlement::Whole => Request::cost_expected,
                Settlement::SoFar => Request::cost_so_far,
                Settlement::Free => |_: &Request| 0,
            };
            self.charge(id, cost, now);
        }
        let request = self.by_id.remove(&id)?;
        self.queue.remove(request.entry, now);
        if request.assigned_before {
            self.queue.accounts_mut().finish(request.entry.lane, now);
        }
        self.expiries.remove(&(request.expires_at, id));
        self.adrift.remove(&id);
        if let Place::Running { on, .. } = request.place {
            self.leave(id, on);
        }
        Some(request)
    }

    fn leave(&mut self, id: RequestId, generation: Generation) {
        if let Some(there) = self.running.get_mut(&generation) {
            there.remove(&id);
            if there.is_empty() {
                self.running.remove(&generation);
            }
        }
    }

    /// Requests that hold a slot of `generation`.
    #[must_use]
    pub fn running_on(&self, generation: Generation) -> usize {
        self.running.get(&generation).map_or(0, BTreeSet::len)
    }

    /// Requests given to some worker, gone or not, whose session has not reported an end of it.
    #[must_use]
    pub fn in_flight(&self) -> usize {
        self.running.values().map(BTreeSet::len).sum()
    }

    /// True while a suspect that has gained no token runs on `generation`: nothing may join it.
    #[must_use]
    pub fn quarantined(&self, generation: Generation) -> bool {
        self.running
            .get(&generation)
            .is_some_and(|there| there.iter().filter_map(|id| self.by_id.get(id)).any(|request| request.suspect))
    }

    /// The next request for a free slot.
    #[must_use]
    pub fn next(&self, opening: Opening) -> Option<(RequestId, &Request)> {
        let interrupted = self.queue.interrupted().find(|id| {
            let request = self.by_id.get(id);
            request.is_some_and(|request| request.place == Place::Queued && request.seq() < opening.line)
        });
        let id = interrupted.or_else(|| self.queue.next_fresh(opening))?;
        Some((id, self.by_id.get(&id)?))
    }

    /// Requests on `generation` that are not interactive.
    #[must_use]
    pub fn patient_on(&self, generation: Generation) -> usize {
        let there = self.running.get(&generation).into_iter().flatten().filter_map(|id| self.by_id.get(id));
        there.filter(|request| request.submission.class != Class::Interactive).count()
    }

    /// What the requests on `generation` have still to cost, as expected.
    #[must_use]
    pub fn left_to_do(&self, generation: Generation) -> u64 {
        let there = self.running.get(&generation).into_iter().flatten().filter_map(|id| self.by_id.get(id));
        there
            .map(|request| match request.place {
                // Nothing is known of the prefill, and all of it may be ahead.
                Place::Running { progressed: false, .. } => request.charged,
                _ => request.charged.saturating_sub(request.cost_so_far()),
            })
            .sum()
    }

    /// True when somebody from before `line` waits.
    #[must_use]
    pub fn any_waiting_before(&self, line: u64) -> bool {
        self.queue.any_before(line)
    }

    /// How many from before `line` wait. Counts them one by one.
    #[must_use]
    pub fn waiting_before(&self, line: u64) -> usize {
        self.queue.count_before(line)
    }

    /// The request that gives up first, and when.
    #[must_use]
    pub fn first_expiry(&self) -> Option<(Mono, RequestId)> {
        self.expiries.first().copied()
    }

    /// When the first request adrift is judged at the latest.
    #[must_use]
    pub fn first_judgement(&self) -> Option<Mono> {
        let at = |id: &RequestId| match self.by_id.get(id)?.place {
            Place::Adrift { judge_at, .. } => Some(judge_at),
            Place::Queued | Place::Running { .. } => None,
        };
        self.adrift.iter().filter_map(at).min()
    }

    /// The agreement this type exists for.
    ///
    /// # Errors
    /// The first disagreement, in words.
    pub fn check_invariants(&self) -> Result<(), String> {
        let mut waiting = 0;
        let mut running = 0;
        for (id, request) in &self.by_id {
            match request.place {
                Place::Queued | Place::Adrift { .. } => waiting += 1,
                Place::Running { on, .. } => {
                    running += 1;
                    if !self.running.get(&on).is_some_and(|there| there.contains(id)) {
                        return Err(format!("{id} runs on {on} and is not listed there"));
                    }
                }
            }
            if matches!(request.place, Place::Adrift { .. }) != self.adrift.contains(id) {
                return Err(format!("{id} is adrift in one index only"));
            }
            if request.assigned_before == self.expiries.contains(&(request.expires_at, *id)) {
                return Err(format!("{id} expires though assigned, or never"));
            }
        }
        self.queue.check_invariants()?;
        let listed = (self.queue.len(), self.in_flight());
        if listed == (waiting, running) {
            Ok(())
        } else {
            Err(format!("(waiting, running) is {:?}, listed are {listed:?}", (waiting, running)))
        }
    }
}
