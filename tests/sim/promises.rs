//! What must hold after every step, whatever happens: the twelve invariants, and the promises to requests and verbs.

use std::time::Duration;

use mlxsup::config::KeepAwake;
use mlxsup::control::view::State;
use mlxsup::supervisor::verbs::{OutcomeKind, RestartAsked, Verb};
use mlxsup::supervisor::{Action, Generation, Mono, Now, OperationId, Record, RequestId, Standing, Supervisor};

use crate::endings::{Leaving, Line};
use crate::endings::{dead_in, late_in, silent};
use crate::model::{Before, Model, ShadowWorker};
use crate::world::Verdict;

impl Model {
    /// Holds the actions of one step against everything promised.
    ///
    /// # Errors
    /// The broken promise.
    pub fn judge(&mut self, before: &Before, actions: &[Action], core: &Supervisor, now: Now) -> Verdict {
        if let Some((other, expected)) = &before.stale
            && (expected != actions || format!("{other:?}") != format!("{core:?}"))
        {
            return Err(format!("(6) stale news changed something: {actions:?}, a tick gives {expected:?}"));
        }
        for action in actions {
            if let Action::SendTerminate { generation } = action
                && let Some(worker) = self.workers.get_mut(generation)
            {
                let dead = dead_in(actions, *generation);
                worker.terminated.get_or_insert((
                    now.mono,
                    !dead && !late_in(actions, *generation) && !silent(actions, *generation),
                ));
            }
        }
        self.judge_adrift(now.mono);
        self.settle_heads(now.mono);
        if let Some((id, submission)) = &before.submitted {
            self.judge_admission(*id, submission, actions, core, now.mono)?;
        }
        self.fired = None;
        for action in actions {
            self.judge_action(action, before, actions, core, now.mono)?;
        }
        if before.stop_asked {
            self.stopping = true;
        }
        self.settle_lines(before, actions, core, now.mono);
        self.settle_heads(now.mono);
        if actions.contains(&Action::Exit) {
            return Ok(());
        }
        self.judge_after(core, now.mono)
    }

    fn judge_action(
        &mut self,
        action: &Action,
        before: &Before,
        all: &[Action],
        core: &Supervisor,
        now: Mono,
    ) -> Verdict {
        match action {
            Action::Spawn { generation } => {
                if self.persisted.generation < generation.0 {
                    return Err(format!("worker {generation} is spawned before its number is kept"));
                }
                let others = self.workers.len();
                self.overlapping = others > 0;
                if others > 1 || (others == 1 && !recorded(all, "handover")) {
                    return Err(format!("(4) worker {generation} is spawned beside {others} others"));
                }
                self.judge_room(*generation, &core.config().worker.model)?;
                if self.workers.insert(*generation, ShadowWorker::spawned(core.config().worker.engine)).is_some() {
                    return Err(format!("worker {generation} is spawned twice"));
                }
            }
            Action::SendTerminate { generation } => self.judge_terminate(*generation, before, all, core, now)?,
            Action::SendKill { generation } => self.judge_kill(*generation, now)?,
            Action::Assign { id, generation } => self.judge_assign(*id, *generation, core, now)?,
            Action::Refuse { id, refusal } => {
                let at_the_door = before.submitted.as_ref().is_some_and(|(submitted, _)| submitted == id);
                if !at_the_door || self.requests.contains_key(id) {
                    self.judge_refusal(*id, refusal.code, core, now)?;
                }
            }
            Action::Probe { generation } => {
                self.living(*generation)?;
                if let Some(worker) = self.workers.get_mut(generation) {
                    worker.looked_at = true;
                }
            }
            Action::ClearCache { generation, .. } | Action::SavePrefixCache { generation } => {
                self.living(*generation)?;
            }
            Action::Canary { generation } => {
                self.living(*generation)?;
                if let Some(worker) = self.workers.get_mut(generation)
                    && std::mem::replace(&mut worker.canary_out, true)
                {
                    return Err(format!("worker {generation} is asked a second canary"));
                }
            }
            Action::KeepAwake { on } => self.awake = *on,
            Action::Reply { operation, outcome } => {
                let Some(asked) = self.operations.remove(operation) else {
                    return Err(format!("{operation:?} is answered, and nobody waits for it"));
                };
                if matches!(asked.verb, Verb::Resume) && outcome.result == OutcomeKind::Done {
                    let workers = &self.workers;
                    let stays = |generation: &Generation| {
                        workers.get(generation).is_none_or(|worker| worker.terminated.is_some())
                    };
                    self.leaving.retain(|generation, _| stays(generation));
                }
            }
            Action::Record(record) => self.note_record(record, before, core, now)?,
            Action::Persist(persistent) => {
                if persistent.generation < self.persisted.generation {
                    return Err("a generation would be used twice".to_owned());
                }
                let loads = self.persisted.standing == Standing::Unloaded && persistent.standing == Standing::Serve;
                if loads && before.verb.is_none() && self.fired.is_some() {
                    self.judge_switch(true, core, now)?;
                }
                self.persisted = persistent.clone();
                if persistent.standing != Standing::Drained {
                    self.line = None;
                }
            }
            Action::VetImage { .. } => self.vetting = true,
            Action::Exec { .. } => {
                self.executing = true;
                if !self.requests.is_empty() {
                    return Err(format!("exec with {} requests here", self.requests.len()));
                }
            }
            Action::Exit => {
                if !self.stopping && !before.stop_asked {
                    return Err("the daemon leaves and nobody asked it to".to_owned());
                }
                if let Some(id) = self.requests.keys().next() {
                    return Err(format!("(1) {id} is left without an end"));
                }
                if let Some(operation) = self.operations.keys().next() {
                    return Err(format!("{operation:?} is left without an answer"));
                }
            }
            Action::Sample | Action::PauseAccepting | Action::ResumeAccepting => {}
        }
        Ok(())
    }

    /// (9) No rule undoes within a cooldown what a rule has just loaded or unloaded.
    fn judge_switch(&mut self, loads: bool, core: &Supervisor, now: Mono) -> Verdict {
        if let Some((loaded, until)) = self.switched
            && loaded != loads
            && now < until
        {
            return Err(format!("(9) rule {:?} undoes what a rule has just done", self.fired));
        }
        let rule = core.config().rules.iter().find(|rule| Some(&rule.name) == self.fired.as_ref());
        self.switched = rule.map(|rule| (loads, now + rule.cooldown));
        Ok(())
    }

    fn note_record(&mut self, record: &Record, before: &Before, core: &Supervisor, now: Mono) -> Verdict {
        let grace = core.config().drain.grace;
        let blue = before.serving.and_then(|blue| self.workers.get(&blue));
        let native = core.config().worker.engine.continues() && blue.is_none_or(|blue| blue.continues);
        let at_once = matches!(
            before.verb,
            Some((_, Verb::Restart { mode: RestartAsked::Now, .. } | Verb::Unload { now: true, .. }))
        );
        let by_rule = record.message.starts_with("rule ");
        let line = if by_rule || at_once { 0 } else { self.arrivals + 1 };
        let leaves = |ends: Option<Mono>| Leaving { forced: at_once, ..Leaving::until(line, ends) };
        match record.kind {
            "restart" => {
                // Only footprint-over-budget breaks a stream that cannot be continued, after ten minutes.
                let ends = match native {
                    true => Some(now + grace),
                    false if by_rule => Some(now + grace.max(Duration::from_secs(600))),
                    false => None,
                };
                let leaving = Leaving { if_carried: Some(now + grace), ..leaves(ends) };
                self.leaving.extend(before.serving.map(|generation| (generation, leaving)));
            }
            "unload" if by_rule => {
                self.judge_switch(false, core, now)?;
                self.leaving.extend(before.serving.map(|generation| (generation, leaves(None))));
            }
            "unload" => self.leaving.extend(before.serving.map(|generation| (generation, leaves(None)))),
            "stopping" => {
                let ends = Some(now + grace);
                let leaving = Leaving::until(0, ends);
                self.leaving.extend(before.serving.map(|generation| (generation, leaving)));
            }
            "stop_hurried" => {
                self.leaving.values_mut().for_each(|leaving| leaving.forced = true);
            }
            "postponed" | "handover_undone" => {
                if let Some(generation) = core.serving_generation() {
                    self.leaving.remove(&generation);
                }
            }
            "handover_committed" => {
                // What the next worker is, not what the file has said since it was started.
                let green = core.serving_generation().and_then(|green| self.workers.get(&green));
                let continued = blue.is_none_or(|blue| blue.continues) && green.is_none_or(|green| green.continues);
                let ends = continued.then_some(now + grace);
                let leaving = Leaving::until(0, ends);
                self.leaving.extend(before.serving.map(|generation| (generation, leaving)));
            }
            "handover_aborted" if !before.stop_asked && !self.stopping => {
                // (10) Blue is as it was.
                let blue = core.serving_generation();
                if blue != before.serving {
                    return Err("(10) an aborted hand-over changed who serves".to_owned());
                }
            }
            "rule_fired" => self.fired = record.message.split(':').next().map(str::to_owned),
            "upgrade_ended" => (self.vetting, self.executing) = (false, false),
            _ => {}
        }
        Ok(())
    }

    fn judge_assign(&mut self, id: RequestId, generation: Generation, core: &Supervisor, now: Mono) -> Verdict {
        let running = self.running_on(generation);
        let others_suspect =
            self.requests.values().any(|other| other.running == Some(generation) && other.suspect && !other.token);
        let Some(request) = self.requests.get(&id) else {
            return Err(format!("(1) {id} is assigned, and it has ended"));
        };
        let Some(worker) = self.workers.get(&generation) else {
            return Err(format!("(6) {id} is assigned to worker {generation}, which is gone"));
        };
        if request.running.is_some() {
            return Err(format!("(1) {id} is assigned twice"));
        }
        if request.adrift.is_some() {
            return Err(format!("{id} is assigned before it is known what became of its last worker"));
        }
        if !worker.ready || worker.terminated.is_some() {
            return Err(format!("(2) {id} is assigned to worker {generation}, which is not ready or on its way out"));
        }
        if self.accepting.is_some_and(|other| other > generation && !self.is_terminated(other)) {
            return Err(format!("(3) {id} is assigned to worker {generation}, and {:?} accepts", self.accepting));
        }
        if running >= worker.slots {
            return Err(format!("{id} is assigned to worker {generation}, whose {running} slots are taken"));
        }
        if request.suspect && running > 0 || others_suspect {
            return Err(format!("{id} is assigned beside others, and a suspect runs alone"));
        }
        if let Some(begun) = &request.fingerprint
            && *begun != worker.fingerprint
        {
            return Err(format!("{id} began with another model than worker {generation} serves"));
        }
        if request.fingerprint.is_some() && !worker.continues {
            return Err(format!("{id} has begun, and worker {generation} cannot continue it"));
        }
        if let Some(line) = self.line
            && (request.arrival >= line.at || line.ends.is_some_and(|ends| now > ends))
        {
            return Err(format!("(2) {id} is assigned from behind the line of a drain"));
        }
        if let Some(leaving) = self.leaving.get(&generation)
            && request.arrival >= leaving.line
        {
            return Err(format!("(2) {id} is assigned to worker {generation} from behind the line: it is leaving"));
        }
        self.judge_turn(id, request, generation, core, now)?;
        self.accepting = Some(generation);
        if let Some(request) = self.requests.get_mut(&id) {
            request.running = Some(generation);
            request.assigned = true;
            request.token = false;
        }
        self.settle_heads(now);
        Ok(())
    }

    /// Draws and lifts the lines that the next step is held against.
    fn settle_lines(&mut self, before: &Before, actions: &[Action], core: &Supervisor, now: Mono) {
        let drained = core_standing(self) == Standing::Drained;
        if let Some((operation, Verb::Drain { deadline, .. })) = &before.verb
            && drained
            && !denied(actions, *operation)
        {
            let ends = now + deadline.unwrap_or(core.config().drain.grace);
            let line = self.line.get_or_insert(Line { at: self.arrivals + 1, ends: Some(ends) });
            line.ends = line.ends.map(|_| ends);
            // A second drain moves the deadline of the first.
            for asked in self.operations.values_mut().filter(|asked| asked.until.is_some()) {
                asked.until = Some(ends);
            }
        }
        if !drained {
            self.line = None;
        }
        if core.serving_generation().is_none() {
            self.overlapping = false;
        }
    }

    fn judge_after(&mut self, core: &Supervisor, now: Mono) -> Verdict {
        let deadline = core.next_deadline(now);
        if let Some(deadline) = deadline.filter(|deadline| *deadline <= now) {
            return Err(format!("(7) the next deadline, {deadline:?}, is not after {now:?}"));
        }
        let expiries = self.requests.values().filter(|request| !request.assigned).map(|request| request.expires_at);
        let promised = expiries.chain(self.operations.values().filter_map(|asked| asked.until)).min();
        if let Some(promised) = promised.filter(|promised| deadline.is_none_or(|deadline| deadline > *promised)) {
            return Err(format!("(7) {promised:?} is promised to somebody, and the next deadline is {deadline:?}"));
        }
        let mut waiting = 0;
        for (id, request) in &self.requests {
            if !request.assigned && request.expires_at <= now {
                return Err(format!("(1) {id} still waits for its first worker, and its time is over"));
            }
            waiting += usize::from(request.running.is_none());
        }
        for (operation, asked) in &self.operations {
            if asked.until.is_some_and(|until| until <= now) {
                return Err(format!("(11) {operation:?} ({:?}) was to end by now", asked.verb));
            }
        }
        let awaits = self.workers.values().any(|worker| !worker.ready || worker.terminated.is_some())
            || self.requests.values().any(|request| !request.assigned)
            || self.operations.values().any(|asked| !matches!(asked.verb, Verb::ClearCache));
        let looked_at = self.workers.values().any(|worker| worker.looked_at);
        if awaits && deadline.is_none() && !looked_at && !self.only_outside_is_awaited(core) {
            return Err(format!("(7) something is awaited in {} and no deadline guards it", core.state().as_str()));
        }
        let awake = match core.config().worker.keep_awake {
            KeepAwake::Busy => !self.requests.is_empty(),
            KeepAwake::Always => true,
            KeepAwake::Off => false,
        };
        if awake != self.awake {
            return Err(format!("the machine may sleep: {}, with {} requests", !self.awake, self.requests.len()));
        }
        self.judge_work_goes_on(core, waiting, now)
    }

    /// A stranded service waits for samples, which always come.
    fn only_outside_is_awaited(&self, core: &Supervisor) -> bool {
        core.state() == State::Stranded
    }

    /// Nobody waits beside a free slot.
    fn judge_work_goes_on(&self, core: &Supervisor, waiting: usize, now: Mono) -> Verdict {
        if waiting == 0 || core.state() != State::Serving || self.line.is_some() || !self.leaving.is_empty() {
            return Ok(());
        }
        let Some(generation) = core.serving_generation() else { return Ok(()) };
        let Some(worker) = self.workers.get(&generation) else { return Ok(()) };
        let held = self.requests.values().any(|request| request.adrift.is_some() || request.suspect);
        if worker.missed || held || worker.terminated.is_some() {
            return Ok(());
        }
        if self.running_on(generation) < worker.slots
            && let Some(id) = self.may_run(generation, core, now)
        {
            return Err(format!("{id} waits, and worker {generation} has a free slot"));
        }
        Ok(())
    }
}

fn denied(actions: &[Action], asked: OperationId) -> bool {
    let denies = |action: &Action| matches!(action, Action::Reply { operation, outcome } if *operation == asked && outcome.result == OutcomeKind::Denied);
    actions.iter().any(denies)
}

fn core_standing(model: &Model) -> Standing {
    model.persisted.standing
}

fn recorded(actions: &[Action], kind: &str) -> bool {
    actions.iter().any(|action| matches!(action, Action::Record(record) if record.kind == kind))
}
