//! Somebody at the keyboard: any verb at any moment, and now and then the one that mends things.

use std::time::Duration;

use mlxsup::control::view::State;
use mlxsup::supervisor::verbs::{RestartAsked, Verb};
use mlxsup::supervisor::{Event, OperationId};

use crate::settings::{MODELS, Settings, parsed};
use crate::timeline::Happening;
use crate::truth::looks;
use crate::world::{Verdict, World};

impl World {
    pub fn commands(&mut self) -> Verdict {
        if !self.is_up {
            return Ok(());
        }
        if self.dice.chance(500)
            && let Some(verb) = self.mending_verb()
        {
            return self.ask(verb).map(|_| ());
        }
        let no_wait = self.dice.chance(300);
        let mode = self.dice.pick(&[
            RestartAsked::Auto,
            RestartAsked::Auto,
            RestartAsked::Overlap,
            RestartAsked::Sequential,
            RestartAsked::Now,
        ]);
        let deadline = self.dice.chance(400).then(|| Duration::from_millis(self.dice.between(100, 60_000)));
        let name = self.dice.pick(&["nightly", "evening", "morning", "unheard-of"]).to_owned();
        let verb = match self.dice.below(100) {
            0..14 => Verb::Drain { deadline, refuse: self.dice.chance(300), no_wait },
            14..28 => Verb::Resume,
            28..56 => Verb::Restart { mode, plan: false, no_wait },
            56..60 => Verb::Restart { mode, plan: true, no_wait },
            60..70 => Verb::Unload { now: self.dice.chance(400), no_wait },
            70..78 => Verb::Load { no_wait },
            78..86 => Verb::ClearCache,
            86..92 => Verb::Upgrade { to: None, no_wait },
            _ => Verb::RunSchedule { name },
        };
        self.ask(verb)?;
        // People are impatient.
        if self.dice.chance(100) {
            let at = self.now + self.dice.below(3_000);
            self.timeline.plan(at, Happening::CommandsAgain);
        }
        Ok(())
    }

    /// What brings this service back into service, if somebody has to.
    pub fn mending_verb(&self) -> Option<Verb> {
        match self.core.state() {
            State::Drained | State::Draining => Some(Verb::Resume),
            State::Unloaded => Some(Verb::Load { no_wait: false }),
            State::Parked => Some(Verb::Restart { mode: RestartAsked::Auto, plan: false, no_wait: false }),
            State::Starting if self.model.is_drained() => Some(Verb::Resume),
            State::Starting | State::Serving | State::Handover | State::Asleep | State::Stranded | State::Stopping => {
                None
            }
        }
    }

    pub fn ask(&mut self, verb: Verb) -> Result<u64, String> {
        let operation = self.next_operation;
        self.next_operation += 1;
        self.feed(Event::Operator { operation: OperationId(operation), verb })?;
        Ok(operation)
    }

    /// Another file is in place; nothing has read it yet.
    pub fn rewrite_configuration(&mut self, other_model: bool) {
        if other_model {
            self.configured_model = (self.configured_model + 1) % MODELS.len();
        } else {
            self.slots = u32::try_from(self.dice.between(1, 6)).unwrap_or(1);
            if self.dice.chance(300) {
                self.settings = Settings::any(&mut self.dice);
            }
        }
        self.text = self.settings.text(MODELS[self.configured_model]);
    }

    pub fn reload(&mut self) -> Verdict {
        if !self.is_up {
            return Ok(());
        }
        let config = parsed(&self.text);
        let wall = self.instant().wall;
        self.timetable.reload(&config.schedules, wall);
        self.look_at_timetable = self.now;
        self.looks_before = looks(self.core.config());
        self.feed(Event::Reconfigured { config: Box::new(config) })
    }

    pub fn stop_daemon(&mut self, keep_worker: bool, again: bool) -> Verdict {
        self.feed(Event::StopAsked { keep_worker })?;
        if again {
            let delay = self.dice.between(1, 20_000);
            self.news(delay, Event::StopAsked { keep_worker });
        }
        Ok(())
    }
}
