//! Request bodies of `/v1/chat/completions` and `/v1/completions`.
//!
//! Owns defaults and ranges. What is named here but not supported yet is refused, never silently dropped; what is not
//! named here is ignored.

use serde_json::Value;

use crate::sampling::Sampling;

use super::Refusal;
use super::chat::Chat;
use super::fields::{Fields, mismatch};

/// Choices one request may ask for.
pub const MAX_CHOICES: u32 = 128;
/// Stop strings one request may have.
const MAX_STOPS: usize = 64;
/// Bytes of one stop string.
const MAX_STOP_BYTES: usize = 1024;
/// Alternatives per token.
const MAX_TOP_LOGPROBS: i64 = 20;
/// Entries of `logit_bias`.
const MAX_BIASES: usize = 4096;

/// One request, understood.
#[derive(Debug, Clone, PartialEq)]
pub struct Request {
    /// What to go on from.
    pub kind: Kind,
    /// Chunks as they come, or one answer at the end.
    pub stream: bool,
    /// A last chunk with token counts.
    pub include_usage: bool,
    /// Choices wanted.
    pub n: u32,
    /// Tokens of the answer at most, as the client wants it.
    pub max_tokens: Option<u32>,
    /// How tokens are chosen.
    pub sampling: Sampling,
    /// The client's seed, if it named one.
    pub seed: Option<u64>,
    /// Texts that end the answer.
    pub stop: Vec<String>,
    /// Log probabilities wanted, with this many alternatives.
    pub logprobs: Option<u32>,
    /// The model the client named.
    pub model: Option<String>,
}

/// The two kinds of prompt.
#[derive(Debug, Clone, PartialEq)]
pub enum Kind {
    /// Messages for the chat template.
    Chat(Chat),
    /// Text or ids as they are.
    Completion(Prompt),
}

/// A bare prompt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Prompt {
    /// Text, to be turned into ids.
    Text(String),
    /// Ids.
    Ids(Vec<u32>),
}

/// Understands a chat body.
///
/// # Errors
/// 400 with the field at fault.
pub fn parse_chat(body: &[u8]) -> Result<Request, Refusal> {
    let body = json(body)?;
    let fields = Fields::body(&body)?;
    refuse_response_format(&fields)?;
    let wanted = fields.boolean("logprobs")?.unwrap_or(false);
    let top = fields.whole("top_logprobs", 0..=MAX_TOP_LOGPROBS)?;
    if !wanted && top.is_some_and(|top| top > 0) {
        return Err(fields.refuse("top_logprobs", "`top_logprobs` needs `logprobs` to be true"));
    }
    let logprobs = wanted.then(|| top.unwrap_or(0) as u32);
    request(&fields, Kind::Chat(Chat::parse(&fields)?), logprobs)
}

/// Understands a completions body.
///
/// # Errors
/// 400 with the field at fault.
pub fn parse_completion(body: &[u8]) -> Result<Request, Refusal> {
    let body = json(body)?;
    let fields = Fields::body(&body)?;
    let logprobs = fields.whole("logprobs", 0..=MAX_TOP_LOGPROBS)?.map(|top| top as u32);
    request(&fields, Kind::Completion(prompt(&fields)?), logprobs)
}

fn json(body: &[u8]) -> Result<Value, Refusal> {
    serde_json::from_slice(body)
        .map_err(|error| Refusal::invalid_value("", format!("the request body is not valid JSON: {error}")))
}

/// The fields both kinds share.
fn request(fields: &Fields<'_>, kind: Kind, logprobs: Option<u32>) -> Result<Request, Refusal> {
    let tokens = 1..=i64::from(u32::MAX);
    let max_tokens = match fields.whole("max_completion_tokens", tokens.clone())? {
        Some(tokens) => Some(tokens),
        None => fields.whole("max_tokens", tokens)?,
    };
    let options = match fields.get("stream_options") {
        Some(value) => Fields::inside(value, "stream_options".to_owned())?.boolean("include_usage")?,
        None => None,
    };
    Ok(Request {
        kind,
        stream: fields.boolean("stream")?.unwrap_or(false),
        include_usage: options.unwrap_or(false),
        n: fields.whole("n", 1..=i64::from(MAX_CHOICES))?.unwrap_or(1) as u32,
        // The range above is that of u32.
        max_tokens: max_tokens.map(|tokens| tokens as u32),
        sampling: sampling(fields)?,
        seed: seed(fields)?,
        stop: stop(fields)?,
        logprobs,
        model: fields.string("model")?.map(str::to_owned),
    })
}

fn sampling(fields: &Fields<'_>) -> Result<Sampling, Refusal> {
    let off = Sampling::default();
    // Other servers spell "off" as -1.
    let top_k = fields.whole("top_k", -1..=i64::from(u32::MAX))?.map_or(0, |top_k| top_k.max(0) as u32);
    Ok(Sampling {
        temperature: fields.number("temperature", 0.0..=2.0)?.unwrap_or(off.temperature),
        top_p: fields.number("top_p", 0.0..=1.0)?.unwrap_or(off.top_p),
        top_k,
        min_p: fields.number("min_p", 0.0..=1.0)?.unwrap_or(off.min_p),
        frequency_penalty: fields.number("frequency_penalty", -2.0..=2.0)?.unwrap_or(off.frequency_penalty),
        presence_penalty: fields.number("presence_penalty", -2.0..=2.0)?.unwrap_or(off.presence_penalty),
        repetition_penalty: fields.number("repetition_penalty", 0.01..=10.0)?.unwrap_or(off.repetition_penalty),
        logit_bias: logit_bias(fields)?,
    })
}

/// `{"id": bias}`; ids are strings because JSON keys are.
fn logit_bias(fields: &Fields<'_>) -> Result<Vec<(u32, f32)>, Refusal> {
    let Some(map) = fields.object("logit_bias")? else { return Ok(Vec::new()) };
    if map.len() > MAX_BIASES {
        return Err(
            fields.refuse("logit_bias", format!("`logit_bias` has {} entries; give {MAX_BIASES} at most", map.len()))
        );
    }
    let biases = Fields::inside(fields.get("logit_bias").unwrap_or(&Value::Null), "logit_bias".to_owned())?;
    let mut found = Vec::with_capacity(map.len());
    for key in map.keys() {
        let id = key.parse().map_err(|_| biases.refuse(key, "the keys of `logit_bias` must be token ids"))?;
        if let Some(bias) = biases.number(key, -100.0..=100.0)? {
            found.push((id, bias));
        }
    }
    Ok(found)
}

/// Any 64-bit number; negative ones count as their two's complement.
fn seed(fields: &Fields<'_>) -> Result<Option<u64>, Refusal> {
    match fields.get("seed").and_then(Value::as_u64) {
        Some(seed) => Ok(Some(seed)),
        None => Ok(fields.whole("seed", i64::MIN..=i64::MAX)?.map(|seed| seed as u64)),
    }
}

fn stop(fields: &Fields<'_>) -> Result<Vec<String>, Refusal> {
    let stops = match fields.get("stop") {
        None => return Ok(Vec::new()),
        Some(Value::String(one)) => vec![one.clone()],
        Some(Value::Array(many)) => {
            let text = |(index, value): (usize, &Value)| match value.as_str() {
                Some(text) => Ok(text.to_owned()),
                None => Err(mismatch(&format!("stop[{index}]"), "a string", value)),
            };
            many.iter().enumerate().map(text).collect::<Result<_, _>>()?
        }
        Some(other) => return Err(mismatch("stop", "a string or an array of strings", other)),
    };
    if stops.len() > MAX_STOPS || stops.iter().any(|stop| stop.len() > MAX_STOP_BYTES) {
        let message = format!("`stop` takes {MAX_STOPS} strings of {MAX_STOP_BYTES} bytes at most");
        return Err(fields.refuse("stop", message));
    }
    Ok(stops)
}

/// A string, an array with one string, or an array of ids.
fn prompt(fields: &Fields<'_>) -> Result<Prompt, Refusal> {
    let value = fields.get("prompt").ok_or_else(|| fields.refuse("prompt", "`prompt` is missing"))?;
    match value {
        Value::String(text) => Ok(Prompt::Text(text.clone())),
        Value::Array(parts) => match parts.as_slice() {
            [Value::String(text)] => Ok(Prompt::Text(text.clone())),
            [Value::Array(ids)] => prompt_ids(ids, "prompt[0]"),
            [Value::String(_) | Value::Array(_), ..] => {
                Err(fields.refuse("prompt", format!("`prompt` has {} prompts; send one per request", parts.len())))
            }
            ids => prompt_ids(ids, "prompt"),
        },
        other => Err(mismatch("prompt", "a string or an array of token ids", other)),
    }
}

fn prompt_ids(values: &[Value], at: &str) -> Result<Prompt, Refusal> {
    let id = |(index, value): (usize, &Value)| {
        let id = value.as_u64().and_then(|id| u32::try_from(id).ok());
        id.ok_or_else(|| mismatch(&format!("{at}[{index}]"), "a token id", value))
    };
    values.iter().enumerate().map(id).collect::<Result<_, _>>().map(Prompt::Ids)
}

fn refuse_response_format(fields: &Fields<'_>) -> Result<(), Refusal> {
    let Some(value) = fields.get("response_format") else { return Ok(()) };
    let format = Fields::inside(value, "response_format".to_owned())?;
    match format.string("type")? {
        None | Some("text") => Ok(()),
        Some(other) => {
            let message = format!("the response format `{other}` is not supported yet; leave it out and ask in words");
            Err(format.refuse("type", message))
        }
    }
}
