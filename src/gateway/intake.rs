//! What the gateway reads of a generation request before it is submitted.
//!
//! Owns the body cap, the few fields and headers that the daemon itself needs, and the messages about them. Everything
//! else in the body is the worker's affair and passes through byte for byte.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt;
use hyper::HeaderMap;
use hyper::body::{Body, Incoming};
use serde::Deserialize;
use serde_json::value::RawValue;

use super::identity;
use crate::daemon::handle::Class;
use crate::supervisor::{Code, Refusal};

/// Longest silence inside a body.
const BODY_SILENCE: Duration = Duration::from_secs(30);
/// Bytes of a refused body that are read and dropped, so that clients which write before they read see the refusal.
const DISCARDED: u64 = 64 << 20;
/// How long such bytes are waited for.
const DISCARD_TIME: Duration = Duration::from_secs(2);
/// Choices one request may ask for; also the most that a worker may answer.
pub(super) const MAX_CHOICES: u32 = 128;

/// Which of the two generation endpoints.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// `/v1/chat/completions`.
    Chat,
    /// `/v1/completions`.
    Completions,
}

impl Kind {
    /// Path on the worker link.
    pub fn link_path(self) -> &'static str {
        match self {
            Self::Chat => mlxsup_worker_api::path::LINK_CHAT,
            Self::Completions => mlxsup_worker_api::path::LINK_COMPLETIONS,
        }
    }

    /// Path of the OpenAI API.
    pub fn path(self) -> &'static str {
        match self {
            Self::Chat => "/v1/chat/completions",
            Self::Completions => "/v1/completions",
        }
    }

    /// How ids of answers begin.
    pub fn id_prefix(self) -> &'static str {
        match self {
            Self::Chat => "chatcmpl",
            Self::Completions => "cmpl",
        }
    }
}

/// Facts from the request's headers.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Wishes {
    /// `x-mlxsup-priority`.
    pub class: Option<Class>,
    /// `x-mlxsup-client`.
    pub client: Option<String>,
    /// `x-mlxsup-timeout`.
    pub timeout: Option<Duration>,
    /// `x-stainless-read-timeout`.
    pub read_timeout: Option<Duration>,
}

impl Wishes {
    /// Reads the headers. Our own must make sense; the OpenAI SDKs' is a hint.
    pub fn from_headers(headers: &HeaderMap) -> Result<Self, Refusal> {
        let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).map(str::trim);
        let class = match text("x-mlxsup-priority") {
            None => None,
            Some("interactive") => Some(Class::Interactive),
            Some("normal") => Some(Class::Normal),
            Some("batch") => Some(Class::Batch),
            Some(other) => {
                let message = format!("x-mlxsup-priority is `{}`; use interactive, normal or batch", excerpt(other));
                return Err(invalid("x-mlxsup-priority", message));
            }
        };
        let timeout = match text("x-mlxsup-timeout") {
            None => None,
            Some(value) => Some(duration(value).ok_or_else(|| {
                let message = format!("x-mlxsup-timeout is `{}`; write a number with ms, s, m or h", excerpt(value));
                invalid("x-mlxsup-timeout", message)
            })?),
        };
        let read_timeout = text("x-stainless-read-timeout")
            .and_then(|value| value.parse::<f64>().ok())
            .filter(|seconds| *seconds > 0.0)
            .and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
        Ok(Self { class, client: text("x-mlxsup-client").and_then(identity::client_name), timeout, read_timeout })
    }
}

/// Facts from the request's body.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Asked {
    /// `stream`.
    pub stream: bool,
    /// `stream_options.include_usage`.
    pub include_usage: bool,
    /// `n`, at least 1.
    pub choices: u32,
    /// `model`, as sent.
    pub model: Option<String>,
    /// `user`.
    pub user: Option<String>,
    /// From `service_tier`.
    pub class: Option<Class>,
}

#[derive(Deserialize)]
struct Peek<'a> {
    #[serde(borrow)]
    stream: Option<&'a RawValue>,
    #[serde(borrow)]
    stream_options: Option<&'a RawValue>,
    #[serde(borrow)]
    n: Option<&'a RawValue>,
    #[serde(borrow)]
    model: Option<&'a RawValue>,
    #[serde(borrow)]
    user: Option<&'a RawValue>,
    #[serde(borrow)]
    service_tier: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct StreamOptions {
    #[serde(default)]
    include_usage: Option<bool>,
}

impl Asked {
    /// Looks into the body, checking that all of it is JSON.
    pub fn from_body(body: &[u8]) -> Result<Self, Refusal> {
        let not_json = |why: String| {
            Refusal::new(Code::InvalidValue, format!("the body is not a JSON object: {why}; send one as OpenAI's API"))
        };
        let text = std::str::from_utf8(body).map_err(|error| not_json(error.to_string()))?;
        if !text.trim_start().starts_with('{') && !text.trim().is_empty() {
            return Err(not_json("it does not begin with `{`".to_owned()));
        }
        let peek: Peek<'_> = serde_json::from_str(text).map_err(|error| not_json(error.to_string()))?;
        let options: Option<StreamOptions> = field(peek.stream_options, "stream_options", "an object")?;
        let choices = field::<u32>(peek.n, "n", "a whole number")?.unwrap_or(1);
        if !(1..=MAX_CHOICES).contains(&choices) {
            return Err(invalid("n", format!("n is {choices}; ask for 1 to {MAX_CHOICES} choices")));
        }
        let tier: Option<String> = field(peek.service_tier, "service_tier", "a string")?;
        Ok(Self {
            stream: field(peek.stream, "stream", "true or false")?.unwrap_or(false),
            include_usage: options.and_then(|options| options.include_usage).unwrap_or(false),
            choices,
            model: field(peek.model, "model", "a string")?,
            user: field(peek.user, "user", "a string")?,
            class: match tier.as_deref() {
                Some("priority") => Some(Class::Interactive),
                Some("flex") => Some(Class::Batch),
                // `auto` and tiers of other services mean nothing here, and unknown values are ignored.
                _ => None,
            },
        })
    }
}

fn field<'a, T: Deserialize<'a>>(raw: Option<&'a RawValue>, param: &str, wanted: &str) -> Result<Option<T>, Refusal> {
    let Some(raw) = raw else { return Ok(None) };
    serde_json::from_str(raw.get())
        .map_err(|_| invalid(param, format!("{param} is `{}`; it must be {wanted}", excerpt(raw.get()))))
}

fn invalid(param: &str, message: String) -> Refusal {
    Refusal::new(Code::InvalidValue, message).with_param(param)
}

/// At most 40 characters of what a client sent, for a message.
fn excerpt(text: &str) -> String {
    let mut short: String = text.chars().take(40).collect();
    if short.len() < text.len() {
        short.push('…');
    }
    short
}

/// `500ms`, `30s`, `5m`, `2h`.
fn duration(text: &str) -> Option<Duration> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let number: u64 = text[..digits].parse().ok()?;
    let unit_ms: u64 = match &text[digits..] {
        "ms" => 1,
        "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        _ => return None,
    };
    number.checked_mul(unit_ms).map(Duration::from_millis)
}

/// Reads a body of at most `max` bytes.
pub(super) async fn read_body(mut body: Incoming, max: u64) -> Result<Bytes, Refusal> {
    let announced = body.size_hint().exact();
    let too_large = || {
        let message = format!("the body exceeds {max} bytes; send less or raise listen.max_body");
        Refusal::new(Code::BodyTooLarge, message)
    };
    if announced.is_some_and(|length| length > max) {
        discard(body).await;
        return Err(too_large());
    }
    let capacity = announced.and_then(|length| usize::try_from(length).ok()).unwrap_or(0);
    // What is announced is not yet sent: a silent client must not cost memory.
    let mut whole = BytesMut::with_capacity(capacity.min(64 << 10));
    loop {
        let frame = match tokio::time::timeout(BODY_SILENCE, body.frame()).await {
            Ok(frame) => frame,
            Err(_) => {
                let message = format!("nothing of the body came for {BODY_SILENCE:?}; send it without pauses");
                return Err(Refusal::new(Code::RequestTimeout, message));
            }
        };
        match frame {
            None => return Ok(whole.freeze()),
            Some(Err(error)) => {
                let message = format!("the body could not be read: {error}; send all of it");
                return Err(Refusal::new(Code::InvalidValue, message));
            }
            Some(Ok(frame)) => {
                let Ok(part) = frame.into_data() else { continue };
                if (whole.len() + part.len()) as u64 > max {
                    discard(body).await;
                    return Err(too_large());
                }
                whole.extend_from_slice(&part);
            }
        }
    }
}

/// Reads and drops what is left of a refused body, within bounds.
async fn discard(mut body: Incoming) {
    let mut left = DISCARDED;
    let all = async {
        while let Some(Ok(frame)) = body.frame().await {
            left = left.saturating_sub(frame.data_ref().map_or(0, |part| part.len() as u64));
            if left == 0 {
                return;
            }
        }
    };
    // Whether it ended, failed or took too long makes no difference: the refusal is sent next.
    let _ = tokio::time::timeout(DISCARD_TIME, all).await;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_read_and_null_means_absent() {
        let body = br#"{"stream":true,"stream_options":{"include_usage":true},"n":2,"user":null,"model":"m\u0061",
            "service_tier":"flex","messages":[{"role":"user","content":"\"stream\":false"}]}"#;
        let asked = Asked::from_body(body).expect("valid");
        assert!(asked.stream && asked.include_usage);
        assert_eq!((asked.choices, asked.model.as_deref(), asked.user), (2, Some("ma"), None));
        assert_eq!(asked.class, Some(Class::Batch));
        let plain = Asked::from_body(b"{}").expect("valid");
        assert!(!plain.stream && plain.choices == 1 && plain.class.is_none());
    }

    #[test]
    fn bad_bodies_name_the_field_at_fault() {
        for (body, param) in [
            (&br#"{"stream":"yes"}"#[..], Some("stream")),
            (br#"{"n":0}"#, Some("n")),
            (br#"{"n":-1}"#, Some("n")),
            (br#"{"n":129}"#, Some("n")),
            (br#"{"model":7}"#, Some("model")),
            (br#"{"stream_options":3}"#, Some("stream_options")),
            (b"", None),
            (b"[1]", None),
            (b"{\"a\":\"\xff\"}", None),
            (b"{\"a\":1} x", None),
            (b"{\"stream\":true,\"stream\":false}", None),
        ] {
            let refusal = Asked::from_body(body).expect_err("was accepted");
            assert_eq!((refusal.code, refusal.param.as_deref()), (Code::InvalidValue, param), "{}", refusal.message);
        }
    }

    #[test]
    fn deep_nesting_neither_overflows_nor_passes_unclosed() {
        let deep = format!("{{\"a\":{}{}}}", "[".repeat(200_000), "]".repeat(200_000));
        assert!(Asked::from_body(deep.as_bytes()).is_ok());
        assert!(Asked::from_body(&deep.as_bytes()[..150_000]).is_err());
    }

    fn wishes(name: &'static str, value: &str) -> Result<Wishes, Refusal> {
        let mut headers = HeaderMap::new();
        headers.insert(name, value.parse().expect("header"));
        Wishes::from_headers(&headers)
    }

    #[test]
    fn headers_become_wishes() {
        assert_eq!(wishes("x-mlxsup-priority", "batch").expect("valid").class, Some(Class::Batch));
        assert_eq!(wishes("x-mlxsup-timeout", "30s").expect("valid").timeout, Some(Duration::from_secs(30)));
        assert_eq!(wishes("x-mlxsup-timeout", "2h").expect("valid").timeout, Some(Duration::from_secs(7200)));
        let read_timeout = |value| wishes("x-stainless-read-timeout", value).expect("a hint").read_timeout;
        assert_eq!(read_timeout("2.5"), Some(Duration::from_millis(2500)));
        assert_eq!(read_timeout("None"), None);
        assert_eq!(read_timeout("-1"), None);
        assert_eq!(read_timeout("NaN"), None);
        assert_eq!(read_timeout("1e300"), None);
    }

    #[test]
    fn nonsense_in_our_own_headers_is_refused() {
        for (name, value) in [
            ("x-mlxsup-priority", "urgent"),
            ("x-mlxsup-timeout", "30"),
            ("x-mlxsup-timeout", "s"),
            ("x-mlxsup-timeout", "99999999999999999999h"),
            ("x-mlxsup-timeout", "9999999999999999999h"),
        ] {
            let refusal = wishes(name, value).expect_err("was accepted");
            assert_eq!(refusal.param.as_deref(), Some(name));
        }
    }
}
