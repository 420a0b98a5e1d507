//! The lives of requests: a client comes, a leg is lost, tokens arrive, somebody hangs up.

use mlxsup::supervisor::request::{Class, Outcome, Report, Submission};
use mlxsup::supervisor::{Event, Generation, Mono, RequestId};

use crate::clients::{Leg, Nature, Session, token};
use crate::timeline::{Happening, How};
use crate::world::{Verdict, World};

impl World {
    pub fn arrives(&mut self) -> Verdict {
        if !self.is_up {
            return Ok(());
        }
        if !self.accepting {
            self.backlog += 1;
            return Ok(());
        }
        let nature = match self.trouble.natures.pop() {
            Some(nature) => nature,
            None if self.dice.chance(15) => Nature::Rejected,
            None => Nature::Ordinary,
        };
        let total = match self.dice.below(20) {
            0 => self.dice.between(500, 3_000),
            1..8 => self.dice.between(1, 30),
            _ => self.dice.between(30, 400),
        };
        let session = Session {
            total,
            prefill_ms: self.dice.between(20, 4_000) * if self.dice.chance(50) { 30 } else { 1 },
            ms_per_token: self.dice.pick(&[10, 25, 50, 120]),
            nature,
            ..Session::waiting()
        };
        let patience = self.dice.weighted(&[(3, 20_000_u64), (5, 600_000), (4, 7_200_000)]);
        self.submit(session, patience).map(|_| ())
    }

    pub fn submit(&mut self, session: Session, patience: u64) -> Result<u64, String> {
        let id = self.next_request;
        self.next_request += 1;
        let patience = self.now + self.dice.between(patience / 4, patience);
        self.timeline.plan(patience, Happening::HangsUp { request: id });
        self.sessions.insert(id, session);
        let deadline = (!self.calm && self.dice.chance(100)).then(|| Mono(self.now + self.dice.between(1_000, 60_000)));
        let principal = self.dice.below(3);
        let submission = Submission {
            principal: format!("uid {}", 500 + principal),
            client: self.dice.pick(&[None, Some("agent"), Some("script")]).map(str::to_owned),
            class: self.dice.pick(&[Class::Interactive, Class::Normal, Class::Normal, Class::Batch]),
            body_bytes: self.dice.between(100, 400_000),
            deadline,
            // One of the three has a key with a cap, which is changed now and then.
            max_active: (principal == 2 && !self.calm && self.dice.chance(900)).then_some(2),
        };
        self.feed(Event::Submitted { id: RequestId(id), submission })?;
        Ok(id)
    }

    /// A session's reports reach the core in the order they were sent.
    pub fn report(&mut self, request: u64, report: Report, delay: u64) {
        let Some(session) = self.sessions.get_mut(&request) else { return };
        let at = (self.now + delay).max(session.reported_at);
        session.reported_at = at;
        if matches!(report, Report::Ended(_)) {
            session.over = true;
            session.leg = None;
        }
        let wait = at - self.now;
        self.news(wait, Event::Reported { id: RequestId(request), report });
    }

    pub fn assign(&mut self, request: u64, generation: u64) -> Verdict {
        let now = self.now;
        let Some(session) = self.sessions.get_mut(&request) else { return Ok(()) };
        if session.over {
            // It hung up, and says so itself.
            return Ok(());
        }
        if session.leg.is_some() {
            return Err(format!("r{request} is assigned while it runs"));
        }
        session.legs += 1;
        let number = session.legs;
        session.leg = Some(Leg { number, generation, grown_at: now, started: false });
        let (prefill, nature) = (session.prefill_ms, session.nature);
        let Some(process) = self.processes.get_mut(&generation) else {
            // Nobody listens any more.
            let delay = self.dice.between(1, 20);
            self.link_breaks(request, delay);
            return Ok(());
        };
        let begun = session.model;
        if begun.is_some_and(|model| model != process.model) {
            return Err(format!("r{request} began on another model than worker {generation} serves"));
        }
        process.requests.insert(request);
        if process.requests.len() > process.slots as usize {
            return Err(format!("worker {generation} has {} slots and got more", process.slots));
        }
        let first = match nature {
            Nature::Rejected | Nature::Failing => self.dice.between(5, 100),
            Nature::Ordinary | Nature::Poisonous | Nature::SlowReader => prefill,
        };
        self.timeline.plan(now + first, Happening::Grows { request, leg: number });
        Ok(())
    }

    /// The engine has got further with a request.
    pub fn grows(&mut self, request: u64, leg: u64) -> Verdict {
        let now = self.now;
        let progress_ms = self.progress_ms;
        let Some(session) = self.sessions.get_mut(&request) else { return Ok(()) };
        let Some(current) = session.leg.as_mut().filter(|current| current.number == leg) else { return Ok(()) };
        let generation = current.generation;
        let Some(process) = self.processes.get_mut(&generation) else { return Ok(()) };
        if process.is_frozen() {
            process.held.push(Happening::Grows { request, leg });
            return Ok(());
        }
        process.moves(now);
        match session.nature {
            Nature::Poisonous => return self.dies(generation, How::Signal(11)),
            Nature::Failing if session.tokens.is_empty() => {
                process.requests.remove(&request);
                let delay = self.dice.below(5);
                self.report(request, Report::Ended(Outcome::Failed), delay);
                return Ok(());
            }
            Nature::Rejected => {
                process.requests.remove(&request);
                self.report(request, Report::Ended(Outcome::Rejected), 1);
                return Ok(());
            }
            Nature::Ordinary | Nature::Failing | Nature::SlowReader => {}
        }
        let model = *session.model.get_or_insert(process.model);
        if model != process.model {
            return Err(format!("r{request} goes on with another model"));
        }
        let first = !current.started;
        let elapsed = now - current.grown_at;
        let gained = if first { 1 } else { (elapsed / session.ms_per_token).max(1) };
        current.started = true;
        current.grown_at = now;
        let have = session.tokens.len() as u64;
        let upto = (have + gained).min(session.total);
        session.tokens.extend((have..upto).map(|place| token(request, place, model)));
        if upto == session.total {
            process.requests.remove(&request);
            session.check(request)?;
            let outcome = Outcome::Answered { prompt_tokens: 100, completion_tokens: upto };
            let delay = self.dice.below(5);
            self.report(request, Report::Ended(outcome), delay);
            return Ok(());
        }
        let left = (session.total - upto) * session.ms_per_token;
        let pause = match session.nature {
            // Half the answer lies in buffers the client does not empty for a while.
            Nature::SlowReader => {
                process.buffered.insert(request);
                self.dice.between(1_000, 250_000)
            }
            _ => left.min(progress_ms),
        };
        let report =
            Report::Progressed { generation: Generation(generation), prompt_tokens: 100, completion_tokens: upto };
        self.report(request, report, 1);
        self.timeline.plan(now + pause.max(1), Happening::Grows { request, leg });
        Ok(())
    }

    /// The session notices that its link is broken.
    pub fn link_breaks(&mut self, request: u64, delay: u64) {
        let Some(session) = self.sessions.get_mut(&request) else { return };
        let Some(leg) = session.leg.take() else { return };
        if let Some(process) = self.processes.get_mut(&leg.generation) {
            process.requests.remove(&request);
        }
        let report = Report::Interrupted {
            generation: Generation(leg.generation),
            progressed: leg.started,
            why: "connection reset".to_owned(),
        };
        self.report(request, report, delay);
    }

    pub fn hangs_up(&mut self, request: u64) {
        let Some(session) = self.sessions.get_mut(&request) else { return };
        if session.over {
            return;
        }
        self.leaves_worker(request);
        let delay = self.dice.below(10);
        self.report(request, Report::Ended(Outcome::Cancelled), delay);
    }

    fn leaves_worker(&mut self, request: u64) {
        let leg = self.sessions.get_mut(&request).and_then(|session| session.leg.take());
        if let Some(process) = leg.and_then(|leg| self.processes.get_mut(&leg.generation)) {
            process.requests.remove(&request);
        }
    }

    /// The core has ended it.
    pub fn refused(&mut self, request: u64) {
        let Some(session) = self.sessions.get(&request) else { return };
        if session.over {
            return;
        }
        self.leaves_worker(request);
        self.report(request, Report::Ended(Outcome::Failed), 2);
    }
}
