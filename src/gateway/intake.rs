//! What the gateway reads of a generation request before it is submitted.
//!
//! Owns the body cap, the few fields and headers that the daemon itself needs, and the messages about them. Everything
//! else in the body is the worker's affair and passes through byte for byte.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt;
use hyper::HeaderMap;
use hyper::body::{Body, Incoming};
use hyper::header::{CONTENT_ENCODING, EXPECT, HeaderValue, TRANSFER_ENCODING};
use hyper::http::request::Parts;
use serde::Deserialize;
use serde_json::value::RawValue;
use tokio::time::Instant;

use super::identity;
use super::room::BodyRoom;
use crate::daemon::handle::Class;
use crate::supervisor::{Code, Refusal};

/// Longest silence inside a body.
const BODY_SILENCE: Duration = Duration::from_secs(30);
/// A body may take as long as a silence, and a second more for so many of its bytes: nobody holds memory and a
/// connection by sending one byte now and then.
const BODY_BYTES_PER_SECOND: u64 = 4 << 10;
/// How deep a body may nest. What generates answers reads no deeper, and a body this deep is no request.
const MAX_DEPTH: usize = 100;
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
    /// `x-stainless-read-timeout` (Python's SDK), else `x-stainless-timeout` (Node's, which counts until the head).
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
        let seconds = |name: &str| {
            let seconds = text(name)?.parse::<f64>().ok().filter(|seconds| *seconds > 0.0)?;
            Duration::try_from_secs_f64(seconds).ok()
        };
        let read_timeout = seconds("x-stainless-read-timeout").or_else(|| seconds("x-stainless-timeout"));
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
        if is_too_deep(text) {
            return Err(not_json(format!("it nests deeper than {MAX_DEPTH} levels")));
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

/// What may be read of a body, and what it counts against.
pub(super) struct BodyLimits<'r> {
    /// Of this body, bytes.
    pub max: u64,
    /// Of all bodies under way.
    pub room: BodyRoom<'r>,
}

/// Reads a body within its limits.
pub(super) async fn read_body(head: &Parts, mut body: Incoming, limits: BodyLimits<'_>) -> Result<Bytes, Refusal> {
    let BodyLimits { max, mut room } = limits;
    let announced = body.size_hint().exact();
    let too_large = || {
        let message = format!("the body exceeds {max} bytes; send less or raise listen.max_body");
        Refusal::new(Code::BodyTooLarge, message)
    };
    if announced.is_some_and(|length| length > max) {
        discard(head, body).await;
        return Err(too_large());
    }
    let capacity = announced.and_then(|length| usize::try_from(length).ok()).unwrap_or(0);
    // What is announced is not yet sent: a silent client must not cost memory.
    let mut whole = BytesMut::with_capacity(capacity.min(64 << 10));
    let begun = Instant::now();
    loop {
        let earned = Duration::from_secs(whole.len() as u64 / BODY_BYTES_PER_SECOND);
        let until = (begun + BODY_SILENCE + earned).min(Instant::now() + BODY_SILENCE);
        let frame = match tokio::time::timeout_at(until, body.frame()).await {
            Ok(frame) => frame,
            Err(_) => {
                let message = format!(
                    "{} bytes of the body came within {:?}; send it without pauses",
                    whole.len(),
                    begun.elapsed()
                );
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
                    discard(head, body).await;
                    return Err(too_large());
                }
                if let Err(refusal) = room.take(part.len() as u64) {
                    drop(whole);
                    discard(head, body).await;
                    return Err(refusal);
                }
                whole.extend_from_slice(&part);
            }
        }
    }
}

/// Refuses what would have to be unpacked first: a small body can unpack to any size. That a transfer encoding ends with
/// `chunked` hyper has seen to.
pub(super) fn check_encoding(headers: &HeaderMap) -> Result<(), Refusal> {
    let mut transfer = headers.get_all(TRANSFER_ENCODING).iter();
    let is_chunked = transfer.next().is_none_or(|value| value.as_bytes().eq_ignore_ascii_case(b"chunked"));
    if !is_chunked || transfer.next().is_some() {
        let message = "of the transfer encodings only chunked is known here; send it plain".to_owned();
        return Err(invalid("transfer-encoding", message));
    }
    let packed = |value: &HeaderValue| !value.as_bytes().trim_ascii().eq_ignore_ascii_case(b"identity");
    if headers.get_all(CONTENT_ENCODING).iter().any(packed) {
        let message = "a compressed body is not unpacked here; send it without content-encoding".to_owned();
        return Err(invalid("content-encoding", message));
    }
    Ok(())
}

/// Reads and drops what is left of a refused body, within bounds: most clients write all of it before they read. One that
/// waits for `100 Continue` sends nothing, unless it is read.
pub(super) async fn discard(head: &Parts, mut body: Incoming) {
    if head.headers.contains_key(EXPECT) {
        return;
    }
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

/// True when arrays and objects nest deeper than [`MAX_DEPTH`]. What is no JSON gives any answer.
fn is_too_deep(text: &str) -> bool {
    let (mut depth, mut in_string, mut escaped) = (0_usize, false, false);
    for byte in text.bytes() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if in_string => escaped = true,
            b'"' => in_string = !in_string,
            _ if in_string => {}
            b'[' | b'{' => {
                depth += 1;
                if depth > MAX_DEPTH {
                    return true;
                }
            }
            b']' | b'}' => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    false
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
    fn deep_nesting_neither_overflows_nor_passes() {
        let nested = |depth: usize| format!("{{\"a\":{}{}}}", "[".repeat(depth), "]".repeat(depth));
        assert!(Asked::from_body(nested(MAX_DEPTH - 1).as_bytes()).is_ok());
        assert!(Asked::from_body(nested(MAX_DEPTH).as_bytes()).is_err());
        let deep = nested(200_000);
        let told = Asked::from_body(deep.as_bytes()).expect_err("was accepted").message;
        assert!(told.contains("nests deeper than 100 levels"), "{told}");
        assert!(Asked::from_body(&deep.as_bytes()[..150_000]).is_err());
        let field = format!("{{\"stream_options\":{}", "{\"include_usage\":".repeat(100_000));
        assert!(Asked::from_body(field.as_bytes()).is_err());
        // Brackets in text are text, and siblings are no depth.
        let wide = format!("{{\"a\":\"{}\\\"[\",\"b\":[{}0]}}", "[{".repeat(500), "[],".repeat(500));
        assert!(Asked::from_body(wide.as_bytes()).is_ok());
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
        let of_node = wishes("x-stainless-timeout", "600").expect("a hint").read_timeout;
        assert_eq!(of_node, Some(Duration::from_secs(600)));
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
