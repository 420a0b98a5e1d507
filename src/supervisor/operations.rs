//! What operators ask for, turned into retirements, drains and commands. Every verb is answered exactly once.

use super::event::CacheKind;
use super::ids::OperationId;
use super::permits::{Permit, permit};
use super::retirement::{Purpose, Retirement};
use super::succession::Respawn;
use super::time::{Mono, Now};
use super::verbs::{Outcome, OutcomeKind, RestartAsked, Verb};
use super::{Standing, Supervisor};

impl Supervisor {
    pub(super) fn operator(&mut self, operation: OperationId, verb: &Verb, now: Now) {
        if let Some(denial) = self.overruled(verb) {
            self.reply(operation, denial);
            return;
        }
        match permit(verb, self.state()) {
            Permit::Already(message) => self.reply(operation, Outcome::new(OutcomeKind::Already, message)),
            Permit::Denied(message) => self.reply(operation, Outcome::new(OutcomeKind::Denied, message)),
            Permit::Granted => self.carry_out(operation, verb, now),
        }
    }

    /// What stands above every state: no configuration, and an upgrade that may exec any moment.
    fn overruled(&mut self, verb: &Verb) -> Option<Outcome> {
        if let Some((why, _)) = &self.unconfigured {
            let message = format!("there is no valid configuration: {why}; mend it, then run `mlxsupctl reload`");
            return Some(Outcome::new(OutcomeKind::Denied, message));
        }
        self.upgrade.as_ref()?;
        if *verb == Verb::Resume {
            self.end_upgrade(OutcomeKind::Failed, "aborted by resume");
            return Some(Outcome::new(OutcomeKind::Done, "resumed: the upgrade ended"));
        }
        let message = "an upgrade of the daemon is in progress; wait for it, or abort it with `mlxsupctl resume`";
        Some(Outcome::new(OutcomeKind::Denied, message))
    }

    fn carry_out(&mut self, operation: OperationId, verb: &Verb, now: Now) {
        match verb {
            Verb::Drain { deadline, refuse, no_wait } => {
                self.ask_drain(operation, *deadline, *refuse, *no_wait, now.mono);
            }
            Verb::Resume => {
                let outcome = self.resume(now.mono);
                self.reply(operation, outcome);
            }
            Verb::Restart { mode, plan: true, .. } => {
                let outcome = self.explain_plan(*mode);
                self.reply(operation, outcome);
            }
            Verb::Restart { mode, no_wait, .. } => {
                let plan = match self.plan(*mode) {
                    Ok(plan) => plan,
                    Err(why) => {
                        self.reply(operation, Outcome::new(OutcomeKind::Denied, why));
                        return;
                    }
                };
                self.crashes.forgive();
                self.unpark();
                let operations = self.waits_or_reply(operation, *no_wait, "restarting");
                if plan.overlap {
                    self.begin_overlap("operator", &plan.because, operations, now);
                } else {
                    let at_once = *mode == RestartAsked::Now;
                    let (line, deadline) = self.patience(at_once, now.mono);
                    let purpose = Purpose::Restart { now: at_once };
                    let reason = "operator".to_owned();
                    let retirement = Retirement { purpose, reason, line, deadline, since: now.mono, operations };
                    self.restart(retirement, &plan.because, now);
                }
            }
            Verb::Upgrade { to, no_wait } => {
                let operations = self.waits_or_reply(operation, *no_wait, "upgrading");
                self.ask_upgrade(to.clone(), operations, now.mono);
            }
            Verb::Unload { now: at_once, no_wait } => {
                let (line, deadline) = self.patience(*at_once, now.mono);
                let operations = self.waits_or_reply(operation, *no_wait, "unloading");
                self.unload("operator", line, deadline, *at_once, operations, now);
            }
            Verb::Load { no_wait } => {
                if self.worker.is_some() || self.is_unloading() {
                    let message = "already loaded, and an unload is under way; `mlxsupctl resume` aborts it";
                    let unloading = self.is_unloading();
                    let outcome = if unloading {
                        Outcome::new(OutcomeKind::Denied, message)
                    } else {
                        Outcome::new(OutcomeKind::Already, "already loaded")
                    };
                    self.reply(operation, outcome);
                    return;
                }
                let operations = self.waits_or_reply(operation, *no_wait, "loading");
                self.awaiting_ready.extend(operations);
                self.load(now.mono);
            }
            Verb::ClearCache => {
                if !self.clear_cache(CacheKind::Buffers, Some(operation), now.mono) {
                    self.reply(operation, Outcome::new(OutcomeKind::Denied, "no worker is ready"));
                }
            }
            Verb::RunSchedule { name } => {
                let outcome = self.run_schedule(name, now);
                self.reply(operation, outcome);
            }
        }
    }

    /// Line and deadline of a retirement.
    fn patience(&self, at_once: bool, now: Mono) -> (u64, Mono) {
        if at_once { (0, now) } else { (self.requests.next_seq(), now + self.config.drain.grace) }
    }

    /// The operation itself if its caller waits; otherwise replies at once.
    fn waits_or_reply(&mut self, operation: OperationId, no_wait: bool, doing: &str) -> Vec<OperationId> {
        if no_wait {
            self.reply(operation, Outcome::new(OutcomeKind::Started, doing));
            Vec::new()
        } else {
            vec![operation]
        }
    }

    /// Replaces the worker, one after the other; `because` is the planner's arithmetic.
    pub(super) fn restart(&mut self, retirement: Retirement, because: &str, now: Now) {
        self.asleep = false;
        let reason = &retirement.reason;
        self.record("restart", format!("{reason}: the worker is replaced, one after the other: {because}"));
        self.retire(retirement, now);
    }

    /// Stops the worker and stays without one. Whoever waited for a worker, or for a drain of it, is told.
    pub(super) fn unload(
        &mut self,
        reason: &str,
        line: u64,
        deadline: Mono,
        at_once: bool,
        operations: Vec<OperationId>,
        now: Now,
    ) {
        self.asleep = false;
        self.unpark();
        let mut overtaken = std::mem::take(&mut self.awaiting_ready);
        if let Some(drain) = &mut self.drain {
            // The line itself stays in force: an unload lets nobody through whom a drain held back.
            overtaken.append(&mut drain.operations);
        }
        self.reply_all(overtaken, &Outcome::new(OutcomeKind::Failed, "overtaken by an unload"));
        self.record("unload", format!("{reason}: the model is unloaded"));
        let purpose = Purpose::Unload { now: at_once };
        let reason = reason.to_owned();
        self.retire(Retirement { purpose, reason, line, deadline, since: now.mono, operations }, now);
    }

    /// Undoes `unload`, or wakes the service.
    pub(super) fn load(&mut self, now: Mono) {
        self.crashes.forgive();
        self.asleep = false;
        // A drain outlives a rule's sleep and the load that ends it.
        self.kept.standing = if self.drain.is_some() { Standing::Drained } else { Standing::Serve };
        self.persist();
        self.respawn = Some(Respawn::at_once(now));
    }

    fn is_unloading(&self) -> bool {
        let purpose = self.present_retirement().map(|retirement| retirement.purpose);
        matches!(purpose, Some(Purpose::Unload { .. } | Purpose::Sleep))
    }

    /// What a restart would do now, with the arithmetic.
    fn explain_plan(&self, mode: RestartAsked) -> Outcome {
        let plan = match self.plan(mode) {
            Ok(plan) => plan,
            Err(why) => return Outcome::new(OutcomeKind::Denied, why),
        };
        let strategy = if plan.overlap { "overlap" } else { "sequential" };
        let mut message = format!("{strategy}: {}", plan.because);
        if let Err(arithmetic) = self.would_come_back()
            && !plan.overlap
        {
            message = format!("{message}; {arithmetic}, so a rule or schedule would be denied");
        }
        let mut outcome = Outcome::new(OutcomeKind::Done, message);
        #[expect(clippy::cast_precision_loss, reason = "bytes far below 2^52")]
        for (name, bytes) in [("needs_bytes", plan.needs), ("budget_bytes", plan.budget)] {
            if let Some(bytes) = bytes {
                outcome = outcome.with_fact(name, bytes as f64);
            }
        }
        if let Some(worker) = self.worker.as_ref().filter(|worker| worker.is_ready()) {
            let load = worker.load_time(worker.ready_at.unwrap_or_default());
            outcome = outcome.with_fact("last_load_s", load.as_secs_f64());
        }
        outcome
    }
}
