//! Reading the configuration again while serving: applied, rejected, and which keys wait for the next worker.

use std::path::PathBuf;
use std::sync::Arc;

use tokio::sync::{mpsc, watch};

use super::driver::Request;
use crate::config::{self, Change, Config, When};
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
        let fresh = match self.read() {
            Ok(fresh) => fresh,
            Err(problems) => {
                let message = format!(
                    "rejected, still running the old configuration: {}; see `mlxsupctl config check`",
                    problems.join("; ")
                );
                tracing::warn!("{message}");
                let config = Box::new((*old).clone());
                let _ = self.requests.send(Request::Reconfigure { config, pending: Vec::new(), problems }).await;
                return Outcome::new(OutcomeKind::Failed, message);
            }
        };
        let changes = config::diff(&old, &fresh);
        self.logging.configure(&fresh.log);
        self.requests_log.configure(&fresh.log);
        let pending = keys(&changes, When::NextWorker);
        let message = describe(&changes);
        tracing::info!("configuration reloaded: {message}");
        let request = Request::Reconfigure { config: Box::new(fresh), pending, problems: Vec::new() };
        if self.requests.send(request).await.is_err() {
            return Outcome::new(OutcomeKind::Failed, "the daemon is going down");
        }
        let kind = if changes.is_empty() { OutcomeKind::Already } else { OutcomeKind::Done };
        Outcome::new(kind, message)
    }

    fn read(&self) -> Result<Config, Vec<String>> {
        let fresh = config::load(&self.file).map_err(|error| match error {
            config::LoadError::Invalid(problems) => problems.iter().map(config::Problem::one_line).collect(),
            other => vec![other.to_string()],
        })?;
        let problems = config::check_home(&fresh, &self.home);
        if problems.is_empty() { Ok(fresh) } else { Err(problems.iter().map(config::Problem::one_line).collect()) }
    }
}

fn keys(changes: &[Change], when: When) -> Vec<String> {
    changes.iter().filter(|change| change.when == when).map(|change| change.key.clone()).collect()
}

fn describe(changes: &[Change]) -> String {
    if changes.is_empty() {
        return "nothing has changed".to_owned();
    }
    let parts = [
        (When::Applied, "applied"),
        (When::NextWorker, "at the next worker (`mlxsupctl restart`)"),
        (When::NeedsInstall, "after a restart of the daemon"),
    ];
    let said: Vec<String> = parts
        .into_iter()
        .filter_map(|(when, words)| {
            let keys = keys(changes, when);
            (!keys.is_empty()).then(|| format!("{words}: {}", keys.join(", ")))
        })
        .collect();
    said.join("; ")
}
