//! Everything the core can ask for. Each action names the event that closes it and the deadline that guards it.

use super::ids::OperationId;
use super::verbs::Outcome;
use super::{Generation, Refusal, RequestId};
use serde::{Deserialize, Serialize};

/// One output of [`super::Supervisor::step`], to be carried out in order.
#[derive(Debug, Clone, PartialEq)]
pub enum Action {
    /// Start a worker. Closes with `Spawned` or `SpawnFailed`; guarded by `worker.start_timeout`.
    Spawn {
        /// The new worker.
        generation: Generation,
    },
    /// SIGTERM to the worker. Closes with `WorkerExited`; guarded by the stop ladder's kill deadline.
    SendTerminate {
        /// Which worker.
        generation: Generation,
    },
    /// SIGKILL to the worker's process group. Closes with `WorkerExited`; nothing stronger exists.
    SendKill {
        /// Which worker.
        generation: Generation,
    },
    /// Tell the session to send its request to this worker. Closes with a `Reported` event; guarded by the worker's own
    /// health, since only its death or the client's can end it.
    Assign {
        /// Which request.
        id: RequestId,
        /// To which worker.
        generation: Generation,
    },
    /// End the request with an error. Needs no closing: the request is forgotten.
    Refuse {
        /// Which request.
        id: RequestId,
        /// What its client is told.
        refusal: Refusal,
    },
    /// Ask the worker to drop MLX's free buffers. Closes with `CacheCleared`; guarded by the probe timeout.
    ClearCache {
        /// Which worker.
        generation: Generation,
    },
    /// Answer a verb. Needs no closing.
    Reply {
        /// Which one.
        operation: OperationId,
        /// How it ended.
        outcome: Outcome,
    },
    /// Write a line into events and log. Needs no closing.
    Record(Record),
    /// Write this to `state.json`. Needs no closing: a failed write is logged and tried with the next one.
    Persist(Persistent),
    /// Leave the main loop. The last action of a daemon's life.
    Exit,
}

/// One decision, for people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// Stable word, for example `worker_ready`.
    pub kind: &'static str,
    /// One sentence with cause, arithmetic and cost.
    pub message: String,
}

/// What survives the daemon.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Persistent {
    /// The highest generation ever used.
    pub generation: u64,
    /// What the operator asked for and has not taken back.
    pub standing: Standing,
}

/// An operator's lasting wish.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Standing {
    /// Serve.
    #[default]
    Serve,
    /// Worker resident, nothing assigned.
    Drained,
    /// No worker.
    Unloaded,
}
