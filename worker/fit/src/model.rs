//! What a model costs, read off the headers of its files.
//!
//! Owns which of its tensors stay in memory and how wide their numbers are. Any architecture is understood as far as its
//! memory goes; whether an engine can run it is another question ([`Model::obstacle`]).

use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::attention::Attention;
use crate::error::FileError;
use crate::gguf::{self, Header};
use crate::native;
use crate::resolve::{self, ModelSource};
use crate::safetensors;
use crate::tensor::StoredTensor;

/// Bytes a `config.json` may have; real ones have a few kilobytes, per-layer quantisation brings some hundreds.
const MAX_CONFIG: u64 = 16 << 20;

/// Context of a model that names none.
const DEFAULT_CONTEXT: u32 = 2048;

/// Parts of a checkpoint that a text engine does not load.
const NOT_LOADED: [&str; 10] = [
    "vision_tower.",
    "visual.",
    "model.visual.",
    "vision_model.",
    "multi_modal_projector.",
    "audio_tower.",
    "embed_vision.",
    "embed_audio.",
    "mtp.",
    "model.mtp.",
];

/// In which layout the files are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// `config.json` beside safetensors.
    Folder,
    /// One GGUF file.
    Gguf,
}

/// A model on disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Model {
    /// The name clients see.
    pub name: String,
    /// Folder or file.
    pub path: PathBuf,
    /// Layout of the files.
    pub format: Format,
    /// `model_type` or `general.architecture`.
    pub architecture: String,
    /// For example `8-bit affine, group 64`, `Q4_1` or `bf16`.
    pub precision: String,
    /// Bytes of the weight files on disk, with headers and with tensors that are not loaded.
    pub on_disk_bytes: u64,
    /// Bytes of the tensors that are loaded, as stored.
    pub stored_bytes: u64,
    /// Bytes of tensors that a text engine leaves on disk.
    pub left_out_bytes: u64,
    /// Bytes of the same weights as 32-bit floats.
    pub unpacked_bytes: u64,
    /// Bytes of one number in keys and values, as stored.
    pub element_bytes: u64,
    /// Tokens the model was made for.
    pub context: u32,
    /// What sequences cost.
    pub attention: Attention,
    /// Why the native worker does not run it, if it does not.
    pub obstacle: Option<String>,
}

impl Model {
    /// Finds `model` (a folder, a GGUF file or a hub id) and reads its headers.
    ///
    /// # Errors
    /// [`FileError`], saying which file is at fault and what to do.
    pub fn open(model: &str) -> Result<Self, FileError> {
        Self::open_in(model, &resolve::hub_cache())
    }

    /// [`Self::open`] with another hub cache.
    ///
    /// # Errors
    /// As there.
    pub fn open_in(model: &str, hub_cache: &Path) -> Result<Self, FileError> {
        let (source, name) = resolve::resolve(model, hub_cache)?;
        Self::of(&source, name)
    }

    /// The model in these files, called `name`.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub fn of(source: &ModelSource, name: String) -> Result<Self, FileError> {
        match source {
            ModelSource::Folder(folder) => of_folder(folder, name),
            ModelSource::Gguf { path, header } => of_gguf(path, header, name),
        }
    }
}

/// Reads a JSON file of at most `most` bytes.
fn read_json(path: &Path, most: u64) -> Result<Value, FileError> {
    let mut bytes = Vec::new();
    let file = fs::File::open(path).map_err(FileError::io(path))?;
    file.take(most + 1).read_to_end(&mut bytes).map_err(FileError::io(path))?;
    if bytes.len() as u64 > most {
        return Err(FileError::config(path, format!("it is larger than {most} bytes")));
    }
    serde_json::from_slice(&bytes).map_err(|error| FileError::config(path, format!("not JSON: {error}")))
}

fn of_folder(folder: &Path, name: String) -> Result<Model, FileError> {
    let path = folder.join("config.json");
    let document = read_json(&path, MAX_CONFIG)?;
    // Models that also see keep the language part one level down.
    let nested = document.get("text_config").filter(|text| text.get("num_hidden_layers").is_some());
    let text = nested.unwrap_or(&document);
    let architecture = document.get("model_type").and_then(Value::as_str);
    let architecture = architecture.ok_or_else(|| FileError::config(&path, "`model_type` is missing"))?;
    let attention = Attention::of_config(text).map_err(|what| FileError::config(&path, what))?;
    let context = text.get("max_position_embeddings").and_then(Value::as_u64);
    let quantisation = ["quantization", "quantization_config"]
        .iter()
        .find_map(|key| document.get(key).or_else(|| text.get(key)))
        .filter(|value| value.is_object());
    let tensors = safetensors::tensors(folder)?;
    let sums = Sums::of(&tensors, |tensor| bits_of(quantisation, &tensor.name));
    let architecture = architecture.to_owned();
    let obstacle = obstacle(&architecture, text, quantisation);
    Ok(Model {
        name,
        path: folder.to_owned(),
        format: Format::Folder,
        precision: sums.precision(quantisation),
        architecture,
        on_disk_bytes: safetensors::on_disk_bytes(folder)?,
        stored_bytes: sums.loaded,
        left_out_bytes: sums.left_out,
        unpacked_bytes: sums.unpacked,
        element_bytes: sums.element_bytes(),
        context: context.and_then(|tokens| u32::try_from(tokens).ok()).unwrap_or(DEFAULT_CONTEXT),
        attention,
        obstacle,
    })
}

fn obstacle(architecture: &str, text: &Value, quantisation: Option<&Value>) -> Option<String> {
    if !native::ARCHITECTURES.contains(&architecture) {
        return Some(format!("the native worker does not run the architecture `{architecture}`"));
    }
    let types: Vec<String> = text
        .get("layer_types")
        .and_then(Value::as_array)
        .map(|types| types.iter().filter_map(Value::as_str).map(str::to_owned).collect())
        .unwrap_or_default();
    native::check_quantisation(quantisation).and_then(|()| native::check_layer_types(&types)).err()
}

/// Bits of one packed weight: the layer's own, else the model's.
fn bits_of(quantisation: Option<&Value>, tensor: &str) -> u64 {
    let module = tensor.strip_suffix(".weight").unwrap_or(tensor);
    let bits = |settings: &Value| settings.get("bits").and_then(Value::as_u64).filter(|bits| (1..=16).contains(bits));
    let own = quantisation.and_then(|all| all.get(module)).and_then(bits);
    own.or_else(|| quantisation.and_then(bits)).unwrap_or(8)
}

/// What the tensors come to.
#[derive(Default)]
struct Sums {
    loaded: u64,
    left_out: u64,
    unpacked: u64,
    packed: u64,
    /// Bytes of plain 32-bit numbers, and of 16-bit ones.
    wide: u64,
    narrow: u64,
}

impl Sums {
    fn of(tensors: &[StoredTensor], bits: impl Fn(&StoredTensor) -> u64) -> Self {
        let packed: std::collections::BTreeSet<&str> = tensors
            .iter()
            .filter(|tensor| tensor.quantised)
            .filter_map(|tensor| tensor.name.strip_suffix(".weight"))
            .collect();
        let mut sums = Self::default();
        for tensor in tensors {
            if NOT_LOADED.iter().any(|prefix| tensor.name.starts_with(prefix)) {
                sums.left_out = sums.left_out.saturating_add(tensor.bytes);
                continue;
            }
            sums.loaded = sums.loaded.saturating_add(tensor.bytes);
            let elements = if tensor.quantised {
                sums.packed = sums.packed.saturating_add(tensor.bytes);
                tensor.bytes.saturating_mul(8) / bits(tensor).max(1)
            } else {
                match tensor.element_bytes {
                    Some(4) => sums.wide = sums.wide.saturating_add(tensor.bytes),
                    _ => sums.narrow = sums.narrow.saturating_add(tensor.bytes),
                }
                let module = tensor.name.strip_suffix(".scales").or_else(|| tensor.name.strip_suffix(".biases"));
                // Consumed while unpacking.
                if module.is_some_and(|module| packed.contains(module)) { 0 } else { tensor.elements }
            };
            sums.unpacked = sums.unpacked.saturating_add(elements.saturating_mul(4));
        }
        sums
    }

    /// Keys and values are as wide as most of the plain numbers are.
    const fn element_bytes(&self) -> u64 {
        if self.wide > self.narrow { 4 } else { 2 }
    }

    fn precision(&self, quantisation: Option<&Value>) -> String {
        let number = |key: &str| quantisation.and_then(|all| all.get(key)).and_then(Value::as_u64);
        let mode = quantisation.and_then(|all| all.get("mode")).and_then(Value::as_str).unwrap_or("affine");
        match (number("bits"), number("group_size")) {
            (Some(bits), Some(group)) if self.packed > 0 => format!("{bits}-bit {mode}, group {group}"),
            _ if self.element_bytes() == 4 => "32-bit".to_owned(),
            _ => "16-bit".to_owned(),
        }
    }
}

fn of_gguf(path: &Path, header: &Header, name: String) -> Result<Model, FileError> {
    let wrong = |what: String| FileError::config(path, what);
    let architecture = header.metadata("general.architecture").and_then(gguf::Value::as_str);
    let architecture = architecture.ok_or_else(|| wrong("`general.architecture` is missing".to_owned()))?;
    let attention = gguf_attention(architecture, header).map_err(wrong)?;
    let context = header.metadata(&format!("{architecture}.context_length")).and_then(gguf::Value::as_u32);
    let unreadable = header.tensors().iter().find(|tensor| !native::GGUF_TYPES.contains(&tensor.kind));
    let elements = header.tensors().iter().filter_map(gguf::TensorInfo::elements).fold(0, u64::saturating_add);
    let obstacle = match unreadable {
        _ if !native::ARCHITECTURES.contains(&architecture) => {
            Some(format!("the native worker does not run the architecture `{architecture}`"))
        }
        Some(tensor) => Some(format!("MLX does not read {}; get it as Q8_0, Q4_1 or Q4_0", tensor.kind)),
        None => None,
    };
    // The commonest type by bytes: what the file is named after.
    let mut kinds = std::collections::BTreeMap::new();
    for tensor in header.tensors() {
        *kinds.entry(tensor.kind).or_insert(0_u64) += tensor.elements().unwrap_or(0);
    }
    let kind = kinds.into_iter().max_by_key(|(_, elements)| *elements);
    let all_wide = header.tensors().iter().all(|tensor| tensor.kind == gguf::TensorType::F32);
    Ok(Model {
        name,
        path: path.to_owned(),
        format: Format::Gguf,
        architecture: architecture.to_owned(),
        precision: kind.map_or_else(|| "unknown".to_owned(), |(kind, _)| kind.to_string()),
        on_disk_bytes: header.file_bytes(),
        // Blocks of some types have no size here; their sum is what lies behind the header.
        stored_bytes: match header.tensors().iter().map(gguf::TensorInfo::bytes).sum::<Option<u64>>() {
            Some(bytes) => bytes,
            None => header.file_bytes().saturating_sub(header.data_offset()),
        },
        left_out_bytes: 0,
        unpacked_bytes: elements.saturating_mul(4),
        element_bytes: if all_wide { 4 } else { 2 },
        context: context.unwrap_or(DEFAULT_CONTEXT),
        attention,
        obstacle,
    })
}

fn gguf_attention(architecture: &str, header: &Header) -> Result<Attention, String> {
    let value = |key: &str| header.metadata(&format!("{architecture}.{key}"));
    let number = |key: &str| value(key).and_then(gguf::Value::as_u64).filter(|number| *number <= 1 << 24);
    let needed = |key: &str| number(key).ok_or_else(|| format!("`{architecture}.{key}` is missing or not a number"));
    let layers = needed("block_count")?.min(10_000);
    // Some files give the heads layer by layer.
    let per_layer = |key: &str| value(key).and_then(gguf::Value::as_integers);
    let largest = |list: &[i64]| list.iter().filter_map(|heads| u64::try_from(*heads).ok()).max();
    let query_heads = match per_layer("attention.head_count").and_then(largest) {
        Some(heads) => heads,
        None => needed("attention.head_count")?,
    };
    let kv_heads: u64 = match per_layer("attention.head_count_kv") {
        Some(list) => list.iter().filter_map(|heads| u64::try_from(*heads).ok()).map(|heads| heads.min(1 << 16)).sum(),
        None => layers * number("attention.head_count_kv").unwrap_or(query_heads),
    };
    let head_dim = match number("attention.key_length") {
        Some(width) => width,
        None => needed("embedding_length")?.checked_div(query_heads).unwrap_or(0),
    };
    Ok(Attention {
        query_heads,
        head_dim,
        elements_per_token: kv_heads.saturating_mul(head_dim + number("attention.value_length").unwrap_or(head_dim)),
        ..Attention::default()
    })
}

#[cfg(test)]
#[path = "model_tests.rs"]
mod tests;
