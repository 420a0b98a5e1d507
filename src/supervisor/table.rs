//! All admitted requests, and the indexes that keep every decision cheap: who waits, who runs where, who expires next.
//!
//! Owns the agreement between a request's place and the indexes: a place changes only here. Decides nothing.

use std::collections::{BTreeMap, BTreeSet};

use super::queue::Queue;
use super::request::{Place, Request, Submission};
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

impl RequestTable {
    /// Takes in a request behind all others. `expires_at` holds until its first assignment; an id that is known already
    /// changes nothing.
    pub fn admit(&mut self, id: RequestId, submission: Submission, expires_at: Mono, now: Mono) {
        if self.by_id.contains_key(&id) {
            return;
        }
        let seq = self.next_seq();
        self.arrivals += 1;
        self.queue.push(id, seq, submission.body_bytes, true);
        self.expiries.insert((expires_at, id));
        self.by_id.insert(id, Request::admitted(seq, submission, expires_at, now));
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

    /// Gives a waiting request to a worker.
    pub fn assign(&mut self, id: RequestId, generation: Generation) {
        let Some(request) = self.by_id.get_mut(&id) else { return };
        self.queue.remove(id, request.seq, request.submission.body_bytes);
        self.expiries.remove(&(request.expires_at, id));
        self.adrift.remove(&id);
        request.place = Place::Running { on: generation, progressed: false };
        request.assigned_before = true;
        self.running.entry(generation).or_default().insert(id);
    }

    /// A token of a request running on `generation` arrived; `by` is that worker's fingerprint. False when it does not
    /// run there.
    pub fn progressed(&mut self, id: RequestId, generation: Generation, tokens: u64, by: Option<&str>) -> bool {
        let Some(request) = self.by_id.get_mut(&id).filter(|request| request.runs_on(generation)) else { return false };
        request.tokens = tokens;
        request.begun_by(by);
        request.place = Place::Running { on: generation, progressed: true };
        request.suspect = false;
        request.broken_links = 0;
        true
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
        self.adrift.insert(id);
        self.queue.push(id, request.seq, request.submission.body_bytes, false);
        self.leave(id, from);
        Some(progressed)
    }

    /// Tokens, prompts included, that waiting requests have behind them and the next worker reads again.
    #[must_use]
    pub fn interrupted_tokens(&self) -> u64 {
        let tokens = |id: RequestId| self.by_id.get(&id).map(|request| request.tokens);
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

    /// Takes a request out, wherever it is.
    pub fn remove(&mut self, id: RequestId) -> Option<Request> {
        let request = self.by_id.remove(&id)?;
        self.queue.remove(id, request.seq, request.submission.body_bytes);
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

    /// The next request to be assigned among those from before `line`.
    #[must_use]
    pub fn next_before(&self, line: u64) -> Option<(RequestId, &Request)> {
        let interrupted = self.queue.interrupted().find_map(|id| {
            let request = self.by_id.get(&id)?;
            (request.place == Place::Queued && request.seq < line).then_some((id, request))
        });
        interrupted.or_else(|| {
            let id = self.queue.first_fresh()?;
            let request = self.by_id.get(&id)?;
            (request.seq < line).then_some((id, request))
        })
    }

    /// True when somebody from before `line` waits.
    #[must_use]
    pub fn any_waiting_before(&self, line: u64) -> bool {
        let first = [self.queue.interrupted().next(), self.queue.first_fresh()];
        first.into_iter().flatten().filter_map(|id| self.by_id.get(&id)).any(|request| request.seq < line)
    }

    /// How many from before `line` wait. Counts them one by one.
    #[must_use]
    pub fn waiting_before(&self, line: u64) -> usize {
        self.queue.iter().filter(|id| self.by_id.get(id).is_some_and(|request| request.seq < line)).count()
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
        let listed = (self.queue.len(), self.in_flight());
        if listed == (waiting, running) {
            Ok(())
        } else {
            Err(format!("(waiting, running) is {:?}, listed are {listed:?}", (waiting, running)))
        }
    }
}
