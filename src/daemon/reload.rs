//! Reading the configuration again while serving: applied, rejected, and which keys wait for the next worker.

use std::path::PathBuf;
use std::sync::Arc;

use tokio::sync::{mpsc, watch};

use super::boot_config;
use super::driver::Request;
use crate::config::{self, Change, Config, When};
use crate::control::view::Status;
use crate::gateway::Access;
use crate::service::is_started_by_init;
use crate::supervisor::Code;
use crate::supervisor::verbs::{Outcome, OutcomeKind};
use crate::telemetry::{Logging, RequestsLog};

/// Reads the file and offers it to the driver. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Reloader {
    /// The file.
    pub file: PathBuf,
    /// The home, which limits socket paths.
    pub home: PathBuf,
    /// In force.
    pub config: watch::Receiver<Arc<Config>>,
    /// Keys in force.
    pub access: watch::Sender<Arc<Access>>,
    /// As last published: it says whether anything is in force at all.
    pub status: watch::Receiver<Arc<Status>>,
    /// To the driver.
    pub requests: mpsc::Sender<Request>,
    /// Follows `[log]`.
    pub logging: Logging,
    /// Follows `[log]`.
    pub requests_log: RequestsLog,
}

impl Reloader {
    /// Reads, judges and applies the file. A bad file changes nothing but `status`, which then shows its problems.
    pub async fn reload(&self) -> Outcome {
        let old = self.config.borrow().clone();
        let unconfigured =
            self.status.borrow().cause.as_ref().is_some_and(|cause| cause.code == Code::ConfigError.as_str());
        let judged = boot_config::judge_file(&self.file, &self.home)
            .and_then(|config| boot_config::judge_keys(&config, &self.home).map(|access| (config, access)));
        let (fresh, access) = match judged {
            Ok(fresh) => fresh,
            Err(rejection) => {
                let stays = if unconfigured {
                    "there is still none to serve with"
                } else {
                    "still running the old configuration and keys"
                };
                let problems = rejection.problems;
                let message = format!("rejected, {stays}: {}; see `mlxsupctl config check`", problems.join("; "));
                // Logged by the driver, where it becomes an event.
                let _ = self.requests.send(Request::Rejected { problems }).await;
                return Outcome::new(OutcomeKind::Failed, message);
            }
        };
        let changes = config::diff(&old, &fresh);
        self.logging.configure(&fresh.log);
        self.requests_log.configure(&fresh.log);
        let pending = keys(&changes, When::NextWorker);
        let mut message =
            if unconfigured { "accepted, the worker starts".to_owned() } else { describe(&changes, &old, &fresh) };
        // Before the configuration, so that no moment has a new address with old keys.
        let new_keys = self.access.send_if_modified(|now| {
            let differs = **now != access;
            *now = Arc::new(access.clone());
            differs
        });
        if let (true, Access::Keys(ring)) = (new_keys, &access) {
            let told = format!("API keys read: {}", ring.len());
            message = if changes.is_empty() { told } else { format!("{message}; {told}") };
        }
        tracing::info!("configuration reloaded: {message}");
        boot_config::remember(&fresh, &self.home);
        let request = Request::Reconfigure { config: Box::new(fresh), pending };
        if self.requests.send(request).await.is_err() {
            return Outcome::new(OutcomeKind::Failed, "the daemon is going down");
        }
        let kind = if changes.is_empty() && !new_keys { OutcomeKind::Already } else { OutcomeKind::Done };
        Outcome::new(kind, message)
    }
}

fn keys(changes: &[Change], when: When) -> Vec<String> {
    changes.iter().filter(|change| change.when == when).map(|change| change.key.clone()).collect()
}

fn describe(changes: &[Change], old: &Config, fresh: &Config) -> String {
    if changes.is_empty() {
        return "nothing has changed".to_owned();
    }
    let install = if is_started_by_init() { "needs `mlxsupctl install`" } else { "after a restart of the daemon" };
    let parts = [
        (When::Applied, "applied"),
        (When::NextWorker, "at the next worker (`mlxsupctl restart`)"),
        (When::NeedsInstall, install),
    ];
    let mut said: Vec<String> = parts
        .into_iter()
        .filter_map(|(when, words)| {
            let keys = keys(changes, when);
            (!keys.is_empty()).then(|| format!("{words}: {}", keys.join(", ")))
        })
        .collect();
    // The unit was written for the shorter grace, and its manager kills when that is over.
    if fresh.drain.grace > old.drain.grace && is_started_by_init() {
        said.push("run `mlxsupctl install`, so that a stop waits for the longer drain.grace".to_owned());
    }
    said.join("; ")
}
