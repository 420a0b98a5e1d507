//! What the core knows of a request: enough to admit, order and judge it, never its text.

use serde::{Deserialize, Serialize};

use super::fairness::{cost, guessed_prompt};
use super::queue::Entry;
use super::{Generation, Mono};

/// What a session tells about a request at the door.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Submission {
    /// The principal: a key's name, else peer uid or address.
    pub principal: String,
    /// The name inside the principal's share (`x-mlxsup-client`, else `user`), if any.
    pub client: Option<String>,
    /// `interactive`, `normal` or `batch`.
    pub class: Class,
    /// Bytes of the body, as a first guess of its cost and for the queue's byte cap.
    pub body_bytes: u64,
    /// Instant after which the client no longer waits for a first assignment.
    pub deadline: Option<Mono>,
    /// Requests the principal may have under way at once, where its key limits it; the rest of them wait. The latest
    /// submission of a principal decides.
    #[serde(default)]
    pub max_active: Option<u32>,
}

/// Priority class of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Class {
    /// Somebody looks at the screen.
    Interactive,
    /// The default.
    Normal,
    /// Whenever there is room.
    Batch,
}

impl Class {
    /// The word in headers, logs and metrics.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Interactive => "interactive",
            Self::Normal => "normal",
            Self::Batch => "batch",
        }
    }
}

/// What a session tells about a request under way.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Report {
    /// At least one more token arrived. Sent for the first token of an assignment, then at most every 500 ms.
    Progressed {
        /// Of which worker; a stale one is ignored.
        generation: Generation,
        /// Prompt tokens, where the link told them, else 0.
        prompt_tokens: u64,
        /// Tokens recorded so far, over all choices.
        completion_tokens: u64,
    },
    /// The link to the worker broke before the last event; the recorded tokens are kept and the session waits for the
    /// next assignment.
    Interrupted {
        /// Of which worker.
        generation: Generation,
        /// True when at least one token arrived during this assignment.
        progressed: bool,
        /// What the link said, for the log.
        why: String,
    },
    /// The request is over. Sent exactly once.
    Ended(Outcome),
}

/// How a request ended, as the ledger counts it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Outcome {
    /// A complete answer was handed to the client.
    Answered {
        /// From the worker's usage.
        prompt_tokens: u64,
        /// From the worker's usage.
        completion_tokens: u64,
    },
    /// The worker refused the request for a reason of the request's own (400, 404 …), passed on to the client.
    Rejected,
    /// The worker ended it with an engine error, passed on to the client.
    Failed,
    /// The client hung up.
    Cancelled,
}

/// One admitted request inside the core.
#[derive(Debug, Clone, PartialEq)]
pub struct Request {
    /// Its place in the queue's accounts.
    pub entry: Entry,
    /// As told at the door.
    pub submission: Submission,
    /// When it was admitted.
    pub admitted_at: Mono,
    /// When it gives up waiting for its first assignment. Fixed at the door: a reload changes no promise.
    pub expires_at: Mono,
    /// Where it stands.
    pub place: Place,
    /// True once it has been assigned: from then on it no longer expires.
    pub assigned_before: bool,
    /// Workers it has outlived.
    pub carried: u32,
    /// A worker died under it without a token: it runs alone until it gains one.
    pub suspect: bool,
    /// Links in a row that broke under it without a token while their worker lived on.
    pub broken_links: u32,
    /// Tokens of its prompt, as last reported; 0 while unknown.
    pub prompt_tokens: u64,
    /// Tokens of its answer so far, as last reported.
    pub completion_tokens: u64,
    /// Tokens its answer was expected to have when it was first assigned.
    pub expected_answer: u64,
    /// What it has been charged for.
    pub charged: u64,
    /// When it was first assigned; `None` again once it lost a worker, because its time in a slot measures nothing then.
    pub measured_from: Option<Mono>,
    /// Fingerprint of the model that generated its first token: no other can continue it.
    pub model: Option<String>,
}

/// Where a request stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// Waiting for a slot.
    Queued,
    /// Its link broke; whether its worker died, and why, is not known yet. Waits at the queue's head.
    Adrift {
        /// The worker it was lost from.
        from: Generation,
        /// Whether it had gained a token there.
        progressed: bool,
        /// Judged as a mere link failure then.
        judge_at: Mono,
    },
    /// Given to a worker.
    Running {
        /// Which worker.
        on: Generation,
        /// Whether a token has arrived since.
        progressed: bool,
    },
}

impl Request {
    /// A request that has just come through the door.
    #[must_use]
    pub fn admitted(entry: Entry, submission: Submission, expires_at: Mono, now: Mono) -> Self {
        Self {
            entry,
            submission,
            admitted_at: now,
            expires_at,
            place: Place::Queued,
            assigned_before: false,
            carried: 0,
            suspect: false,
            broken_links: 0,
            prompt_tokens: 0,
            completion_tokens: 0,
            expected_answer: 0,
            charged: 0,
            measured_from: None,
            model: None,
        }
    }

    /// Arrival order: the drain line is drawn between two of these.
    #[must_use]
    pub fn seq(&self) -> u64 {
        self.entry.seq
    }

    /// Tokens it has behind it, prompt included, as last reported.
    #[must_use]
    pub fn tokens(&self) -> u64 {
        self.prompt_tokens.saturating_add(self.completion_tokens)
    }

    /// What it has cost so far: its prompt, guessed while its length is unknown, and the tokens of its answer.
    #[must_use]
    pub fn cost_so_far(&self) -> u64 {
        let guess = guessed_prompt(self.submission.body_bytes);
        let prompt = if self.prompt_tokens == 0 { guess } else { self.prompt_tokens };
        cost(prompt, self.completion_tokens)
    }

    /// What it is charged while it runs: an answer as long as expected, or longer where it is.
    #[must_use]
    pub fn cost_expected(&self) -> u64 {
        let missing = self.expected_answer.saturating_sub(self.completion_tokens);
        self.cost_so_far().saturating_add(cost(0, missing))
    }

    /// Its first token came from a model of this fingerprint.
    pub fn begun_by(&mut self, fingerprint: Option<&str>) {
        if self.model.is_none() {
            self.model = fingerprint.map(str::to_owned);
        }
    }

    /// True while it holds a slot of `generation`.
    #[must_use]
    pub fn runs_on(&self, generation: Generation) -> bool {
        matches!(self.place, Place::Running { on, .. } if on == generation)
    }
}
