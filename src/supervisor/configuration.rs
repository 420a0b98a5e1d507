//! A new configuration, or none at all.
//!
//! What is in force changes at once; what a worker was started with stays until the next one. Promises already made (when a
//! request gives up, when a grace period ends) are not changed by it.

use super::rules::RuleBook;
use super::succession::Respawn;
use super::time::{Mono, Now};
use super::{Standing, Supervisor};
use crate::config::Config;

impl Supervisor {
    pub(super) fn reconfigured(&mut self, config: Config, now: Now) {
        self.rules = RuleBook::new(&config.rules, &self.rules).with_cache_limit(config.worker.memory.cache_limit);
        self.follow_schedules(&config.schedules, now.wall);
        if self.config.worker.model != config.worker.model {
            // It said something about another model.
            self.model_bytes = None;
        }
        self.config = config;
        if self.unconfigured.take().is_some() {
            self.record("configured", "a valid configuration was read; the worker starts");
            if self.worker.is_none() && self.kept.standing != Standing::Unloaded && self.parked.is_none() {
                self.respawn = Some(Respawn::at_once(now.mono));
            }
        }
    }

    /// There is nothing to serve with. The control socket stays, and a valid configuration ends this.
    pub(super) fn unconfigured(&mut self, why: String, now: Mono) {
        self.record("config_error", why.clone());
        self.unconfigured = Some((why, now));
    }
}
