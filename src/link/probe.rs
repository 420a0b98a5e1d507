//! Watching one worker from spawn to exit: the ready newline, then one probe per interval.
//!
//! While it loads, probes come four times a second, because people watch the progress; health counts only from ready on.

use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use mlxsup_worker_api::{Phase, WorkerStatus};
use tokio::io::AsyncReadExt;
use tokio::net::unix::pipe;
use tokio::sync::{Notify, mpsc, watch};
use tokio::time::MissedTickBehavior;

use super::client::Address;
use super::foreign::{self, Condition, Foreign};
use crate::memory::{footprint, group_footprint, group_usage, process_is_stopped, process_usage};
use crate::supervisor::event::{Answer, Vitals, Wiring, WorkerFacts};
use crate::supervisor::{Event, Generation};

/// Between probes of a worker that is not ready.
const LOADING_INTERVAL: Duration = Duration::from_millis(250);

/// Between two tries to read the first status after the newline.
const FIRST_STATUS_RETRY: Duration = Duration::from_millis(50);

/// How a worker is watched.
#[derive(Debug)]
pub struct Watch {
    /// Which worker.
    pub generation: Generation,
    /// Its process.
    pub pid: u32,
    /// Where it answers.
    pub address: Address,
    /// Between probes once ready.
    pub interval: Duration,
    /// For one probe.
    pub timeout: Duration,
    /// Where news goes.
    pub events: mpsc::UnboundedSender<Event>,
    /// Notified when a probe is wanted beside the regular ones.
    pub look: Arc<Notify>,
    /// The last report, for samples and `status`.
    pub report: watch::Sender<Option<WorkerStatus>>,
}

/// What is known of a worker's readiness when its watch begins.
#[derive(Debug)]
pub enum Readiness {
    /// It was just spawned: it writes a newline into this pipe.
    Told(OwnedFd),
    /// It knows of no pipe, or was adopted while it loads and the pipe is gone: it is asked until it says so.
    Asked,
    /// It was adopted ready, with this report if its engine gives any.
    Known(Option<Box<WorkerStatus>>),
    /// It is of no use any more; only its end is awaited.
    Past,
}

/// Runs until the task is aborted (when the worker has exited).
pub async fn watch(watch: Watch, readiness: Readiness) {
    match readiness {
        Readiness::Told(pipe) => {
            if !wait_ready(&watch, pipe).await {
                // End-of-file without a newline: the exit watch tells the rest. Probing goes on, in case it only closed
                // the pipe.
                probe_forever(&watch, false, LOADING_INTERVAL).await;
                return;
            }
            first_status(&watch).await;
        }
        Readiness::Asked => {
            ask_ready(&watch).await;
            first_status(&watch).await;
        }
        Readiness::Known(status) => {
            watch.report.send_replace(status.map(|status| *status));
        }
        Readiness::Past => {}
    }
    probe_forever(&watch, true, watch.interval).await;
}

/// Probes the loading worker until it says that it is ready.
async fn ask_ready(watch: &Watch) {
    let mut ticks = tokio::time::interval(LOADING_INTERVAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        match probe(watch, false).await {
            Some(Condition::Answers) => return,
            Some(Condition::Told(status)) if status.phase == Phase::Ready => return,
            Some(Condition::Told(_)) | None => {}
        }
    }
}

/// Reports the worker that has said that it is ready.
async fn first_status(watch: &Watch) {
    let condition = loop {
        match foreign::condition(&watch.address, true, watch.timeout).await {
            Ok(condition) => break condition,
            Err(error) => {
                tracing::debug!(generation = %watch.generation, %error, "first status after ready");
                tokio::time::sleep(FIRST_STATUS_RETRY).await;
            }
        }
    };
    let foreign = watch.address.foreign.as_deref();
    let facts = match (&condition, foreign) {
        (Condition::Told(status), _) => facts(status),
        (Condition::Answers, Some(foreign)) => foreign_facts(foreign),
        (Condition::Answers, None) => return,
    };
    if let Condition::Told(status) = condition {
        watch.report.send_replace(Some(*status));
    }
    let _ = watch.events.send(Event::WorkerReady { generation: watch.generation, facts });
}

/// Probes the loading worker until its newline; false at end-of-file.
async fn wait_ready(watch: &Watch, ready: OwnedFd) -> bool {
    let mut pipe = match pipe::Receiver::from_owned_fd(ready) {
        Ok(pipe) => pipe,
        Err(error) => {
            tracing::error!(%error, "the ready pipe cannot be read");
            return false;
        }
    };
    let mut byte = [0_u8; 1];
    let mut ticks = tokio::time::interval(LOADING_INTERVAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            read = pipe.read(&mut byte) => match read {
                Ok(0) => return false,
                Ok(_) if byte[0] == b'\n' => return true,
                Ok(_) => {}
                Err(error) => {
                    tracing::error!(%error, "the ready pipe broke");
                    return false;
                }
            },
            _ = ticks.tick() => drop(probe(watch, false).await),
        }
    }
}

async fn probe_forever(watch: &Watch, ready: bool, interval: Duration) {
    let mut ticks = tokio::time::interval(interval);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = ticks.tick() => {}
            () = watch.look.notified() => {}
        }
        probe(watch, ready).await;
    }
}

/// One look, reported to the core; the worker's word, if it gave one.
async fn probe(watch: &Watch, ready: bool) -> Option<Condition> {
    let answered = foreign::condition(&watch.address, ready, watch.timeout).await;
    let (usage, footprint_bytes) = match watch.address.foreign {
        // Whatever its command starts counts with it.
        Some(_) => (group_usage(watch.pid), group_footprint(watch.pid)),
        None => (process_usage(watch.pid), footprint(watch.pid)),
    };
    let mut vitals = Vitals {
        cpu_ms: usage.map(|usage| u64::try_from(usage.cpu.as_millis()).unwrap_or(u64::MAX)),
        page_ins: usage.map(|usage| usage.page_ins),
        stopped: process_is_stopped(watch.pid).unwrap_or(false),
        footprint_bytes,
        ..Vitals::default()
    };
    let condition = match answered {
        Ok(condition) => {
            vitals.answer = Some(match &condition {
                Condition::Told(status) => answer(status),
                Condition::Answers => bare_answer(ready),
            });
            if let Condition::Told(status) = &condition {
                watch.report.send_replace(Some((**status).clone()));
            }
            Some(condition)
        }
        Err(error) => {
            vitals.missed = Some(error.to_string());
            watch.report.send_replace(None);
            None
        }
    };
    let _ = watch.events.send(Event::Probed { generation: watch.generation, vitals });
    condition
}

/// What a server says that only answers: no steps, no sequences. Its life is witnessed by tokens and CPU time.
fn bare_answer(ready: bool) -> Answer {
    let phase = if ready { Phase::Ready } else { Phase::Loading };
    Answer { phase: phase.as_str().to_owned(), ..Answer::default() }
}

fn answer(status: &WorkerStatus) -> Answer {
    Answer {
        phase: status.phase.as_str().to_owned(),
        failure: (status.phase == Phase::Failed).then(|| status.failure.clone()).flatten(),
        bytes_done: status.bytes_done,
        bytes_total: status.bytes_total,
        steps: status.engine.steps,
        pending_prefill_tokens: status.engine.pending_prefill_tokens,
        sequences: Some(status.engine.active.saturating_add(status.engine.waiting)),
    }
}

/// What a server serves that makes no report: what it was started for. Nothing of its memory is known, and no answer that
/// it began can be continued, so its fingerprint says nothing either.
#[must_use]
pub fn foreign_facts(foreign: &Foreign) -> WorkerFacts {
    WorkerFacts {
        model: foreign.model.clone(),
        context_tokens: None,
        slots: foreign.slots.max(1),
        fingerprint: String::new(),
        weights_bytes: None,
        fixed_bytes: None,
        wiring: None,
    }
}

/// What a ready worker serves, by its own report.
#[must_use]
pub fn facts(status: &WorkerStatus) -> WorkerFacts {
    WorkerFacts {
        model: status.model.as_ref().map_or_else(String::new, |model| model.name.clone()),
        context_tokens: status.model.as_ref().map(|model| model.context_tokens),
        slots: status.engine.slots.max(1),
        fingerprint: status.fingerprint.clone(),
        weights_bytes: status.model.as_ref().map(|model| model.weights_bytes),
        fixed_bytes: status
            .model
            .as_ref()
            .map(|model| model.fixed_bytes_per_sequence.saturating_mul(u64::from(status.engine.slots))),
        wiring: status
            .memory
            .wired_limit_bytes
            .filter(|bytes| *bytes > 0)
            .zip(status.memory.recommended_working_set_bytes)
            .map(|(limit_bytes, device_bytes)| Wiring { limit_bytes, device_bytes }),
    }
}
