//! The models that lie in the local hub cache.

use std::fs;
use std::path::{Path, PathBuf};

use crate::resolve::{self, gguf_files};

/// Models listed at most; a cache with more is not read by people.
pub const MOST_MODELS: usize = 500;

/// What can be written as `worker.model` for every downloaded model, in order of names: hub ids, and paths where one id
/// holds several GGUF files. Repositories without weights of a language model's layout are left out.
#[must_use]
pub fn models(hub_cache: &Path) -> Vec<String> {
    let Ok(entries) = fs::read_dir(hub_cache) else { return Vec::new() };
    let mut ids: Vec<String> =
        entries.flatten().filter_map(|entry| id_of(&entry.file_name().to_string_lossy())).collect();
    ids.sort_by_key(|id| id.to_lowercase());
    ids.into_iter().flat_map(|id| names(&id, hub_cache)).take(MOST_MODELS).collect()
}

fn id_of(folder: &str) -> Option<String> {
    let (owner, name) = folder.strip_prefix("models--")?.split_once("--")?;
    Some(format!("{owner}/{name}"))
}

fn names(id: &str, hub_cache: &Path) -> Vec<String> {
    let Some(snapshot) = resolve::snapshot(id, hub_cache) else { return Vec::new() };
    if snapshot.join("config.json").is_file() {
        return if has_weights(&snapshot) { vec![id.to_owned()] } else { Vec::new() };
    }
    let files: Vec<PathBuf> = gguf_files(&snapshot).unwrap_or_default();
    match files.as_slice() {
        [] => Vec::new(),
        [_] => vec![id.to_owned()],
        several => several.iter().map(|file| file.display().to_string()).collect(),
    }
}

/// Tokenizers and configurations are often fetched alone.
fn has_weights(snapshot: &Path) -> bool {
    snapshot.join("model.safetensors.index.json").is_file()
        || fs::read_dir(snapshot).is_ok_and(|entries| {
            entries.flatten().any(|entry| entry.path().extension().is_some_and(|end| end == "safetensors"))
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_could_be_a_language_model_is_listed() {
        let cache = tempfile::tempdir().unwrap();
        let put = |id: &str, files: &[&str]| {
            let folder = cache.path().join(id);
            fs::create_dir_all(folder.join("refs")).unwrap();
            fs::create_dir_all(folder.join("snapshots/abc")).unwrap();
            fs::write(folder.join("refs/main"), "abc").unwrap();
            for file in files {
                fs::write(folder.join("snapshots/abc").join(file), "{}").unwrap();
            }
        };
        put("models--some--Whole", &["config.json", "model.safetensors"]);
        put("models--some--Tokenizer", &["config.json", "tokenizer.json"]);
        put("models--a--One-GGUF", &["x.Q8_0.gguf"]);
        put("models--b--Two-GGUF", &["x.Q4_0.gguf", "x.Q8_0.gguf"]);
        put("datasets--some--Data", &["config.json", "model.safetensors"]);
        let found = models(cache.path());
        assert_eq!((found.len(), found[0].as_str(), found[3].as_str()), (4, "a/One-GGUF", "some/Whole"));
        assert!(found[1].ends_with("x.Q4_0.gguf") && found[2].ends_with("x.Q8_0.gguf"), "{found:?}");
        assert!(models(Path::new("/no/such/cache")).is_empty());
    }
}
