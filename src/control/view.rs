//! What `GET /v1/status` and the other facts look like: the JSON contract between the daemon and everybody's scripts.
//!
//! Fields may be added; names and meanings stay (`schema` counts breaking changes). Times are RFC 3339 with offset.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

pub use super::limits_view::LimitsView;

/// `mlxsupctl status --json`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Status {
    /// Version of this document: 1.
    pub schema: u32,
    /// What the service is doing.
    pub state: State,
    /// Why, wherever `state` is not simply serving.
    pub cause: Option<Cause>,
    /// The daemon.
    pub daemon: DaemonView,
    /// The serving (or coming) worker.
    pub worker: Option<WorkerView>,
    /// The queue.
    pub queue: QueueView,
    /// A hand-over under way.
    pub handover: Option<HandoverView>,
    /// Latest reading, by metric name, in the metric's unit.
    pub memory: BTreeMap<String, f64>,
    /// Schedules and when they fire next.
    pub schedules: Vec<ScheduleView>,
    /// The last completed restart.
    pub last_restart: Option<RestartView>,
    /// The last failure of a worker since the daemon started.
    #[serde(default)]
    pub last_failure: Option<FailureView>,
    /// Rules and what they see.
    pub rules: Vec<RuleView>,
    /// How people learn that it works.
    pub ledger: Ledger,
    /// The configuration in force.
    pub config: ConfigView,
    /// A drain under way.
    #[serde(default)]
    pub drain: Option<DrainView>,
    /// What the worker may take, and why; absent with an engine that sets its own limits.
    #[serde(default)]
    pub limits: Option<LimitsView>,
}

/// State of the service (design: supervision).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// No worker is ready yet, one is coming.
    Starting,
    /// Requests are served.
    Serving,
    /// A replacement is under way.
    Handover,
    /// Nothing new is assigned; requests in flight finish.
    Draining,
    /// Drained: worker resident, nothing assigned until `resume`.
    Drained,
    /// Stopped for idleness; the next request loads the model.
    Asleep,
    /// Stopped by `unload`.
    Unloaded,
    /// Gave up for now after too many crashes.
    Parked,
    /// A dead worker's memory did not come back.
    Stranded,
    /// The daemon is going down.
    Stopping,
}

/// All states.
pub const STATES: &[State] = &[
    State::Starting,
    State::Serving,
    State::Handover,
    State::Draining,
    State::Drained,
    State::Asleep,
    State::Unloaded,
    State::Parked,
    State::Stranded,
    State::Stopping,
];

impl State {
    /// The word used in JSON, logs and the terminal.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Serving => "serving",
            Self::Handover => "handover",
            Self::Draining => "draining",
            Self::Drained => "drained",
            Self::Asleep => "asleep",
            Self::Unloaded => "unloaded",
            Self::Parked => "parked",
            Self::Stranded => "stranded",
            Self::Stopping => "stopping",
        }
    }
}

/// Why the state is what it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cause {
    /// Stable word, for example `crash_backoff`, `operator`, `schedule`.
    pub code: String,
    /// One sentence.
    pub message: String,
    /// Since when.
    pub since: String,
    /// When the daemon tries again by itself.
    pub retry_at: Option<String>,
    /// The command that mends it.
    pub next: Option<String>,
}

/// The daemon's own facts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DaemonView {
    /// Process id.
    pub pid: u32,
    /// Version of the binary.
    pub version: String,
    /// Seconds since start.
    pub uptime_s: u64,
    /// Counts daemons of this home.
    pub epoch: u64,
}

/// The worker's facts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WorkerView {
    /// Process id.
    pub pid: u32,
    /// Which worker.
    pub generation: u64,
    /// `spawning downloading loading warming ready draining stopping`.
    pub phase: String,
    /// Seconds since spawn.
    pub uptime_s: u64,
    /// The model's name; before it is known, as configured.
    pub model: String,
    /// `native`, `mlx_lm` or `openai`.
    pub engine: String,
    /// Footprint as the kernel charges it, bytes.
    pub footprint_bytes: Option<u64>,
    /// Weights read so far and in all, bytes, while loading.
    #[serde(default)]
    pub load: Option<LoadView>,
    /// Tokens (prompt + answer) one request may use, once known.
    #[serde(default)]
    pub context_tokens: Option<u32>,
}

/// Progress of a load.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct LoadView {
    /// Bytes read.
    pub bytes_done: u64,
    /// Bytes in all; 0 while unknown.
    pub bytes_total: u64,
}

/// The queue's facts.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct QueueView {
    /// Admitted, not assigned.
    pub waiting: usize,
    /// Assigned, not ended.
    pub active: usize,
    /// Sequences the worker takes at once; 0 while unknown.
    pub slots: u32,
    /// How long the oldest of those waits that no worker has had yet, seconds.
    #[serde(default)]
    pub oldest_wait_s: Option<f64>,
}

/// A hand-over under way.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HandoverView {
    /// `overlap` or `sequential`.
    pub strategy: String,
    /// For example `draining`, `stopping`, `loading`, `warming`.
    pub phase: String,
    /// The replacement, once spawned.
    pub green: Option<GreenView>,
    /// When the phase is given up.
    pub deadline_at: Option<String>,
}

/// The replacement worker.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct GreenView {
    /// Process id.
    pub pid: u32,
    /// Which worker.
    pub generation: u64,
}

/// A drain under way.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DrainView {
    /// Requests from before the line still in flight.
    pub active: usize,
    /// Requests from before the line still queued.
    pub waiting: usize,
    /// When what is left is forced.
    pub deadline_at: Option<String>,
    /// True when new requests are refused rather than queued.
    pub refusing: bool,
}

/// One schedule.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ScheduleView {
    /// Its name.
    pub name: String,
    /// Next firing; `None` if it never fires again.
    pub next_at: Option<String>,
    /// The next N firings, `next_at` first, where they were asked for (`GET /v1/schedule?next=N`).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub upcoming: Vec<String>,
}

/// A completed restart.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RestartView {
    /// For example `operator`, `schedule nightly`, `crash: killed by signal 9`.
    pub reason: String,
    /// When the new worker was ready.
    pub at: String,
    /// From the decision (or the death) to ready, seconds.
    pub took_s: f64,
    /// Time per phase and what was lost, by name.
    pub cost: BTreeMap<String, f64>,
}

/// A worker's failure.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FailureView {
    /// `load_failure`, `crash`, `stall`, `out_of_memory`, `canary`, `stranded` or `kernel_panic`.
    pub class: String,
    /// How, with exit status and last words where there were any.
    pub message: String,
    /// When it was known.
    pub at: String,
}

/// One rule.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RuleView {
    /// Its name.
    pub name: String,
    /// What it is doing.
    pub state: RuleState,
    /// The last evaluation in words.
    pub explain: String,
}

/// One line of `GET /v1/clients`: a principal, or a name inside one.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ClientView {
    /// A key's name, a uid, an address; inside a principal what the client calls itself, `null` for requests without a name.
    pub name: Option<String>,
    /// Waiting requests by class.
    pub waiting: WaitingView,
    /// Requests that hold a slot.
    pub active: u32,
    /// Requests it may have under way at once, where its key limits that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_active: Option<u32>,
    /// Tokens it was given.
    pub served: ServedView,
    /// Weighted tokens by which its counter is above the smallest of those that wait or run beside it: 0 is next.
    pub counter: u64,
    /// Mean length of its answers, tokens.
    pub mean_answer_tokens: Option<f64>,
    /// Its part of what all beside it were given, answers counted twice; between 0 and 1.
    pub share: f64,
    /// The names inside a principal.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub clients: Vec<Self>,
}

/// Waiting requests by class.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "the classes of the client API")]
pub struct WaitingView {
    pub interactive: u32,
    pub normal: u32,
    pub batch: u32,
}

/// Tokens a client was given since the daemon first saw it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServedView {
    /// Read of its prompts.
    pub prompt_tokens: u64,
    /// Generated for it.
    pub completion_tokens: u64,
}

/// State of a rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RuleState {
    /// Its conditions do not all hold.
    Inactive,
    /// They hold, not yet long enough.
    Pending,
    /// It has acted and they still hold.
    Firing,
    /// It has acted and waits before it may again.
    Cooldown,
    /// It cannot fire; `explain` says why.
    Off,
}

/// What became of the requests of this daemon.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Ledger {
    /// Requests answered completely.
    pub answered: u64,
    /// Requests among them that outlived at least one worker.
    pub carried: u64,
    /// Requests that ended with an error of ours.
    pub lost: u64,
    /// Workers replaced, planned or not.
    pub restarts: u64,
    /// Longest wait for a first assignment, seconds.
    pub longest_wait_s: f64,
}

/// The configuration in force.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConfigView {
    /// Digest of the file's text.
    pub hash: String,
    /// Keys that wait for the next worker.
    pub pending: Vec<String>,
    /// Problems of the file on disk, if it was rejected.
    pub problems: Vec<String>,
}

/// One line of `GET /v1/events`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct EventView {
    /// When.
    pub at: String,
    /// Stable word, for example `worker_ready`, `rule_fired`.
    pub kind: String,
    /// One sentence with cause, arithmetic and cost.
    pub message: String,
}

/// Reply of every `POST /v1/*` verb.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct VerbReply {
    /// `done`, `already`, `denied`, `started` (with `no_wait`), `deadline`.
    pub result: VerbResult,
    /// One sentence.
    pub message: String,
    /// State afterwards.
    pub state: State,
    /// Facts particular to the verb (bytes returned, phases …).
    #[serde(default)]
    pub facts: BTreeMap<String, serde_json::Value>,
}

/// How a verb ended; decides `mlxsupctl`'s exit status.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum VerbResult {
    /// Carried out (exit 0).
    Done,
    /// It was already so (exit 0).
    Already,
    /// Under way; the caller did not want to wait (exit 0).
    Started,
    /// Not legal in this state (exit 5).
    Denied,
    /// The deadline passed first, or it was postponed (exit 6).
    Deadline,
    /// It was tried and failed (exit 1).
    Failed,
}

/// Body of every `POST /v1/*` verb; each verb reads its own fields.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct VerbOptions {
    /// Return at once instead of waiting for the outcome.
    pub no_wait: bool,
    /// `drain`: seconds before what is left is forced; absent: `drain.grace`.
    pub deadline_s: Option<f64>,
    /// `drain`: answer new requests 503 instead of queueing them.
    pub refuse: bool,
    /// `restart`: `auto`, `overlap`, `sequential` or `now`.
    pub mode: Option<String>,
    /// `restart`: print the planner's arithmetic, do nothing.
    pub plan: bool,
    /// `unload`: end streams that cannot be continued.
    pub now: bool,
    /// `stop`: leave the worker running for the next daemon.
    pub keep_worker: bool,
    /// `upgrade`: absolute path of the program; absent: the one now installed where the daemon came from.
    pub to: Option<std::path::PathBuf>,
    /// `schedule` (`POST /v1/schedule`): the schedule whose action is run now.
    pub run: Option<String>,
}
