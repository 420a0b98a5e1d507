//! Why a request ends without an answer: the closed list of codes clients see, with status and retry advice.
//!
//! `docs/failures.md` has one heading per code; a test compares the two.

use std::time::Duration;

/// The `code` of an error object.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[allow(missing_docs, reason = "`docs/failures.md` describes each, and a test holds it to that")]
pub enum Code {
    InvalidValue,
    ContextLengthExceeded,
    InvalidApiKey,
    UidNotAllowed,
    OriginNotAllowed,
    NotFound,
    MethodNotAllowed,
    ModelNotFound,
    BodyTooLarge,
    HeadersTooLarge,
    RequestTimeout,
    QueueFull,
    ClientShare,
    Draining,
    MemoryPressure,
    Unloaded,
    Parked,
    Stranded,
    ConfigError,
    Stopping,
    QueueTimeout,
    EngineError,
    Poisoned,
    ModelChanged,
}

/// Every code with its text form and HTTP status, in the order of the design's table.
pub const CODES: &[(Code, &str, u16)] = &[
    (Code::InvalidValue, "invalid_value", 400),
    (Code::ContextLengthExceeded, "context_length_exceeded", 400),
    (Code::InvalidApiKey, "invalid_api_key", 401),
    (Code::UidNotAllowed, "uid_not_allowed", 403),
    (Code::OriginNotAllowed, "origin_not_allowed", 403),
    (Code::NotFound, "not_found", 404),
    (Code::MethodNotAllowed, "method_not_allowed", 405),
    (Code::ModelNotFound, "model_not_found", 404),
    (Code::BodyTooLarge, "body_too_large", 413),
    (Code::HeadersTooLarge, "headers_too_large", 431),
    (Code::RequestTimeout, "request_timeout", 408),
    (Code::QueueFull, "queue_full", 429),
    (Code::ClientShare, "client_share", 429),
    (Code::Draining, "draining", 503),
    (Code::MemoryPressure, "memory_pressure", 503),
    (Code::Unloaded, "unloaded", 503),
    (Code::Parked, "parked", 503),
    (Code::Stranded, "stranded", 503),
    (Code::ConfigError, "config_error", 503),
    (Code::Stopping, "stopping", 503),
    (Code::QueueTimeout, "queue_timeout", 504),
    (Code::EngineError, "engine_error", 500),
    (Code::Poisoned, "poisoned", 500),
    (Code::ModelChanged, "model_changed", 500),
];

impl Code {
    /// The text clients see.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        CODES[self as usize].1
    }

    /// The HTTP status when nothing was sent yet.
    #[must_use]
    pub fn status(self) -> u16 {
        CODES[self as usize].2
    }
}

/// A request's end without an answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// Which case.
    pub code: Code,
    /// What failed and, at its end, what mends it.
    pub message: String,
    /// The field at fault.
    pub param: Option<String>,
    /// When trying again makes sense; `None` means a retry cannot mend it (`x-should-retry: false`).
    pub retry_after: Option<Duration>,
}

impl Refusal {
    /// A refusal that a retry cannot mend.
    #[must_use]
    pub fn new(code: Code, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), param: None, retry_after: None }
    }

    /// Names the field at fault.
    #[must_use]
    pub fn with_param(mut self, param: impl Into<String>) -> Self {
        self.param = Some(param.into());
        self
    }

    /// Says when to try again.
    #[must_use]
    pub fn with_retry_after(mut self, after: Duration) -> Self {
        self.retry_after = Some(after);
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_in_declaration_order() {
        for (index, (code, _, _)) in CODES.iter().enumerate() {
            assert_eq!(*code as usize, index);
        }
    }
}
