//! The start order, and the stop order in reverse.

use std::path::PathBuf;
use std::sync::Arc;

use tokio::sync::{mpsc, oneshot, watch};

use super::boot_config::{self, BootConfig, Verdict};
use super::clock::{Clock, wall};
use super::door::{Door, door};
use super::driver::{Driver, Ends, Request};
use super::effects::Effects;
use super::home::Home;
use super::image_change::{ImageChange, Tools};
use super::instance_lock::InstanceLock;
use super::listeners::{self, Listening};
use super::reload::Reloader;
use super::sampling::Sampler;
use super::signals::{self, Asked};
use super::state_writer::StateWriter;
use super::{DaemonError, Options, children, learning, leftover, outdated, panic_report, state_file};
use crate::config::Config;
use crate::control;
use crate::gateway::{self, Access, GatewayContext, RequestSink};
use crate::history::HistoryWriter;
use crate::service::{Notifier, inheritance, is_started_by_init, watchdog_interval};
use crate::supervisor::verbs::Verb;
use crate::telemetry::{Logging, Metrics, RequestsLog, StderrLog};

/// Descriptors the daemon keeps for itself, idle connections to the worker among them, when it derives its connection cap
/// from the process's limit.
const OWN_DESCRIPTORS: u64 = 128;

/// Signals other than stop that may wait.
const SIGNALS_WAITING: usize = 8;

/// Judges file and machine without starting anything.
///
/// # Errors
/// The first problem that would keep the daemon from starting.
pub fn check(options: &Options) -> Result<Config, DaemonError> {
    boot_config::judge(options).map(|(config, _)| config).map_err(|rejection| rejection.error)
}

/// Runs the daemon until it is told to stop.
///
/// # Errors
/// When it cannot start; once it serves, failures are handled and logged instead.
pub async fn run(options: Options) -> Result<(), DaemonError> {
    let clock = Clock::start();
    let mut inherited = inheritance::take()?;
    let left_lock = inherited.as_mut().and_then(|inherited| inherited.lock.take());
    let last_image = inherited.as_ref().map(|inherited| (inherited.from.clone(), inherited.held_since_ms));
    let source = listeners::Source::find(inherited)?;
    let BootConfig { config, verdict, access } = boot_config::choose(&options, is_started_by_init())?;
    let home = Home::open(&options.home)?;
    let lock = match left_lock {
        Some(left) => InstanceLock::inherit(left, &home.lock())?,
        None => InstanceLock::take(&home.lock())?,
    };
    let logging = Logging::start(&home.logs().join("mlxsupd.log"), &config.log, StderrLog::Auto)?;
    let requests_log = RequestsLog::open(&home.logs().join("requests.log"), &config.log)
        .map_err(|source| DaemonError::System { doing: "open logs/requests.log", source })?;
    let Listening { clients, control: control_listener, heirlooms, own } =
        listeners::open(source, &home, &config, &lock)?;
    tracing::info!(version = env!("CARGO_PKG_VERSION"), home = %home.root().display(), "mlxsupd starts");
    if matches!(verdict, Verdict::Accepted | Verdict::WithoutKeys { .. }) {
        boot_config::remember(&config, home.root());
    }

    let panicked = panic_report::since_the_last_daemon(&home.state());
    let (mut state, problem) = state_file::read(&home.state());
    if last_image.is_some() {
        children::reap_others(&state.workers);
    }
    state.epoch += 1;
    let survey = leftover::survey(&home, state.workers.clone(), state.epoch).await;
    tracing::info!(
        found = survey.workers.len(),
        since_start_ms = clock.mono().0,
        "asked the workers of the last daemon"
    );
    let sampler = Sampler::new()?;
    let seed = getrandom::u64().map_err(|error| DaemonError::System {
        doing: "get random numbers from the kernel",
        source: std::io::Error::other(error),
    })?;
    let (events_in, events) = mpsc::unbounded_channel();
    let core = state.core.clone();
    let (core_events, learnt_events) = (events_in.clone(), events_in.clone());
    let kept = StateWriter::new(home.state(), state)
        .map_err(|source| DaemonError::System { doing: "start the thread that writes state.json", source })?;
    let effects = Effects::new(home.clone(), kept, events_in);
    let (mut driver, ends) = Driver::new(config.clone(), &core, seed, clock, effects, events, sampler);
    let (notes_in, notes) = mpsc::unbounded_channel();
    let writer = HistoryWriter::new(home.history(), notes_in)
        .map_err(|source| DaemonError::System { doing: "start the thread that writes history.db", source })?;
    driver.set_history(writer, notes);
    if let Some(problem) = problem {
        driver.note("state_set_aside", problem);
    }
    if let Some(file) = &options.record {
        driver
            .record(file, &core, seed)
            .map_err(|source| DaemonError::System { doing: "write the recording (--record)", source })?;
    }
    if let Some(report) = &panicked {
        driver.found_panic(report);
    }
    driver.begin_with(verdict);
    for note in survey.notes {
        driver.note("leftover_worker", note);
    }
    if let Some((from, held_since_ms)) = &last_image {
        driver.note("upgraded", told(from, *held_since_ms));
    }
    let outdated = outdated::find(&survey.workers, &config);
    driver.adopt(survey.workers);
    if let Some(outdated) = &outdated {
        driver.note("worker_outdated", outdated.told(last_image.is_some()));
    }
    tracing::info!(since_start_ms = clock.mono().0, "workers adopted");

    let (access, access_in_force) = watch::channel(Arc::new(access));
    let reloader = Reloader {
        file: options.config.clone().unwrap_or_else(|| home.config()),
        home: home.root().to_owned(),
        config: ends.config.clone(),
        access,
        status: ends.status.clone(),
        requests: ends.requests.clone(),
        logging: logging.clone(),
        requests_log: requests_log.clone(),
    };
    let (asked_in, asked) = mpsc::channel(SIGNALS_WAITING);
    let signals = signals::listen(ends.requests.clone(), asked_in)
        .map_err(|source| DaemonError::System { doing: "install signal handlers", source })?;
    let (porter, doorway) = door();
    let (control_porter, control_doorway) = door();
    let (porter, control_porter) = (Arc::new(porter), Arc::new(control_porter));
    driver.set_image_change(ImageChange::new(Tools {
        home: home.root().to_owned(),
        config: options.config,
        porter: Arc::clone(&porter),
        control_porter: Arc::clone(&control_porter),
        heirlooms,
        signals,
        events: core_events,
        requests: ends.requests.clone(),
    }));
    let metrics = Arc::new(Metrics::new(ends.status.clone()));
    driver.set_metrics(Arc::clone(&metrics));
    let context = gateway_context(&ends, access_in_force, clock, requests_log.clone(), metrics);
    let serving = tokio::spawn(gateway::serve(clients, context, doorway));
    let control = control::verbs::Control {
        requests: ends.requests.clone(),
        config: ends.config.clone(),
        reloader: reloader.clone(),
        history: home.history(),
    };
    let controlling = tokio::spawn(control::listener::serve(control_listener, control, control_doorway));
    let answering = tokio::spawn(answer_signals(asked, ends.requests.clone(), reloader, logging, requests_log));
    let notifying = tokio::spawn(notify(ends.status.clone()));
    let teaching = tokio::spawn(learning::teach(home.history(), ends.config.clone(), learnt_events));
    if let Some(outdated) = outdated.filter(|_| last_image.is_some()) {
        tokio::spawn(outdated.hand_over(ends.status.clone(), ends.requests.clone()));
    }

    // A task like the sessions it talks to: on a thread of its own every word between them would cost a thread's wake-up.
    if let Err(error) = tokio::spawn(driver.run()).await
        && let Ok(panic) = error.try_into_panic()
    {
        std::panic::resume_unwind(panic);
    }

    porter.set(Door::Closed);
    let _ = serving.await;
    control_porter.set(Door::Closed);
    let _ = controlling.await;
    answering.abort();
    notifying.abort();
    teaching.abort();
    for socket in own {
        let _ = std::fs::remove_file(socket);
    }
    tracing::info!("mlxsupd ends");
    Ok(())
}

fn gateway_context(
    ends: &Ends,
    access: watch::Receiver<Arc<Access>>,
    clock: Clock,
    log: RequestsLog,
    metrics: Arc<Metrics>,
) -> Arc<GatewayContext> {
    let counted = Arc::clone(&metrics);
    let requests: RequestSink = Arc::new(move |record| {
        counted.count(record);
        if let Err(error) = log.write(record) {
            tracing::warn!(%error, "requests.log not written");
        }
    });
    Arc::new(GatewayContext {
        handle: ends.handle.clone(),
        config: ends.config.clone(),
        access,
        requests,
        metrics,
        mono: Arc::new(move || clock.mono()),
        owner_uid: nix::unistd::geteuid().as_raw(),
        max_connections: connection_cap(),
        started: wall().0 / 1000,
    })
}

/// What an upgrade did, for the events.
fn told(from: &str, held_since_ms: u64) -> String {
    let held = std::time::Duration::from_millis(wall().0.saturating_sub(held_since_ms));
    format!(
        "{from} → {} in place (pid {}); new clients waited for {:.2} s",
        env!("CARGO_PKG_VERSION"),
        std::process::id(),
        held.as_secs_f64()
    )
}

/// Raises the descriptor limit as far as allowed; each connection may need two descriptors (client and link).
fn connection_cap() -> usize {
    use nix::sys::resource::{Resource, getrlimit, setrlimit};
    let limit = match getrlimit(Resource::RLIMIT_NOFILE) {
        Ok((soft, hard)) if soft < hard => match setrlimit(Resource::RLIMIT_NOFILE, hard, hard) {
            Ok(()) => hard,
            // macOS reports an unlimited hard limit that it does not grant.
            Err(_) => soft,
        },
        Ok((soft, _)) => soft,
        Err(_) => 256,
    };
    usize::try_from(limit.saturating_sub(OWN_DESCRIPTORS) / 2).unwrap_or(usize::MAX).max(16)
}

async fn answer_signals(
    mut asked: mpsc::Receiver<Asked>,
    requests: mpsc::Sender<Request>,
    reloader: Reloader,
    logging: Logging,
    requests_log: RequestsLog,
) {
    while let Some(asked) = asked.recv().await {
        match asked {
            Asked::Reload => {
                // The outcome is logged where it becomes real.
                let _ = reloader.reload().await;
            }
            Asked::Upgrade => {
                let (reply, outcome) = oneshot::channel();
                let verb = Verb::Upgrade { to: None, no_wait: true };
                if requests.send(Request::Verb { verb, reply }).await.is_ok()
                    && let Ok(outcome) = outcome.await
                {
                    tracing::info!(outcome = outcome.message, "asked to upgrade by a signal");
                }
            }
            Asked::ReopenLogs => {
                for (name, result) in [("mlxsupd.log", logging.reopen()), ("requests.log", requests_log.reopen())] {
                    if let Err(error) = result {
                        tracing::warn!(%error, name, "log not reopened");
                    }
                }
            }
        }
    }
}

/// Tells the init system that we serve connections, then feeds its watchdog from the published status.
async fn notify(mut status: watch::Receiver<Arc<crate::control::view::Status>>) {
    let notifier = match Notifier::from_env() {
        Ok(notifier) => notifier,
        Err(error) => {
            tracing::warn!(%error, "the init system is not told of readiness");
            return;
        }
    };
    if !notifier.is_active() {
        return;
    }
    let say = |result: Result<(), crate::service::NotifyError>| {
        if let Err(error) = result {
            tracing::warn!(%error, "the init system was not told");
        }
    };
    say(notifier.ready());
    let interval = watchdog_interval();
    loop {
        // The status is published by the driver once a second: a driver that hangs starves the watchdog, as it should.
        if status.changed().await.is_err() {
            say(notifier.stopping());
            return;
        }
        if interval.is_some() {
            say(notifier.watchdog());
        }
        let line = status.borrow_and_update().state.as_str();
        say(notifier.status(line));
    }
}

/// The home that applies when none is named: `MLXSUP_HOME`, else `~/.mlxsup`.
#[must_use]
pub fn default_home() -> Option<PathBuf> {
    std::env::var_os("MLXSUP_HOME")
        .map(PathBuf::from)
        .or_else(|| std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".mlxsup")))
}
