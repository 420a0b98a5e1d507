//! The one task that owns the supervisor: takes an event, lets the core decide, carries out the actions, arms the one
//! timer.
//!
//! Input order: news from the inside (exits, probes) before requests from the outside, so that a dead worker is known
//! before anything is assigned to it. Nothing in the loop waits for anything but the next input.

mod beginnings;

use std::sync::Arc;
use std::time::Duration;

use mlxsup_worker_api::WorkerStatus;
use tokio::sync::{mpsc, watch};

use super::clock::Clock;
use super::derived_limits::with_footprint_rule;
use super::effects::Effects;
pub use super::ends::{Ends, Request};
use super::handle::{GatewayInput, Handle, Report};
use super::image_change::ImageChange;
use super::journal::Journal;
use super::publish::{self, Surroundings};
use super::recording::Recorder;
use super::sampling::Sampler;
use super::timetable::{Reached, Timetable};
use crate::config::Config;
use crate::control::view::{FailureView, State, Status};
use crate::history::{HistoryWriter, Note};
use crate::telemetry::Metrics;

use crate::supervisor::{Action, Event, Generation, Persistent, RESTART_DONE, Record, Supervisor};

/// Between samples.
const SAMPLE_INTERVAL: Duration = Duration::from_secs(1);

/// Between samples while a decision waits for memory.
const QUICK_SAMPLE_INTERVAL: Duration = Duration::from_millis(250);

/// Between two looks at the size of the worker's log.
const LOG_CHECK_INTERVAL: Duration = Duration::from_secs(60);

/// Inputs of the gateway taken before the timers are looked at again: arming them costs as much as a step.
const INPUTS_AT_ONCE: usize = 16;

/// The driver and all it owns.
#[derive(Debug)]
pub struct Driver {
    core: Supervisor,
    effects: Effects,
    /// Without it, upgrades run out of time.
    image_change: Option<ImageChange>,
    clock: Clock,
    journal: Journal,
    sampler: Sampler,
    timetable: Timetable,
    events: mpsc::UnboundedReceiver<Event>,
    gateway: mpsc::UnboundedReceiver<GatewayInput>,
    requests: mpsc::Receiver<Request>,
    status: watch::Sender<Arc<Status>>,
    config: watch::Sender<Arc<Config>>,
    pending: Vec<String>,
    problems: Vec<String>,
    found_at_boot: Option<FailureView>,
    sampled_at: Option<tokio::time::Instant>,
    log_checked_at: tokio::time::Instant,
    /// A sample is wanted before the loop waits again.
    sample_now: bool,
    seen: Option<(State, Option<Generation>, bool)>,
    recorder: Option<Recorder>,
    metrics: Option<Arc<Metrics>>,
    history: Option<HistoryWriter>,
    history_notes: mpsc::UnboundedReceiver<Note>,
}

/// Control requests that may wait for the driver.
const REQUESTS: usize = 64;

impl Driver {
    /// A driver at rest, and its ends.
    #[must_use]
    pub fn new(
        config: Config,
        persistent: &Persistent,
        seed: u64,
        clock: Clock,
        effects: Effects,
        events: mpsc::UnboundedReceiver<Event>,
        sampler: Sampler,
    ) -> (Self, Ends) {
        let now = clock.now();
        let (status, status_ends) = watch::channel(Arc::new(publish::initial()));
        let (handle, gateway) = Handle::new(status_ends.clone());
        let (requests_in, requests) = mpsc::channel(REQUESTS);
        let (config_out, config_ends) = watch::channel(Arc::new(config.clone()));
        let timetable = Timetable::new(&config.schedules, &persistent.firings, now.wall);
        let core = Supervisor::new(config, persistent, seed, now);
        let ends = Ends { handle, requests: requests_in, config: config_ends, status: status_ends };
        let driver = Self {
            core,
            effects,
            image_change: None,
            clock,
            journal: Journal::default(),
            sampler,
            timetable,
            events,
            gateway,
            requests,
            status,
            config: config_out,
            pending: Vec::new(),
            problems: Vec::new(),
            found_at_boot: None,
            sampled_at: None,
            log_checked_at: tokio::time::Instant::now(),
            sample_now: false,
            seen: None,
            recorder: None,
            metrics: None,
            history: None,
            history_notes: mpsc::unbounded_channel().1,
        };
        (driver, ends)
    }

    /// Notes something that the core does not decide.
    pub fn note(&mut self, kind: &'static str, message: impl Into<String>) {
        let record = Record { kind, message: message.into() };
        self.journal.add(&record, self.clock.now().wall);
    }

    /// Runs until the core says exit.
    pub async fn run(mut self) {
        // First the machine's memory: every start passes the gate, the very first one too.
        aside(|| self.effects.measure_model(self.core.config()));
        let mut over = self.sample();
        over |= self.step(Event::Tick);
        while !over {
            if std::mem::take(&mut self.sample_now) {
                over = self.sample();
                continue;
            }
            let sample_at = self.next_sample();
            let deadline = self.deadline();
            over = tokio::select! {
                biased;
                Some(event) = self.events.recv() => self.worker_news(event),
                Some(request) = self.requests.recv() => self.request(request),
                Some(Note { kind, message }) = self.history_notes.recv() => {
                    self.note(kind, message);
                    false
                }
                () = tokio::time::sleep_until(sample_at) => self.sample(),
                () = tokio::time::sleep_until(deadline) => self.tick(),
                Some(input) = self.gateway.recv() => self.gateway_inputs(input),
            };
        }
        self.publish();
    }

    /// When the loop must turn even if nothing happens: the core's deadline or the timetable's.
    fn deadline(&self) -> tokio::time::Instant {
        let now = self.clock.now();
        let core = self.core.next_deadline(now.mono);
        let timetable = self.timetable.look_again(now);
        self.clock.instant(core.map_or(timetable, |core| core.min(timetable))).into()
    }

    fn next_sample(&self) -> tokio::time::Instant {
        let interval = if self.core.is_watching_memory() { QUICK_SAMPLE_INTERVAL } else { SAMPLE_INTERVAL };
        self.sampled_at.map_or_else(tokio::time::Instant::now, |at| at + interval)
    }

    fn tick(&mut self) -> bool {
        let mut over = false;
        for reached in self.timetable.look(self.clock.now().wall) {
            if let Some(message) = reached.message() {
                self.note("schedule_missed", message);
            }
            let Reached { name, nominal, fires, missed: _ } = reached;
            over |= self.step(match fires {
                true => Event::ScheduleDue { name, nominal },
                false => Event::ScheduleLeftOut { name, nominal },
            });
        }
        over | self.step(Event::Tick)
    }

    fn worker_news(&mut self, event: Event) -> bool {
        if matches!(event, Event::ModelMeasured { .. })
            && let Some(message) = self.effects.derived().and_then(|derived| derived.message())
        {
            self.note("limits", message);
        }
        let Event::WorkerExited { generation, .. } = &event else { return self.step(event) };
        let generation = *generation;
        self.effects.forget(generation);
        self.effects.strike_the_gone();
        self.step(event)
    }

    /// This input and those right behind it, unless there is other news.
    fn gateway_inputs(&mut self, first: GatewayInput) -> bool {
        let mut over = self.gateway_input(first);
        for _ in 1..INPUTS_AT_ONCE {
            if over || self.sample_now || !self.events.is_empty() {
                break;
            }
            let Ok(input) = self.gateway.try_recv() else { break };
            over = self.gateway_input(input);
        }
        over
    }

    fn gateway_input(&mut self, input: GatewayInput) -> bool {
        match input {
            GatewayInput::Submit { id, submission, directives } => {
                self.effects.add_session(id, directives);
                self.step(Event::Submitted { id, submission })
            }
            GatewayInput::Report { id, report } => {
                if matches!(report, Report::Ended(_)) {
                    self.effects.remove_session(id);
                }
                self.step(Event::Reported { id, report })
            }
            GatewayInput::Position { id, reply } => {
                let _ = reply.send(self.core.position(id));
                false
            }
        }
    }

    fn request(&mut self, request: Request) -> bool {
        match request {
            Request::Verb { verb, reply } => {
                let operation = self.effects.expect_reply(reply);
                self.step(Event::Operator { operation, verb })
            }
            Request::Status { reply } => {
                let _ = reply.send(self.status());
                false
            }
            Request::Clients { reply } => {
                let _ = reply.send(publish::clients(self.core.clients()));
                false
            }
            Request::Events { reply } => {
                let _ = reply.send((self.journal.events(), self.journal.follow()));
                false
            }
            Request::Rejected { problems } => {
                let message = format!("the old configuration stays: {}", problems.join("; "));
                self.note("config_rejected", message);
                self.problems = problems;
                self.publish();
                false
            }
            Request::Reconfigure { config, pending } => {
                self.pending = pending;
                self.problems.clear();
                self.timetable.reload(&config.schedules, self.clock.now().wall);
                self.config.send_replace(Arc::new((*config).clone()));
                let over = self.step(Event::Reconfigured { config });
                aside(|| self.effects.measure_model(self.core.config()));
                self.publish();
                over
            }
            Request::Stop { keep_worker } => self.step(Event::StopAsked { keep_worker }),
            Request::Exec => self.exec(),
        }
    }

    fn sample(&mut self) -> bool {
        let now = self.clock.now();
        let taken_at = tokio::time::Instant::now();
        self.sampled_at = Some(taken_at);
        if taken_at - self.log_checked_at >= LOG_CHECK_INTERVAL {
            self.log_checked_at = taken_at;
            aside(|| self.effects.rotate_worker_log(self.core.config()));
        }
        let snapshot = self.core.snapshot();
        let newest = self.serving_report();
        let report = newest.as_ref().and_then(|(_, report)| report.as_ref());
        if let Some(config) = report.and_then(|report| with_footprint_rule(self.core.config(), report)) {
            self.step(Event::Reconfigured { config: Box::new(config) });
        }
        let uptime = snapshot.worker.as_ref().map(|worker| now.mono - worker.spawned_at).unwrap_or_default();
        let latencies = self.metrics.as_ref().map(|metrics| metrics.latencies()).unwrap_or_default();
        let sample = aside(|| self.sampler.sample(newest.as_ref(), uptime, &snapshot, latencies, now.mono));
        if let Some(writer) = &self.history {
            writer.history().sample(now.wall, &sample);
        }
        let over = self.step(Event::Sampled { sample: Box::new(sample) });
        self.publish();
        over
    }

    /// One step of the core, its actions carried out. True when it is time to leave.
    fn step(&mut self, event: Event) -> bool {
        let now = self.clock.now();
        tracing::trace!(?event, "event");
        let mut over = false;
        let recorded = self.recorder.is_some().then(|| event.clone());
        let actions = self.core.step(event, now);
        if let (Some(recorder), Some(event)) = (&mut self.recorder, recorded) {
            recorder.step(event, now, &actions);
        }
        for action in actions {
            tracing::trace!(?action, "action");
            match action {
                Action::Spawn { generation } => {
                    self.pending.clear();
                    aside(|| self.effects.spawn(generation, self.core.config()));
                }
                Action::SendTerminate { generation } => self.effects.terminate(generation),
                Action::SendKill { generation } => self.effects.kill(generation),
                Action::Assign { id, generation } => self.effects.assign(id, generation),
                Action::Refuse { id, refusal } => self.effects.refuse(id, refusal),
                Action::ClearCache { generation, cache } => {
                    self.effects.clear_cache(generation, cache, self.core.config());
                }
                Action::Sample => self.sample_now = true,
                Action::Probe { generation } => self.effects.probe(generation),
                Action::SavePrefixCache { generation } => self.effects.save_prefix_cache(generation),
                Action::Canary { generation } => self.effects.canary(generation),
                Action::KeepAwake { on } => self.effects.keep_awake(on),
                Action::VetImage { to } => self.image_change(|change| change.vet(to)),
                Action::PauseAccepting => self.image_change(ImageChange::hold),
                Action::ResumeAccepting => self.image_change(ImageChange::resume),
                Action::Exec { .. } => self.image_change(ImageChange::leave),
                Action::Reply { operation, outcome } => {
                    // Whoever reads the status after a verb must see its effect.
                    self.publish();
                    self.effects.reply(operation, outcome);
                }
                Action::Record(record) => {
                    if record.kind == RESTART_DONE
                        && let (Some(metrics), Some(restart)) = (&self.metrics, &self.core.snapshot().last_restart)
                    {
                        metrics.count_restart(&restart.reason);
                    }
                    self.journal.add(&record, now.wall);
                }
                Action::Persist(persistent) => self.effects.persist(persistent),
                Action::Exit => over = true,
            }
        }
        self.publish_if_changed();
        over
    }

    fn image_change(&mut self, carry_out: impl FnOnce(&mut ImageChange)) {
        if let Some(change) = &mut self.image_change {
            carry_out(change);
        }
    }

    fn exec(&mut self) -> bool {
        let Some(change) = self.image_change.as_mut().filter(|change| change.is_leaving()) else { return false };
        let saved = self.effects.prepare_exec();
        if let Some(writer) = &self.history {
            writer.history().flush();
        }
        let failed = change.exec(saved, || self.requests.is_empty());
        self.effects.stay();
        failed.is_some_and(|why| self.step(Event::ExecFailed { why }))
    }

    fn serving_report(&self) -> Option<(u32, Option<WorkerStatus>)> {
        self.effects.report(self.core.serving_generation()?)
    }

    fn publish_if_changed(&mut self) {
        let key = self.core.standpoint();
        if self.seen != Some(key) {
            self.seen = Some(key);
            self.publish();
        }
    }

    fn publish(&self) {
        self.status.send_replace(Arc::new(self.status()));
    }

    fn status(&self) -> Status {
        let newest = self.serving_report();
        let derived = self.effects.derived();
        let around = Surroundings {
            config: self.core.config(),
            epoch: self.effects.epoch(),
            derived: derived.as_deref(),
            report: newest.as_ref().and_then(|(_, report)| report.as_ref()),
            sample: self.sampler.last(),
            next_firings: self.timetable.next_firings(),
            pending: &self.pending,
            problems: &self.problems,
            found_at_boot: self.found_at_boot.as_ref(),
        };
        publish::status(&self.core.snapshot(), &around, self.clock.now())
    }
}

/// Runs what may wait for the disk or a slow corner of the kernel. Another thread relays answers meanwhile.
fn aside<T>(work: impl FnOnce() -> T) -> T {
    tokio::task::block_in_place(work)
}
