//! The rules of a configuration with the numbers that a daemon would have put into them.

use crate::config::{self, Config, Rule};
use crate::ctl::control::Control;
use crate::ctl::reported;
use crate::limits;

/// The rules of the file. Where `memory_limit` is `auto`, the built-in rule on the footprint stands at the budget that
/// `auto` comes to, as it does in a daemon whose worker has reported its limit; a model that cannot be read leaves it.
pub(super) async fn rules(config: &Config, control: &Control) -> Vec<Rule> {
    let mut rules = config.rules.clone();
    if config.worker.memory.memory_limit.is_some() {
        return rules;
    }
    let Ok(resolved) = limits::resolve(config, reported::ask(control).await) else { return rules };
    let limit = resolved.budget.memory_limit.bytes;
    let wanted = config::footprint_over_budget(limit, config.worker.memory.cache_limit, config.restart.mode);
    if let Some(rule) = rules.iter_mut().find(|rule| rule.built_in && rule.name == wanted.name) {
        *rule = wanted;
    }
    rules
}
