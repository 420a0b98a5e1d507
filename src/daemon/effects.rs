//! Carrying out what the core decides. One method per action; each outcome comes back as an event.
//!
//! Nothing here blocks, save a start, which waits until its worker is on disk: processes, sockets and files that may
//! take time are handed to tasks.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use mlxsup_worker_api::{MemoryFacts, WorkerStatus};
use tokio::sync::{Notify, mpsc, oneshot, watch};
use tokio::task::JoinHandle;

use super::awake::Awake;
use super::clock::wall;
use super::derived_limits::{Derived, DerivedLimits};
use super::home::Home;
use super::mlx_lm;
use super::program::Program;
use super::state_file::WorkerRecord;
use super::state_writer::StateWriter;
use super::worker_command::Start;
use crate::config::{Config, Engine};
use crate::daemon::handle::{Assignment, Directive};
use crate::link::canary;
use crate::link::client::{self, Address};
use crate::link::endpoint::Endpoint;
use crate::link::foreign::Foreign;
use crate::link::probe::{self, Readiness, Watch};
use crate::link::process::{Ended, Family, Process};
use crate::link::spawn::{self, Birth};
use crate::link::stderr_tail::StderrTail;
use crate::memory::{out_of_memory_kills, process_start_id};
use crate::supervisor::event::{CacheCleared, CacheKind, Exit, ExitStatus};
use crate::supervisor::verbs::Outcome;
use crate::supervisor::{Event, Generation, OperationId, Persistent, Refusal, RequestId};
use crate::telemetry::{copy_and_truncate_if_larger, rotate_if_larger};

/// How long a worker may take to write its saved prompts: some gigabytes, a block between two steps.
const SAVING: Duration = Duration::from_secs(120);

/// The world as the driver acts on it.
#[derive(Debug)]
pub struct Effects {
    home: Home,
    kept: StateWriter,
    events: mpsc::UnboundedSender<Event>,
    links: HashMap<Generation, Link>,
    sessions: HashMap<RequestId, mpsc::Sender<Directive>>,
    replies: HashMap<OperationId, oneshot::Sender<Outcome>>,
    next_operation: u64,
    awake: Awake,
    derived: DerivedLimits,
}

/// One living worker.
#[derive(Debug)]
struct Link {
    address: Address,
    process: Process,
    watcher: JoinHandle<()>,
    look: Arc<Notify>,
    report: watch::Receiver<Option<WorkerStatus>>,
}

impl Effects {
    /// Effects of a daemon that has read its state and raised the epoch.
    #[must_use]
    pub fn new(home: Home, kept: StateWriter, events: mpsc::UnboundedSender<Event>) -> Self {
        Self {
            home,
            kept,
            events,
            links: HashMap::new(),
            sessions: HashMap::new(),
            replies: HashMap::new(),
            next_operation: 1,
            awake: Awake::new(),
            derived: DerivedLimits::default(),
        }
    }

    /// Our epoch.
    #[must_use]
    pub fn epoch(&self) -> u64 {
        self.kept.state().epoch
    }

    /// Writes the new epoch down before anybody is told of it: the next daemon's must be higher, come what may.
    pub fn begin_epoch(&mut self) {
        // A failure is logged; the daemon serves all the same.
        let _ = self.kept.flush();
    }

    /// The process and last report of a worker.
    #[must_use]
    pub fn report(&self, generation: Generation) -> Option<(u32, Option<WorkerStatus>)> {
        let link = self.links.get(&generation)?;
        Some((link.process.pid(), link.report.borrow().clone()))
    }

    /// Starts a worker; closes with `Spawned` or `SpawnFailed`.
    pub fn spawn(&mut self, generation: Generation, config: &Config) {
        // The next daemon must never give a new worker the number, and so the socket, of one that may still live.
        self.kept.settle();
        match self.try_spawn(generation, config) {
            Ok(pid) => self.send(Event::Spawned { generation, pid }),
            Err(why) => self.send(Event::SpawnFailed { generation, why }),
        }
    }

    fn try_spawn(&mut self, generation: Generation, config: &Config) -> Result<u32, String> {
        let socket = self.home.worker_socket(generation);
        let log = self.worker_log();
        if let Err(error) = rotate_if_larger(&log, config.log.rotate_at, config.log.keep) {
            tracing::warn!(%error, "worker.log is not rotated");
        }
        let nonce = nonce().map_err(|error| format!("no randomness for the worker's nonce: {error}"))?;
        let tail = StderrTail::begin(&log);
        let log_from = tail.begins_at();
        let on_exit = self.on_exit(generation, socket.clone(), tail);
        let bridge = self.home.bridge();
        if config.worker.engine == Engine::MlxLm {
            mlx_lm::put_bridge(&bridge).map_err(|error| format!("cannot write {}: {error}", bridge.display()))?;
        }
        let Start { command, endpoint, foreign } = super::worker_command::start(config, &socket, &bridge, generation)?;
        let program = command.first().and_then(|word| Program::of_command(word));
        let birth = Birth {
            command,
            env: config.worker.env.iter().map(|(name, value)| (name.clone(), value.clone())).collect(),
            generation,
            nonce,
            epoch: self.epoch(),
            socket: socket.clone(),
            log,
            settings: super::worker_command::settings(config, &self.home.prefix_cache()),
        };
        let family = if foreign.is_some() { Family::Group } else { Family::Alone };
        let spawned = spawn::spawn(&birth).map_err(|error| error.to_string())?;
        let spawned_at = wall();
        let process = Process::watch(spawned.pid, family, on_exit)
            .map_err(|error| format!("no thread for its exit watch: {error}"))?;
        let pid = process.pid();
        self.remember(WorkerRecord {
            pid,
            start: process_start_id(pid),
            generation: generation.0,
            nonce: birth.nonce.clone(),
            socket: Some(socket),
            endpoint: Some(endpoint.clone()),
            foreign: foreign.clone(),
            spawned_at: Some(spawned_at),
            ready_by: Some(spawned_at + config.worker.start_timeout),
            log_from,
            engine: Some(config.worker.engine),
            program,
        });
        // Known to the next daemon before anybody is told of it: else that one would end it as a stranger.
        self.kept.settle();
        // A server of somebody else's knows nothing of the pipe.
        let readiness = match &foreign {
            Some(Foreign { paths: Some(_), .. }) => Readiness::Asked,
            Some(Foreign { paths: None, .. }) | None => Readiness::Told(spawned.ready),
        };
        let address = Address { endpoint, foreign: foreign.map(Arc::new), nonce: birth.nonce, epoch: birth.epoch };
        self.attach(generation, address, process, readiness, config);
        Ok(pid)
    }

    /// What happens once a worker has exited.
    pub(super) fn on_exit(
        &self,
        generation: Generation,
        socket: PathBuf,
        tail: StderrTail,
    ) -> impl FnOnce(Ended) + Send + 'static {
        let events = self.events.clone();
        let killed_before = out_of_memory_kills();
        move |ended: Ended| {
            remove_socket(&socket);
            let killed = ended.status == ExitStatus::Signal(libc::SIGKILL) && out_of_memory_kills() > killed_before;
            let out_of_memory = ended.out_of_memory || killed;
            let exit = Exit { status: ended.status, stderr_tail: tail.lines(), out_of_memory };
            let _ = events.send(Event::WorkerExited { generation, exit });
        }
    }

    /// Watches a worker over its link.
    pub(super) fn attach(
        &mut self,
        generation: Generation,
        address: Address,
        process: Process,
        readiness: Readiness,
        config: &Config,
    ) {
        let (report, reports) = watch::channel(None);
        let look = Arc::new(Notify::new());
        let watch = Watch {
            generation,
            pid: process.pid(),
            address: address.clone(),
            interval: config.health.interval,
            timeout: config.health.timeout,
            events: self.events.clone(),
            look: Arc::clone(&look),
            report,
        };
        let watcher = tokio::spawn(probe::watch(watch, readiness));
        self.links.insert(generation, Link { address, process, watcher, look, report: reports });
    }

    /// Writes down who a worker is, for the next daemon.
    pub(super) fn remember(&mut self, record: WorkerRecord) {
        self.kept.remember(record);
    }

    /// Strikes the records of workers that are gone.
    pub fn strike_the_gone(&mut self) {
        let links = &self.links;
        self.kept.retain(|generation| links.contains_key(&generation));
    }

    pub(super) fn home(&self) -> &Home {
        &self.home
    }

    /// Rotates the log of a living worker, which holds the file open: by copy and truncation, off the loop.
    pub fn rotate_worker_log(&self, config: &Config) {
        let (path, limit, keep) = (self.worker_log(), config.log.rotate_at, config.log.keep);
        tokio::task::spawn_blocking(move || {
            if let Err(error) = copy_and_truncate_if_larger(&path, limit, keep) {
                tracing::warn!(%error, "worker.log is not rotated");
            }
        });
    }

    pub(super) fn worker_log(&self) -> PathBuf {
        self.home.logs().join("worker.log")
    }

    /// A worker is gone: its watcher ends.
    pub fn forget(&mut self, generation: Generation) {
        if let Some(link) = self.links.remove(&generation) {
            link.watcher.abort();
        }
    }

    /// SIGTERM; closes with `WorkerExited`.
    pub fn terminate(&self, generation: Generation) {
        if let Some(link) = self.links.get(&generation) {
            link.process.terminate();
        }
    }

    /// SIGKILL to the group; closes with `WorkerExited`.
    pub fn kill(&self, generation: Generation) {
        if let Some(link) = self.links.get(&generation) {
            link.process.kill_group();
        }
    }

    /// Looks at a worker beside the regular probes; closes with `Probed`.
    pub fn probe(&self, generation: Generation) {
        if let Some(link) = self.links.get(&generation) {
            link.look.notify_one();
        }
    }

    /// Asks for one token; closes with `CanaryAnswered`.
    pub fn canary(&self, generation: Generation) {
        let Some(link) = self.links.get(&generation) else { return };
        let (address, events) = (link.address.clone(), self.events.clone());
        tokio::spawn(async move {
            let result = canary::ask(&address).await.map_err(|error| error.to_string());
            let _ = events.send(Event::CanaryAnswered { generation, result });
        });
    }

    /// Has a cache emptied; closes with `CacheCleared`.
    pub fn clear_cache(&self, generation: Generation, cache: CacheKind, config: &Config) {
        let Some(link) = self.links.get(&generation) else {
            let result = Err("the worker is gone".to_owned());
            self.send(Event::CacheCleared { generation, cache, result });
            return;
        };
        if let Some(Foreign { paths: Some(_), .. }) = link.address.foreign.as_deref() {
            let result = Err("this engine has no command for it; only a restart empties its cache".to_owned());
            self.send(Event::CacheCleared { generation, cache, result });
            return;
        }
        let bytes = move |memory: &MemoryFacts| match cache {
            CacheKind::Buffers => memory.mlx_cache_bytes,
            CacheKind::Prefixes => memory.prefix_cache_bytes,
        };
        let before_bytes = link.report.borrow().as_ref().and_then(|report| bytes(&report.memory));
        let (address, events, timeout) = (link.address.clone(), self.events.clone(), config.health.timeout);
        tokio::spawn(async move {
            let result = match client::clear_cache(&address, cache, timeout).await {
                Ok(after) => Ok(CacheCleared { before_bytes, after_bytes: bytes(&after) }),
                Err(error) => Err(error.to_string()),
            };
            let _ = events.send(Event::CacheCleared { generation, cache, result });
        });
    }

    /// Has saved prompts written to disk. Nobody waits for it.
    pub fn save_prefix_cache(&self, generation: Generation) {
        let Some(link) = self.links.get(&generation) else { return };
        let address = link.address.clone();
        tokio::spawn(async move {
            if let Err(error) = client::save_prefix_cache(&address, SAVING).await {
                tracing::warn!(%generation, %error, "saved prompts were not all written to disk; the next worker reads them anew");
            }
        });
    }

    /// Holds the machine awake, or lets it sleep.
    pub fn keep_awake(&mut self, on: bool) {
        self.awake.set(on);
    }

    /// Writes the state and starts no more processes: this image may be replaced.
    ///
    /// # Errors
    /// When the state could not be written.
    pub fn prepare_exec(&mut self) -> Result<(), String> {
        self.awake.let_go();
        self.kept.flush()
    }

    /// This image stays after all.
    pub fn stay(&mut self) {
        self.awake.take_again();
    }

    /// Tells what the configured model weighs, and what its limits come to; closes with `ModelMeasured`.
    pub fn measure_model(&self, config: &Config) {
        self.derived.measure(config, &self.events);
    }

    /// What `auto` comes to, once the model was measured.
    pub fn derived(&self) -> Option<Arc<Derived>> {
        self.derived.last()
    }

    /// A session waits for directives.
    pub fn add_session(&mut self, id: RequestId, directives: mpsc::Sender<Directive>) {
        self.sessions.insert(id, directives);
    }

    /// A session has ended.
    pub fn remove_session(&mut self, id: RequestId) {
        self.sessions.remove(&id);
    }

    /// Tells a session where to send its request.
    pub fn assign(&self, id: RequestId, generation: Generation) {
        let Some(session) = self.sessions.get(&id) else { return };
        let (endpoint, foreign) = match self.links.get(&generation) {
            Some(link) => (link.address.endpoint.clone(), link.address.foreign.clone()),
            None => (Endpoint::Unix(self.home.worker_socket(generation)), None),
        };
        // A full channel would mean a session that ignores directives; a closed one has hung up and reports so itself.
        if let Err(error) =
            session.try_send(Directive::Assigned(Box::new(Assignment { generation, endpoint, foreign })))
        {
            tracing::debug!(%id, %error, "assignment not delivered");
        }
    }

    /// Ends a session with an error.
    pub fn refuse(&mut self, id: RequestId, refusal: Refusal) {
        if let Some(session) = self.sessions.remove(&id)
            && let Err(error) = session.try_send(Directive::Refused(Box::new(refusal)))
        {
            tracing::debug!(%id, %error, "refusal not delivered");
        }
    }

    /// A verb's caller waits for its outcome.
    pub fn expect_reply(&mut self, reply: oneshot::Sender<Outcome>) -> OperationId {
        let operation = OperationId(self.next_operation);
        self.next_operation += 1;
        self.replies.insert(operation, reply);
        operation
    }

    /// Answers a verb, once what it changed is on disk.
    pub fn reply(&mut self, operation: OperationId, outcome: Outcome) {
        let Some(reply) = self.replies.remove(&operation) else { return };
        // A caller that hung up does not undo what was done.
        match self.kept.written() {
            None => drop(reply.send(outcome)),
            Some(written) => {
                tokio::spawn(async move {
                    written.await;
                    let _ = reply.send(outcome);
                });
            }
        }
    }

    /// Keeps what the core wants kept.
    pub fn persist(&mut self, core: Persistent) {
        self.kept.keep(core);
    }

    fn send(&self, event: Event) {
        // The receiver is the driver's own; it is gone only when everything is.
        let _ = self.events.send(event);
    }
}

/// 128 random bits from the kernel, in hexadecimal.
fn nonce() -> Result<String, getrandom::Error> {
    let mut bytes = [0_u8; 16];
    getrandom::fill(&mut bytes)?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

/// A dead worker's socket: the daemon holds the home's lock, so it may unlink it.
fn remove_socket(socket: &PathBuf) {
    if let Err(error) = std::fs::remove_file(socket)
        && error.kind() != std::io::ErrorKind::NotFound
    {
        tracing::warn!(%error, socket = %socket.display(), "worker socket not removed");
    }
}

/// Shared by everyone who needs the configuration in force.
pub type SharedConfig = watch::Receiver<Arc<Config>>;
