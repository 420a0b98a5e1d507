//! What `/ready` and `/v1/models` answer, from the state as last published.
//!
//! Owns the mapping of service states to readiness (design: supervision); asks nobody.

use hyper::{Response, StatusCode};
use serde::Serialize;

use super::answer::{self, AnswerBody};
use crate::config::Config;
use crate::control::view::{Cause, State, Status};
use crate::supervisor::{Code, Refusal};
use mlxsup_worker_api::ErrorBody;

#[derive(Serialize)]
struct Ready<'a> {
    ready: bool,
    state: State,
    cause: Option<&'a Cause>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<ErrorBody>,
}

/// `GET /ready`: 200 when a new request would be served now (or wakes a sleeping worker), else 503 with the cause.
pub(super) fn ready(status: &Status) -> Response<AnswerBody> {
    let ready = is_ready(status);
    let error = (!ready).then(|| {
        let state = status.state.as_str();
        let message = match &status.cause {
            Some(Cause { message, next: Some(next), .. }) => format!("{state}: {message}; run `{next}`"),
            Some(Cause { message, .. }) => format!("{state}: {message}"),
            None => format!("the service is {state}; `mlxsupctl status` says more"),
        };
        ErrorBody { message, kind: "server_error".to_owned(), param: None, code: code(status).map(str::to_owned) }
    });
    let document = Ready { ready, state: status.state, cause: status.cause.as_ref(), error };
    let code = if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    answer::json(code, serde_json::to_vec(&document).unwrap_or_default())
}

fn is_ready(status: &Status) -> bool {
    match status.state {
        State::Serving | State::Asleep => true,
        State::Handover => status.handover.as_ref().is_some_and(|handover| handover.strategy == "overlap"),
        State::Starting
        | State::Draining
        | State::Drained
        | State::Unloaded
        | State::Parked
        | State::Stranded
        | State::Stopping => false,
    }
}

/// The code that a refused request would get in this state; a state in which requests wait has none.
fn code(status: &Status) -> Option<&'static str> {
    let code = match status.state {
        State::Unloaded => Code::Unloaded,
        State::Parked if status.cause.as_ref().is_some_and(|cause| cause.code == Code::ConfigError.as_str()) => {
            Code::ConfigError
        }
        State::Parked => Code::Parked,
        State::Stranded => Code::Stranded,
        State::Stopping => Code::Stopping,
        State::Draining | State::Drained if status.drain.as_ref().is_some_and(|drain| drain.refusing) => Code::Draining,
        State::Draining | State::Drained | State::Starting | State::Serving | State::Handover | State::Asleep => {
            return None;
        }
    };
    Some(code.as_str())
}

#[derive(Serialize)]
struct Model<'a> {
    id: &'a str,
    object: &'static str,
    created: u64,
    owned_by: &'static str,
}

#[derive(Serialize)]
struct Models<'a> {
    object: &'static str,
    data: Vec<Model<'a>>,
}

/// Names a client may use, the real one first.
fn names<'a>(status: &'a Status, config: &'a Config) -> Vec<&'a str> {
    let real = status.worker.as_ref().map_or(config.worker.model.as_str(), |worker| worker.model.as_str());
    let mut names = vec![real];
    for name in &config.worker.served_names {
        if !names.contains(&name.as_str()) {
            names.push(name);
        }
    }
    names
}

/// `GET /v1/models`.
pub(super) fn models(status: &Status, config: &Config, created: u64) -> Response<AnswerBody> {
    let data = names(status, config)
        .into_iter()
        .map(|id| Model { id, object: "model", created, owned_by: "mlxsup" })
        .collect();
    let document = Models { object: "list", data };
    answer::json(StatusCode::OK, serde_json::to_vec(&document).unwrap_or_default())
}

/// `GET /v1/models/NAME`.
pub(super) fn model(name: &str, status: &Status, config: &Config, created: u64) -> Response<AnswerBody> {
    let names = names(status, config);
    match names.iter().find(|known| **known == name) {
        Some(id) => {
            let document = Model { id, object: "model", created, owned_by: "mlxsup" };
            answer::json(StatusCode::OK, serde_json::to_vec(&document).unwrap_or_default())
        }
        None => answer::refusal(&unlisted(name, &names)),
    }
}

/// Refuses a model that is not listed, where `worker.served_names` restricts them.
pub(super) fn check_model(name: &str, status: &Status, config: &Config) -> Result<(), Refusal> {
    let names = names(status, config);
    if config.worker.served_names.is_empty() || names.contains(&name) || name == config.worker.model {
        return Ok(());
    }
    Err(unlisted(name, &names).with_param("model"))
}

fn unlisted(name: &str, names: &[&str]) -> Refusal {
    let name: String = name.chars().take(80).collect();
    let message = format!("there is no model `{name}` here; use {}", names.join(" or "));
    Refusal::new(Code::ModelNotFound, message)
}
