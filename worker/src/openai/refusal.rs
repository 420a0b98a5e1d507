//! Failures as clients see them: a status and an error object.

use mlxsup_worker_api::{ErrorBody, ErrorObject};

/// One failed request. `status` counts only while no byte of an answer has been sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// HTTP status.
    pub status: u16,
    /// What the client reads.
    pub body: ErrorBody,
}

impl Refusal {
    fn new(status: u16, kind: &str, code: &str, param: Option<String>, message: String) -> Self {
        let (kind, code) = (kind.to_owned(), Some(code.to_owned()));
        Self { status, body: ErrorBody { message, kind, param, code } }
    }

    /// 400: a field that cannot be used.
    #[must_use]
    pub fn invalid_value(param: &str, message: impl Into<String>) -> Self {
        let param = Some(param.to_owned()).filter(|param| !param.is_empty());
        Self::new(400, "invalid_request_error", "invalid_value", param, message.into())
    }

    /// 400: the prompt alone fills the context of `context` tokens.
    #[must_use]
    pub fn context_length_exceeded(param: &str, context: u32, prompt: usize, answer: u32) -> Self {
        let requested = prompt as u64 + u64::from(answer);
        let message = format!(
            "This model's maximum context length is {context} tokens. However, you requested {requested} tokens ({prompt} \
             in the prompt, {answer} in the answer), and the prompt leaves no room for an answer: {prompt} ≥ {context}. \
             Shorten the prompt by at least {} tokens.",
            (prompt as u64 + 1).saturating_sub(u64::from(context))
        );
        Self::new(400, "invalid_request_error", "context_length_exceeded", Some(param.to_owned()), message)
    }

    /// 400: a prompt whose keys and values can never fit; `message` has the arithmetic.
    #[must_use]
    pub fn never_fits(message: String) -> Self {
        Self::new(400, "invalid_request_error", "context_length_exceeded", None, message)
    }

    /// 429: more sequences than the worker holds.
    #[must_use]
    pub fn queue_full(message: String) -> Self {
        Self::new(429, "rate_limit_error", "queue_full", None, message)
    }

    /// 403: a web page asks; it has no business here.
    #[must_use]
    pub fn origin_not_allowed() -> Self {
        let message = "requests from web pages are not answered; ask through mlxsupd".to_owned();
        Self::new(403, "invalid_request_error", "origin_not_allowed", None, message)
    }

    /// 404: a model name that is not answered.
    #[must_use]
    pub fn model_not_found(asked: &str, served: &str) -> Self {
        let message = format!("the model `{asked}` is not served here; ask for `{served}`");
        Self::new(404, "invalid_request_error", "model_not_found", Some("model".to_owned()), message)
    }

    /// 404: an unknown path.
    #[must_use]
    pub fn not_found(path: &str) -> Self {
        let message = format!("there is nothing at `{path}`; see /v1/chat/completions, /v1/completions, /v1/models");
        Self::new(404, "invalid_request_error", "not_found", None, message)
    }

    /// 405: a known path with another method.
    #[must_use]
    pub fn method_not_allowed(method: &str, path: &str, allowed: &str) -> Self {
        let message = format!("`{path}` takes {allowed}, not {method}");
        Self::new(405, "invalid_request_error", "method_not_allowed", None, message)
    }

    /// 413: a body over the limit in bytes.
    #[must_use]
    pub fn body_too_large(limit: usize) -> Self {
        let message = format!("the request body is larger than {limit} bytes; shorten it");
        Self::new(413, "invalid_request_error", "body_too_large", None, message)
    }

    /// 409: a command that is meant for another worker, or comes from a daemon that has been replaced.
    #[must_use]
    pub fn stale_command(message: String) -> Self {
        Self::new(409, "invalid_request_error", "stale_command", None, message)
    }

    /// 503: the model is not resident yet.
    #[must_use]
    pub fn not_ready(phase: &str) -> Self {
        let message = format!("the worker is {phase}; try again once it is ready");
        Self::new(503, "server_error", "not_ready", None, message)
    }

    /// 500: the engine could not go on.
    #[must_use]
    pub fn engine_error(what: &str) -> Self {
        let message = format!("the engine failed: {what}; the request was not at fault unless it fails again");
        Self::new(500, "server_error", "engine_error", None, message)
    }

    /// Names the field at fault, where the refusal does not do so itself.
    #[must_use]
    pub fn at(mut self, param: &str) -> Self {
        if self.status == 400 {
            self.body.param.get_or_insert_with(|| param.to_owned());
        }
        self
    }

    /// The body on the wire.
    #[must_use]
    pub fn to_json(&self) -> String {
        // Strings and options of strings always serialise.
        serde_json::to_string(&ErrorObject { error: self.body.clone() }).unwrap_or_default()
    }
}
