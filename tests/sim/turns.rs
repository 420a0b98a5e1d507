//! Who is let in, and whose turn it is: bounds, shares, caps, the reserved slot, the ageing guard.
//!
//! Counters are not followed here; `shares.rs` measures what comes of them.

use std::time::Duration;

use mlxsup::supervisor::request::{Class, Submission};
use mlxsup::supervisor::{Action, Code, Generation, Mono, RequestId, Standing, Supervisor};

use crate::model::{Model, Shadow};
use crate::world::Verdict;

/// A part of `queue.max_wait` after which the head of a class goes first.
fn guard(class: Class, max_wait: Duration) -> Duration {
    match class {
        Class::Interactive => max_wait / 8,
        Class::Normal => max_wait / 4,
        Class::Batch => max_wait / 2,
    }
}

impl Model {
    pub fn judge_admission(
        &mut self,
        id: RequestId,
        submission: &Submission,
        actions: &[Action],
        core: &Supervisor,
        now: Mono,
    ) -> Verdict {
        self.arrivals += 1;
        let arrival = self.arrivals;
        let refused = actions.iter().find_map(|action| match action {
            Action::Refuse { id: refused, refusal } if *refused == id => Some(refusal),
            _ => None,
        });
        let limits = &core.config().queue;
        let bytes = submission.body_bytes;
        let (waiting, waiting_bytes) = self.holds(|_| true);
        let (own, own_bytes) = self.holds(|request| request.principal == submission.principal);
        let whole = waiting >= limits.max_waiting || (waiting > 0 && waiting_bytes + bytes > limits.max_bytes);
        let crowded = || {
            let mut principals = self.requests.values().map(|request| &request.principal);
            principals.any(|principal| self.holds(|request| request.principal == *principal).0 > 1)
        };
        // A newcomer finds room while somebody else has more than one place.
        let full = whole && (own > 0 || limits.per_client_share >= 1.0 || !crowded());
        let part = |whole: f64| (whole * limits.per_client_share).floor();
        let places = part(limits.max_waiting as f64).max(1.0);
        let over = own as f64 >= places || (own_bytes + bytes) as f64 > part(limits.max_bytes as f64);
        let greedy = over && own > 0 && waiting > own;
        if let Some(refusal) = refused {
            let back = refusal.retry_after.is_some();
            return match refusal.code {
                Code::ClientShare if greedy && back => Ok(()),
                Code::QueueFull if full && back => Ok(()),
                Code::QueueTimeout if back && submission.deadline.is_some() && self.is_busy(core) => Ok(()),
                Code::ClientShare | Code::QueueFull | Code::QueueTimeout => Err(format!(
                    "(5) {id} was refused with {}, and {waiting} wait, {own} of them its client's",
                    refusal.code.as_str()
                )),
                Code::MemoryPressure | Code::Draining => Ok(()),
                code => self.judge_refusal_by_state(id, code, core),
            };
        }
        if full || greedy {
            return Err(format!(
                "(5) {id} was admitted behind {waiting} waiting, {waiting_bytes} bytes, {own} its client's"
            ));
        }
        let longest = now + limits.max_wait;
        match submission.max_active {
            Some(cap) => self.caps.insert(submission.principal.clone(), cap),
            None => self.caps.remove(&submission.principal),
        };
        self.requests.insert(
            id,
            Shadow {
                arrival,
                principal: submission.principal.clone(),
                class: submission.class,
                expires_at: submission.deadline.map_or(longest, |deadline| deadline.min(longest)),
                bytes,
                running: None,
                assigned: false,
                token: false,
                fingerprint: None,
                adrift: None,
                suspect: false,
                poisoned: false,
                broken: 0,
                cut: false,
            },
        );
        // It may be given a slot in this very step.
        self.settle_heads(now);
        Ok(())
    }

    /// Waiting requests of a kind, and their bytes.
    fn holds(&self, of: impl Fn(&Shadow) -> bool) -> (usize, u64) {
        let these = self.requests.values().filter(|request| request.running.is_none() && of(request));
        these.fold((0, 0), |(count, bytes), request| (count + 1, bytes + request.bytes))
    }

    /// A worker serves, and has no slot free.
    fn is_busy(&self, core: &Supervisor) -> bool {
        let serving = core.serving_generation();
        let worker = serving.and_then(|generation| self.workers.get(&generation));
        serving.zip(worker).is_some_and(|(generation, worker)| {
            worker.ready && worker.terminated.is_none() && self.running_on(generation) >= worker.slots
        })
    }

    fn is_capped(&self, principal: &str) -> bool {
        let under_way =
            || self.requests.values().filter(|other| other.assigned && other.principal == principal).count();
        self.caps.get(principal).is_some_and(|cap| under_way() >= *cap as usize)
    }

    /// The last slot of three or more is for interactive requests, unless a line is drawn.
    fn is_reserved(&self, generation: Generation) -> bool {
        let slots = self.workers.get(&generation).map_or(0, |worker| worker.slots);
        let patient = |request: &&Shadow| request.running == Some(generation) && request.class != Class::Interactive;
        let drained = self.line.is_some() || self.persisted.standing == Standing::Drained;
        let lined = drained || self.leaving.contains_key(&generation);
        slots >= 3 && !lined && self.requests.values().filter(patient).count() + 1 >= slots
    }

    /// Notes who stands at the head of each principal's classes, and since when.
    pub fn settle_heads(&mut self, now: Mono) {
        let mut heads = std::collections::BTreeMap::new();
        let fresh = self.requests.iter().filter(|(_, request)| !request.assigned);
        for (id, request) in fresh.filter(|(_, request)| !self.is_capped(&request.principal)) {
            let head = heads.entry((request.principal.clone(), request.class)).or_insert((request.arrival, *id));
            *head = (*head).min((request.arrival, *id));
        }
        let before = std::mem::take(&mut self.heads);
        let since = |lane: &(String, Class), id: RequestId| match before.get(lane) {
            Some((same, since)) if *same == id => *since,
            _ => now,
        };
        self.heads = heads.into_iter().map(|(lane, (_, id))| (lane.clone(), (id, since(&lane, id)))).collect();
    }

    /// Who has stood at the head of its class too long, longest beyond its guard first.
    fn overdue(&self, core: &Supervisor, now: Mono) -> Vec<(Mono, RequestId)> {
        let due = |class: Class, since: Mono| since + guard(class, core.config().queue.max_wait);
        let heads = self.heads.iter().map(|((_, class), (id, since))| (due(*class, *since), *id));
        let mut overdue: Vec<_> = heads.filter(|(due, _)| *due <= now).collect();
        overdue.sort();
        overdue
    }

    /// Holds an assignment against everything that orders the queue but the counters.
    pub fn judge_turn(
        &self,
        id: RequestId,
        request: &Shadow,
        generation: Generation,
        core: &Supervisor,
        now: Mono,
    ) -> Verdict {
        let line = self.line.map_or(u64::MAX, |line| line.at);
        let line = self.leaving.get(&generation).map_or(line, |leaving| line.min(leaving.line));
        let lost = |other: &Shadow| other.assigned && other.running.is_none() && other.adrift.is_none();
        let before = |other: &Shadow| other.arrival < line && (!request.assigned || other.arrival < request.arrival);
        if let Some((first, _)) = self.requests.iter().find(|(_, other)| lost(other) && before(other)) {
            return Err(format!("{id} overtakes {first}, which lost its worker"));
        }
        if request.assigned {
            return Ok(());
        }
        if self.is_capped(&request.principal) {
            return Err(format!("{id} is assigned, and {} has as many as it may", request.principal));
        }
        let mut overdue = self.overdue(core, now);
        overdue.retain(|(_, other)| self.requests.get(other).is_some_and(|other| other.arrival < line));
        if let Some((due, first)) = overdue.first()
            && !overdue.contains(&(*due, id))
        {
            return Err(format!("{id} overtakes {first}, which has waited beyond its guard"));
        }
        if self.is_reserved(generation) && request.class != Class::Interactive && overdue.is_empty() {
            return Err(format!("{id} takes the slot of worker {generation} that is kept for interactive requests"));
        }
        Ok(())
    }

    /// Somebody who waits and may run on this worker.
    pub fn may_run(&self, generation: Generation, core: &Supervisor, now: Mono) -> Option<RequestId> {
        let overdue = self.overdue(core, now);
        let reserved = self.is_reserved(generation);
        let may = |(id, request): &(&RequestId, &Shadow)| {
            let aged = overdue.iter().any(|(_, other)| other == *id);
            let open = !reserved || request.class == Class::Interactive || aged;
            request.running.is_none() && (request.assigned || (open && !self.is_capped(&request.principal)))
        };
        self.requests.iter().find(may).map(|(id, _)| *id)
    }
}
