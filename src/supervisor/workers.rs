//! The workers that exist at once, and where news of one of them goes.
//!
//! ```text
//! worker    the serving one, or the one that will serve: requests are assigned to it alone
//! overlap   the other half of an overlap hand-over: green while it loads, blue while it finishes (overlap.rs)
//! surplus   those that serve nobody any more and are being ended: an aborted green, an adopted second
//! ```
//! At most `worker` and one other hold a model on purpose; a start waits until the surplus is gone.

use super::event::{Inherited, Vitals};
use super::failure::{Failure, FailureClass};
use super::health::Verdict;
use super::overlap::{Overlap, Phase};
use super::time::{Mono, Now};
use super::worker_life::{Life, StopReason, Worker};
use super::{Action, Generation, Supervisor, spoken};

/// What a worker is to the service.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    /// It serves, or will.
    Serving,
    /// It loads beside the serving one.
    Green,
    /// It finishes what it has after green took over.
    Blue,
    /// It is being ended and means nothing any more.
    Surplus,
}

impl Supervisor {
    /// What a generation is to the service; `None` for one that is gone.
    pub(super) fn role(&self, generation: Generation) -> Option<Role> {
        let is = |worker: &Worker| worker.generation == generation;
        if self.worker.as_ref().is_some_and(is) {
            return Some(Role::Serving);
        }
        if let Some(overlap) = &self.overlap
            && is(overlap.other())
        {
            return Some(match overlap.phase {
                Phase::Rising { .. } => Role::Green,
                Phase::Settling { .. } => Role::Blue,
            });
        }
        self.surplus.iter().any(is).then_some(Role::Surplus)
    }

    /// Every worker whose process exists or is wanted.
    pub(super) fn workers(&self) -> impl Iterator<Item = &Worker> {
        self.worker.iter().chain(self.overlap.as_ref().map(Overlap::other)).chain(&self.surplus)
    }

    pub(super) fn workers_mut(&mut self) -> impl Iterator<Item = &mut Worker> {
        self.worker.iter_mut().chain(self.overlap.as_mut().map(Overlap::other_mut)).chain(&mut self.surplus)
    }

    pub(super) fn worker_of(&self, generation: Generation) -> Option<&Worker> {
        self.workers().find(|worker| worker.generation == generation)
    }

    pub(super) fn worker_mut(&mut self, generation: Generation) -> Option<&mut Worker> {
        self.workers_mut().find(|worker| worker.generation == generation)
    }

    /// SIGTERM to one worker, and the ladder's clock starts. Nothing happens when it has started before.
    pub(super) fn stop_worker(&mut self, generation: Generation, why: StopReason, now: Mono) {
        let machine = self.machine;
        let begins = |worker: &mut Worker| {
            let begins = worker.begin_stop(why, now);
            if begins {
                worker.machine_at_stop = machine;
            }
            begins
        };
        if self.worker_mut(generation).is_some_and(begins) {
            self.actions.push(Action::SendTerminate { generation });
        }
    }

    /// A worker that serves nobody any more is ended, wherever it stood.
    pub(super) fn end_as_surplus(&mut self, worker: Worker, now: Mono) {
        let generation = worker.generation;
        self.surplus.push(worker);
        self.stop_worker(generation, StopReason::Planned, now);
    }

    /// A worker of the last daemon: the newest ready one serves, everything else is ended.
    /// True when the next worker can go on with what the serving one runs.
    pub(super) fn hands_on(&self) -> bool {
        let next = self.config.worker.engine;
        next.continues() && self.worker.as_ref().is_none_or(|worker| worker.engine.continues())
    }

    pub(super) fn adopted(&mut self, mut worker: Worker, found: &Inherited, now: Now) {
        let generation = worker.generation;
        self.kept.generation = self.kept.generation.max(generation.0);
        let silent = matches!(found, Inherited::Silent { .. });
        let how = match found {
            Inherited::Ready(facts) => format!("serves {}", facts.model),
            Inherited::Loading { remaining } => format!("loads, {} left", spoken(*remaining)),
            Inherited::Silent { why } => format!("is of no use ({why}) and is ended"),
        };
        let pid = worker.pid.unwrap_or_default();
        self.record("worker_adopted", format!("worker {generation} (pid {pid}) outlived the last daemon and {how}"));
        worker.wired_before = self.kept.wired_before;
        worker.wired_itself = self.kept.wired_itself;
        if silent {
            // It is in its ladder already; the signal is still owed.
            self.actions.push(Action::SendTerminate { generation });
        }
        let wanted = self.kept.standing != super::Standing::Unloaded && self.parked.is_none();
        let serves = wanted && !silent && (self.worker.is_none() || worker.is_ready());
        if !serves {
            if silent {
                self.surplus.push(worker);
            } else {
                self.end_as_surplus(worker, now.mono);
            }
            return;
        }
        self.respawn = None;
        if let Some(earlier) = self.worker.replace(worker) {
            self.end_as_surplus(earlier, now.mono);
        }
        // Ready is what it says of itself; the canary makes it show it.
        self.ask_canary(now.mono);
    }

    pub(super) fn probed(&mut self, generation: Generation, vitals: &Vitals, now: Mono) {
        let policy = self.config.health.clone();
        let start_timeout = self.config.worker.start_timeout;
        let running = self.requests.running_on(generation) > 0;
        let Some(worker) = self.worker_mut(generation) else { return };
        if let Some(answer) = &vitals.answer {
            worker.last_answer = Some(answer.clone());
        }
        worker.footprint_bytes = vitals.footprint_bytes.or(worker.footprint_bytes);
        let asked = worker.proof.asked_at.is_some();
        let mut note = None;
        match &mut worker.life {
            Life::Spawning { .. } => {}
            Life::Loading { deadline } => {
                // Downloading has its own pace; the start timeout is for reading and warming.
                if vitals.answer.as_ref().is_some_and(|answer| answer.phase == "downloading") {
                    *deadline = now + start_timeout;
                }
            }
            Life::Stopping(ladder) => {
                if let Some(bytes) = vitals.footprint_bytes {
                    ladder.footprint_seen(bytes, now);
                }
            }
            Life::Ready { health, suspect } => {
                health.observe(vitals, now);
                let pending = asked || (running && !health.says_idle());
                match health.verdict(&policy, pending, now) {
                    Verdict::Well if *suspect => {
                        *suspect = false;
                        note = Some(("worker_recovered", format!("worker {generation} answers again")));
                    }
                    Verdict::Well => {}
                    Verdict::Suspect if !*suspect => {
                        *suspect = true;
                        let why = vitals.missed.as_deref().unwrap_or("no answer");
                        let message =
                            format!("worker {generation} missed a probe ({why}); it gets no new work meanwhile");
                        note = Some(("worker_suspect", message));
                    }
                    Verdict::Suspect => {}
                    Verdict::Dead { why } => {
                        self.replace_dead(generation, Failure::new(FailureClass::Stall, why), now);
                        return;
                    }
                }
            }
        }
        if let Some((kind, message)) = note {
            self.record(kind, message);
        }
        self.learn_appetite(generation);
    }

    /// When some worker needs attention even if nothing happens.
    pub(super) fn worker_deadline(&self) -> Option<Mono> {
        self.workers().filter_map(|worker| self.attention_at(worker)).min()
    }

    fn attention_at(&self, worker: &Worker) -> Option<Mono> {
        match &worker.life {
            Life::Ready { health, .. } => health.look_at(&self.config.health, self.has_work(worker)),
            Life::Spawning { .. } | Life::Loading { .. } | Life::Stopping(_) => worker.deadline(),
        }
    }

    fn has_work(&self, worker: &Worker) -> bool {
        let running = self.requests.running_on(worker.generation) > 0;
        worker.proof.asked_at.is_some() || (running && !worker.says_idle())
    }

    pub(super) fn keep_worker_deadlines(&mut self, now: Mono) {
        let due: Vec<Generation> = self
            .workers()
            .filter(|worker| self.attention_at(worker).is_some_and(|at| now >= at))
            .map(|w| w.generation)
            .collect();
        for generation in due {
            let timeout = spoken(self.config.worker.start_timeout);
            let Some(worker) = self.worker_mut(generation) else { continue };
            match &mut worker.life {
                Life::Spawning { .. } | Life::Loading { .. } => {
                    let why = format!("was not ready within {timeout}");
                    let advice = "raise worker.start_timeout if it only needs longer";
                    self.record("worker_late", format!("worker {generation} {why}; {advice}"));
                    self.stop_worker(generation, StopReason::Failed(Failure::new(FailureClass::Load, why)), now);
                }
                Life::Ready { health, .. } => {
                    health.looks();
                    self.actions.push(Action::Probe { generation });
                }
                Life::Stopping(ladder) => {
                    ladder.kill_sent(now);
                    let waited = spoken(now - ladder.since);
                    let message = match ladder.kills {
                        1 => format!("worker {generation} ignored SIGTERM for {waited}; killing its group"),
                        kills => format!(
                            "worker {generation} is still there {waited} after SIGTERM: the kernel holds it; killing it \
                             again ({kills})"
                        ),
                    };
                    self.record("worker_killed", message);
                    self.actions.push(Action::SendKill { generation });
                }
            }
        }
    }
}
