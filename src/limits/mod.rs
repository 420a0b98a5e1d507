//! What `auto` comes to: for this configuration, on this machine, with this model.
//!
//! Owns asking the right question and saying the answer in one place's words for `config show`, `status`, the start of the
//! daemon and `mlxsupctl tune`. The arithmetic is `mlxsup_fit`'s, which the worker uses too; the worker alone decides, and
//! what it reports in `status` is the last word. Reads headers of model files, so it blocks.

pub mod device;
pub mod words;

use std::path::Path;

use mlxsup_fit::{
    Budget, Circumstances, FileError, Format, Machine, Model, Observed, Question, Source, WorkingSet, resolve,
};

use crate::config::{Config, Engine, WiredLimit};
use crate::daemon::panic_report;
use crate::memory::machine::{self, MachineError, Reported};

/// Why there are no numbers.
#[derive(Debug, thiserror::Error)]
pub enum Unknown {
    /// The model's files cannot be read.
    #[error(transparent)]
    Model(#[from] FileError),
    /// The machine cannot be read.
    #[error(transparent)]
    Machine(#[from] MachineError),
    /// Another engine sets its own limits.
    #[error("engine = \"openai\" sets its own limits")]
    OtherEngine,
}

/// A configuration's numbers.
#[derive(Debug, Clone, PartialEq)]
pub struct Resolved {
    /// The model.
    pub model: Model,
    /// The machine.
    pub machine: Machine,
    /// The numbers and their sums.
    pub budget: Budget,
    /// True where a kernel panic has switched automatic wiring off.
    pub wiring_forbidden: bool,
}

/// The numbers of `config`, given what a worker has reported.
///
/// # Errors
/// [`Unknown`], with what mends it where something can.
pub fn resolve(config: &Config, reported: Reported) -> Result<Resolved, Unknown> {
    resolve_in(config, reported, &resolve::hub_cache())
}

fn resolve_in(config: &Config, reported: Reported, hub_cache: &Path) -> Result<Resolved, Unknown> {
    if config.worker.engine == Engine::OpenAi {
        return Err(Unknown::OtherEngine);
    }
    let model = Model::open_in(&config.worker.model, hub_cache)?;
    let machine = machine::machine(config.worker.device, reported)?;
    let wiring_forbidden = config.worker.memory.wired_limit == WiredLimit::Auto && panic_report::forbids_wiring();
    let budget = question(config, &model, &machine, wiring_forbidden).answer();
    Ok(Resolved { model, machine, budget, wiring_forbidden })
}

fn question<'a>(config: &Config, model: &'a Model, machine: &'a Machine, wiring_forbidden: bool) -> Question<'a> {
    let worker = &config.worker;
    Question {
        model,
        machine,
        engine: match worker.engine {
            Engine::Native => mlxsup_fit::Engine::Native,
            Engine::MlxLm | Engine::OpenAi => mlxsup_fit::Engine::MlxLm,
        },
        slots: worker.slots,
        context: worker.context,
        wired_limit: if wiring_forbidden { WiredLimit::Off } else { worker.memory.wired_limit },
        memory_limit: worker.memory.memory_limit,
    }
}

impl Resolved {
    /// The same with what a worker has reported since: only then a Mac's working set is really known.
    #[must_use]
    pub fn with(&self, config: &Config, reported: Reported) -> Self {
        let mut machine = self.machine;
        machine.gpu = reported.gpu.unwrap_or(machine.gpu);
        if let Some(bytes) = reported.working_set {
            machine.working_set = Some(WorkingSet { bytes, source: Source::Reported });
        }
        if !machine.gpu {
            machine.working_set = None;
        }
        let budget = question(config, &self.model, &machine, self.wiring_forbidden).answer();
        Self { model: self.model.clone(), machine, budget, wiring_forbidden: self.wiring_forbidden }
    }

    /// What `tune` starts from.
    #[must_use]
    pub fn circumstances(&self, config: &Config, observed: Observed) -> Circumstances<'_> {
        let mut question = question(config, &self.model, &self.machine, self.wiring_forbidden);
        if let WiredLimit::Bytes(_) = question.wired_limit {
            question.wired_limit = WiredLimit::Auto;
        }
        Circumstances {
            question,
            default_max_tokens: config.worker.default_max_tokens,
            cache_limit: config.worker.memory.cache_limit,
            observed,
        }
    }
}

/// Who can run a model.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Runner {
    /// mlxsup's own worker.
    Native,
    /// mlx-lm, which knows most architectures and reads folders only.
    MlxLm,
    /// Nobody here.
    None,
}

impl Runner {
    /// The best one for this model.
    #[must_use]
    pub fn of(model: &Model) -> Self {
        match (&model.obstacle, model.format) {
            (None, _) => Self::Native,
            (Some(_), Format::Folder) => Self::MlxLm,
            (Some(_), Format::Gguf) => Self::None,
        }
    }

    /// The word for `worker.engine`.
    #[must_use]
    pub const fn as_str(self) -> Option<&'static str> {
        match self {
            Self::Native => Some("native"),
            Self::MlxLm => Some("mlx_lm"),
            Self::None => None,
        }
    }
}

/// What a model of nobody's configuration would get on this machine, with every limit on `auto`.
#[must_use]
pub fn on_machine(model: &Model, machine: &Machine, runner: Runner) -> Budget {
    let engine = match runner {
        Runner::Native | Runner::None => mlxsup_fit::Engine::Native,
        Runner::MlxLm => mlxsup_fit::Engine::MlxLm,
    };
    let wired_limit = WiredLimit::Auto;
    Question { model, machine, engine, slots: None, context: None, wired_limit, memory_limit: None }.answer()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(text: &str) -> Config {
        crate::config::parse(text, Path::new("mlxsup.toml")).unwrap()
    }

    #[test]
    fn what_cannot_be_known_says_why() {
        let nowhere = tempfile::tempdir().unwrap();
        let ask = |text: &str| resolve_in(&config(text), Reported::default(), nowhere.path());
        let missing = ask("[worker]\nmodel = \"some/absent\"\n").unwrap_err();
        assert!(missing.to_string().contains("hf download some/absent"), "{missing}");
        let other = "[worker]\nengine = \"openai\"\nmodel = \"m\"\ncommand = [\"x\", \"{port}\"]\n";
        assert!(matches!(ask(other), Err(Unknown::OtherEngine)));
    }
}
