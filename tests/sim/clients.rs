//! Clients and their sessions: what the gateway keeps of an answer, and what each client has received.

use crate::dice::mixed;

/// One client request.
#[derive(Debug, Clone)]
pub struct Session {
    /// Tokens recorded, which is what its client has or will get.
    pub tokens: Vec<u32>,
    /// Tokens of the whole answer.
    pub total: u64,
    pub prefill_ms: u64,
    pub ms_per_token: u64,
    pub nature: Nature,
    pub leg: Option<Leg>,
    /// Legs so far.
    pub legs: u64,
    /// Model of the first token.
    pub model: Option<usize>,
    /// Its last report is on its way to the core not before this.
    pub reported_at: u64,
    /// Its end has been reported.
    pub over: bool,
}

/// What becomes of it when nothing happens to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Nature {
    Ordinary,
    /// Kills every worker that reads it.
    Poisonous,
    /// The engine fails at it before a token.
    Failing,
    /// The worker refuses it for its own reasons.
    Rejected,
    /// Its client reads slower than the engine writes: the engine has finished long before.
    SlowReader,
}

/// One assignment as the session lives it.
#[derive(Debug, Clone)]
pub struct Leg {
    pub number: u64,
    pub generation: u64,
    pub grown_at: u64,
    /// A token has come in this leg.
    pub started: bool,
}

/// The token at this place of the answer: a pure function, as it is of a real worker.
pub fn token(request: u64, place: u64, model: usize) -> u32 {
    (mixed(&[request, place, model as u64]) >> 32) as u32
}

impl Session {
    /// A plain short request, before its first directive.
    pub fn waiting() -> Self {
        Self {
            tokens: Vec::new(),
            total: 5,
            prefill_ms: 50,
            ms_per_token: 20,
            nature: Nature::Ordinary,
            leg: None,
            legs: 0,
            model: None,
            reported_at: 0,
            over: false,
        }
    }

    /// Whether the client has exactly the answer of one model, as far as it goes.
    ///
    /// # Errors
    /// The first token that is not where it belongs.
    pub fn check(&self, request: u64) -> Result<(), String> {
        let Some(model) = self.model else { return Ok(()) };
        for (place, got) in self.tokens.iter().enumerate() {
            if *got != token(request, place as u64, model) {
                return Err(format!("r{request}: token {place} is not the one that belongs there"));
            }
        }
        Ok(())
    }
}
