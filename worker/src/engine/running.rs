//! One sequence in the engine: what it has, what it needs next, how it ends.

use super::admission::{ANSWER_RESERVE, reservation};
use super::handle::Ticket;
use super::logprobs::logprobs;
use super::sequence::{Finish, SequenceEvent, SequenceRequest, TokenLogprobs};
use crate::model::{KvCache, Segment};
use crate::sampling;

/// Rows of logits taken from one step while log probabilities are replayed: with a large vocabulary a whole chunk of them
/// would be hundreds of megabytes that nobody has planned for.
const REPLAYED_ROWS: usize = 64;

/// A sequence from admission to its last event.
pub(super) struct Running {
    request: SequenceRequest,
    /// Prompt, replayed and new tokens. All but the last have been fed once the prompt is prefilled.
    tokens: Vec<u32>,
    prompt: usize,
    cache: KvCache,
    /// The whole prompt has been fed.
    prefilled: bool,
    /// Log probabilities of replayed tokens, collected while they are prefilled.
    replayed: Vec<TokenLogprobs>,
    /// They are still to be sent.
    replay_due: bool,
    /// Stepped apart from the others, since a joint step with it failed.
    pub(super) solo: bool,
    /// Its last event was sent.
    pub(super) ended: bool,
    _ticket: Ticket,
}

/// After a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Progress {
    GoesOn,
    Ended,
}

impl Running {
    pub(super) fn new(mut request: SequenceRequest, ticket: Ticket) -> Self {
        let mut tokens = std::mem::take(&mut request.prompt);
        let prompt = tokens.len();
        tokens.extend(&request.generated);
        let replay_due = request.replay_logprobs && request.logprobs.is_some() && !request.generated.is_empty();
        let cache = KvCache::with_reserve(tokens.len() + 1);
        Self {
            request,
            tokens,
            prompt,
            cache,
            prefilled: false,
            replayed: Vec::new(),
            replay_due,
            solo: false,
            ended: false,
            _ticket: ticket,
        }
    }

    /// The client has hung up.
    pub(super) fn is_cancelled(&self) -> bool {
        self.request.events.is_closed()
    }

    pub(super) const fn is_prefilled(&self) -> bool {
        self.prefilled
    }

    /// Tokens of the answer, replayed ones included.
    pub(super) fn answer_tokens(&self) -> usize {
        self.tokens.len() - self.prompt
    }

    fn fed(&self) -> usize {
        usize::try_from(self.cache.tokens()).unwrap_or(0)
    }

    /// What has been fed, and its keys and values.
    pub(super) fn fed_tokens(&self) -> (&[u32], &KvCache) {
        (&self.tokens[..self.fed()], &self.cache)
    }

    /// Before anything is fed: the tokens whose logits nobody needs, and how many there will be in all. Nothing for one
    /// that starts over: whatever failed, it is computed anew.
    pub(super) fn restorable(&self) -> Option<(&[u32], usize)> {
        let begins = self.fed() == 0 && !self.prefilled && !self.solo;
        begins.then(|| (&self.tokens[..self.first_wanted()], self.tokens.len() + 1))
    }

    /// Goes on from keys and values that were computed before, of its first tokens.
    pub(super) fn resume_from(&mut self, cache: KvCache) {
        self.cache = cache;
    }

    /// Tokens to be fed before the next one can be chosen.
    pub(super) fn pending(&self) -> usize {
        if self.prefilled { 0 } else { self.tokens.len() - self.fed() }
    }

    /// Bytes of keys and values held now.
    pub(super) fn cache_bytes(&self) -> u64 {
        self.cache.bytes()
    }

    /// Bytes that admission counts for it: reserved or held, whichever is more.
    pub(super) fn reserved(&self, kv_bytes_per_token: u64) -> u64 {
        let left = (self.request.max_tokens as usize).saturating_sub(self.request.generated.len()).min(ANSWER_RESERVE);
        reservation(self.prompt + self.request.generated.len(), left, kv_bytes_per_token).max(self.cache_bytes())
    }

    /// Forgets keys and values after a failed joint step: they are computed anew from the tokens, apart from the others.
    pub(super) fn rebuild(&mut self) {
        self.cache = KvCache::with_reserve(self.tokens.len() + 1);
        self.prefilled = false;
        self.replayed.clear();
        self.solo = true;
    }

    /// Ends it before anything was fed, when the replayed tokens are already a whole answer.
    pub(super) fn finish_if_complete(&self, context: u32) -> Progress {
        match self.end(context) {
            Some(finish) if !self.replay_due => self.finished(finish),
            _ => Progress::GoesOn,
        }
    }

    /// The next tokens to feed, at most `most`.
    pub(super) fn segment(&mut self, most: usize) -> Segment<'_> {
        let fed = self.fed();
        let most =
            if self.replay_due { most.min(self.first_wanted().saturating_sub(fed) + REPLAYED_ROWS) } else { most };
        let end = self.tokens.len().min(fed.saturating_add(most));
        let logits_from = self.first_wanted().saturating_sub(fed);
        Segment { tokens: &self.tokens[fed..end], cache: &mut self.cache, logits_from }
    }

    /// Position of the first token whose logits are used.
    fn first_wanted(&self) -> usize {
        if self.replay_due { self.prompt - 1 } else { self.tokens.len() - 1 }
    }

    /// Takes the logits of the last step, which fed tokens from position `from` on.
    pub(super) fn advance(
        &mut self,
        from: usize,
        logits: Option<Vec<f32>>,
        vocabulary: usize,
        context: u32,
    ) -> Progress {
        if !self.prefilled {
            let count = |number: usize| u32::try_from(number).unwrap_or(u32::MAX);
            self.send(SequenceEvent::Prefill { done: count(self.fed()), total: count(self.tokens.len()) });
        }
        let last = self.tokens.len() - 1;
        let first = from.max(self.first_wanted());
        let mut logits = logits.unwrap_or_default();
        for (position, row) in (first..).zip(logits.chunks_mut(vocabulary)) {
            match (position < last, self.request.logprobs) {
                (true, Some(most)) => self.replayed.push(logprobs(row, self.tokens[position + 1], most)),
                (true, None) => {}
                (false, _) => return self.choose(row, context),
            }
        }
        Progress::GoesOn
    }

    fn choose(&mut self, row: &mut [f32], context: u32) -> Progress {
        self.prefilled = true;
        if std::mem::take(&mut self.replay_due) {
            let replayed = std::mem::take(&mut self.replayed);
            self.send(SequenceEvent::Replayed(replayed));
        }
        if let Some(finish) = self.end(context) {
            return self.finished(finish);
        }
        let raw = self.request.logprobs.map(|most| (row.to_vec(), most));
        let position = u32::try_from(self.answer_tokens()).unwrap_or(u32::MAX);
        let uniform = sampling::uniform(self.request.seed, self.request.choice, position);
        let id = sampling::choose(row, &self.request.sampling, &self.tokens, self.prompt, uniform);
        let logprobs = raw.map(|(raw, most)| logprobs(&raw, id, most));
        self.tokens.push(id);
        self.send(SequenceEvent::Token { id, logprobs });
        self.end(context).map_or(Progress::GoesOn, |finish| self.finished(finish))
    }

    /// Why nothing more is to be generated, if so.
    fn end(&self, context: u32) -> Option<Finish> {
        let last = self.tokens.last().filter(|_| self.answer_tokens() > 0);
        if last.is_some_and(|id| self.request.stop_ids.contains(id)) {
            return Some(Finish::Stop);
        }
        let full = self.answer_tokens() >= self.request.max_tokens as usize || self.tokens.len() >= context as usize;
        full.then_some(Finish::Length)
    }

    fn finished(&self, finish: Finish) -> Progress {
        self.send(SequenceEvent::Finished(finish));
        Progress::Ended
    }

    /// Sends MLX's message as the last event. What the failed step left of keys and values is worth nothing.
    pub(super) fn fail(&mut self, message: &str) {
        self.cache = KvCache::default();
        self.send(SequenceEvent::Failed(message.to_owned()));
    }

    /// A receiver that is gone is noticed at the next turn.
    fn send(&self, event: SequenceEvent) {
        let _ = self.request.events.send(event);
    }
}
