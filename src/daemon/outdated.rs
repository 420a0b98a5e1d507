//! A worker that runs from a program which is no longer the installed one.

use std::sync::Arc;

use tokio::sync::{mpsc, oneshot, watch};

use super::driver::Request;
use super::leftover::Leftover;
use super::program::Program;
use super::worker_command;
use crate::config::Config;
use crate::control::view::{State, Status};
use crate::supervisor::event::Inherited;
use crate::supervisor::verbs::{RestartAsked, Verb};

/// An adopted worker and what it should run from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outdated {
    generation: u64,
    installed: Program,
}

/// The newest worker that may serve, if another program is installed now. What cannot be compared is not outdated.
pub fn find(workers: &[Leftover], config: &Config) -> Option<Outdated> {
    let newest = workers.iter().rev().find(|leftover| !matches!(leftover.found, Inherited::Silent { .. }))?;
    let started_from = newest.record.program.as_ref()?;
    let program = worker_command::program(config).ok()??;
    let installed = Program::of_command(&program)?;
    (installed != *started_from).then_some(Outdated { generation: newest.record.generation, installed })
}

impl Outdated {
    /// For the events.
    pub fn told(&self, at_once: bool) -> String {
        let Self { generation, installed } = self;
        let next = if at_once { "it is handed over as soon as it serves" } else { "`mlxsupctl restart` hands it over" };
        format!("worker {generation} was started from another program than {} is now; {next}", installed.path.display())
    }

    /// Has the worker replaced once it serves. Nothing is left to do if another one serves by then.
    pub async fn hand_over(self, mut status: watch::Receiver<Arc<Status>>, requests: mpsc::Sender<Request>) {
        let serves = |status: &Arc<Status>| status.state == State::Serving;
        let is_it = match status.wait_for(serves).await {
            Ok(status) => status.worker.as_ref().is_some_and(|worker| worker.generation == self.generation),
            Err(_) => return,
        };
        if !is_it {
            return;
        }
        let (reply, outcome) = oneshot::channel();
        let verb = Verb::Restart { mode: RestartAsked::Auto, plan: false, no_wait: true };
        if requests.send(Request::Verb { verb, reply }).await.is_ok()
            && let Ok(outcome) = outcome.await
        {
            tracing::info!(outcome = outcome.message, "hand-over to the installed worker");
        }
    }
}
