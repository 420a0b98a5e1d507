//! The life of a serving worker: listen, load, say ready, serve, end.
//!
//! Owns the order: the socket answers `/status` before the first byte of weights is read, and "ready" is said only after
//! the engine has generated a token and the text side is there.

use std::future::Future;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use mlxsup_worker_api::Phase;
use tokio::runtime::Runtime;
use tokio::signal::unix::{SignalKind, signal};

use crate::board::Board;
use crate::engine;
use crate::limits::{self, Rest};
use crate::serve::{EnginePort, Listener, Worker, serve};
use crate::text::Codec;

use super::{Address, LaunchError, Service, engine_ended, ready_pipe};
use crate::last_exit;

/// Threads for HTTP: the engine needs the cores.
const HTTP_THREADS: usize = 2;
/// How long blocking work (tokenising) may hold up the end.
const RUNTIME_GRACE: Duration = Duration::from_millis(100);

/// Lives until told to stop or until the lease runs out.
pub(super) fn run(service: Service) -> Result<(), LaunchError> {
    let runtime = runtime()?;
    let mut thread = None;
    let board = Arc::new(Board::default());
    let outcome = runtime.block_on(live(service, &board, &mut thread));
    runtime.shutdown_timeout(RUNTIME_GRACE);
    if thread.is_some_and(|thread| !engine_ended(thread, &board)) {
        let code = outcome.as_ref().err().map_or(0, LaunchError::exit_code);
        if let Err(error) = &outcome {
            tracing::error!("{error}");
        }
        last_exit::at_once(code.into());
    }
    outcome
}

fn runtime() -> Result<Runtime, LaunchError> {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(HTTP_THREADS)
        .enable_all()
        .build()
        .map_err(|source| LaunchError::System { what: "cannot start the HTTP threads", source })
}

async fn live(service: Service, board: &Arc<Board>, thread: &mut Option<JoinHandle<()>>) -> Result<(), LaunchError> {
    let told_to_stop = stop_signal()?;
    let listener = match &service.address {
        Address::Unix(path) => Listener::unix(path)?,
        Address::Tcp(address) => Listener::tcp(address).await?,
    };
    tracing::info!(address = listener.address(), generation = service.identity.generation, "listening");
    let worker = Arc::new(Worker::new(Arc::clone(board), service.settings, service.identity));
    let server = tokio::spawn(serve(Arc::clone(&worker), listener));
    let outcome = tokio::select! {
        outcome = work(&worker, service.ready_fd, service.lease, thread) => outcome,
        () = told_to_stop => Ok(()),
    };
    tracing::info!("ending");
    // Aborting drops every connection and with it every sequence; the last handle of the engine goes with `worker`.
    server.abort();
    let _ = server.await;
    outcome
}

/// Loads and serves; ends by itself only when the lease runs out or something breaks.
async fn work(
    worker: &Arc<Worker>,
    ready_fd: Option<i32>,
    lease: Option<Duration>,
    thread: &mut Option<JoinHandle<()>>,
) -> Result<(), LaunchError> {
    let board = Arc::clone(&worker.board);
    let settings = worker.settings.clone();
    let started = blocking(move || engine::start(&settings, &board)).await??;
    *thread = Some(started.thread);
    let handle: Arc<dyn EnginePort> = Arc::new(started.handle);
    let _ = worker.engine.set(handle);
    match blocking(move || Codec::open(&started.source)).await? {
        Ok(codec) => {
            if let Err(why) = &codec.template {
                tracing::warn!("{why}");
            }
            let _ = worker.codec.set(Arc::new(codec));
        }
        Err(error) => {
            worker.board.phase.send_replace((Phase::Failed, Some(error.to_string())));
            return Err(error.into());
        }
    }
    until(worker, Phase::Ready).await.map_err(LaunchError::Load)?;
    lock_the_rest(worker);
    tracing::info!(model = started.name, "ready");
    if let Some(fd) = ready_fd {
        let what = "cannot write to the ready pipe";
        ready_pipe::announce(fd).map_err(|source| LaunchError::System { what, source })?;
    }
    // From now on the lease counts: loading may have taken longer than it.
    worker.lease.renew();
    tokio::select! {
        broken = until(worker, Phase::Failed) => broken.map_err(LaunchError::Engine),
        () = lease_expired(worker, lease) => {
            tracing::info!("no daemon was heard for the whole lease");
            Ok(())
        }
    }
}

/// Wiring by locked pages takes in the process as a whole, after everything has been loaded and used once.
fn lock_the_rest(worker: &Worker) {
    let board = &worker.board;
    let locked = board.memory.lock().unwrap_or_else(PoisonError::into_inner).wired_bytes;
    let weights = board.model.get().map_or(0, |model| model.weights_bytes);
    match limits::lock_the_rest(weights, locked) {
        Rest::NotAsked => {}
        Rest::Locked => tracing::info!("the rest of the worker is locked in memory too"),
        Rest::Refused(why) => {
            tracing::warn!(
                "only the weights are locked in memory, the rest of the worker may be paged out: {why}; raise the limit \
                 for locked memory (systemd: LimitMEMLOCK=infinity; shell: ulimit -l unlimited)"
            );
        }
    }
}

async fn lease_expired(worker: &Worker, lease: Option<Duration>) {
    let is_idle = || worker.board.active.load(Relaxed) == 0 && worker.board.waiting.load(Relaxed) == 0;
    match lease {
        Some(length) => worker.lease.expired(length, is_idle).await,
        None => std::future::pending().await,
    }
}

/// Waits for a phase; a failure on the way, or waited for, is the error.
async fn until(worker: &Worker, wanted: Phase) -> Result<(), String> {
    let mut phases = worker.board.phase.subscribe();
    // The board lives as long as the worker.
    if let Ok(reached) = phases.wait_for(|(phase, _)| *phase == wanted || *phase == Phase::Failed).await
        && let (Phase::Failed, why) = &*reached
    {
        return Err(why.clone().unwrap_or_else(|| "no reason was given".to_owned()));
    }
    Ok(())
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, LaunchError> {
    tokio::task::spawn_blocking(work)
        .await
        .map_err(|error| LaunchError::Load(format!("reading the model broke off: {error}")))
}

/// Completes with the first SIGTERM or SIGINT. The daemon drains before it sends one, so nothing is waited for.
fn stop_signal() -> Result<impl Future<Output = ()>, LaunchError> {
    let listen = |kind| signal(kind).map_err(|source| LaunchError::System { what: "cannot watch for signals", source });
    let (mut terminate, mut interrupt) = (listen(SignalKind::terminate())?, listen(SignalKind::interrupt())?);
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    })
}
