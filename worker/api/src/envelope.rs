//! What wraps a client's request on the link, and the error object that everybody speaks.

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

/// Body of `POST /link/chat` and `/link/completions`.
///
/// What a worker emits is a pure function of this document: any worker with the same fingerprint that gets it with a
/// longer `generated` continues exactly where the ids end.
#[derive(Debug, Deserialize, Serialize)]
pub struct Envelope {
    /// Id of the answer, for example `chatcmpl-…`; ids of tool calls derive from it.
    pub id: String,
    /// Seconds since the Unix epoch; also the `now` that chat templates see.
    pub created: u64,
    /// Seed of the host-side random numbers, used where the client's body has none.
    pub seed: u64,
    /// What has already been produced, one entry per choice; empty for a fresh request.
    #[serde(default)]
    pub generated: Vec<Choice>,
    /// The client's body, byte for byte.
    pub request: Box<RawValue>,
}

/// Progress of one choice.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Choice {
    /// Token ids generated so far, end-of-sequence included where it was chosen.
    pub ids: Vec<u32>,
    /// Set once this choice has ended.
    #[serde(default)]
    pub finish_reason: Option<String>,
}

/// `{"error": {…}}`, the body of every failure on every socket.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ErrorObject {
    /// The error itself.
    pub error: ErrorBody,
}

/// The inside of an error object, shaped as OpenAI clients expect it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ErrorBody {
    /// What failed and what mends it.
    pub message: String,
    /// For example `invalid_request_error`.
    #[serde(rename = "type")]
    pub kind: String,
    /// The field of the request at fault.
    pub param: Option<String>,
    /// One of the codes of `docs/failures.md`.
    pub code: Option<String>,
}

/// Names of the link's own events (`event:` lines); an event without a name is a client chunk or token progress.
pub mod event {
    /// Data is the whole JSON answer of a plain request; the last event.
    pub const RESULT: &str = "result";
    /// No data; the last event of a stream.
    pub const END: &str = "end";
    /// Data is an [`super::ErrorObject`]; the last event of a failed request.
    pub const ERROR: &str = "error";
}
