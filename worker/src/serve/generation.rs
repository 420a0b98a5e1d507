//! One request on its way through the engine: what its choices have produced, in order.
//!
//! Owns the choices of one request: silent replay of what an earlier worker produced, the text that each new id makes
//! safe, the end of each choice, and how requests are counted on the board. Knows nothing of HTTP and of the documents
//! made from its steps. Dropping it cancels every choice that still runs.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::task::{Context, Poll};

use tokio::sync::mpsc;

use crate::board::Board;
use crate::engine::sequence::{Finish, SequenceEvent, SequenceRequest, TokenLogprobs};
use crate::openai::{Refusal, Usage, WholeChoice};
use crate::text::{AnswerText, End};

use super::preparation::Prepared;
use super::{EnginePort, Worker};

/// What happened next.
#[derive(Debug)]
pub(crate) enum Step {
    /// Prompt tokens prefilled, over all choices.
    Prefill { done: u64, total: u64 },
    /// A choice went on.
    Token(Token),
    /// A choice ended; the last step of that choice.
    Ended { choice: u32, end: End },
    /// The whole request failed; the last step.
    Failed(Refusal),
    /// All choices have ended; the last step.
    Done,
}

/// New text of one choice.
#[derive(Debug)]
pub(crate) struct Token {
    pub(crate) choice: u32,
    /// Tokens of the choice, this one included.
    pub(crate) tokens: u32,
    /// The new id; none when text was only held back until now.
    pub(crate) id: Option<u32>,
    /// Nothing of this choice was ever sent before.
    pub(crate) opens: bool,
    /// What it made safe to emit, often empty.
    pub(crate) text: String,
    pub(crate) logprobs: Option<TokenLogprobs>,
    /// Characters emitted before `text`.
    pub(crate) offset: usize,
}

/// One choice.
struct Lane {
    choice: u32,
    answer: AnswerText,
    /// Closed by dropping it: the engine then frees the sequence within one step.
    events: Option<mpsc::UnboundedReceiver<SequenceEvent>>,
    prefill: (u32, u32),
    /// Replayed ids with the characters before each, until their log probabilities have come.
    replayed: Vec<(u32, usize)>,
    characters: usize,
    collected: Option<WholeChoice>,
    ended: bool,
}

/// A running request.
pub(crate) struct Generation {
    lanes: Vec<Lane>,
    prompt_tokens: u64,
    next: usize,
    over: bool,
    board: Arc<Board>,
}

impl Generation {
    /// Replays what was generated and hands the rest to the engine.
    ///
    /// With `collect` the choices keep all their text and log probabilities, for a whole answer.
    pub(crate) fn start(prepared: &Prepared, worker: &Worker, collect: bool) -> Result<Self, Refusal> {
        let engine = worker.engine()?;
        let prompt_tokens = prepared.prompt.len() as u64;
        let mut lanes = Vec::new();
        for (choice, generated) in (0_u32..).zip(&prepared.generated) {
            // Settings changed between two workers: what is more than this one allows stays, and nothing is added.
            let overlong = generated.ids.len() > prepared.max_tokens as usize;
            let limit = if overlong { u32::MAX } else { prepared.max_tokens };
            let answer = prepared.codec.answer(&prepared.stop, limit);
            let mut lane = Lane::new(choice, answer, collect, prepared.logprobs.is_some());
            for &id in &generated.ids {
                lane.replay(id);
            }
            // A finish reason on record means that the client has it.
            lane.ended = generated.finish_reason.is_some() && !collect;
            let replay_logprobs = collect && prepared.logprobs.is_some() && !generated.ids.is_empty();
            let goes_on = !lane.ended && lane.answer.end().is_none();
            if replay_logprobs || (goes_on && !overlong) {
                lane.submit(prepared, engine.as_ref(), &generated.ids, replay_logprobs)?;
            } else if goes_on {
                lane.end_by_length();
            }
            lanes.push(lane);
        }
        worker.board.requests.fetch_add(1, Relaxed);
        Ok(Self { lanes, prompt_tokens, next: 0, over: false, board: Arc::clone(&worker.board) })
    }

    /// The next step; after [`Step::Done`] or [`Step::Failed`] it stays at `Done`.
    pub(crate) fn poll_step(&mut self, cx: &mut Context<'_>) -> Poll<Step> {
        if self.over {
            return Poll::Ready(Step::Done);
        }
        for turn in 0..self.lanes.len() {
            let index = (self.next + turn) % self.lanes.len();
            let step = self.lanes[index].poll(cx);
            let step = match step {
                Poll::Pending => continue,
                Poll::Ready(Step::Prefill { .. }) => self.prefill(),
                Poll::Ready(step) => step,
            };
            // The next lane's turn: no choice starves another.
            self.next = (index + 1) % self.lanes.len();
            if matches!(step, Step::Failed(_)) {
                self.over = true;
                self.board.failed.fetch_add(1, Relaxed);
            }
            return Poll::Ready(step);
        }
        if self.lanes.iter().all(|lane| lane.ended) {
            self.over = true;
            return Poll::Ready(Step::Done);
        }
        Poll::Pending
    }

    /// Tokens of one choice so far.
    pub(crate) fn tokens(&self, choice: u32) -> u32 {
        self.lanes.get(choice as usize).map_or(0, |lane| lane.answer.tokens())
    }

    /// Tokens so far.
    pub(crate) fn usage(&self) -> Usage {
        let completion_tokens = self.lanes.iter().map(|lane| u64::from(lane.answer.tokens())).sum();
        let total_tokens = self.prompt_tokens + completion_tokens;
        Usage { prompt_tokens: self.prompt_tokens, completion_tokens, total_tokens }
    }

    /// The whole choices; complete only after [`Step::Done`], and empty unless started with `collect`.
    pub(crate) fn take_choices(&mut self) -> Vec<WholeChoice> {
        self.lanes.iter_mut().filter_map(|lane| lane.collected.take()).collect()
    }

    fn prefill(&self) -> Step {
        let sum = |part: fn(&Lane) -> u32| -> u64 { self.lanes.iter().map(|lane| u64::from(part(lane))).sum() };
        Step::Prefill { done: sum(|lane| lane.prefill.0), total: sum(|lane| lane.prefill.1) }
    }
}

impl Drop for Generation {
    fn drop(&mut self) {
        if !self.over {
            self.board.cancelled.fetch_add(1, Relaxed);
        }
    }
}

impl Lane {
    fn new(choice: u32, answer: AnswerText, collect: bool, logprobs: bool) -> Self {
        let collected =
            collect.then(|| WholeChoice { text: String::new(), end: End::Stop, logprobs: logprobs.then(Vec::new) });
        Self {
            choice,
            answer,
            events: None,
            prefill: (0, 0),
            replayed: Vec::new(),
            characters: 0,
            collected,
            ended: false,
        }
    }

    /// Has the engine go on after `generated`.
    fn submit(
        &mut self,
        prepared: &Prepared,
        engine: &dyn EnginePort,
        generated: &[u32],
        replay_logprobs: bool,
    ) -> Result<(), Refusal> {
        let (sender, receiver) = mpsc::unbounded_channel();
        let submitted = engine.submit(SequenceRequest {
            prompt: prepared.prompt.clone(),
            generated: generated.to_vec(),
            choice: self.choice,
            seed: prepared.seed,
            sampling: prepared.sampling.clone(),
            // An ended choice is only prefilled for its log probabilities.
            max_tokens: if self.answer.end().is_none() { prepared.max_tokens } else { self.answer.tokens() },
            stop_ids: prepared.codec.stop_ids.to_vec(),
            logprobs: prepared.logprobs,
            replay_logprobs,
            events: sender,
        });
        submitted.map_err(|refusal| refusal.at(prepared.param))?;
        self.events = Some(receiver);
        // Counted before its turn comes: what is left to read never grows.
        let total = prepared.prompt.len() + generated.len();
        self.prefill = (0, u32::try_from(total).unwrap_or(u32::MAX));
        Ok(())
    }

    /// Nothing more may come; what is still held back is given out.
    fn end_by_length(&mut self) {
        let (sender, receiver) = mpsc::unbounded_channel();
        // The receiver is right here.
        let _ = sender.send(SequenceEvent::Finished(Finish::Length));
        self.events = Some(receiver);
    }

    fn replay(&mut self, id: u32) {
        if self.answer.end().is_none() && !self.answer.is_stop_id(id) {
            self.replayed.push((id, self.characters));
        }
        let text = self.answer.push(id);
        self.keep(&text);
    }

    fn keep(&mut self, text: &str) {
        self.characters += text.chars().count();
        if let Some(collected) = &mut self.collected {
            collected.text.push_str(text);
        }
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Step> {
        loop {
            if self.ended {
                return Poll::Pending;
            }
            let Some(events) = &mut self.events else { return Poll::Ready(self.close()) };
            let event = match events.poll_recv(cx) {
                Poll::Ready(Some(event)) => event,
                Poll::Ready(None) => {
                    return Poll::Ready(Step::Failed(Refusal::engine_error("it stopped without a word")));
                }
                Poll::Pending => return Poll::Pending,
            };
            if let Some(step) = self.advance(event) {
                return Poll::Ready(step);
            }
        }
    }

    fn advance(&mut self, event: SequenceEvent) -> Option<Step> {
        match event {
            SequenceEvent::Prefill { done, total } => {
                self.prefill = (done, total);
                Some(Step::Prefill { done: 0, total: 0 })
            }
            SequenceEvent::Replayed(logprobs) => {
                let tokens = std::mem::take(&mut self.replayed).into_iter().zip(logprobs);
                let kept = self.collected.as_mut().and_then(|collected| collected.logprobs.as_mut());
                if let Some(kept) = kept {
                    kept.extend(tokens.map(|((id, offset), logprobs)| (id, logprobs, offset)));
                }
                if self.answer.end().is_some() {
                    self.events = None;
                }
                None
            }
            SequenceEvent::Token { id, logprobs } => Some(self.token(id, logprobs)),
            SequenceEvent::Finished(finish) => {
                self.events = None;
                // The ids themselves have usually ended the answer before.
                let held = self.answer.cut(match finish {
                    Finish::Stop => End::Stop,
                    Finish::Length => End::Length,
                });
                if held.is_empty() { None } else { Some(self.step(None, held, None)) }
            }
            SequenceEvent::Failed(what) => {
                self.events = None;
                Some(Step::Failed(Refusal::engine_error(&what)))
            }
        }
    }

    fn token(&mut self, id: u32, logprobs: Option<TokenLogprobs>) -> Step {
        let logprobs = logprobs.filter(|_| !self.answer.is_stop_id(id));
        let text = self.answer.push(id);
        if self.answer.end().is_some() {
            self.events = None;
        }
        self.step(Some(id), text, logprobs)
    }

    fn step(&mut self, id: Option<u32>, text: String, logprobs: Option<TokenLogprobs>) -> Step {
        let offset = self.characters;
        self.keep(&text);
        let kept = self.collected.as_mut().and_then(|collected| collected.logprobs.as_mut());
        if let (Some(kept), Some(id), Some(logprobs)) = (kept, id, &logprobs) {
            kept.push((id, logprobs.clone(), offset));
        }
        let tokens = self.answer.tokens();
        let opens = tokens == 1 && id.is_some();
        Step::Token(Token { choice: self.choice, tokens, id, opens, text, logprobs, offset })
    }

    /// The choice has no more events: it says how it ended.
    fn close(&mut self) -> Step {
        self.ended = true;
        let end = self.answer.end().unwrap_or(End::Length);
        if let Some(collected) = &mut self.collected {
            collected.end = end;
        }
        Step::Ended { choice: self.choice, end }
    }
}
