//! Reading as much of a model's files as tells whether they are whole.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{ErrorKind, Read};
use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::Found;

/// A header of safetensors may have so many bytes, by its own format.
const MAX_HEADER: u64 = 100_000_000;
/// The index of the largest models has some hundred kilobytes.
const MAX_INDEX: u64 = 64 << 20;

/// What one file of weights is like.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Condition {
    /// As long as its header says.
    Good {
        /// Its size.
        bytes: u64,
    },
    /// Not there; in a hub cache the link may be there and lead nowhere.
    Missing,
    /// It cannot be read.
    Closed(String),
    /// Shorter than its header says.
    Short {
        /// Its size.
        has: u64,
        /// The size its header asks for.
        needs: u64,
    },
    /// Not in its format.
    Damaged(String),
}

/// What is at a path.
pub(super) fn at(path: &Path) -> Found {
    if path.is_file() {
        return Found::Gguf { path: path.to_owned(), condition: gguf(path) };
    }
    let names = match std::fs::read_dir(path) {
        Ok(listing) => listing.flatten().filter_map(|entry| entry.file_name().into_string().ok()),
        Err(error) => return Found::Closed { path: path.to_owned(), why: error.to_string() },
    };
    let names: BTreeSet<String> = names.collect();
    if names.contains("config.json") {
        return folder(path, &names);
    }
    let ggufs: Vec<&String> = names.iter().filter(|name| name.ends_with(".gguf")).collect();
    match ggufs.as_slice() {
        [] => Found::NoModel { path: path.to_owned() },
        [only] => at(&path.join(only)),
        several => {
            Found::Several { path: path.to_owned(), names: several.iter().map(|name| (*name).clone()).collect() }
        }
    }
}

fn folder(path: &Path, names: &BTreeSet<String>) -> Found {
    let is_weights = |name: &&String| name.starts_with("model") && name.ends_with(".safetensors");
    let mut wanted: BTreeSet<String> = names.iter().filter(is_weights).cloned().collect();
    let mut index_problem = None;
    if names.contains("model.safetensors.index.json") {
        match index(&path.join("model.safetensors.index.json")) {
            Ok(files) => wanted.extend(files),
            Err(problem) => index_problem = Some(problem),
        }
    }
    let tokenizer = ["tokenizer.json", "tokenizer.model"].iter().any(|name| path.join(name).is_file());
    let weights = wanted.into_iter().map(|name| (name.clone(), safetensors(&path.join(name)))).collect();
    Found::Folder { path: path.to_owned(), tokenizer, weights, index_problem }
}

#[derive(Deserialize)]
struct Index {
    weight_map: std::collections::BTreeMap<String, String>,
}

/// The files an index names.
fn index(path: &Path) -> Result<BTreeSet<String>, String> {
    let mut text = Vec::new();
    let file = File::open(path).map_err(|error| error.to_string())?;
    file.take(MAX_INDEX).read_to_end(&mut text).map_err(|error| error.to_string())?;
    let index: Index = serde_json::from_slice(&text).map_err(|error| error.to_string())?;
    Ok(index.weight_map.into_values().collect())
}

#[derive(Deserialize)]
struct Tensor {
    data_offsets: (u64, u64),
}

fn open(path: &Path) -> Result<(File, u64), Condition> {
    let closed = |error: std::io::Error| match error.kind() {
        ErrorKind::NotFound => Condition::Missing,
        _ => Condition::Closed(error.to_string()),
    };
    let file = File::open(path).map_err(closed)?;
    let bytes = file.metadata().map_err(closed)?.len();
    Ok((file, bytes))
}

fn safetensors(path: &Path) -> Condition {
    let (mut file, bytes) = match open(path) {
        Ok(opened) => opened,
        Err(condition) => return condition,
    };
    let damaged = |what: &str| Condition::Damaged(what.to_owned());
    let mut length = [0; 8];
    if file.read_exact(&mut length).is_err() {
        return damaged("it has no header");
    }
    let length = u64::from_le_bytes(length);
    if length > MAX_HEADER {
        // What a login page or a pointer to the real file looks like here.
        return damaged("it is no safetensors file");
    }
    if length.saturating_add(8) > bytes {
        return Condition::Short { has: bytes, needs: length.saturating_add(8) };
    }
    let mut text = Vec::new();
    if file.take(length).read_to_end(&mut text).is_err() {
        return damaged("its header cannot be read");
    }
    let Ok(serde_json::Value::Object(mut tensors)) = serde_json::from_slice(&text) else {
        return damaged("its header is no JSON");
    };
    tensors.remove("__metadata__");
    let ends =
        tensors.into_iter().map(|(_, tensor)| serde_json::from_value::<Tensor>(tensor).map(|t| t.data_offsets.1));
    let Ok(ends) = ends.collect::<Result<Vec<u64>, _>>() else { return damaged("its header is not understood") };
    let needs = ends.into_iter().max().unwrap_or(0).saturating_add(length).saturating_add(8);
    if needs > bytes { Condition::Short { has: bytes, needs } } else { Condition::Good { bytes } }
}

/// Magic, version, and that it has tensors; their places are read by the worker.
fn gguf(path: &Path) -> Condition {
    let (mut file, bytes) = match open(path) {
        Ok(opened) => opened,
        Err(condition) => return condition,
    };
    let damaged = |what: String| Condition::Damaged(what);
    let mut head = [0; 24];
    if file.read_exact(&mut head).is_err() || !head.starts_with(b"GGUF") {
        return damaged("it is no GGUF file".to_owned());
    }
    let number = |from: usize| head[from..from + 8].iter().rev().fold(0_u64, |sum, byte| sum << 8 | u64::from(*byte));
    let version = number(4) & 0xffff_ffff;
    if !(2..=3).contains(&version) {
        return damaged(format!("its GGUF version is {version}, 2 and 3 are known"));
    }
    let tensors = number(8);
    // Each tensor's entry alone takes more than this.
    if tensors == 0 || tensors.saturating_mul(24) > bytes {
        return damaged(format!("its header claims {tensors} tensors"));
    }
    Condition::Good { bytes }
}

/// The snapshot that `refs/main` of a model's folder in the hub cache names.
pub(super) fn snapshot(folder: &Path) -> Option<PathBuf> {
    let revision = std::fs::read_to_string(folder.join("refs/main")).ok()?;
    let revision = revision.trim();
    let plain = !revision.is_empty() && revision.chars().all(|letter| letter.is_ascii_alphanumeric());
    plain.then(|| folder.join("snapshots").join(revision)).filter(|snapshot| snapshot.is_dir())
}

/// Downloads that were broken off.
pub(super) fn unfinished(folder: &Path) -> usize {
    let listing = std::fs::read_dir(folder.join("blobs")).into_iter().flatten().flatten();
    listing.filter(|entry| entry.path().extension().is_some_and(|end| end == "incomplete")).count()
}
