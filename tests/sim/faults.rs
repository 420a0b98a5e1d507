//! What goes wrong, and how often: the published table, and each fault's effect.

use mlxsup::supervisor::event::{CacheKind, Exit, ExitStatus};
use mlxsup::supervisor::request::Report;
use mlxsup::supervisor::{Event, Generation, RequestId};

use crate::clients::Nature;
use crate::machine::GIB;
use crate::process::{Canary, Condition};
use crate::timeline::{Happening, How};
use crate::world::{Verdict, World};

/// One kind of trouble.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    WorkerCrashes,
    CrashStorm,
    OutOfMemory,
    Stopped,
    Deaf,
    Stalled,
    Lying,
    Thrashing,
    BadLoads,
    BadTerminations,
    Unkillable,
    StaleNews,
    LinkBreaks,
    ClientsVanish,
    SlowReaders,
    EngineErrors,
    Poison,
    BadCanary,
    SpawnFails,
    MemorySpike,
    Pressure,
    OthersWire,
    Strands,
    Leak,
    WallJumps,
    Sleeps,
    Reload,
    /// The next daemon finds no configuration that it could serve with.
    BadConfiguration,
    DaemonCrashes,
    DaemonStops,
    Busy,
}

/// How often each comes, relative to the others.
pub const WEIGHTS: &[(u32, Fault)] = &[
    (10, Fault::WorkerCrashes),
    (2, Fault::CrashStorm),
    (4, Fault::OutOfMemory),
    (5, Fault::Stopped),
    (4, Fault::Deaf),
    (4, Fault::Stalled),
    (2, Fault::Lying),
    (4, Fault::Thrashing),
    (8, Fault::BadLoads),
    (8, Fault::BadTerminations),
    (3, Fault::Unkillable),
    (10, Fault::StaleNews),
    (8, Fault::LinkBreaks),
    (8, Fault::ClientsVanish),
    (3, Fault::SlowReaders),
    (5, Fault::EngineErrors),
    (4, Fault::Poison),
    (4, Fault::BadCanary),
    (3, Fault::SpawnFails),
    (8, Fault::MemorySpike),
    (6, Fault::Pressure),
    (2, Fault::OthersWire),
    (4, Fault::Strands),
    (4, Fault::Leak),
    (4, Fault::WallJumps),
    (3, Fault::Sleeps),
    (6, Fault::Reload),
    (2, Fault::BadConfiguration),
    (6, Fault::DaemonCrashes),
    (4, Fault::DaemonStops),
    (6, Fault::Busy),
];

impl World {
    pub fn fault(&mut self) -> Verdict {
        let fault = self.dice.weighted(WEIGHTS);
        self.trace.note(self.now, || format!("fault: {fault:?}"));
        let now = self.now;
        match fault {
            Fault::WorkerCrashes => {
                if let Some(generation) = self.any_process() {
                    let how = self.dice.pick(&[How::Signal(11), How::Signal(9), How::Code(1), How::Code(0)]);
                    return self.dies(generation, how);
                }
            }
            Fault::CrashStorm => self.trouble.crashes = self.dice.between(2, 8),
            Fault::OutOfMemory => {
                if let Some(generation) = self.any_process() {
                    return self.dies(generation, How::OutOfMemory);
                }
            }
            Fault::Stopped => self.afflict(Condition::Stopped),
            Fault::Deaf => self.afflict(Condition::Deaf),
            Fault::Stalled => self.afflict(Condition::Stalled),
            Fault::Lying => self.afflict(Condition::Lying),
            Fault::Thrashing => self.afflict(Condition::Thrashing),
            Fault::BadLoads => self.trouble.loads = self.dice.between(1, 4),
            Fault::BadTerminations => self.trouble.terminations = self.dice.between(1, 3),
            Fault::Unkillable => {
                let until = now + self.dice.between(5_000, 400_000);
                if let Some(process) = self.any_process().and_then(|generation| self.processes.get_mut(&generation)) {
                    process.unkillable_until = until;
                }
            }
            Fault::StaleNews => return self.stale_news(),
            Fault::LinkBreaks => self.break_links(),
            Fault::ClientsVanish => {
                for request in self.some_sessions() {
                    self.hangs_up(request);
                }
            }
            Fault::SlowReaders => self.trouble.natures.extend([Nature::SlowReader; 2]),
            Fault::EngineErrors => self.trouble.natures.extend([Nature::Failing; 4]),
            Fault::Poison => self.trouble.natures.push(Nature::Poisonous),
            Fault::BadCanary => {
                let canary = self.dice.pick(&[Canary::Wrong, Canary::Refuses]);
                if let Some(process) = self.any_process().and_then(|generation| self.processes.get_mut(&generation)) {
                    process.canary = canary;
                }
            }
            Fault::SpawnFails => self.trouble.spawns = self.dice.between(1, 7),
            Fault::MemorySpike => {
                let taken = self.dice.between(1, self.machine.total / GIB / 2) * GIB;
                self.machine.others += taken;
                let until = now + self.dice.between(2_000, 900_000);
                self.timeline.plan(until, Happening::Others { give_back: taken });
            }
            Fault::Pressure => {
                self.machine.pressure = Some(self.dice.pick(&[2, 4]));
                self.machine.swapins = 50 << 20;
                self.timeline.plan(now + self.dice.between(2_000, 300_000), Happening::Relief);
            }
            Fault::OthersWire => {
                self.machine.others_wired += self.dice.between(1, 4) * GIB / 2;
            }
            Fault::Strands => self.trouble.strands = 1,
            Fault::Leak => {
                self.machine.mlx_cache = self.dice.below(3) * GIB;
                self.machine.prefix_cache = self.dice.below(3) * GIB;
                self.machine.compressed = self.dice.below(4) * GIB;
                let leak = self.dice.below(6) * GIB;
                if let Some(process) = self.any_process().and_then(|generation| self.processes.get_mut(&generation)) {
                    process.leak += leak;
                }
            }
            Fault::WallJumps => {
                let jump = self.dice.pick(&[3_600_000, 90_000, 1_000, 86_400_000]);
                self.wall_offset = match self.dice.chance(500) {
                    true => self.wall_offset + jump,
                    false => self.wall_offset - jump.min(self.wall_offset - 1_000_000_000_000),
                };
            }
            Fault::Sleeps => self.wall_offset += self.dice.between(60_000, 8 * 3_600_000),
            Fault::Reload => {
                let other = self.dice.chance(250);
                self.rewrite_configuration(other);
                return self.reload();
            }
            Fault::BadConfiguration => {
                self.trouble.bad_configuration = true;
                self.daemon_crashes();
            }
            Fault::DaemonCrashes => self.daemon_crashes(),
            Fault::DaemonStops => {
                let keep_worker = self.dice.chance(300);
                let again = self.dice.chance(300);
                return self.stop_daemon(keep_worker, again);
            }
            Fault::Busy => self.trouble.rush = self.dice.between(5, 60),
        }
        Ok(())
    }

    /// Something ails a worker from now on, for ever or for a while.
    fn afflict(&mut self, condition: Condition) {
        let Some(generation) = self.any_process() else { return };
        let Some(process) = self.processes.get_mut(&generation) else { return };
        if process.is_frozen() {
            return;
        }
        process.condition = condition;
        let for_ever = condition != Condition::Thrashing && self.dice.chance(500);
        if !for_ever {
            let until = self.now + self.dice.between(500, 400_000);
            self.timeline.plan(until, Happening::Thaws { generation });
        }
    }

    fn break_links(&mut self) {
        for request in self.some_sessions() {
            self.link_breaks(request, 5);
        }
    }

    fn some_sessions(&mut self) -> Vec<u64> {
        let all: Vec<u64> = self.sessions.iter().filter(|(_, session)| !session.over).map(|(id, _)| *id).collect();
        let share = self.dice.pick(&[100, 400, 1000]);
        all.into_iter().filter(|_| self.dice.chance(share)).collect()
    }

    /// News of workers long gone, or never there, and second copies of what was heard.
    fn stale_news(&mut self) -> Verdict {
        let generation = Generation(self.dice.below(self.persistent.generation + 3));
        let id = RequestId(self.dice.below(self.next_request + 2));
        let exit = Exit { status: ExitStatus::Signal(9), stderr_tail: Vec::new(), out_of_memory: false };
        let event = match self.dice.below(9) {
            0 => Event::Spawned { generation, pid: 4711 },
            1 => Event::SpawnFailed { generation, why: "no such program".to_owned() },
            2 => Event::WorkerExited { generation, exit },
            3 => Event::CanaryAnswered { generation, result: Ok(vec![1]) },
            4 => Event::CacheCleared { generation, cache: CacheKind::Prefixes, result: Err("gone".to_owned()) },
            5 => Event::Reported {
                id,
                report: Report::Progressed { generation, prompt_tokens: 1, completion_tokens: 1 },
            },
            6 => {
                let report = Report::Interrupted { generation, progressed: false, why: "reset".to_owned() };
                Event::Reported { id, report }
            }
            7 => Event::ImageVetted { result: Ok("9".to_owned()) },
            _ => Event::ExecFailed { why: "late".to_owned() },
        };
        if self.is_up && self.model.is_stale(&event) { self.feed(event) } else { Ok(()) }
    }
}
