//! The daemon's own lives: start with what the last one left, crash, exit, exec; and the carrying out of actions.

use std::time::Duration;

use mlxsup::config::Engine;
use mlxsup::daemon::recording::{Beginning, Recorder};
use mlxsup::daemon::timetable::Timetable;
use mlxsup::supervisor::event::{CacheCleared, CacheKind, Inherited};
use mlxsup::supervisor::{Action, Event, Generation, Supervisor};

use crate::machine::MIB;
use crate::model::Model;
use crate::settings::parsed;
use crate::timeline::Happening;
use crate::world::{Verdict, World};

impl World {
    /// A daemon comes up and finds what the last one left.
    pub fn daemon_starts(&mut self) -> Verdict {
        if self.is_up {
            return Ok(());
        }
        self.trace.note(self.now, || format!("a daemon starts from {:?}", self.persistent));
        let instant = self.instant();
        let config = parsed(&self.text);
        self.timetable = Timetable::new(&config.schedules, &self.persistent.firings, instant.wall);
        self.look_at_timetable = self.now;
        self.core = Supervisor::new(config, &self.persistent, self.seed ^ self.life, instant);
        self.model = Model::new(&self.persistent, instant.mono);
        self.is_up = true;
        self.accepting = true;
        if let Some(file) = &self.record_to {
            let (config, kept) = (self.core.config().clone(), self.persistent.clone());
            let beginning = Beginning { config, kept, seed: self.seed ^ self.life, now: instant };
            self.recorder = Some(Recorder::begin(file, &beginning).map_err(|error| error.to_string())?);
        }
        let timeout = self.core.config().worker.start_timeout;
        let found: Vec<(u64, u32, Option<Engine>, Inherited)> = self
            .processes
            .values()
            .map(|process| {
                let engine = Some(process.engine);
                let found = if !process.answers() {
                    Inherited::Silent { why: "no answer in 2 s".to_owned() }
                } else if process.ready {
                    Inherited::Ready(process.facts())
                } else {
                    let gone = Duration::from_millis(self.now - process.born);
                    Inherited::Loading { remaining: timeout.saturating_sub(gone) }
                };
                (process.generation, process.pid, engine, found)
            })
            .collect();
        if std::mem::take(&mut self.trouble.bad_configuration) {
            let again = self.now + self.dice.between(1_000, 300_000);
            self.timeline.plan(again, Happening::Reloads);
            self.feed(Event::Unconfigured { why: "worker.model is missing".to_owned() })?;
        }
        for (generation, pid, engine, found) in found {
            self.feed(Event::Adopted { generation: Generation(generation), pid, engine, found })?;
        }
        if self.dice.chance(500) {
            let bytes = Some(self.weights[self.configured_model]);
            self.feed(Event::ModelMeasured { bytes })?;
        }
        self.sample()?;
        self.feed(Event::Tick)?;
        for _ in 0..std::mem::take(&mut self.backlog).min(20) {
            self.arrives()?;
        }
        Ok(())
    }

    /// Sessions, verbs and news under way die with the daemon; workers do not.
    fn daemon_ends(&mut self) {
        self.is_up = false;
        self.life += 1;
        self.sessions.clear();
        for process in self.processes.values_mut() {
            process.requests.clear();
            process.canary_out = false;
            process.looking = false;
        }
    }

    pub fn daemon_crashes(&mut self) {
        if !self.is_up {
            return;
        }
        self.daemon_ends();
        let pause = self.dice.between(10, 60_000);
        self.timeline.plan(self.now + pause, Happening::DaemonStarts);
    }

    pub fn vetted(&mut self) -> Verdict {
        let result = if self.dice.chance(700) { Ok("2".to_owned()) } else { Err("cannot execute".to_owned()) };
        self.feed(Event::ImageVetted { result })
    }

    pub fn executes(&mut self) -> Verdict {
        if !self.model.is_executing() {
            return Ok(());
        }
        match self.dice.below(10) {
            0..6 => {
                self.daemon_ends();
                self.daemon_starts()
            }
            6..9 => self.feed(Event::ExecFailed { why: "text file busy".to_owned() }),
            _ => Ok(()),
        }
    }

    pub fn carry_out(&mut self, action: Action) -> Verdict {
        match action {
            Action::Spawn { generation } => self.spawn(generation.0),
            Action::SendTerminate { generation } => self.terminate(generation.0),
            Action::SendKill { generation } => self.kill(generation.0),
            Action::Assign { id, generation } => return self.assign(id.0, generation.0),
            Action::Refuse { id, .. } => self.refused(id.0),
            Action::ClearCache { generation, cache } => {
                let answers = self.processes.get(&generation.0).is_some_and(|process| process.answers());
                let result = if answers {
                    let held = match cache {
                        CacheKind::Buffers => &mut self.machine.mlx_cache,
                        CacheKind::Prefixes => &mut self.machine.prefix_cache,
                    };
                    let before = std::mem::take(held);
                    Ok(CacheCleared { before_bytes: Some(before), after_bytes: Some(MIB.min(before)) })
                } else {
                    Err("no answer in 2 s".to_owned())
                };
                let delay = if answers { self.dice.between(1, 200) } else { 2_000 };
                self.news(delay, Event::CacheCleared { generation, cache, result });
            }
            Action::SavePrefixCache { .. } => {}
            Action::Sample => self.sample_now = true,
            Action::Probe { generation } => self.look(generation.0, false),
            Action::Canary { generation } => self.canary(generation.0),
            Action::KeepAwake { .. } | Action::Reply { .. } | Action::Record(_) => {}
            Action::VetImage { .. } => {
                let takes = if self.dice.chance(900) { self.dice.between(50, 5_000) } else { 60_000 };
                self.timeline.plan(self.now + takes, Happening::Vetted);
            }
            Action::PauseAccepting => self.accepting = false,
            Action::ResumeAccepting => {
                self.accepting = true;
                self.trouble.rush += std::mem::take(&mut self.backlog).min(20);
            }
            Action::Exec { .. } => self.timeline.plan(self.now + 20, Happening::Executes),
            Action::Persist(persistent) => self.persistent = persistent,
            Action::Exit => {
                self.daemon_ends();
                let pause = self.dice.between(1_000, 120_000);
                self.timeline.plan(self.now + pause, Happening::DaemonStarts);
            }
        }
        Ok(())
    }
}
