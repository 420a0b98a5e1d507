//! Engines that speak the OpenAI API instead of the worker link: mlx-lm behind its bridge, and any other server.
//!
//! Owns what the daemon must know of one, and the two questions it asks: whether it is well, and for one token. What it
//! answers clients passes through the gateway unchanged.

use std::time::Duration;

use bytes::Bytes;
use hyper::Method;
use mlxsup_worker_api::WorkerStatus;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::client::{self, Address, LinkError};

/// Requests given at once to a server of which nobody knows how many it takes together. Most run at least so many; one
/// that takes fewer keeps the rest in a queue of its own, where no priority counts.
pub const SLOTS: u32 = 4;

/// Where one token is asked for: the one endpoint that every such server has.
pub const CHAT: &str = "/v1/chat/completions";

/// How to deal with one such engine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Foreign {
    /// What it calls its model: put in place of whatever clients ask for.
    pub model: String,
    /// Requests it is given at once.
    pub slots: u32,
    /// Where it says how it is; `None`: it answers `/status` of the worker link beside its own API.
    pub paths: Option<Paths>,
}

/// Paths that answer 200.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Paths {
    /// While the process is well.
    pub health: String,
    /// Once the model is loaded.
    pub ready: String,
}

/// How a worker is.
#[derive(Debug)]
pub enum Condition {
    /// It says so itself.
    Told(Box<WorkerStatus>),
    /// It answered, which is all that can be asked.
    Answers,
}

/// Asks a worker how it is, in the way its engine understands; before it is `ready` whether it is.
///
/// # Errors
/// When it does not answer sensibly within `timeout`.
pub async fn condition(address: &Address, ready: bool, timeout: Duration) -> Result<Condition, LinkError> {
    let Some(paths) = address.foreign.as_ref().and_then(|foreign| foreign.paths.as_ref()) else {
        return client::status(address, timeout).await.map(|status| Condition::Told(Box::new(status)));
    };
    let path = if ready { &paths.health } else { &paths.ready };
    client::exchange(address, Method::GET, path, Bytes::new(), timeout).await?;
    Ok(Condition::Answers)
}

/// Asks for one token, and looks whether the answer is one. Nobody can know the ids: an answer counts as token 0.
///
/// # Errors
/// When the engine refuses, breaks off, or answers with something else. Has no time limit of its own.
pub async fn canary(address: &Address, foreign: &Foreign) -> Result<Vec<u32>, LinkError> {
    #[derive(Deserialize)]
    struct Answer {
        choices: Vec<serde::de::IgnoredAny>,
    }
    let request = json!({
        "model": foreign.model,
        "messages": [{"role": "user", "content": "1 2 3 4 5 6 7 8 9"}],
        "max_tokens": 1,
        "temperature": 0,
        "stream": false,
    });
    let body = client::exchange_now(address, Method::POST, CHAT, Bytes::from(request.to_string())).await?;
    let answer: Answer = serde_json::from_slice(&body)?;
    Ok(vec![0; answer.choices.len()])
}
