//! The world around one core: its clocks, its happenings, and the loop that plays the daemon's driver.
//!
//! As in the real driver, the core is woken at its own deadline and at nothing else; samples and looks come beside it.

use std::collections::BTreeMap;
use std::time::Duration;

use mlxsup::daemon::recording::Recorder;
use mlxsup::daemon::timetable::{Reached, Timetable};
use mlxsup::supervisor::conditions::Learned;
use mlxsup::supervisor::{Event, Mono, Now, Persistent, Supervisor, Wall};

use crate::clients::{Nature, Session};
use crate::dice::Dice;
use crate::machine::{GIB, Machine};
use crate::model::Model;
use crate::process::{Load, Process};
use crate::settings::{MODELS, Settings, UNUSUAL, parsed};
use crate::timeline::{Happening, How, Timeline};
use crate::trace::Trace;

/// Whether everything still holds; the broken promise in words if not.
pub type Verdict = Result<(), String>;

/// Trouble that lies in wait for the next occasion.
#[derive(Debug, Clone, Default)]
pub struct Trouble {
    /// So many workers crash soon after their start.
    pub crashes: u64,
    pub loads: u64,
    pub terminations: u64,
    pub spawns: u64,
    pub strands: u64,
    pub bad_configuration: bool,
    /// Natures of the next requests.
    pub natures: Vec<Nature>,
    /// So many requests at once.
    pub rush: u64,
}

/// One seed's world.
#[derive(Debug)]
pub struct World {
    pub seed: u64,
    pub dice: Dice,
    /// Milliseconds of the clock that stands still in sleep.
    pub now: u64,
    pub wall_offset: u64,
    pub timeline: Timeline,
    pub trace: Trace,
    pub recorder: Option<Recorder>,
    /// Where each daemon's life is recorded, over the one before.
    pub record_to: Option<std::path::PathBuf>,

    pub settings: Settings,
    pub configured_model: usize,
    pub text: String,
    pub core: Supervisor,
    pub model: Model,
    /// Counts daemons.
    pub life: u64,
    pub is_up: bool,
    pub persistent: Persistent,
    pub timetable: Timetable,
    pub look_at_timetable: u64,
    pub sample_at: u64,
    pub sample_ms: u64,
    pub late_ms: u64,
    pub sample_now: bool,
    pub accepting: bool,
    pub backlog: u64,
    pub next_operation: u64,

    pub machine: Machine,
    pub weights: [u64; MODELS.len()],
    pub load_ms: u64,
    pub processes: BTreeMap<u64, Process>,
    pub sessions: BTreeMap<u64, Session>,
    pub next_request: u64,
    pub progress_ms: u64,
    pub slots: u32,

    pub trouble: Trouble,
    /// Quiet hours between busy minutes.
    pub busy: bool,
    /// Counts the changes between them.
    pub chain: u64,
    /// No fault, no command, no client any more.
    pub calm: bool,
    pub steps: u64,
    pub kills_by_health: u64,
    pub found_dead_at: BTreeMap<u64, u64>,
    /// Between looks, and how many may be missed, before the last reload: workers of that time are looked at so.
    pub looks_before: Duration,
    pub wrong_canary_heard: bool,
}

impl World {
    /// A world at its first instant; nothing has happened.
    pub fn new(seed: u64) -> Self {
        let mut dice = Dice::new(seed);
        let settings = Settings::any(&mut dice);
        let total = dice.pick(&[32, 64, 96, 128]) * GIB;
        let weights = [dice.between(1, total / GIB / 4) * GIB, dice.between(1, total / GIB / 3) * GIB];
        let machine = Machine {
            total,
            others: total / 8,
            others_wired: total / 16,
            reports_wired: dice.chance(750),
            ..Machine::quiet()
        };
        Self::with(seed, dice, settings, machine, weights)
    }

    pub fn with(seed: u64, mut dice: Dice, settings: Settings, machine: Machine, weights: [u64; MODELS.len()]) -> Self {
        let text = settings.text(MODELS[0]);
        let now = Now { mono: Mono(1_000_000), wall: Wall(1_700_000_000_000) };
        let config = parsed(&text);
        let persistent = Persistent::default();
        let timetable = Timetable::new(&config.schedules, &persistent.firings, now.wall);
        let model = Model::new(&persistent, now.mono);
        let core = Supervisor::new(config, &persistent, seed, now);
        Self {
            seed,
            now: now.mono.0,
            wall_offset: now.wall.0 - now.mono.0,
            timeline: Timeline::default(),
            trace: Trace::default(),
            recorder: None,
            record_to: None,
            settings,
            configured_model: 0,
            text,
            core,
            model,
            life: 1,
            is_up: false,
            persistent,
            timetable,
            look_at_timetable: 0,
            sample_at: 0,
            sample_ms: dice.pick(&[1000, 2000, 4000]),
            late_ms: dice.pick(&[0, 0, 0, 15]),
            sample_now: false,
            accepting: true,
            backlog: 0,
            next_operation: 1,
            machine,
            weights,
            load_ms: dice.between(2_000, 36_000),
            processes: BTreeMap::new(),
            sessions: BTreeMap::new(),
            next_request: 1,
            progress_ms: dice.pick(&[500, 2_000, 5_000]),
            slots: u32::try_from(dice.between(1, 6)).unwrap_or(1),
            trouble: Trouble::default(),
            busy: true,
            chain: 0,
            calm: false,
            steps: 0,
            kills_by_health: 0,
            found_dead_at: BTreeMap::new(),
            looks_before: Duration::MAX,
            wrong_canary_heard: false,
            dice,
        }
    }

    pub fn instant(&self) -> Now {
        Now { mono: Mono(self.now), wall: Wall(self.now + self.wall_offset) }
    }

    /// The first daemon of this world comes up, and clients, operators and trouble begin.
    pub fn begin(&mut self) -> Verdict {
        self.daemon_starts()?;
        self.timeline.plan(self.now + 600_000, Happening::Episode);
        self.begin_chains();
        Ok(())
    }

    /// Clients, commands and faults come at the pace of this hour from now on; what was planned before is dropped.
    fn begin_chains(&mut self) {
        self.chain += 1;
        let chain = self.chain;
        for happening in [Happening::Arrives { chain }, Happening::Commands { chain }, Happening::Fault { chain }] {
            let within = if self.busy { 30_000 } else { 1_800_000 };
            let at = self.now + self.dice.between(1_000, within);
            self.timeline.plan(at, happening);
        }
    }

    /// A pause between two of a kind, in busy and in quiet hours, milliseconds.
    fn pause(&mut self, busy: (u64, u64), quiet: (u64, u64)) -> u64 {
        let (least, most) = if self.busy { busy } else { quiet };
        self.dice.between(least, most)
    }

    /// Lets everything happen up to an instant.
    pub fn run(&mut self, until: u64) -> Verdict {
        loop {
            let next = self.next_instant();
            if next > until {
                self.now = self.now.max(until);
                return Ok(());
            }
            self.now = self.now.max(next);
            while let Some(happening) = self.timeline.due(self.now) {
                self.happen(happening)?;
            }
            self.drive()?;
        }
    }

    fn next_instant(&self) -> u64 {
        let mut next = self.timeline.next_at().unwrap_or(u64::MAX);
        if self.is_up {
            next = next.min(self.sample_at).min(self.look_at_timetable);
            if let Some(deadline) = self.core.next_deadline(Mono(self.now)) {
                next = next.min(deadline.0.saturating_add(self.late_ms));
            }
        }
        next
    }

    /// What the daemon's driver does besides passing news on.
    fn drive(&mut self) -> Verdict {
        if self.is_up && (self.sample_now || self.now >= self.sample_at) {
            self.sample()?;
        }
        if self.is_up && self.now >= self.look_at_timetable {
            let instant = self.instant();
            for Reached { name, nominal, fires, .. } in self.timetable.look(instant.wall) {
                self.feed(match fires {
                    true => Event::ScheduleDue { name, nominal },
                    false => Event::ScheduleLeftOut { name, nominal },
                })?;
            }
            self.look_at_timetable = self.timetable.look_again(instant).0;
        }
        let overdue = |core: &Supervisor, now: u64| core.next_deadline(Mono(now)).is_some_and(|at| at.0 <= now);
        if self.is_up && overdue(&self.core, self.now) {
            self.feed(Event::Tick)?;
        }
        Ok(())
    }

    pub fn sample(&mut self) -> Verdict {
        self.sample_now = false;
        let quick = self.core.is_watching_memory();
        let usual = if self.busy || self.calm { self.sample_ms } else { 30_000 };
        self.sample_at = self.now + if quick { self.sample_ms.min(1000) } else { usual };
        let (held, wired) = self.held_by_workers();
        let serving = self.core.serving_generation().and_then(|generation| self.processes.get(&generation.0));
        let footprint = serving.map(|process| process.footprint(self.now));
        let mut sample = self.machine.sample(held, wired, footprint);
        self.model.requests_in_sample(&mut sample);
        if let Some(footprint) = footprint.filter(|_| self.dice.chance(10)) {
            self.learn(footprint)?;
        }
        self.feed(Event::Sampled { sample: Box::new(sample) })
    }

    /// A word about the history: more or less of it, with a percentile somewhere about the present.
    fn learn(&mut self, footprint: u64) -> Verdict {
        let (metric, percentile, of) = UNUSUAL;
        #[expect(clippy::cast_precision_loss, reason = "bytes far below 2^52")]
        let value = (footprint / 100 * self.dice.between(50, 120)) as f64;
        let value = Some(value).filter(|_| self.dice.chance(900));
        let recorded = Duration::from_secs(self.dice.below(of.as_secs()));
        self.feed(Event::Learned { percentiles: vec![Learned { metric, percentile, of, value, recorded }] })
    }

    pub fn held_by_workers(&self) -> (u64, u64) {
        let now = self.now;
        self.processes.values().fold((0, 0), |(held, wired), process| {
            (held + process.footprint(now), wired + if process.ready { process.wired(now) } else { 0 })
        })
    }

    /// One step of the core, judged, its actions carried out.
    pub fn feed(&mut self, event: Event) -> Verdict {
        if !self.is_up {
            return Ok(());
        }
        self.steps += 1;
        let instant = self.instant();
        let dull = matches!(event, Event::Sampled { .. } | Event::Probed { .. });
        if !dull {
            self.trace.note(self.now, || format!("> {event:?}"));
        }
        let told = (dull && self.trace.on).then(|| spoken(&event));
        let before = self.model.note(&event, &self.core, instant)?;
        let recorded = self.recorder.is_some().then(|| event.clone());
        let actions = self.core.step(event, instant);
        if let (Some(recorder), Some(event)) = (&mut self.recorder, recorded) {
            recorder.step(event, instant, &actions);
        }
        if let Some(told) = told.filter(|_| !actions.is_empty()) {
            self.trace.note(self.now, || told);
        }
        for action in &actions {
            self.trace.note(self.now, || format!("    < {action:?}"));
        }
        self.core.check_invariants().map_err(|why| format!("the core itself says: {why}"))?;
        self.model.judge(&before, &actions, &self.core, instant)?;
        self.check_against_truth(&actions)?;
        for action in actions {
            self.carry_out(action)?;
        }
        Ok(())
    }

    fn happen(&mut self, happening: Happening) -> Verdict {
        match happening {
            Happening::News { life, event, twice } => {
                if life != self.life || !self.is_up {
                    return Ok(());
                }
                if twice && !self.model.is_stale(&event) {
                    // A second copy that would be taken for news is none that a session or watcher can send.
                    return Ok(());
                }
                return self.feed(*event);
            }
            Happening::Loaded { generation } => return self.loaded(generation),
            Happening::Look { generation, regular } => self.look(generation, regular),
            Happening::Seen { generation } => self.seen(generation),
            Happening::Dies { generation, how } => {
                // What was planned before faults stopped does not come any more, unless it was asked for.
                let asked = |process: &Process| process.terminated || process.killed || process.load == Load::Fails;
                if !self.calm || self.processes.get(&generation).is_some_and(asked) {
                    return self.dies(generation, how);
                }
            }
            Happening::Thaws { generation } => self.thaws(generation),
            Happening::Shrinks { generation } => self.shrinks(generation),
            Happening::CanaryDone { generation } => self.canary_done(generation),
            Happening::Grows { request, leg } => return self.grows(request, leg),
            Happening::Arrives { chain } if chain == self.chain && !self.calm => {
                let rush = std::mem::take(&mut self.trouble.rush);
                for _ in 0..=rush {
                    self.arrives()?;
                }
                let pause = self.pause((200, 12_000), (10_000, 600_000));
                self.timeline.plan(self.now + pause, Happening::Arrives { chain });
            }
            Happening::HangsUp { request } => self.hangs_up(request),
            Happening::Commands { chain } if chain == self.chain && !self.calm => {
                let pause = self.pause((5_000, 200_000), (60_000, 3_600_000));
                self.timeline.plan(self.now + pause, Happening::Commands { chain });
                return self.commands();
            }
            Happening::CommandsAgain if !self.calm => return self.commands(),
            Happening::Fault { chain } if chain == self.chain && !self.calm => {
                let pause = self.pause((1_000, 100_000), (300_000, 5_000_000));
                self.timeline.plan(self.now + pause, Happening::Fault { chain });
                return self.fault();
            }
            Happening::Arrives { .. }
            | Happening::Commands { .. }
            | Happening::CommandsAgain
            | Happening::Fault { .. } => {}
            Happening::Episode => {
                self.busy = !self.busy;
                let length = self.pause((120_000, 900_000), (1_200_000, 10_000_000));
                self.timeline.plan(self.now + length, Happening::Episode);
                self.begin_chains();
            }
            Happening::Others { give_back } => self.machine.others = self.machine.others.saturating_sub(give_back),
            Happening::Returns { bytes } => self.machine.stranded = self.machine.stranded.saturating_sub(bytes),
            Happening::Relief => {
                self.machine.pressure = None;
                self.machine.swapins = 0;
            }
            Happening::DaemonStarts => return self.daemon_starts(),
            Happening::Vetted => return self.vetted(),
            Happening::Executes => return self.executes(),
            Happening::Reloads => return self.reload(),
        }
        Ok(())
    }

    pub fn any_process(&mut self) -> Option<u64> {
        let all: Vec<u64> = self.processes.keys().copied().collect();
        (!all.is_empty()).then(|| self.dice.pick(&all))
    }

    pub fn news(&mut self, delay: u64, event: Event) {
        let life = self.life;
        if self.dice.chance(15) {
            let later = self.now + delay + self.dice.between(0, 90_000);
            self.timeline.plan(later, Happening::News { life, event: Box::new(event.clone()), twice: true });
        }
        self.timeline.plan(self.now + delay, Happening::News { life, event: Box::new(event), twice: false });
    }

    /// How long news is under way: nearly nothing, or long.
    pub fn delay(&mut self) -> u64 {
        match self.dice.below(100) {
            0..90 => self.dice.below(20),
            90..97 => self.dice.below(400),
            _ => self.dice.between(400, 4_500),
        }
    }

    pub fn how_exit(how: How) -> (mlxsup::supervisor::event::ExitStatus, bool) {
        use mlxsup::supervisor::event::ExitStatus;
        match how {
            How::Code(code) => (ExitStatus::Code(code), false),
            How::Signal(signal) => (ExitStatus::Signal(signal), false),
            How::OutOfMemory => (ExitStatus::Signal(9), true),
        }
    }
}

/// A sample or a look in a few words: they come often and only matter when something follows.
fn spoken(event: &Event) -> String {
    use mlxsup::memory::Metric;
    match event {
        Event::Sampled { sample } => {
            let mut words = "> Sampled".to_owned();
            for (metric, value) in sample.present().filter(|(metric, _)| {
                use Metric as M;
                matches!(metric, M::SystemAvailable | M::SystemWired | M::SystemPressure | M::WorkerFootprint)
            }) {
                words.push_str(&format!(" {metric}={value}"));
            }
            words
        }
        Event::Probed { generation, vitals } => format!(
            "> Probed {generation}: answer {}, stopped {}, cpu {:?}, page-ins {:?}, footprint {:?}",
            vitals.answer.is_some(),
            vitals.stopped,
            vitals.cpu_ms,
            vitals.page_ins,
            vitals.footprint_bytes
        ),
        other => format!("> {other:?}"),
    }
}
