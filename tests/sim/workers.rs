//! The lives of worker processes: birth, load, looks, trouble, death and what it leaves.

use std::collections::BTreeSet;

use mlxsup::supervisor::event::Exit;
use mlxsup::supervisor::{Event, Generation};

use crate::machine::MIB;
use crate::process::{Canary, Condition, Load, OnTerminate, Process};
use crate::timeline::{Happening, How};
use crate::world::{Verdict, World};

impl World {
    pub fn spawn(&mut self, generation: u64) {
        if self.trouble.spawns > 0 {
            self.trouble.spawns -= 1;
            let why = "no such program".to_owned();
            self.news(1, Event::SpawnFailed { generation: Generation(generation), why });
            return;
        }
        let load = match self.trouble.loads {
            0 => Load::Ready,
            _ => {
                self.trouble.loads -= 1;
                self.dice.pick(&[Load::Fails, Load::Crashes, Load::Hangs, Load::Downloads])
            }
        };
        let load_ms = match load {
            Load::Downloads => self.load_ms * self.dice.between(2, 20),
            _ => self.load_ms + self.dice.below(self.load_ms / 2),
        };
        let on_terminate = match self.trouble.terminations {
            0 => OnTerminate::Obeys { after_ms: self.dice.between(20, 4_000) },
            _ => {
                self.trouble.terminations -= 1;
                match self.dice.below(4) {
                    0 => OnTerminate::Ignores,
                    1 => OnTerminate::Shrinks { per_second: self.dice.between(100, 4000) * MIB },
                    2 => OnTerminate::SaysReady { after_ms: self.dice.between(1_000, 9_000) },
                    _ => OnTerminate::Obeys { after_ms: self.dice.between(9_000, 15_000) },
                }
            }
        };
        let process = Process {
            generation,
            pid: u32::try_from(1000 + generation).unwrap_or(u32::MAX),
            model: self.configured_model,
            engine: self.core.config().worker.engine,
            born: self.now,
            load,
            load_ms,
            ready: false,
            weight: self.weights[self.configured_model],
            leak: 0,
            shrunk: 0,
            condition: Condition::Well,
            on_terminate,
            terminated: false,
            killed: false,
            unkillable_until: 0,
            steps: 0,
            cpu_ms: 0,
            page_ins: 0,
            moved_at: self.now,
            looked_at: self.now,
            looking: false,
            look_wanted: false,
            canary_out: false,
            canary: Canary::Right,
            bad_canaries: 0,
            requests: BTreeSet::new(),
            buffered: BTreeSet::new(),
            held: Vec::new(),
            slots: self.slots,
            says_sequences: true,
        };
        let pid = process.pid;
        self.processes.insert(generation, process);
        let delay = self.dice.between(1, 30);
        self.news(delay, Event::Spawned { generation: Generation(generation), pid });
        if load != Load::Hangs {
            self.timeline.plan(self.now + load_ms, Happening::Loaded { generation });
        }
        self.timeline.plan(self.now + 250, Happening::Look { generation, regular: true });
        if self.trouble.crashes > 0 {
            self.trouble.crashes -= 1;
            let at = self.now + load_ms + self.dice.between(0, 20_000);
            self.timeline.plan(at, Happening::Dies { generation, how: How::Signal(6) });
        }
    }

    pub fn loaded(&mut self, generation: u64) -> Verdict {
        let Some(process) = self.processes.get_mut(&generation) else { return Ok(()) };
        if process.is_frozen() && process.condition != Condition::Lying {
            process.held.push(Happening::Loaded { generation });
            return Ok(());
        }
        match process.load {
            Load::Fails => {
                let at = self.now + self.dice.between(10, 1_000);
                self.timeline.plan(at, Happening::Dies { generation, how: How::Code(1) });
            }
            Load::Crashes => return self.dies(generation, How::Signal(11)),
            Load::Hangs => {}
            Load::Ready | Load::Downloads => {
                if process.terminated && !matches!(process.on_terminate, OnTerminate::SaysReady { .. }) {
                    return Ok(());
                }
                process.ready = true;
                process.moved_at = self.now;
                let facts = process.facts();
                let delay = self.delay();
                self.news(delay, Event::WorkerReady { generation: Generation(generation), facts });
            }
        }
        Ok(())
    }

    /// A look begins, unless one is out.
    pub fn look(&mut self, generation: u64, regular: bool) {
        let interval = self.core.config().health.interval.as_millis();
        let interval = u64::try_from(interval).unwrap_or(5_000);
        let timeout = u64::try_from(self.core.config().health.timeout.as_millis()).unwrap_or(2_000);
        let thin = !self.busy && !self.calm;
        let Some(process) = self.processes.get_mut(&generation) else { return };
        if regular {
            let undisturbed =
                process.condition == Condition::Well && process.requests.is_empty() && !process.terminated;
            let pause = match (process.ready, thin && undisturbed) {
                (false, _) => 1_000,
                (true, true) => interval * 6,
                (true, false) => interval,
            };
            self.timeline.plan(self.now + pause, Happening::Look { generation, regular: true });
        }
        if process.looking {
            process.look_wanted = true;
            return;
        }
        process.looking = true;
        let answers = process.answers();
        let takes = if answers { self.dice.between(1, 15) } else { timeout };
        self.timeline.plan(self.now + takes, Happening::Seen { generation });
    }

    pub fn seen(&mut self, generation: u64) {
        let patience = u64::try_from(self.core.config().health.timeout.as_millis()).unwrap_or(2_000);
        let now = self.now;
        let Some(process) = self.processes.get_mut(&generation) else { return };
        process.looking = false;
        let again = std::mem::take(&mut process.look_wanted);
        let vitals = process.vitals(now, patience);
        let delay = self.dice.below(3);
        self.news(delay, Event::Probed { generation: Generation(generation), vitals });
        if again {
            self.look(generation, false);
        }
    }

    pub fn thaws(&mut self, generation: u64) {
        let Some(process) = self.processes.get_mut(&generation) else { return };
        process.condition = Condition::Well;
        // Visibly, though it may fall ill again before anybody looks.
        process.moves(self.now);
        for happening in std::mem::take(&mut process.held) {
            self.timeline.plan(self.now, happening);
        }
    }

    pub fn terminate(&mut self, generation: u64) {
        let Some(process) = self.processes.get_mut(&generation) else { return };
        process.terminated = true;
        if process.condition == Condition::Stopped || process.condition == Condition::Deaf {
            // The signal is pending: it is obeyed when the process goes on, if ever.
            process.held.push(Happening::Dies { generation, how: How::Signal(15) });
            return;
        }
        let on_terminate = process.on_terminate;
        let requests: Vec<u64> = process.requests.iter().copied().collect();
        match on_terminate {
            OnTerminate::Ignores => return,
            OnTerminate::Obeys { after_ms } => {
                self.timeline.plan(self.now + after_ms, Happening::Dies { generation, how: How::Code(0) });
            }
            OnTerminate::SaysReady { after_ms } => {
                self.timeline.plan(self.now + after_ms / 2, Happening::Loaded { generation });
                self.timeline.plan(self.now + after_ms, Happening::Dies { generation, how: How::Code(0) });
            }
            OnTerminate::Shrinks { .. } => {
                self.timeline.plan(self.now + 1_000, Happening::Shrinks { generation });
                self.timeline.plan(self.now + 1_000, Happening::Look { generation, regular: false });
            }
        }
        // Most workers close their streams long before they are gone.
        if self.dice.chance(700) {
            for request in requests {
                let delay = self.delay();
                self.link_breaks(request, delay);
            }
        }
    }

    pub fn shrinks(&mut self, generation: u64) {
        let now = self.now;
        let Some(process) = self.processes.get_mut(&generation) else { return };
        let OnTerminate::Shrinks { per_second } = process.on_terminate else { return };
        process.shrunk += per_second;
        if process.footprint(now) <= 32 * MIB {
            self.timeline.plan(now, Happening::Dies { generation, how: How::Code(0) });
        } else {
            self.timeline.plan(now + 1_000, Happening::Shrinks { generation });
        }
    }

    pub fn kill(&mut self, generation: u64) {
        let calm = self.calm;
        let Some(process) = self.processes.get_mut(&generation) else { return };
        process.killed = true;
        let released = if calm { self.now } else { process.unkillable_until.max(self.now) };
        let at = released + self.dice.between(1, 60);
        self.timeline.plan(at, Happening::Dies { generation, how: How::Signal(9) });
    }

    /// The process is gone: its links break, its memory comes back or does not, and the daemon hears of it.
    pub fn dies(&mut self, generation: u64, how: How) -> Verdict {
        let now = self.now;
        if self.processes.get(&generation).is_some_and(|process| process.unkillable_until > now) && !self.calm {
            // It hangs in the kernel, whatever is done to it.
            let at = self.processes.get(&generation).map_or(now, |process| process.unkillable_until);
            self.timeline.plan(at, Happening::Dies { generation, how });
            return Ok(());
        }
        let Some(process) = self.processes.remove(&generation) else { return Ok(()) };
        let wired = if process.ready { process.wired(now) } else { 0 };
        self.memory_returns(wired, how == How::Signal(9) || how == How::OutOfMemory);
        let (status, out_of_memory) = Self::how_exit(how);
        let delay = self.delay();
        let exit = Exit { status, stderr_tail: vec!["last words".to_owned()], out_of_memory };
        self.news(delay, Event::WorkerExited { generation: Generation(generation), exit });
        if process.canary_out {
            let delay = self.delay();
            let result = Err("connection closed".to_owned());
            self.news(delay, Event::CanaryAnswered { generation: Generation(generation), result });
        }
        for request in process.requests {
            let delay = self.delay();
            self.link_breaks(request, delay);
        }
        Ok(())
    }

    /// Wired memory is released a moment later, much later, or only with the faults' end.
    fn memory_returns(&mut self, wired: u64, hard: bool) {
        if wired == 0 {
            return;
        }
        self.machine.stranded += wired;
        let after = match hard && self.trouble.strands > 0 && !self.calm {
            true => {
                self.trouble.strands -= 1;
                self.dice.between(20_000, 3_000_000)
            }
            false => self.dice.between(0, 3_000),
        };
        self.timeline.plan(self.now + after, Happening::Returns { bytes: wired });
    }

    pub fn canary(&mut self, generation: u64) {
        let Some(process) = self.processes.get_mut(&generation) else { return };
        process.canary_out = true;
        let takes = self.dice.between(20, 3_000);
        self.timeline.plan(self.now + takes, Happening::CanaryDone { generation });
    }

    pub fn canary_done(&mut self, generation: u64) {
        let now = self.now;
        let Some(process) = self.processes.get_mut(&generation) else { return };
        if process.is_frozen() {
            process.held.push(Happening::CanaryDone { generation });
            return;
        }
        process.canary_out = false;
        process.moves(now);
        let result = match process.canary {
            Canary::Right => Ok(vec![7]),
            Canary::Wrong => Ok(vec![9]),
            Canary::Refuses => Err("500 engine error".to_owned()),
        };
        if process.canary != Canary::Right {
            process.bad_canaries += 1;
            self.wrong_canary_heard |= process.canary == Canary::Wrong;
        }
        self.news(1, Event::CanaryAnswered { generation: Generation(generation), result });
    }
}
