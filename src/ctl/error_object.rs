//! The error object of every HTTP answer that is no success: `{"error": {message, type, param, code}}`.

use serde::Deserialize;

/// What clients are told.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct ErrorObject {
    /// What failed and, at its end, what mends it.
    pub message: String,
    /// Stable word, for example `queue_full`.
    #[serde(default)]
    pub code: Option<String>,
    /// The field at fault.
    #[serde(default)]
    pub param: Option<String>,
}

#[derive(Deserialize)]
struct Wrapper {
    error: ErrorObject,
}

/// The object in `text`, wrapped in `error`; `None` when the text is something else.
#[must_use]
pub fn parse(text: &[u8]) -> Option<ErrorObject> {
    serde_json::from_slice::<Wrapper>(text).ok().map(|wrapper| wrapper.error)
}
