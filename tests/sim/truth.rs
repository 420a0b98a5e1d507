//! What only the world knows, and the core cannot: whether a worker really was dead, and how many there really are.

use std::time::Duration;

use mlxsup::config::Config;
use mlxsup::supervisor::Action;

use crate::process::Condition;
use crate::world::{Verdict, World};

/// CPU time between two looks that answering probes may cost: the core takes it for no movement.
const UNSEEN_MS: u64 = 50;

/// How long a stopped process is looked at before it is taken for dead.
pub fn looks(config: &Config) -> Duration {
    config.health.interval * config.health.failures.saturating_sub(2).max(1)
}

impl World {
    /// What only the world knows: whether a verdict of death was deserved, and whether memory is really back.
    pub fn check_against_truth(&mut self, actions: &[Action]) -> Verdict {
        for action in actions {
            if let Action::Record(record) = action
                && record.kind == "worker_dead"
            {
                let Some(generation) = self.model.told_dead(&record.message) else { continue };
                self.kills_by_health += 1;
                self.found_dead_at.insert(generation, self.now);
                let Some(process) = self.processes.get(&generation) else { continue };
                if record.message.contains("canary") || record.message.contains("generated token") {
                    // A wrong first answer is the measure for one worker more: nobody knows which of the two is right.
                    if process.bad_canaries == 0 && !std::mem::take(&mut self.wrong_canary_heard) {
                        return Err(format!("worker {generation} was replaced for its canaries, and they were right"));
                    }
                    continue;
                }
                let still = self.now - process.moved_at;
                let policy = &self.core.config().health;
                let stopped = process.condition == Condition::Stopped;
                let stall = if process.has_work() { policy.stall } else { policy.stall.min(Duration::from_secs(60)) };
                let looks = looks(self.core.config()).min(self.looks_before);
                let window = if stopped { looks.min(stall) } else { stall };
                // So little CPU time after a look is no movement to the core.
                if u128::from(still + UNSEEN_MS) < window.as_millis() || process.condition == Condition::Well {
                    return Err(format!(
                        "slow is not dead: worker {generation} ({:?}) moved {still} ms ago: {}",
                        process.condition, record.message
                    ));
                }
            }
            if let Action::Spawn { generation } = action {
                let beside = self.processes.len();
                let allowed = usize::from(self.model.is_overlapping());
                if beside > allowed {
                    return Err(format!(
                        "worker {} is spawned beside {beside} living ones, {allowed} allowed",
                        generation.0
                    ));
                }
            }
        }
        Ok(())
    }
}
