//! What `auto` comes to in the configuration in force: measured off the loop, kept for `status`, told once as an event.
//!
//! Owns when it is measured anew and which source `status` shows: a worker's own report wins, the sums stand beside it.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use mlxsup_worker_api::WorkerStatus;
use tokio::sync::mpsc;

use crate::config::{self, Config, WiredLimit};
use crate::control::view::LimitsView;
use crate::limits::{self, Resolved, Unknown, words};
use crate::memory::allocator_ffi;
use crate::memory::machine::{MachineError, Reported};
use crate::supervisor::Event;

/// The last measurement, shared with the task that takes it.
#[derive(Debug, Clone, Default)]
pub struct DerivedLimits {
    last: Arc<Mutex<Option<Arc<Derived>>>>,
}

/// Limits derived from machine and model, or why there are none.
#[derive(Debug)]
pub struct Derived {
    found: Result<Resolved, Unknown>,
}

impl DerivedLimits {
    /// Reads the model's headers in a thread of its own; closes with `ModelMeasured`.
    pub fn measure(&self, config: &Config, events: &mpsc::UnboundedSender<Event>) {
        let (config, last, events) = (config.clone(), Arc::clone(&self.last), events.clone());
        tokio::task::spawn_blocking(move || {
            let derived = Derived { found: limits::resolve(&config, limits::device::reported()) };
            let bytes = derived.weights_bytes().or_else(|| size_on_disk(Path::new(&config.worker.model)));
            // A model file's header has its whole vocabulary, megabytes that were needed for this moment only.
            allocator_ffi::give_back();
            *last.lock().unwrap_or_else(PoisonError::into_inner) = Some(Arc::new(derived));
            // The receiver is the driver's own; it is gone only when everything is.
            let _ = events.send(Event::ModelMeasured { bytes });
        });
    }

    /// The last measurement; `None` before the first.
    #[must_use]
    pub fn last(&self) -> Option<Arc<Derived>> {
        self.last.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Derived {
    fn weights_bytes(&self) -> Option<u64> {
        self.found.as_ref().ok().map(|resolved| resolved.budget.weights_bytes)
    }

    /// The sums in one line, for the log and `events`; `None` where another engine has limits of its own.
    #[must_use]
    pub fn message(&self) -> Option<String> {
        match &self.found {
            Ok(resolved) => {
                let sums = words::sentences(resolved).into_iter().map(|sentence| sentence.text);
                Some(sums.collect::<Vec<_>>().join("; "))
            }
            Err(Unknown::OtherEngine) => None,
            Err(error) => Some(format!("not known before the worker says: {error}")),
        }
    }
}

/// The configuration with the built-in rule on the footprint at the budget that the worker derived for itself; `None` when
/// it is there already, or the file says something else.
#[must_use]
pub fn with_footprint_rule(config: &Config, report: &WorkerStatus) -> Option<Config> {
    let memory = &config.worker.memory;
    let limit = report.memory.memory_limit_bytes.filter(|_| memory.memory_limit.is_none())?;
    let cache = report.memory.cache_limit_bytes.unwrap_or(memory.cache_limit);
    let wanted = config::footprint_over_budget(limit, cache, config.restart.mode);
    let at = config.rules.iter().position(|rule| rule.built_in && rule.name == wanted.name)?;
    if config.rules[at] == wanted {
        return None;
    }
    let mut config = config.clone();
    config.rules[at] = wanted;
    Some(config)
}

/// `limits` of `status`.
#[must_use]
pub fn view(config: &Config, derived: Option<&Derived>, report: Option<&WorkerStatus>) -> Option<LimitsView> {
    let derived = derived.filter(|derived| !matches!(derived.found, Err(Unknown::OtherEngine)))?;
    let report = report.filter(|report| report.model.is_some());
    let device = report.and_then(|report| report.model.as_ref()).map(|model| model.device.clone());
    let reported = Reported {
        working_set: report.and_then(|report| report.memory.recommended_working_set_bytes),
        gpu: device.as_deref().map(|device| device == "gpu"),
    };
    // A card with memory of its own: the sums for the machine's memory would be about something else.
    let own_memory = !cfg!(target_os = "macos") && reported.gpu == Some(true) && reported.working_set.is_none();
    let mut view = match &derived.found {
        Ok(_) if own_memory => problem(MachineError::OwnMemory.to_string()),
        Ok(resolved) => of_resolved(config, &resolved.with(config, reported)),
        Err(error) => problem(error.to_string()),
    };
    view.source = "derived".to_owned();
    view.cache_limit_bytes = Some(config.worker.memory.cache_limit);
    if let Some(report) = report {
        view.source = "worker".to_owned();
        view.slots = Some(report.engine.slots).filter(|slots| *slots > 0);
        view.context_tokens = report.model.as_ref().map(|model| model.context_tokens);
        view.wired_limit_bytes = report.memory.wired_limit_bytes;
        view.cache_limit_bytes = report.memory.cache_limit_bytes;
        view.memory_limit_bytes = report.memory.memory_limit_bytes;
        view.recommended_working_set_bytes = report.memory.recommended_working_set_bytes;
    }
    view.device = device;
    Some(view)
}

fn problem(why: String) -> LimitsView {
    LimitsView { explain: BTreeMap::from([("problem".to_owned(), why)]), ..LimitsView::default() }
}

fn of_resolved(config: &Config, resolved: &Resolved) -> LimitsView {
    let budget = &resolved.budget;
    let explain = words::sentences(resolved).into_iter();
    LimitsView {
        slots: Some(budget.slots),
        context_tokens: Some(budget.context),
        wired_limit_bytes: match config.worker.memory.wired_limit {
            WiredLimit::Off => None,
            WiredLimit::Auto | WiredLimit::Bytes(_) => budget.wired_limit.as_ref().map(|limit| limit.bytes),
        },
        memory_limit_bytes: Some(budget.memory_limit.bytes),
        recommended_working_set_bytes: resolved.machine.working_set_bytes(),
        explain: explain.map(|sentence| (sentence.key.to_owned(), sentence.text)).collect(),
        ..LimitsView::default()
    }
}

/// Bytes of a model file, or of the weights in a model folder; `None` for anything else (a hub id, say).
fn size_on_disk(model: &Path) -> Option<u64> {
    let weights = |path: &Path| path.extension().is_some_and(|end| end == "safetensors" || end == "gguf");
    let size = |path: &Path| std::fs::metadata(path).ok().filter(|meta| meta.is_file()).map(|meta| meta.len());
    if let Some(bytes) = size(model) {
        return Some(bytes);
    }
    let entries = std::fs::read_dir(model).ok()?;
    let sizes = entries.flatten().map(|entry| entry.path()).filter(|path| weights(path)).filter_map(|path| size(&path));
    Some(sizes.sum()).filter(|bytes| *bytes > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_footprint_rule_follows_the_workers_own_limit_once() {
        let parse = |text: &str| config::parse(text, Path::new("mlxsup.toml")).unwrap();
        let config = parse("[worker]\nmodel = \"m\"\n");
        let mut report: WorkerStatus = serde_json::from_value(serde_json::json!({
            "protocol": 1, "pid": 2, "generation": 3, "nonce": "n", "fingerprint": "f", "phase": "ready", "bytes_done": 0,
            "bytes_total": 0, "memory": {}, "counters": {},
            "engine": {"steps": 0, "pending_prefill_tokens": 0, "active": 0, "waiting": 0, "slots": 4}
        }))
        .unwrap();
        assert_eq!(with_footprint_rule(&config, &report), None, "nothing is known");
        report.memory.memory_limit_bytes = Some(49 << 30);
        let followed = with_footprint_rule(&config, &report).unwrap();
        let rule = |config: &Config| config.rules.iter().find(|rule| rule.name == "footprint-over-budget").cloned();
        assert_ne!(rule(&followed), rule(&config));
        assert_eq!(with_footprint_rule(&followed, &report), None);
        let own = parse("[worker]\nmodel = \"m\"\nmemory.memory_limit = \"48GiB\"\n");
        assert_eq!(with_footprint_rule(&own, &report), None, "the file says it");
    }
}
