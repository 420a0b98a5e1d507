//! From a request's body to what the engine needs: prompt ids, limits, seed.
//!
//! Owns every check that can refuse a request before anything is generated. It is pure computation, and long for long
//! prompts: callers run it off the async threads.

use std::sync::Arc;

use mlxsup_worker_api::{Choice, Envelope};

use crate::openai::{self, Kind, Prompt, Refusal, Request};
use crate::sampling::Sampling;
use crate::text::{Codec, TemplateInput};

/// What wraps a request: given by the daemon, or made up when the worker runs alone.
#[derive(Debug, Clone)]
pub(crate) struct Order {
    pub(crate) id: String,
    pub(crate) created: u64,
    pub(crate) seed: u64,
    pub(crate) generated: Vec<Choice>,
}

/// What the worker allows.
#[derive(Debug, Clone)]
pub(crate) struct Allowance {
    pub(crate) context_tokens: u32,
    pub(crate) default_max_tokens: u32,
    pub(crate) model: String,
    /// Names answered besides the model's own; empty means any.
    pub(crate) served_names: Vec<String>,
}

/// A request that can run.
#[derive(Debug)]
pub(crate) struct Prepared {
    pub(crate) codec: Arc<Codec>,
    /// The field of the request that the prompt comes from.
    pub(crate) param: &'static str,
    pub(crate) prompt: Vec<u32>,
    pub(crate) max_tokens: u32,
    pub(crate) seed: u64,
    pub(crate) sampling: Sampling,
    pub(crate) stop: Vec<String>,
    pub(crate) logprobs: Option<u32>,
    /// One entry per choice.
    pub(crate) generated: Vec<Choice>,
    /// How the answer is written.
    pub(crate) stream: bool,
    pub(crate) answer: openai::Answer,
}

impl Order {
    /// Takes an envelope apart: the order and the client's body.
    pub(crate) fn from_envelope(envelope: Envelope) -> (Self, Box<serde_json::value::RawValue>) {
        let Envelope { id, created, seed, generated, request } = envelope;
        (Self { id, created, seed, generated }, request)
    }
}

/// Checks a chat (`chat`) or completions body and turns its prompt into ids.
pub(crate) fn prepare(
    chat: bool,
    body: &[u8],
    order: Order,
    codec: Arc<Codec>,
    allowance: &Allowance,
) -> Result<Prepared, Refusal> {
    let request = if chat { openai::parse_chat(body)? } else { openai::parse_completion(body)? };
    // What an earlier worker has begun is not refused by settings that came later.
    let carried = order.generated.iter().any(|choice| !choice.ids.is_empty());
    if !carried {
        check_model(&request, allowance)?;
    }
    let (param, prompt) = prompt(&request.kind, order.created, &codec)?;
    let wanted = request.max_tokens.unwrap_or(allowance.default_max_tokens);
    let room = (allowance.context_tokens as usize).saturating_sub(prompt.len());
    if room == 0 && !carried {
        return Err(Refusal::context_length_exceeded(param, allowance.context_tokens, prompt.len(), wanted));
    }
    let generated = match order.generated.len() {
        0 => vec![Choice::default(); request.n as usize],
        count if count == request.n as usize => order.generated,
        count => {
            let message = format!("`generated` has {count} entries, the request asks for {} choices", request.n);
            return Err(Refusal::invalid_value("generated", message));
        }
    };
    let answer = openai::Answer {
        id: order.id,
        created: order.created,
        model: allowance.model.clone(),
        chat,
        include_usage: request.include_usage,
    };
    Ok(Prepared {
        codec,
        param,
        prompt,
        max_tokens: u32::try_from(room).map_or(wanted, |room| wanted.min(room)).max(1),
        seed: request.seed.unwrap_or(order.seed),
        sampling: request.sampling,
        stop: request.stop,
        logprobs: request.logprobs,
        generated,
        stream: request.stream,
        answer,
    })
}

fn check_model(request: &Request, allowance: &Allowance) -> Result<(), Refusal> {
    let Some(asked) = &request.model else { return Ok(()) };
    let any = allowance.served_names.is_empty();
    if any || *asked == allowance.model || allowance.served_names.contains(asked) {
        return Ok(());
    }
    Err(Refusal::model_not_found(asked, &allowance.model))
}

/// The field a prompt comes from, and its ids; never empty.
fn prompt(kind: &Kind, created: u64, codec: &Codec) -> Result<(&'static str, Vec<u32>), Refusal> {
    let (param, ids) = match kind {
        Kind::Chat(chat) => {
            let refuse = |message: String| Refusal::invalid_value("messages", message);
            let template = codec.template.as_ref().map_err(|why| refuse(why.clone()))?;
            let input = TemplateInput {
                messages: &chat.messages,
                tools: chat.tools.as_ref(),
                variables: chat.variables.as_ref(),
                created,
            };
            let text = template.render(&input).map_err(|error| refuse(error.to_string()))?;
            ("messages", codec.tokenizer.encode_rendered(&text).map_err(|error| refuse(error.to_string()))?)
        }
        Kind::Completion(prompt) => ("prompt", bare_prompt(prompt, codec)?),
    };
    if ids.is_empty() {
        return Err(Refusal::invalid_value(param, format!("`{param}` comes to no token at all; give some text")));
    }
    Ok((param, ids))
}

fn bare_prompt(prompt: &Prompt, codec: &Codec) -> Result<Vec<u32>, Refusal> {
    match prompt {
        Prompt::Text(text) => {
            codec.tokenizer.encode_prompt(text).map_err(|error| Refusal::invalid_value("prompt", error.to_string()))
        }
        Prompt::Ids(ids) => {
            let size = codec.tokenizer.pieces().len();
            match ids.iter().position(|id| *id as usize >= size) {
                None => Ok(ids.clone()),
                Some(index) => {
                    let param = format!("prompt[{index}]");
                    let message = format!("`{param}` is {}; the vocabulary has {size} ids", ids[index]);
                    Err(Refusal::invalid_value(&param, message))
                }
            }
        }
    }
}
