//! (12) Once faults stop, the state everybody wants is reached, and everything ends.

use mlxsup::control::view::State;
use mlxsup::supervisor::Standing;

use crate::clients::Session;
use crate::machine::Machine;
use crate::process::{Canary, Condition, OnTerminate};
use crate::timeline::Happening;
use crate::world::{Trouble, Verdict, World};

const SECOND: u64 = 1000;

impl World {
    /// The whole of one seed: so many hours of trouble, then the proof that all was survived.
    pub fn play(&mut self, hours: u64) -> Verdict {
        self.begin()?;
        self.run(self.now + hours * 3600 * SECOND)?;
        self.calms_down()?;
        self.recovers_by_itself()?;
        self.is_brought_back()?;
        self.answers_again()
    }

    /// No more faults; what ails the living is healed, and what they hold comes back.
    fn calms_down(&mut self) -> Verdict {
        self.trace.note(self.now, || "faults stop".to_owned());
        self.calm = true;
        self.busy = true;
        self.sample_ms = self.sample_ms.max(2_000);
        self.trouble = Trouble::default();
        self.machine = Machine {
            others: self.machine.total / 8,
            // What a stranger wires while a worker ends cannot be told from what the worker left.
            others_wired: self.machine.total / 16,
            stranded: 0,
            pressure: None,
            compressed: 0,
            mlx_cache: 0,
            prefix_cache: 0,
            swapins: 0,
            ..self.machine
        };
        let generations: Vec<u64> = self.processes.keys().copied().collect();
        for generation in generations {
            let Some(process) = self.processes.get_mut(&generation) else { continue };
            process.canary = Canary::Right;
            process.leak = 0;
            process.unkillable_until = 0;
            process.on_terminate = OnTerminate::Obeys { after_ms: 1_000 };
            if process.condition != Condition::Well {
                self.thaws(generation);
            }
            if self.processes.get(&generation).is_some_and(|process| process.terminated || process.killed) {
                let how = crate::timeline::How::Signal(9);
                self.timeline.plan(self.now + 1_000, Happening::Dies { generation, how });
            }
        }
        if self.model.unconfigured {
            self.reload()?;
        }
        // Rules learn from the next samples that it is over.
        self.run(self.now + 15 * SECOND)
    }

    /// How long it may take until nothing is under way any more: the longest of each wait, one after the other.
    fn patience(&self) -> u64 {
        let config = self.core.config();
        let waits = [
            config.drain.grace,
            config.worker.start_timeout,
            config.worker.start_timeout,
            config.restart.backoff_max * 2,
            config.restart.retry_parked,
            config.queue.max_wait,
        ];
        let all: u64 = waits.iter().map(|wait| u64::try_from(wait.as_millis()).unwrap_or(u64::MAX / 8)).sum();
        all + 600 * SECOND
    }

    fn desired(&self) -> bool {
        let state = self.core.state();
        self.is_up
            && match self.persistent.standing {
                Standing::Serve => matches!(state, State::Serving | State::Asleep),
                Standing::Drained => matches!(state, State::Drained | State::Draining | State::Asleep),
                Standing::Unloaded => state == State::Unloaded,
            }
    }

    fn recovers_by_itself(&mut self) -> Verdict {
        let until = self.now + self.patience();
        while !self.desired() {
            if self.now >= until {
                return Err(format!(
                    "(12) faults stopped {} s ago, and it is still {}; wanted: {:?}; {:?}",
                    self.patience() / SECOND,
                    self.core.state().as_str(),
                    self.persistent.standing,
                    self.core.snapshot().cause
                ));
            }
            self.run(self.now + 10 * SECOND)?;
        }
        Ok(())
    }

    /// An operator undoes what operators and rules did.
    fn is_brought_back(&mut self) -> Verdict {
        let until = self.now + self.patience();
        while self.core.state() != State::Serving && self.core.state() != State::Asleep || !self.is_up {
            if self.now >= until {
                let state = self.core.state().as_str();
                return Err(format!("(12) an operator does not get it back into service: {state}"));
            }
            if self.is_up
                && let Some(verb) = self.mending_verb()
            {
                self.ask(verb)?;
            }
            self.run(self.now + 30 * SECOND)?;
        }
        Ok(())
    }

    /// All that was asked before has ended, and what is asked now is answered.
    fn answers_again(&mut self) -> Verdict {
        self.ends_everything()?;
        for _ in 0..3 {
            self.is_brought_back()?;
            let id = self.submit(Session::waiting(), 1_000_000_000)?;
            let life = self.life;
            self.ends_everything()?;
            let answered = self.sessions.get(&id).is_some_and(|session| session.tokens.len() as u64 == session.total);
            if !answered && life == self.life {
                return Err(format!("(12) r{id} came after all faults and was not answered"));
            }
        }
        Ok(())
    }

    fn ends_everything(&mut self) -> Verdict {
        let until = self.now + self.patience() + 7_200 * SECOND;
        while !(self.is_up && self.model.requests.is_empty() && self.model.operations.is_empty()) {
            if self.now >= until {
                let requests: Vec<_> = self.model.requests.iter().take(3).collect();
                let operations = &self.model.operations;
                let state = self.core.state().as_str();
                return Err(format!("(1) never ended: {requests:?}, {operations:?}; it is {state}"));
            }
            if self.is_up
                && let Some(verb) = self.mending_verb()
            {
                self.ask(verb)?;
            }
            self.run(self.now + 10 * SECOND)?;
        }
        Ok(())
    }
}
