//! The models of this machine, each with what it would get here.
//!
//! Owns which models are looked at (the hub cache, and the one that is configured or named) and the verdict on each. Reads
//! headers only.

use std::path::Path;

use mlxsup_fit::{Budget, FileError, Machine, Model, hub};
use serde_json::{Value, json};

use crate::limits::{Runner, on_machine};

/// One model.
#[derive(Debug)]
pub struct Shelved {
    /// What `worker.model` would say.
    pub name: String,
    /// Its facts and numbers, or why there are none.
    pub found: Result<Fit, FileError>,
}

/// A model that can be read.
#[derive(Debug)]
pub struct Fit {
    /// Its facts.
    pub model: Model,
    /// Who can run it.
    pub runner: Runner,
    /// What it gets here.
    pub budget: Budget,
}

impl Shelved {
    /// Reads one model.
    #[must_use]
    pub fn read(name: &str, machine: &Machine, hub_cache: &Path) -> Self {
        let fit = |model: Model| {
            let runner = Runner::of(&model);
            let budget = on_machine(&model, machine, runner);
            Fit { model, runner, budget }
        };
        Self { name: name.to_owned(), found: Model::open_in(name, hub_cache).map(fit) }
    }

    /// True when an engine runs it and it fits.
    #[must_use]
    pub fn is_usable(&self) -> bool {
        self.found.as_ref().is_ok_and(|fit| fit.runner != Runner::None && fit.budget.too_big_by.is_none())
    }

    /// As `models --json` shows it.
    #[must_use]
    pub fn json(&self) -> Value {
        match &self.found {
            Err(error) => json!({"model": self.name, "fits": false, "problem": error.to_string()}),
            Ok(Fit { model, runner, budget }) => json!({
                "model": self.name,
                "path": model.path,
                "architecture": model.architecture,
                "precision": model.precision,
                "engine": runner.as_str(),
                "obstacle": model.obstacle,
                "on_disk_bytes": model.on_disk_bytes,
                "weights_bytes": budget.weights_bytes,
                "stored_bytes": model.stored_bytes,
                "kv_bytes_per_token": budget.kv_bytes_per_token,
                "fixed_bytes_per_sequence": budget.state_bytes,
                "context_tokens": model.context,
                "fits": self.is_usable(),
                "too_big_by_bytes": budget.too_big_by,
                "need": budget.need,
                "memory_limit": budget.memory_limit,
                "slots": budget.slots,
                "rooms": budget.rooms,
            }),
        }
    }
}

/// Every model of the hub cache, and `also` if it is another one, first.
#[must_use]
pub fn shelf(machine: &Machine, hub_cache: &Path, also: Option<&str>) -> Vec<Shelved> {
    let mut names = hub::models(hub_cache);
    if let Some(also) = also.filter(|also| !also.is_empty()) {
        names.retain(|name| name != also);
        names.insert(0, also.to_owned());
    }
    names.iter().map(|name| Shelved::read(name, machine, hub_cache)).collect()
}
