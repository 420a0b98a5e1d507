//! Clients at the real core with a worker that always serves: who gets how much, without any trouble.

use std::collections::BTreeMap;
use std::time::Duration;

use mlxsup::supervisor::event::WorkerFacts;
use mlxsup::supervisor::request::{Class, Outcome, Report, Submission};
use mlxsup::supervisor::{Action, Event, Generation, Mono, Now, Persistent, RequestId, Supervisor, Wall};

use crate::dice::Dice;
use crate::settings::parsed;

/// Between two reports of progress, milliseconds.
const PROGRESS_MS: u64 = 500;

/// One client: how it asks, and for how much.
#[derive(Debug, Clone)]
pub struct Client {
    pub principal: String,
    pub name: Option<String>,
    pub class: Class,
    /// Requests it keeps waiting while it is busy.
    pub depth: usize,
    /// Spans in which it is busy, milliseconds; between them it sends nothing.
    pub busy: Vec<(u64, u64)>,
    /// Tokens of prompts and answers, least and most.
    pub prompt: (u64, u64),
    pub answer: (u64, u64),
}

/// One request of a client.
#[derive(Debug, Clone)]
pub struct Job {
    pub client: usize,
    pub prompt: u64,
    pub answer: u64,
    pub came: u64,
    /// When it was assigned.
    pub began: Option<u64>,
    /// Tokens of its answer that were reported; `None` before the first report.
    pub had: Option<u64>,
}

/// What one token of an answer costs beside one of a prompt, as the design has it.
pub fn cost(prompt: u64, answer: u64) -> u64 {
    prompt + 2 * answer
}

/// Class weights 8 : 4 : 2, as prices.
pub fn price(class: Class) -> u64 {
    match class {
        Class::Interactive => 1,
        Class::Normal => 2,
        Class::Batch => 4,
    }
}

/// Clients, core and worker.
pub struct Crowd {
    pub core: Supervisor,
    pub clients: Vec<Client>,
    pub now: u64,
    pub jobs: BTreeMap<u64, Job>,
    /// Cost of what each client was given so far.
    pub served: Vec<u64>,
    /// How long each client's requests waited for their slot, milliseconds.
    pub waits: Vec<Vec<u64>>,
    pub refused: usize,
    /// The dearest request at its class's price, guessed or real.
    pub dearest: u64,
    /// The longest answer so far, or expected when there was none.
    longest: u64,
    dice: Dice,
    next: u64,
}

impl Crowd {
    pub fn new(seed: u64, slots: u32, max_wait: Duration, clients: Vec<Client>) -> Self {
        let text = format!(
            "[worker]\nmodel = \"plain\"\n[queue]\nmax_waiting = 100000\nmax_wait = \"{}s\"\nper_client_share = 1.0\n\
             [listen]\nmax_body = \"64MiB\"\n",
            max_wait.as_secs()
        );
        let mut config = parsed(&text);
        config.rules.clear();
        let now = Now { mono: Mono(0), wall: Wall(1_700_000_000_000) };
        let core = Supervisor::new(config, &Persistent::default(), seed, now);
        let served = vec![0; clients.len()];
        let waits = vec![Vec::new(); clients.len()];
        let dice = Dice::new(seed);
        let jobs = BTreeMap::new();
        let mut crowd =
            Self { core, clients, now: 0, jobs, served, waits, refused: 0, dearest: 0, longest: 256, dice, next: 1 };
        crowd.feed(Event::Tick);
        let generation = Generation(1);
        crowd.feed(Event::Spawned { generation, pid: 100 });
        let facts = WorkerFacts {
            model: "plain".to_owned(),
            context_tokens: None,
            slots,
            fingerprint: "plain".to_owned(),
            weights_bytes: None,
            fixed_bytes: None,
            wiring: None,
        };
        crowd.feed(Event::WorkerReady { generation, facts });
        crowd
    }

    fn feed(&mut self, event: Event) {
        let now = Now { mono: Mono(self.now), wall: Wall(1_700_000_000_000 + self.now) };
        for action in self.core.step(event, now) {
            match action {
                Action::Assign { id, .. } => {
                    if let Some(job) = self.jobs.get_mut(&id.0) {
                        job.began = Some(self.now);
                        self.waits[job.client].push(self.now - job.came);
                    }
                }
                Action::Refuse { id, .. } => {
                    self.refused += 1;
                    self.jobs.remove(&id.0);
                }
                // A look at a worker that is well.
                Action::Probe { generation } => {
                    let answer = Some(mlxsup::supervisor::event::Answer { steps: self.now, ..Default::default() });
                    let vitals = mlxsup::supervisor::event::Vitals { answer, ..Default::default() };
                    self.core.step(Event::Probed { generation, vitals }, now);
                }
                Action::SendTerminate { .. } => panic!("the worker is to go, and it was well"),
                _ => {}
            }
        }
    }

    pub fn waiting(&self, client: usize) -> usize {
        self.jobs.values().filter(|job| job.client == client && job.began.is_none()).count()
    }

    pub fn running(&self) -> usize {
        self.jobs.values().filter(|job| job.began.is_some()).count()
    }

    /// Every busy client sends what it is short of.
    fn send(&mut self) {
        for client in 0..self.clients.len() {
            let Client { principal, name, class, depth, busy, prompt, answer } = self.clients[client].clone();
            if !busy.iter().any(|(from, to)| (*from..*to).contains(&self.now)) {
                continue;
            }
            for _ in self.waiting(client)..depth {
                let prompt = self.dice.between(prompt.0, prompt.1);
                let answer = self.dice.between(answer.0, answer.1);
                // Guesses are wrong by half.
                let bytes = prompt * self.dice.between(2, 6);
                let id = self.next;
                self.next += 1;
                self.longest = self.longest.max(answer);
                self.dearest = self.dearest.max(price(class) * cost(prompt.max(bytes / 4), self.longest));
                let job = Job { client, prompt, answer, came: self.now, began: None, had: None };
                self.jobs.insert(id, job);
                let submission = Submission {
                    principal: principal.clone(),
                    client: name.clone(),
                    class,
                    body_bytes: bytes,
                    deadline: None,
                    max_active: None,
                };
                self.feed(Event::Submitted { id: RequestId(id), submission });
            }
        }
    }

    /// Half a second passes: answers grow by a token each 20 ms after their prompt, 1,000 tokens a second, was read.
    pub fn passes(&mut self) {
        self.send();
        self.now += PROGRESS_MS;
        let ids: Vec<u64> = self.jobs.keys().copied().collect();
        for id in ids {
            let Some(job) = self.jobs.get_mut(&id) else { continue };
            let Some(began) = job.began.filter(|began| *began < self.now) else { continue };
            let decoding = (self.now - began).saturating_sub(job.prompt);
            let tokens = (decoding / 20).min(job.answer);
            if tokens == 0 {
                continue;
            }
            let before = job.had.map_or(0, |had| cost(job.prompt, had));
            job.had = Some(tokens);
            self.served[job.client] += cost(job.prompt, tokens) - before;
            let (prompt_tokens, completion_tokens) = (job.prompt, tokens);
            let report = if tokens == job.answer {
                self.jobs.remove(&id);
                Report::Ended(Outcome::Answered { prompt_tokens, completion_tokens })
            } else {
                Report::Progressed { generation: Generation(1), prompt_tokens, completion_tokens }
            };
            self.feed(Event::Reported { id: RequestId(id), report });
        }
        self.feed(Event::Tick);
        self.send();
    }
}
