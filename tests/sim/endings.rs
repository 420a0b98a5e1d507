//! What is promised about workers: none is started without room, none is told to end before its time, none is killed
//! before its ladder.

use std::time::Duration;

use mlxsup::memory::Metric;
use mlxsup::supervisor::{Action, Generation, Mono, Supervisor};

use crate::model::{Before, Model};
use crate::world::Verdict;

/// A worker that is on its way out.
#[derive(Debug, Clone)]
pub struct Leaving {
    /// Requests that arrived before this may still be assigned to it.
    pub line: u64,
    /// What still runs is forced then; `None`: never.
    pub ends: Option<Mono>,
    /// What still runs is handed on then, if the next worker can go on with it: a reload may change which engine that is.
    pub if_carried: Option<Mono>,
    /// Somebody said: at once.
    pub forced: bool,
}

impl Leaving {
    /// One that is forced or handed on at `ends`, if ever.
    pub fn until(line: u64, ends: Option<Mono>) -> Self {
        Self { line, ends, if_carried: None, forced: false }
    }
}

/// An operator's drain.
#[derive(Debug, Clone, Copy)]
pub struct Line {
    pub at: u64,
    /// After this nothing more is assigned.
    pub ends: Option<Mono>,
}

impl Model {
    pub fn is_terminated(&self, generation: Generation) -> bool {
        self.workers.get(&generation).is_none_or(|worker| worker.terminated.is_some())
    }

    pub fn living(&self, generation: Generation) -> Verdict {
        match self.workers.contains_key(&generation) {
            true => Ok(()),
            false => Err(format!("worker {generation} is acted on, and it is gone")),
        }
    }

    /// (4) Nothing is started where the gate, by the last sample, says no.
    pub fn judge_room(&self, generation: Generation, model: &str) -> Verdict {
        let (Some((_, sample)), Some(appetite)) = (&self.last_sample, &self.persisted.appetite) else { return Ok(()) };
        let number = |metric| sample.get(metric).unwrap_or(0.0);
        let (total, available) = (number(Metric::SystemTotal), number(Metric::SystemAvailable));
        #[expect(clippy::cast_precision_loss, reason = "bytes far below 2^52")]
        let need = appetite.loaded_bytes as f64;
        let reserve = (total * 0.06).clamp(1.073e9, 8.6e9) * 0.99;
        let known = appetite.model == model;
        if known && available < need + reserve {
            return Err(format!(
                "(4) worker {generation} is started with {available:.3e} bytes available where it needs {need:.3e} and \
                 {reserve:.3e} in reserve"
            ));
        }
        Ok(())
    }

    pub fn judge_terminate(
        &mut self,
        generation: Generation,
        before: &Before,
        all: &[Action],
        core: &Supervisor,
        now: Mono,
    ) -> Verdict {
        self.living(generation)?;
        let running = self.running_on(generation);
        let footprint = self.workers.get(&generation).and_then(|worker| worker.footprint).unwrap_or(0);
        if let Some(worker) = self.workers.get_mut(&generation) {
            // The newest SIGTERM starts the ladder: an earlier one found no process.
            worker.terminated = worker.terminated.map(|(_, meant)| (now, meant));
            worker.footprint_at_term = footprint;
            worker.least = footprint;
        }
        if running == 0 || dead_in(all, generation) || silent(all, generation) {
            return Ok(());
        }
        let worker = self.workers.get(&generation);
        let ready = worker.is_some_and(|worker| worker.ready);
        let carried = core.config().worker.engine.continues() && worker.is_some_and(|worker| worker.continues);
        let allowed = self.leaving.get(&generation).is_some_and(|leaving| {
            let ends = leaving.ends.or(leaving.if_carried.filter(|_| carried));
            leaving.forced || (before.stop_asked && self.stopping) || ends.is_some_and(|ends| now >= ends)
        });
        if !ready || allowed {
            return Ok(());
        }
        Err(format!(
            "(8) worker {generation} gets SIGTERM over {running} running requests before its grace period ends: {:?} in \
             {:?}",
            self.leaving.get(&generation),
            core.state()
        ))
    }

    pub fn judge_kill(&mut self, generation: Generation, now: Mono) -> Verdict {
        self.living(generation)?;
        let Some(worker) = self.workers.get_mut(&generation) else { return Ok(()) };
        let Some((since, _)) = worker.terminated else {
            return Err(format!("(8) worker {generation} is killed without SIGTERM"));
        };
        let patience = Duration::from_secs(10 + worker.footprint_at_term.div_ceil(4 << 30));
        let waited = now - since;
        let early = match worker.killed {
            Some(earlier) => now - earlier < Duration::from_secs(30),
            None => {
                waited < patience
                    || worker.shrunk_at.is_some_and(|at| at >= since && now - at < Duration::from_secs(10))
            }
        };
        worker.killed = Some(now);
        match early {
            false => Ok(()),
            true => Err(format!("(8) worker {generation} is killed {waited:?} after SIGTERM, patience {patience:?}")),
        }
    }
}

fn about(actions: &[Action], kind: &str, generation: Generation) -> bool {
    let start = format!("worker {generation} ");
    actions.iter().any(
        |action| matches!(action, Action::Record(record) if record.kind == kind && record.message.starts_with(&start)),
    )
}

pub fn dead_in(actions: &[Action], generation: Generation) -> bool {
    about(actions, "worker_dead", generation)
}

pub fn late_in(actions: &[Action], generation: Generation) -> bool {
    about(actions, "worker_late", generation)
}

/// Found without an answer by this daemon, and ended for it.
pub fn silent(actions: &[Action], generation: Generation) -> bool {
    actions.iter().any(|action| {
        matches!(action, Action::Record(record) if record.kind == "worker_adopted"
            && record.message.starts_with(&format!("worker {generation} ")) && record.message.contains("does not answer"))
    })
}
