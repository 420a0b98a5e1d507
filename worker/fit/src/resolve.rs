//! From a configured name to files on disk. Never downloads.

use std::env;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::error::FileError;
use crate::gguf::Header;

/// Where a model's files are.
#[derive(Debug, Clone)]
pub enum ModelSource {
    /// A folder in MLX/Hugging Face layout.
    Folder(PathBuf),
    /// A GGUF file with its header.
    Gguf {
        /// The file.
        path: PathBuf,
        /// Already read; tokenizer and template are in it.
        header: Arc<Header>,
    },
}

impl ModelSource {
    /// The folder or file.
    #[must_use]
    pub fn path(&self) -> &Path {
        match self {
            Self::Folder(path) | Self::Gguf { path, .. } => path,
        }
    }
}

/// The Hugging Face hub cache of this user: `$HF_HUB_CACHE`, `$HF_HOME/hub`, or `~/.cache/huggingface/hub`.
#[must_use]
pub fn hub_cache() -> PathBuf {
    let set = |name: &str| env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    set("HF_HUB_CACHE")
        .or_else(|| set("HF_HOME").map(|home| home.join("hub")))
        .or_else(|| set("HOME").map(|home| home.join(".cache/huggingface/hub")))
        .unwrap_or_else(|| PathBuf::from(".cache/huggingface/hub"))
}

/// Finds `model` and the name clients will see: the hub id as given, or the last part of the path.
///
/// # Errors
/// [`FileError`] when nothing is there, or what is there is no model.
pub fn resolve(model: &str, hub_cache: &Path) -> Result<(ModelSource, String), FileError> {
    let path = expand_home(model);
    if path.exists() {
        let name = path.file_stem().filter(|_| path.is_file()).or_else(|| path.file_name());
        let name = name.map_or_else(|| model.to_owned(), |name| name.to_string_lossy().into_owned());
        return Ok((at_path(&path)?, name));
    }
    let missing = || FileError::NotFound { model: model.to_owned(), hub_cache: hub_cache.to_owned() };
    let snapshot = snapshot(model, hub_cache).ok_or_else(missing)?;
    Ok((at_path(&snapshot)?, model.to_owned()))
}

fn expand_home(model: &str) -> PathBuf {
    match (model.strip_prefix("~/"), env::var_os("HOME")) {
        (Some(rest), Some(home)) => PathBuf::from(home).join(rest),
        _ => PathBuf::from(model),
    }
}

fn at_path(path: &Path) -> Result<ModelSource, FileError> {
    if path.is_file() {
        let header = Arc::new(Header::read(path)?);
        return Ok(ModelSource::Gguf { path: path.to_owned(), header });
    }
    if path.join("config.json").is_file() {
        return Ok(ModelSource::Folder(path.to_owned()));
    }
    let mut files = gguf_files(path)?;
    match (files.pop(), files.is_empty()) {
        (Some(only), true) => at_path(&only),
        (None, _) => Err(FileError::NotAModel {
            path: path.to_owned(),
            what: "it has neither config.json nor a .gguf file".to_owned(),
        }),
        (Some(last), false) => {
            files.push(last);
            let names: Vec<_> = files.iter().map(|file| file.display().to_string()).collect();
            Err(FileError::NotAModel {
                path: path.to_owned(),
                what: format!("it has several GGUF files; name one of them: {}", names.join(", ")),
            })
        }
    }
}

pub(crate) fn gguf_files(folder: &Path) -> Result<Vec<PathBuf>, FileError> {
    let io = |source| FileError::Io { path: folder.to_owned(), source };
    let mut files = Vec::new();
    for entry in folder.read_dir().map_err(io)? {
        let path = entry.map_err(io)?.path();
        if path.extension().is_some_and(|extension| extension == "gguf") {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

/// The snapshot folder that `refs/main` of a hub id names.
pub(crate) fn snapshot(id: &str, hub_cache: &Path) -> Option<PathBuf> {
    let (owner, name) = id.split_once('/')?;
    let plain = |part: &str| {
        !part.is_empty()
            && !part.starts_with('.')
            && part.chars().all(|letter| letter.is_ascii_alphanumeric() || "-_.".contains(letter))
    };
    if !plain(owner) || !plain(name) {
        return None;
    }
    let folder = hub_cache.join(format!("models--{owner}--{name}"));
    let revision = std::fs::read_to_string(folder.join("refs/main")).ok()?;
    let revision = revision.trim();
    if revision.is_empty() || !revision.chars().all(|letter| letter.is_ascii_alphanumeric()) {
        return None;
    }
    Some(folder.join("snapshots").join(revision)).filter(|snapshot| snapshot.is_dir())
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn cache_with(file: &str) -> tempfile::TempDir {
        let cache = tempfile::tempdir().unwrap();
        let folder = cache.path().join("models--some--Model-1.5B");
        fs::create_dir_all(folder.join("refs")).unwrap();
        fs::create_dir_all(folder.join("snapshots/abc123")).unwrap();
        fs::write(folder.join("refs/main"), "abc123\n").unwrap();
        fs::write(folder.join("snapshots/abc123").join(file), "{}").unwrap();
        cache
    }

    #[test]
    fn a_hub_id_leads_to_its_snapshot_and_keeps_its_name() {
        let cache = cache_with("config.json");
        let (source, name) = resolve("some/Model-1.5B", cache.path()).unwrap();
        assert!(source.path().ends_with("snapshots/abc123"), "{}", source.path().display());
        assert_eq!(name, "some/Model-1.5B");
    }

    #[test]
    fn an_unknown_name_says_where_it_looked() {
        let cache = tempfile::tempdir().unwrap();
        for model in ["some/absent", "/no/such/path", "../x", "a/b/c", ""] {
            let error = resolve(model, cache.path()).unwrap_err();
            assert!(matches!(error, FileError::NotFound { .. }), "{model}: {error}");
            assert!(error.to_string().contains(&cache.path().display().to_string()));
        }
    }

    #[test]
    fn a_folder_without_a_model_and_one_with_several_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().to_str().unwrap();
        assert!(resolve(path, folder.path()).unwrap_err().to_string().contains("neither config.json"));
        fs::write(folder.path().join("a.gguf"), "x").unwrap();
        assert!(matches!(resolve(path, folder.path()), Err(FileError::Gguf(_))));
        fs::write(folder.path().join("b.gguf"), "x").unwrap();
        let error = resolve(path, folder.path()).unwrap_err().to_string();
        assert!(error.contains("a.gguf") && error.contains("b.gguf"), "{error}");
    }

    #[test]
    fn a_folder_is_named_after_itself() {
        let folder = tempfile::tempdir().unwrap();
        let model = folder.path().join("Tiny-4bit.v2");
        fs::create_dir(&model).unwrap();
        fs::write(model.join("config.json"), "{}").unwrap();
        assert_eq!(resolve(model.to_str().unwrap(), folder.path()).unwrap().1, "Tiny-4bit.v2");
    }
}
