//! The model: is it there, whole and readable?
//!
//! Only headers and sizes are read: weights that are there and have the right length are taken for good. The worker judges
//! the rest when it loads them.

mod files;

use std::path::{Path, PathBuf};

pub use files::Condition;

use super::finding::{Area, Finding, Level};
use crate::config::{Config, Engine};
use crate::ctl::render::quantity::size;

/// What was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Model {
    /// As it is configured.
    pub name: String,
    /// What there is.
    pub found: Found,
    /// Downloads of it in the hub cache that were broken off.
    pub unfinished: usize,
}

/// What the name leads to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Found {
    /// The server of an `openai` engine finds its model by itself.
    NotOurs,
    /// Nothing, neither at this path nor in this hub cache.
    Nothing {
        /// The hub cache.
        cache: PathBuf,
    },
    /// A folder that cannot be listed.
    Closed {
        /// Which.
        path: PathBuf,
        /// The system's word.
        why: String,
    },
    /// A folder with several GGUF files and no `config.json`.
    Several {
        /// The folder.
        path: PathBuf,
        /// Names of the files.
        names: Vec<String>,
    },
    /// A folder without any model.
    NoModel {
        /// The folder.
        path: PathBuf,
    },
    /// One GGUF file.
    Gguf {
        /// Where.
        path: PathBuf,
        /// Its condition.
        condition: Condition,
    },
    /// A folder in MLX or Hugging Face layout.
    Folder {
        /// Where.
        path: PathBuf,
        /// Whether there is a tokenizer.
        tokenizer: bool,
        /// The weight files: those there and those the index names.
        weights: Vec<(String, Condition)>,
        /// What is wrong with the index.
        index_problem: Option<String>,
    },
}

impl Model {
    /// Looks for the model of this configuration.
    #[must_use]
    pub fn gather(config: &Config) -> Self {
        let worker = &config.worker;
        let name = worker.model.clone();
        if worker.engine == Engine::OpenAi {
            return Self { name, found: Found::NotOurs, unfinished: 0 };
        }
        // The worker gets both, its own from the configuration first.
        let set = |key: &str| {
            let own = worker.env.get(key).map(PathBuf::from);
            own.or_else(|| std::env::var_os(key).map(PathBuf::from)).filter(|path| !path.as_os_str().is_empty())
        };
        let cache = set("HF_HUB_CACHE")
            .or_else(|| set("HF_HOME").map(|home| home.join("hub")))
            .or_else(|| set("HOME").map(|home| home.join(".cache/huggingface/hub")))
            .unwrap_or_else(|| PathBuf::from(".cache/huggingface/hub"));
        Self::look(name, cache)
    }

    fn look(name: String, cache: PathBuf) -> Self {
        if Path::new(&name).exists() {
            return Self { found: files::at(Path::new(&name)), name, unfinished: 0 };
        }
        let folder = cache.join(format!("models--{}", name.replace('/', "--")));
        let found = match files::snapshot(&folder).filter(|_| name.contains('/')) {
            Some(snapshot) => files::at(&snapshot),
            None => Found::Nothing { cache },
        };
        Self { unfinished: files::unfinished(&folder), found, name }
    }

    /// Bytes of the weights on disk, if all of them are there.
    #[must_use]
    pub fn bytes(&self) -> Option<u64> {
        let good = |condition: &Condition| match condition {
            Condition::Good { bytes } => Some(*bytes),
            _ => None,
        };
        match &self.found {
            Found::Gguf { condition, .. } => good(condition),
            Found::Folder { weights, .. } if !weights.is_empty() => {
                weights.iter().map(|(_, condition)| good(condition)).sum()
            }
            _ => None,
        }
    }
}

fn finding(level: Level, code: &'static str, what: String) -> Finding {
    Finding::new(Area::Model, level, code, what)
}

/// Judges it.
#[must_use]
pub fn judge(model: &Model) -> Vec<Finding> {
    let name = &model.name;
    let mut findings = Vec::new();
    let fetch = format!("hf download {name}");
    match &model.found {
        Found::NotOurs => {
            findings.push(finding(Level::Ok, "model_not_ours", format!("{name} is the engine's own affair")));
        }
        Found::Nothing { cache } => {
            let looks_like_id = name.split('/').count() == 2 && !name.starts_with(['.', '/', '~']);
            let (what, mend) = if looks_like_id {
                (format!("{name} is not in the hub cache {}", cache.display()), fetch)
            } else {
                (format!("there is nothing at {name}"), "mlxsupctl models".to_owned())
            };
            findings.push(
                finding(Level::Problem, "model_missing", what)
                    .because("the worker cannot start; a daemon never downloads by itself")
                    .mended_by(mend),
            );
        }
        Found::Closed { path, why } => findings.push(
            finding(Level::Problem, "model_closed", format!("cannot look into {}: {why}", path.display()))
                .because("the worker runs as the daemon's user and needs to read it")
                .mended_by(format!("ls -ld {}", path.display())),
        ),
        Found::Several { path, names } => findings.push(
            finding(
                Level::Problem,
                "model_several",
                format!("{} has several models: {}", path.display(), names.join(", ")),
            )
            .because("the worker does not guess which one is meant")
            .mended_by("set model in [worker] to one of the files, then: mlxsupctl reload"),
        ),
        Found::NoModel { path } => findings.push(
            finding(
                Level::Problem,
                "model_none",
                format!("{} has neither config.json nor a GGUF file", path.display()),
            )
            .because("the worker cannot start")
            .mended_by(format!("ls {}", path.display())),
        ),
        Found::Gguf { path, condition } => {
            findings.extend(file(&path.display().to_string(), condition, "fetch the file again"));
        }
        Found::Folder { path, tokenizer, weights, index_problem } => {
            let again =
                if name.contains('/') && !Path::new(name).exists() { fetch } else { "fetch the model again".into() };
            findings.extend(folder(path, *tokenizer, weights, index_problem.as_deref(), &again));
        }
    }
    if model.unfinished > 0 {
        let what = format!("{} of {name} broken off in the hub cache", downloads(model.unfinished));
        let (level, why) = match model.bytes() {
            Some(_) => (Level::Note, "the model itself is whole; they only take up space"),
            None => (Level::Warning, "weights may be missing: fetching again goes on where it stopped"),
        };
        findings
            .push(finding(level, "download_unfinished", what).because(why).mended_by(format!("hf download {name}")));
    }
    if let Some(bytes) = model.bytes().filter(|_| !findings.iter().any(|one| one.level == Level::Problem)) {
        findings.push(finding(Level::Ok, "model", format!("{name} is whole: {} on disk", size(bytes as f64))));
    }
    findings
}

fn downloads(number: usize) -> String {
    if number == 1 { "1 download".to_owned() } else { format!("{number} downloads") }
}

fn folder(
    path: &Path,
    tokenizer: bool,
    weights: &[(String, Condition)],
    index_problem: Option<&str>,
    again: &str,
) -> Vec<Finding> {
    let shown = path.display();
    let mut findings = Vec::new();
    if weights.is_empty() {
        findings.push(
            finding(Level::Problem, "weights_missing", format!("{shown} has a config.json and no model*.safetensors"))
                .because("only the small files were fetched; the worker cannot start")
                .mended_by(again),
        );
    }
    if let Some(problem) = index_problem {
        findings.push(
            finding(Level::Problem, "index_bad", format!("model.safetensors.index.json of {shown}: {problem}"))
                .because("nobody can tell whether all weight files are there")
                .mended_by(again),
        );
    }
    let missing: Vec<&str> =
        weights.iter().filter(|(_, at)| *at == Condition::Missing).map(|(name, _)| name.as_str()).collect();
    if let Some(first) = missing.first() {
        let what = match missing.len() {
            1 => format!("the weight file {first} of {shown} is missing"),
            number => format!("{number} of {} weight files of {shown} are missing, {first} first", weights.len()),
        };
        findings.push(
            finding(Level::Problem, "shard_missing", what)
                .because("the index names it, so the model is not whole and the worker does not start")
                .mended_by(again),
        );
    }
    for (name, condition) in weights {
        if *condition != Condition::Missing {
            findings.extend(file(&format!("{shown}/{name}"), condition, again));
        }
    }
    if !tokenizer {
        findings.push(
            finding(Level::Problem, "tokenizer_missing", format!("{shown} has no tokenizer.json"))
                .because("without it no prompt becomes tokens; the worker does not start")
                .mended_by(again),
        );
    }
    findings
}

/// What is wrong with one file, if anything is.
fn file(shown: &str, condition: &Condition, again: &str) -> Option<Finding> {
    let (code, what, mend) = match condition {
        Condition::Good { .. } => return None,
        Condition::Missing => ("file_missing", format!("{shown} is missing"), again.to_owned()),
        Condition::Closed(why) => ("file_closed", format!("cannot read {shown}: {why}"), format!("ls -lL {shown}")),
        Condition::Short { has, needs } => {
            let (has, needs) = (size(*has as f64), size(*needs as f64));
            ("file_short", format!("{shown} is cut short: {has} of {needs}"), again.to_owned())
        }
        Condition::Damaged(why) => ("file_damaged", format!("{shown} is damaged: {why}"), again.to_owned()),
    };
    Some(finding(Level::Problem, code, what).because("the worker fails while it loads").mended_by(mend))
}

#[cfg(test)]
mod tests;
