//! Everything the core can ask for. Each action names the event that closes it and the deadline that guards it.

use std::collections::BTreeMap;
use std::path::PathBuf;

use super::event::CacheKind;
use super::ids::OperationId;
use super::verbs::Outcome;
use super::{Generation, Refusal, RequestId, Wall};
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
    /// Ask the worker to empty a cache. Closes with `CacheCleared`; guarded by the probe timeout.
    ClearCache {
        /// Which worker.
        generation: Generation,
        /// Which of its caches.
        cache: CacheKind,
    },
    /// Have the worker write its saved prompts to disk, where the next one finds them. Needs no closing: what is not
    /// written by then is read anew.
    SavePrefixCache {
        /// Which worker.
        generation: Generation,
    },
    /// Take a sample now, beside the regular ones. Closes with `Sampled`; guarded by the deadline of whoever waits for it.
    Sample,
    /// Look at the worker's `/status` and its process now, beside the regular probes. Closes with `Probed`; guarded by the
    /// probe timeout.
    Probe {
        /// Which worker.
        generation: Generation,
    },
    /// Have the worker generate one greedy token from a fixed prompt. Closes with `CanaryAnswered`; guarded by the health
    /// window, as any work is.
    Canary {
        /// Which worker.
        generation: Generation,
    },
    /// Hold the machine awake, or let it sleep again. Needs no closing.
    KeepAwake {
        /// Which of the two.
        on: bool,
    },
    /// Prove that this image runs and accepts home and configuration. Closes with `ImageVetted`; guarded by its own
    /// timeout.
    VetImage {
        /// The program; `None` is the one now installed where ours came from.
        to: Option<PathBuf>,
    },
    /// Take no new connections: they wait in the backlog. After `Exec`, not yet to do that either. Needs no closing.
    PauseAccepting,
    /// Take connections again. Needs no closing.
    ResumeAccepting,
    /// Replace this process's image, listeners kept. Nothing follows, or `ExecFailed`.
    Exec {
        /// As in `VetImage`.
        to: Option<PathBuf>,
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
    /// Memory wired on the machine before the present worker was started, bytes.
    pub wired_before: Option<u64>,
    /// What the serving worker wired itself, bytes.
    pub wired_itself: Option<u64>,
    /// Why the service is parked, if it is.
    pub parked: Option<String>,
    /// What the model's worker needed so far.
    pub appetite: Option<Appetite>,
    /// The last nominal firing of every schedule, by name: a daemon that restarts fires none twice.
    pub firings: BTreeMap<String, Wall>,
}

/// What a model's worker was seen to need.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Appetite {
    /// `worker.model` it was measured with.
    pub model: String,
    /// Highest footprint of its worker right after loading, bytes.
    pub loaded_bytes: u64,
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
