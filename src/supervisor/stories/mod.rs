//! Scenarios: events in, actions and states out, one story per test.
//!
//! [`Story`] plays everything around the core by hand: each test says what the world does and what must come of it. The
//! random worlds of `tests/sim` look for what nobody thought of.

mod crashes;
mod drains;
mod fairness;
mod inherited;
mod lifecycle;
mod memory;
mod overlap;
mod proof;
mod requests;
mod restarts;
mod rules;
mod schedules;
mod settings;
mod stops;
mod unloads;

use std::collections::BTreeMap;
use std::time::Duration;

use super::event::{Answer, Exit, ExitStatus, Vitals, Wiring, WorkerFacts};
use super::request::{Class, Outcome as End, Report, Submission};
use super::verbs::{Outcome, OutcomeKind, RestartAsked, Verb};
use super::{
    Action, Code, Event, Generation, Mono, Now, OperationId, Persistent, Refusal, RequestId, Standing, Supervisor, Wall,
};
use crate::config::Config;
use crate::control::view::State;

const SIGKILL: i32 = 9;
const SIGSEGV: i32 = 11;

/// One service with its world played by hand.
struct Story {
    core: Supervisor,
    now: Now,
    /// Actions not yet asserted on, without records and persistence.
    fresh: Vec<Action>,
    assigned: Vec<(u64, u64)>,
    /// Looks, canaries, samples and wakefulness asked for: most stories are not about them.
    asked: Vec<Action>,
    refusals: BTreeMap<u64, Refusal>,
    replies: BTreeMap<OperationId, Outcome>,
    records: Vec<(&'static str, String)>,
    persisted: Option<Persistent>,
    operations: u64,
}

impl Story {
    /// The service of a default configuration, before its first event.
    fn asleep_at_first(adjust: impl FnOnce(&mut Config), persistent: &Persistent) -> Self {
        let mut config = settings::defaults();
        adjust(&mut config);
        let now = Now { mono: Mono(1_000_000), wall: Wall(1_700_000_000_000) };
        Self {
            core: Supervisor::new(config, persistent, 1, now),
            now,
            fresh: Vec::new(),
            assigned: Vec::new(),
            asked: Vec::new(),
            refusals: BTreeMap::new(),
            replies: BTreeMap::new(),
            records: Vec::new(),
            persisted: None,
            operations: 0,
        }
    }

    /// The first worker is ready, with two slots.
    fn serving() -> Self {
        Self::serving_with(|_| {})
    }

    fn serving_with(adjust: impl FnOnce(&mut Config)) -> Self {
        let mut story = Self::asleep_at_first(adjust, &Persistent::default());
        story.send(Event::Tick);
        story.becomes_ready(1);
        story.forget();
        story
    }

    fn send(&mut self, event: Event) {
        let actions = self.core.step(event, self.now);
        for action in actions {
            match &action {
                Action::Assign { id, generation } => self.assigned.push((id.0, generation.0)),
                Action::Refuse { id, refusal } => {
                    assert!(self.refusals.insert(id.0, refusal.clone()).is_none(), "{id} was refused twice");
                }
                Action::Reply { operation, outcome } => {
                    let again = self.replies.insert(*operation, outcome.clone());
                    assert!(again.is_none(), "{operation:?} was answered twice");
                }
                Action::Record(record) => {
                    self.records.push((record.kind, record.message.clone()));
                    continue;
                }
                Action::Persist(persistent) => {
                    self.persisted = Some(persistent.clone());
                    continue;
                }
                Action::Spawn { .. }
                | Action::SendTerminate { .. }
                | Action::SendKill { .. }
                | Action::ClearCache { .. }
                | Action::VetImage { .. }
                | Action::PauseAccepting
                | Action::ResumeAccepting
                | Action::Exec { .. }
                | Action::Exit => {}
                Action::SavePrefixCache { .. }
                | Action::Probe { .. }
                | Action::Canary { .. }
                | Action::Sample
                | Action::KeepAwake { .. } => {
                    self.asked.push(action);
                    continue;
                }
            }
            self.fresh.push(action);
        }
        if let Some(deadline) = self.core.next_deadline(self.now.mono) {
            assert!(deadline > self.now.mono, "a deadline that has passed would make the driver spin");
        }
    }

    /// Lets time pass, waking the core at its deadlines only.
    fn pass(&mut self, duration: Duration) {
        let until = self.now.mono + duration;
        loop {
            let next = self.core.next_deadline(self.now.mono).filter(|deadline| *deadline <= until);
            let mono = next.unwrap_or(until);
            let wall = self.now.wall + (mono - self.now.mono);
            self.now = Now { mono, wall };
            if next.is_none() {
                return;
            }
            self.send(Event::Tick);
        }
    }

    fn pass_s(&mut self, seconds: u64) {
        self.pass(Duration::from_secs(seconds));
    }

    /// Forgets the actions so far.
    fn forget(&mut self) {
        self.fresh.clear();
        self.assigned.clear();
    }

    /// The actions since the last call, without records, persistence, assignments, refusals and replies.
    fn worker_actions(&mut self) -> Vec<Action> {
        let fresh = std::mem::take(&mut self.fresh);
        fresh
            .into_iter()
            .filter(|action| !matches!(action, Action::Assign { .. } | Action::Refuse { .. } | Action::Reply { .. }))
            .collect()
    }

    /// `(request, generation)` of the assignments since the last call.
    fn assigned(&mut self) -> Vec<(u64, u64)> {
        std::mem::take(&mut self.assigned)
    }

    fn state(&self) -> State {
        self.core.state()
    }

    fn cause(&self) -> Option<&'static str> {
        self.core.snapshot().cause.map(|cause| cause.code)
    }

    fn recorded(&self, kind: &str) -> bool {
        self.records.iter().any(|(recorded, _)| *recorded == kind)
    }

    fn code(&self, id: u64) -> Option<Code> {
        self.refusals.get(&id).map(|refusal| refusal.code)
    }

    fn refused(&self) -> Vec<(u64, Code)> {
        self.refusals.iter().map(|(id, refusal)| (*id, refusal.code)).collect()
    }

    // What the world does.

    fn spawned(&mut self, generation: u64) {
        self.send(Event::Spawned { generation: Generation(generation), pid: 100 });
    }

    fn ready(&mut self, generation: u64) {
        self.ready_as(generation, "f");
    }

    fn ready_as(&mut self, generation: u64, fingerprint: &str) {
        self.ready_with(generation, fingerprint, 2);
    }

    fn ready_with(&mut self, generation: u64, fingerprint: &str, slots: u32) {
        self.ready_and_wires(generation, fingerprint, slots, None);
    }

    fn ready_and_wires(&mut self, generation: u64, fingerprint: &str, slots: u32, wiring: Option<Wiring>) {
        let facts = WorkerFacts {
            model: "m".to_owned(),
            context_tokens: Some(4096),
            slots,
            fingerprint: fingerprint.to_owned(),
            weights_bytes: None,
            fixed_bytes: None,
            wiring,
        };
        self.send(Event::WorkerReady { generation: Generation(generation), facts });
    }

    fn becomes_ready(&mut self, generation: u64) {
        self.spawned(generation);
        self.ready(generation);
    }

    fn exits(&mut self, generation: u64, status: ExitStatus) {
        let stderr_tail = vec!["the last words".to_owned(), String::new()];
        self.send(Event::WorkerExited {
            generation: Generation(generation),
            exit: Exit { status, stderr_tail, out_of_memory: false },
        });
    }

    /// It dies of its own doing.
    fn crashes(&mut self, generation: u64) {
        self.exits(generation, ExitStatus::Signal(SIGSEGV));
    }

    /// A stranger kills it.
    fn is_killed(&mut self, generation: u64) {
        self.exits(generation, ExitStatus::Signal(SIGKILL));
    }

    /// It obeys SIGTERM.
    fn obeys(&mut self, generation: u64) {
        self.exits(generation, ExitStatus::Code(0));
    }

    fn answers_probe(&mut self, generation: u64, steps: u64) {
        let answer = Some(Answer { steps, ..Answer::default() });
        self.probed(generation, Vitals { answer, ..Vitals::default() });
    }

    fn misses_probe(&mut self, generation: u64) {
        self.probed(generation, Vitals { missed: Some("no answer in 2 s".to_owned()), ..Vitals::default() });
    }

    fn probed(&mut self, generation: u64, vitals: Vitals) {
        self.send(Event::Probed { generation: Generation(generation), vitals });
    }

    fn submits(&mut self, id: u64) {
        self.submits_with(id, |_| {});
    }

    fn submits_with(&mut self, id: u64, adjust: impl FnOnce(&mut Submission)) {
        let mut submission = Submission {
            principal: "uid 501".to_owned(),
            client: None,
            class: Class::Normal,
            body_bytes: 100,
            deadline: None,
            max_active: None,
        };
        adjust(&mut submission);
        self.send(Event::Submitted { id: RequestId(id), submission });
    }

    fn reports(&mut self, id: u64, report: Report) {
        self.send(Event::Reported { id: RequestId(id), report });
    }

    fn gains_token(&mut self, id: u64, generation: u64) {
        let generation = Generation(generation);
        self.reports(id, Report::Progressed { generation, prompt_tokens: 10, completion_tokens: 1 });
    }

    fn loses_link(&mut self, id: u64, generation: u64, progressed: bool) {
        let why = "connection reset".to_owned();
        self.reports(id, Report::Interrupted { generation: Generation(generation), progressed, why });
    }

    fn is_answered(&mut self, id: u64) {
        self.reports(id, Report::Ended(End::Answered { prompt_tokens: 10, completion_tokens: 5 }));
    }

    fn hangs_up(&mut self, id: u64) {
        self.reports(id, Report::Ended(End::Cancelled));
    }

    // What operators do.

    fn asks(&mut self, verb: Verb) -> OperationId {
        self.operations += 1;
        let operation = OperationId(self.operations);
        self.send(Event::Operator { operation, verb });
        operation
    }

    fn asks_drain(&mut self) -> OperationId {
        self.asks(Verb::Drain { deadline: None, refuse: false, no_wait: false })
    }

    fn asks_restart(&mut self, mode: RestartAsked) -> OperationId {
        self.asks(Verb::Restart { mode, plan: false, no_wait: false })
    }

    fn asks_unload(&mut self, now: bool) -> OperationId {
        self.asks(Verb::Unload { now, no_wait: false })
    }

    fn asks_load(&mut self) -> OperationId {
        self.asks(Verb::Load { no_wait: false })
    }

    fn stops(&mut self) {
        self.send(Event::StopAsked { keep_worker: false });
    }

    fn outcome(&self, operation: OperationId) -> Option<OutcomeKind> {
        self.replies.get(&operation).map(|outcome| outcome.result)
    }

    fn message(&self, operation: OperationId) -> &str {
        self.replies.get(&operation).map_or("(no reply)", |outcome| outcome.message.as_str())
    }
}

fn spawn(generation: u64) -> Action {
    Action::Spawn { generation: Generation(generation) }
}

fn terminate(generation: u64) -> Action {
    Action::SendTerminate { generation: Generation(generation) }
}

fn kill(generation: u64) -> Action {
    Action::SendKill { generation: Generation(generation) }
}
