//! Everything that can happen to the core. Closed: a new source of news needs a new variant here.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::conditions::Learned;
use super::ids::OperationId;
use super::request::{Report, Submission};
use super::verbs::Verb;
use super::{Generation, RequestId, Wall};
use crate::config::Config;
use crate::config::Engine;
use crate::memory::Sample;

/// One input of [`super::Supervisor::step`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Event {
    /// A session wants a request served; closes with `Assign` or `Refuse`.
    Submitted {
        /// Never used before.
        id: RequestId,
        /// What the core needs to know.
        submission: Submission,
    },
    /// News of a submitted request.
    Reported {
        /// Which request; unknown ones are ignored (it was refused meanwhile).
        id: RequestId,
        /// What happened.
        report: Report,
    },
    /// Closes `Spawn`: the process exists.
    Spawned {
        /// Which worker.
        generation: Generation,
        /// Its process id.
        pid: u32,
    },
    /// Closes `Spawn`: there is no process.
    SpawnFailed {
        /// Which worker.
        generation: Generation,
        /// The error and what mends it.
        why: String,
    },
    /// The newline on the ready pipe, with the worker's first report.
    WorkerReady {
        /// Which worker.
        generation: Generation,
        /// What it serves.
        facts: WorkerFacts,
    },
    /// A `/status` probe ended, one way or the other.
    Probed {
        /// Which worker.
        generation: Generation,
        /// What the probe and the kernel say.
        vitals: Vitals,
    },
    /// A worker that outlived the last daemon, its identity proved. Comes before the first `Tick`, once per such worker,
    /// in order of generation. What becomes of it is decided here.
    Adopted {
        /// Which worker.
        generation: Generation,
        /// Its process id.
        pid: u32,
        /// What it was started as; unknown when the daemon that did was of an early release.
        #[serde(default)]
        engine: Option<Engine>,
        /// What it said.
        found: Inherited,
    },
    /// Closes `Canary`.
    CanaryAnswered {
        /// Which worker.
        generation: Generation,
        /// The ids it generated, or why it did not.
        result: Result<Vec<u32>, String>,
    },
    /// The process is gone and reaped. Closes `SendTerminate` and `SendKill`.
    WorkerExited {
        /// Which worker.
        generation: Generation,
        /// How.
        exit: Exit,
    },
    /// Closes `ClearCache`.
    CacheCleared {
        /// Which worker.
        generation: Generation,
        /// Which of its caches.
        cache: CacheKind,
        /// Bytes the cache held before and holds now, or why it failed.
        result: Result<CacheCleared, String>,
    },
    /// One reading of machine and worker.
    Sampled {
        /// Absent metrics are absent.
        sample: Box<Sample>,
    },
    /// What the history says about the percentiles that rules compare with. It comes now and then.
    Learned {
        /// All of them; others are not known.
        percentiles: Vec<Learned>,
    },
    /// A verb from the control socket; closes with `Reply`.
    Operator {
        /// Names the reply.
        operation: OperationId,
        /// What is asked.
        verb: Verb,
    },
    /// A schedule's nominal time has come.
    ScheduleDue {
        /// Its name; unknown ones are ignored (a reload removed it).
        name: String,
        /// The nominal time.
        nominal: Wall,
    },
    /// Nominal times of a schedule have passed unseen and are left out; the last of them counts as done.
    ScheduleLeftOut {
        /// Its name; unknown ones are ignored.
        name: String,
        /// The last nominal time.
        nominal: Wall,
    },
    /// The size of the configured model on disk: a first guess of what its worker will need.
    ModelMeasured {
        /// Bytes; `None` when it cannot be told (another engine, a missing file).
        bytes: Option<u64>,
    },
    /// There is no configuration to serve with; a `Reconfigured` ends this.
    Unconfigured {
        /// The first problem and what mends it.
        why: String,
    },
    /// Closes `VetImage`.
    ImageVetted {
        /// The version the image reports, or why it must not be run.
        result: Result<String, String>,
    },
    /// Closes `Exec`, which otherwise ends this process image.
    ExecFailed {
        /// The system's word.
        why: String,
    },
    /// TERM or INT. The first drains, the second skips the drain.
    StopAsked {
        /// Leave the worker running for the next daemon.
        keep_worker: bool,
    },
    /// A new configuration was accepted.
    Reconfigured {
        /// In force from now on.
        config: Box<Config>,
    },
    /// The deadline asked for has passed.
    Tick,
}

/// What a ready worker serves.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WorkerFacts {
    /// The model's name.
    pub model: String,
    /// Tokens (prompt + answer) one request may use; `None` when the engine does not say.
    pub context_tokens: Option<u32>,
    /// Sequences it takes at once, at least 1.
    pub slots: u32,
    /// Equal fingerprints continue each other's text.
    pub fingerprint: String,
    /// Bytes of weights resident; `None` when the engine does not say.
    pub weights_bytes: Option<u64>,
    /// Bytes its sequences cost regardless of their length, over all slots.
    pub fixed_bytes: Option<u64>,
    /// `None` where nothing is wired, or the device has no limit to it.
    #[serde(default)]
    pub wiring: Option<Wiring>,
}

/// What may be wired: memory that the system neither compresses nor swaps.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Wiring {
    /// By this worker, bytes.
    pub limit_bytes: u64,
    /// On the device, by all: its recommended working set, bytes.
    pub device_bytes: u64,
}

/// How a worker of the last daemon was found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Inherited {
    /// It serves.
    Ready(WorkerFacts),
    /// It loads.
    Loading {
        /// What is left of its `worker.start_timeout`.
        remaining: Duration,
    },
    /// Its process lives, and its socket does not answer or not for it: it is ended.
    Silent {
        /// What the link said, or who it is.
        why: String,
    },
}

/// What one probe found.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Vitals {
    /// Whether `/status` answered in time, and if not why not.
    pub answer: Option<Answer>,
    /// Why it did not answer.
    pub missed: Option<String>,
    /// CPU time used since start, milliseconds.
    pub cpu_ms: Option<u64>,
    /// Pages read in since start: a thrashing worker moves this and nothing else.
    pub page_ins: Option<u64>,
    /// True when the process is stopped (SIGSTOP, a debugger).
    pub stopped: bool,
    /// Footprint in bytes.
    pub footprint_bytes: Option<u64>,
}

/// The parts of a worker's report that decisions need.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Answer {
    /// The worker's own word: `loading`, `warming` …
    pub phase: String,
    /// Why, when it failed.
    pub failure: Option<String>,
    /// Weights read, bytes.
    pub bytes_done: u64,
    /// Weights in all, bytes.
    pub bytes_total: u64,
    /// Engine steps since start.
    pub steps: u64,
    /// Prompt tokens not yet prefilled.
    pub pending_prefill_tokens: u64,
    /// Sequences it runs or has waiting inside; `None` when the engine does not say.
    pub sequences: Option<u32>,
}

/// How a process ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Exit {
    /// Code or signal.
    pub status: ExitStatus,
    /// The last lines of its standard error, oldest first.
    pub stderr_tail: Vec<String>,
    /// True when the kernel says that it ended a process for want of memory, and this one died by SIGKILL.
    pub out_of_memory: bool,
}

impl Exit {
    /// True when somebody else ended it: no program sends itself SIGKILL, and the kernel does so only for want of memory,
    /// which a request can be to blame for.
    #[must_use]
    pub fn is_from_outside(&self) -> bool {
        self.status == ExitStatus::Signal(SIGKILL) && !self.out_of_memory
    }
}

/// SIGKILL on Linux and macOS.
const SIGKILL: i32 = 9;

/// Code or signal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum ExitStatus {
    /// It exited.
    Code(i32),
    /// It was killed.
    Signal(i32),
    /// It is gone; nobody could tell how (not our child).
    Unknown,
}

impl std::fmt::Display for ExitStatus {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Code(code) => write!(f, "exit code {code}"),
            Self::Signal(signal) => match signal_name(*signal) {
                Some(name) => write!(f, "signal {signal} ({name})"),
                None => write!(f, "signal {signal}"),
            },
            Self::Unknown => f.write_str("an unknown exit status"),
        }
    }
}

/// Names of the signals that end workers; the numbers agree on Linux and macOS.
fn signal_name(signal: i32) -> Option<&'static str> {
    Some(match signal {
        1 => "SIGHUP",
        2 => "SIGINT",
        3 => "SIGQUIT",
        4 => "SIGILL",
        6 => "SIGABRT",
        8 => "SIGFPE",
        9 => "SIGKILL",
        11 => "SIGSEGV",
        13 => "SIGPIPE",
        15 => "SIGTERM",
        _ => return None,
    })
}

/// What a worker keeps that it can do without.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CacheKind {
    /// Freed buffers that MLX keeps for reuse.
    Buffers,
    /// Keys and values of prompts that a later request may begin with.
    Prefixes,
}

/// What a cache clearing achieved.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct CacheCleared {
    /// Bytes in the cache before.
    pub before_bytes: Option<u64>,
    /// Bytes in the cache after.
    pub after_bytes: Option<u64>,
}
