//! From a verb's name and options to what the driver is asked, and its outcome back.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot, watch};

use super::listener;
use super::view::{State, VerbOptions, VerbReply, VerbResult};
use crate::config::Config;
use crate::daemon::driver::Request;
use crate::daemon::reload::Reloader;
use crate::supervisor::verbs::{Outcome, OutcomeKind, RestartAsked, Verb};

/// What control connections share.
#[derive(Debug, Clone)]
pub struct Control {
    /// To the driver.
    pub requests: mpsc::Sender<Request>,
    /// In force; the timetable far ahead is computed from it.
    pub config: watch::Receiver<Arc<Config>>,
    /// Reads the configuration anew.
    pub reloader: Reloader,
    /// `history.db`, for what the journal does not hold any more.
    pub history: PathBuf,
}

/// Why a verb was not even tried.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum VerbError {
    /// There is none of that name.
    Unknown(String),
    /// Its options make no sense.
    Options(String),
    /// The daemon is going down.
    Gone,
}

/// Runs a verb to its outcome. Dropping the future leaves the verb running.
///
/// # Errors
/// See [`VerbError`].
pub async fn run(name: &str, options: VerbOptions, control: &Control) -> Result<VerbReply, VerbError> {
    let outcome = match name {
        "reload" => control.reloader.reload().await,
        "stop" => {
            let request = Request::Stop { keep_worker: options.keep_worker };
            control.requests.send(request).await.map_err(|_| VerbError::Gone)?;
            Outcome::new(OutcomeKind::Started, "stopping")
        }
        _ => {
            let verb = parse(name, &options)?;
            let (reply, answer) = oneshot::channel();
            control.requests.send(Request::Verb { verb, reply }).await.map_err(|_| VerbError::Gone)?;
            answer.await.map_err(|_| VerbError::Gone)?
        }
    };
    let state = match listener::status(control).await {
        Some(status) => status.state,
        None => State::Stopping,
    };
    Ok(VerbReply {
        result: match outcome.result {
            OutcomeKind::Done => VerbResult::Done,
            OutcomeKind::Already => VerbResult::Already,
            OutcomeKind::Started => VerbResult::Started,
            OutcomeKind::Denied => VerbResult::Denied,
            OutcomeKind::Deadline => VerbResult::Deadline,
            OutcomeKind::Failed => VerbResult::Failed,
        },
        message: outcome.message,
        state,
        facts: outcome.facts.into_iter().map(|(name, value)| (name, value.into())).collect(),
    })
}

fn parse(name: &str, options: &VerbOptions) -> Result<Verb, VerbError> {
    let no_wait = options.no_wait;
    Ok(match name {
        "drain" => Verb::Drain { deadline: deadline(options)?, refuse: options.refuse, no_wait },
        "resume" => Verb::Resume,
        "restart" => Verb::Restart { mode: mode(options)?, plan: options.plan, no_wait },
        "unload" => Verb::Unload { now: options.now, no_wait },
        "load" => Verb::Load { no_wait },
        "clear-cache" => Verb::ClearCache,
        "upgrade" => Verb::Upgrade { to: image(options)?, no_wait },
        "schedule" => match &options.run {
            Some(name) => Verb::RunSchedule { name: name.clone() },
            None => return Err(VerbError::Options("name the schedule to run: {\"run\": NAME}".to_owned())),
        },
        other => return Err(VerbError::Unknown(other.to_owned())),
    })
}

fn deadline(options: &VerbOptions) -> Result<Option<Duration>, VerbError> {
    options
        .deadline_s
        .map(|seconds| {
            Duration::try_from_secs_f64(seconds)
                .map_err(|_| VerbError::Options(format!("deadline_s {seconds} is no length of time in seconds")))
        })
        .transpose()
}

fn image(options: &VerbOptions) -> Result<Option<PathBuf>, VerbError> {
    match &options.to {
        Some(to) if !to.is_absolute() => {
            Err(VerbError::Options(format!("to: {} is not an absolute path", to.display())))
        }
        to => Ok(to.clone()),
    }
}

fn mode(options: &VerbOptions) -> Result<RestartAsked, VerbError> {
    match options.mode.as_deref() {
        None | Some("auto") => Ok(RestartAsked::Auto),
        Some("overlap") => Ok(RestartAsked::Overlap),
        Some("sequential") => Ok(RestartAsked::Sequential),
        Some("now") => Ok(RestartAsked::Now),
        Some(other) => {
            Err(VerbError::Options(format!("there is no restart mode `{other}`; use auto, overlap, sequential or now")))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_verb_of_the_contract_is_understood() {
        for name in ["drain", "resume", "restart", "unload", "load", "clear-cache", "upgrade", "schedule"] {
            let options = VerbOptions { run: Some("nightly".into()), ..VerbOptions::default() };
            assert!(parse(name, &options).is_ok(), "{name}");
        }
    }

    #[test]
    fn nonsense_is_refused_by_name() {
        let options = VerbOptions { deadline_s: Some(-1.0), ..VerbOptions::default() };
        assert!(matches!(parse("drain", &options), Err(VerbError::Options(_))));
        let options = VerbOptions { mode: Some("fast".into()), ..VerbOptions::default() };
        assert!(matches!(parse("restart", &options), Err(VerbError::Options(_))));
        let options = VerbOptions { to: Some("mlxsupd".into()), ..VerbOptions::default() };
        assert!(matches!(parse("upgrade", &options), Err(VerbError::Options(_))));
        assert_eq!(parse("fly", &VerbOptions::default()), Err(VerbError::Unknown("fly".into())));
    }
}
