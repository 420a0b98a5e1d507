//! The headers of a folder's safetensors files: which tensors there are and how many bytes, before MLX reads them.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use crate::error::FileError;
use crate::tensor::StoredTensor;

/// Bytes one header may have, as the format itself limits it.
const MAX_HEADER: u64 = 100_000_000;

#[derive(Debug, Deserialize)]
struct Entry {
    dtype: String,
    shape: Vec<u64>,
    data_offsets: (u64, u64),
}

#[derive(Debug, Deserialize)]
struct Index {
    weight_map: BTreeMap<String, String>,
}

/// The weight files of `folder` (`model*.safetensors`), sorted by name.
///
/// # Errors
/// [`FileError`] when there is none, or one that `model.safetensors.index.json` names is missing.
pub fn files(folder: &Path) -> Result<Vec<PathBuf>, FileError> {
    let io = |source| FileError::Io { path: folder.to_owned(), source };
    let mut files = Vec::new();
    for entry in folder.read_dir().map_err(io)? {
        let path = entry.map_err(io)?.path();
        let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        if name.starts_with("model") && name.ends_with(".safetensors") {
            files.push(path);
        }
    }
    files.sort();
    let index = folder.join("model.safetensors.index.json");
    if index.is_file() {
        let bytes = fs::read(&index).map_err(|source| FileError::Io { path: index.clone(), source })?;
        let parsed: Index = serde_json::from_slice(&bytes)
            .map_err(|error| FileError::Config { path: index.clone(), what: error.to_string() })?;
        let missing = |name: &&String| !folder.join(name).is_file();
        if let Some(name) = parsed.weight_map.values().find(missing) {
            return Err(FileError::NotAModel {
                path: folder.to_owned(),
                what: format!("the weight file {name} is missing; download the model again"),
            });
        }
    }
    if files.is_empty() {
        return Err(FileError::NotAModel {
            path: folder.to_owned(),
            what: "it has a config.json, but no model*.safetensors; download the weights too".to_owned(),
        });
    }
    Ok(files)
}

/// Bytes of all weight files.
///
/// # Errors
/// [`FileError`] when one is missing or cannot be looked at.
pub fn on_disk_bytes(folder: &Path) -> Result<u64, FileError> {
    let length = |path: PathBuf| match fs::metadata(&path) {
        Ok(metadata) => Ok(metadata.len()),
        Err(source) => Err(FileError::Io { path, source }),
    };
    files(folder)?.into_iter().map(length).sum()
}

/// Every tensor of every weight file.
///
/// # Errors
/// [`FileError`] when a file is missing, cut short or not in the format.
pub fn tensors(folder: &Path) -> Result<Vec<StoredTensor>, FileError> {
    let mut entries = BTreeMap::new();
    for file in files(folder)? {
        entries.extend(header(&file)?);
    }
    let packed = |name: &str, entry: &Entry| {
        let module = name.strip_suffix(".weight");
        entry.dtype == "U32" && module.is_some_and(|module| entries.contains_key(&format!("{module}.scales")))
    };
    let stored = |(name, entry): (&String, &Entry)| StoredTensor {
        name: name.clone(),
        bytes: entry.data_offsets.1.saturating_sub(entry.data_offsets.0),
        quantised: packed(name, entry),
        elements: entry.shape.iter().copied().fold(1, u64::saturating_mul),
        element_bytes: if packed(name, entry) { None } else { element_bytes(&entry.dtype) },
    };
    Ok(entries.iter().map(stored).collect())
}

/// Bytes of one number; `None` for types without whole bytes, or unknown ones.
fn element_bytes(dtype: &str) -> Option<u64> {
    Some(match dtype {
        "F64" | "I64" | "U64" => 8,
        "F32" | "I32" | "U32" => 4,
        "F16" | "BF16" | "I16" | "U16" => 2,
        "I8" | "U8" | "BOOL" | "F8_E4M3" | "F8_E5M2" => 1,
        _ => return None,
    })
}

fn header(path: &Path) -> Result<BTreeMap<String, Entry>, FileError> {
    let io = |source| FileError::Io { path: path.to_owned(), source };
    let damaged = |what: String| FileError::Weights { path: path.to_owned(), what };
    let mut file = File::open(path).map_err(io)?;
    let file_bytes = file.metadata().map_err(io)?.len();
    let mut length = [0; 8];
    file.read_exact(&mut length).map_err(|_| damaged("it has no safetensors header".to_owned()))?;
    let length = u64::from_le_bytes(length);
    if length > MAX_HEADER || length.saturating_add(8) > file_bytes {
        return Err(damaged(format!("its header claims {length} bytes of {file_bytes}")));
    }
    let mut text = Vec::new();
    file.take(length).read_to_end(&mut text).map_err(io)?;
    let mut document: serde_json::Map<String, serde_json::Value> =
        serde_json::from_slice(&text).map_err(|error| damaged(format!("its header is not JSON: {error}")))?;
    document.remove("__metadata__");
    let entries: BTreeMap<String, Entry> = serde_json::from_value(document.into())
        .map_err(|error| damaged(format!("its header is not understood: {error}")))?;
    let end = entries.values().map(|entry| entry.data_offsets.1).max().unwrap_or(0);
    let needed = end.saturating_add(8).saturating_add(length);
    if needed > file_bytes {
        return Err(damaged(format!("it is cut short: {file_bytes} of {needed} bytes")));
    }
    Ok(entries)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(folder: &Path, name: &str, header: &str, data: usize) {
        let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
        bytes.extend(header.as_bytes());
        bytes.resize(bytes.len() + data, 0);
        fs::write(folder.join(name), bytes).unwrap();
    }

    const HEADER: &str = r#"{"__metadata__":{"format":"mlx"},
        "a.weight":{"dtype":"U32","shape":[4,8],"data_offsets":[0,128]},
        "a.scales":{"dtype":"F16","shape":[4,2],"data_offsets":[128,144]},
        "norm.weight":{"dtype":"F32","shape":[4],"data_offsets":[144,160]}}"#;

    #[test]
    fn tensors_are_listed_with_their_bytes() {
        let folder = tempfile::tempdir().unwrap();
        write(folder.path(), "model.safetensors", HEADER, 160);
        let tensors = tensors(folder.path()).unwrap();
        let facts: Vec<_> = tensors.iter().map(|t| (t.name.as_str(), t.bytes, t.quantised)).collect();
        assert_eq!(facts, [("a.scales", 16, false), ("a.weight", 128, true), ("norm.weight", 16, false)]);
    }

    #[test]
    fn damaged_files_are_named() {
        let folder = tempfile::tempdir().unwrap();
        assert!(tensors(folder.path()).unwrap_err().to_string().contains("no model*.safetensors"));
        for (header, data, word) in
            [(HEADER, 100, "cut short"), ("not json", 0, "not JSON"), ("{\"a\":1}", 0, "not understood")]
        {
            write(folder.path(), "model.safetensors", header, data);
            let error = tensors(folder.path()).unwrap_err().to_string();
            assert!(error.contains(word) && error.contains("model.safetensors"), "{error}");
        }
        fs::write(folder.path().join("model.safetensors"), u64::MAX.to_le_bytes()).unwrap();
        assert!(tensors(folder.path()).unwrap_err().to_string().contains("claims"));
    }

    #[test]
    fn a_shard_that_the_index_names_must_exist() {
        let folder = tempfile::tempdir().unwrap();
        write(folder.path(), "model-00001-of-00002.safetensors", HEADER, 160);
        fs::write(
            folder.path().join("model.safetensors.index.json"),
            r#"{"metadata":{},"weight_map":{"a":"model-00001-of-00002.safetensors","b":"model-00002-of-00002.safetensors"}}"#,
        )
        .unwrap();
        assert!(tensors(folder.path()).unwrap_err().to_string().contains("model-00002-of-00002"));
    }
}
