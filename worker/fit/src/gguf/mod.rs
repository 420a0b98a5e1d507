//! The header of a GGUF file: metadata and the list of tensors, read without MLX and without touching the weights.
//!
//! Every length comes from the file and is checked against a written limit before anything is allocated, so a damaged
//! or hostile file ends in a [`GgufError`]. Does not own what the metadata mean: the model reads its shape from them, the
//! tokenizer its vocabulary.

mod reader;
mod tensor_type;
mod value;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufReader};
use std::path::{Path, PathBuf};

use reader::Reader;
pub use tensor_type::TensorType;
pub use value::Value;

/// Metadata entries one file may have; real files have some dozens.
pub const MAX_METADATA: u64 = 65_536;
/// Tensors one file may have; the largest mixture models have some ten thousands.
pub const MAX_TENSORS: u64 = 1 << 20;
/// Bytes of one string; chat templates reach some hundred kilobytes.
pub const MAX_STRING: u64 = 16 << 20;
/// Elements of one array; vocabularies and merge lists stay under a million.
pub const MAX_ARRAY: u64 = 16 << 20;
/// Bytes of the whole header.
pub const MAX_HEADER: u64 = 512 << 20;
/// Dimensions of one tensor.
pub const MAX_DIMENSIONS: u32 = 8;

/// Why a GGUF header was not understood. Every message names the file.
#[derive(Debug, thiserror::Error)]
pub enum GgufError {
    /// The file could not be opened or read.
    #[error("cannot read the GGUF file {}: {source}", path.display())]
    Io {
        /// Which file.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// The first four bytes are not `GGUF`.
    #[error("{} is not a GGUF file: it does not begin with `GGUF`; give a GGUF file or a model folder with config.json", path.display())]
    NotGguf {
        /// Which file.
        path: PathBuf,
    },
    /// A version this reader does not know (also what a big-endian file looks like).
    #[error("{} is GGUF version {version}; versions 2 and 3 (little-endian) are supported: convert the model anew", path.display())]
    Version {
        /// Which file.
        path: PathBuf,
        /// What it says.
        version: u32,
    },
    /// The content contradicts the format or passes a limit.
    #[error("the GGUF file {} is damaged: {what}; download or convert it again", path.display())]
    Damaged {
        /// Which file.
        path: PathBuf,
        /// What is wrong, with the value at fault.
        what: String,
    },
    /// The file ends before its last tensor does, as after a broken download.
    #[error(
        "the GGUF file {} is cut short: its tensors end at byte {needed}, the file at {found}; download it again",
        path.display()
    )]
    Truncated {
        /// Which file.
        path: PathBuf,
        /// Bytes it should have at least.
        needed: u64,
        /// Bytes it has.
        found: u64,
    },
}

/// One tensor as the header describes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TensorInfo {
    /// For example `blk.0.attn_q.weight`.
    pub name: String,
    /// In GGUF order: the fastest-moving dimension first.
    pub dimensions: Vec<u64>,
    /// How its elements are stored.
    pub kind: TensorType,
    /// Where its data begin, counted from the start of the data section.
    pub offset: u64,
}

impl TensorInfo {
    /// Number of elements; `None` when the product does not fit.
    #[must_use]
    pub fn elements(&self) -> Option<u64> {
        self.dimensions.iter().try_fold(1u64, |product, dimension| product.checked_mul(*dimension))
    }

    /// Bytes of its data in the file; `None` for types whose block layout is unknown here.
    #[must_use]
    pub fn bytes(&self) -> Option<u64> {
        let (block_elements, block_bytes) = self.kind.block()?;
        self.elements()?.div_ceil(block_elements).checked_mul(block_bytes)
    }
}

/// Everything before the weights.
#[derive(Debug, Clone)]
pub struct Header {
    metadata: BTreeMap<String, Value>,
    tensors: Vec<TensorInfo>,
    data_offset: u64,
    file_bytes: u64,
}

impl Header {
    /// Reads the header of the file at `path`, and checks that the file is long enough for every tensor it promises.
    ///
    /// # Errors
    /// [`GgufError`], naming the file and what is wrong with it.
    pub fn read(path: &Path) -> Result<Self, GgufError> {
        let io = |source| GgufError::Io { path: path.to_owned(), source };
        let file = File::open(path).map_err(io)?;
        let attributes = file.metadata().map_err(io)?;
        if !attributes.is_file() {
            return Err(io(io::Error::new(io::ErrorKind::InvalidInput, "it is not a regular file")));
        }
        let header = Self::parse(BufReader::with_capacity(1 << 18, file), attributes.len(), path)?;
        header.check_length(path)?;
        Ok(header)
    }

    fn parse(input: impl io::Read, file_bytes: u64, path: &Path) -> Result<Self, GgufError> {
        let mut reader = Reader::new(input, MAX_HEADER.min(file_bytes), path);
        match reader.bytes::<4>() {
            Ok(magic) if &magic == b"GGUF" => {}
            Ok(_) | Err(GgufError::Damaged { .. }) => return Err(GgufError::NotGguf { path: path.to_owned() }),
            Err(error) => return Err(error),
        }
        let version = reader.u32()?;
        if !(2..=3).contains(&version) {
            return Err(GgufError::Version { path: path.to_owned(), version });
        }
        let tensor_count = reader.count("tensors", MAX_TENSORS)?;
        let metadata_count = reader.count("metadata entries", MAX_METADATA)?;

        let mut metadata = BTreeMap::new();
        for _ in 0..metadata_count {
            let key = reader.string()?;
            let value = reader.value(&key)?;
            metadata.insert(key, value);
        }
        let mut tensors = Vec::new();
        for _ in 0..tensor_count {
            let tensor = reader.tensor()?;
            if tensor.elements().is_none() {
                return Err(reader.damaged(format!("the shape of tensor `{}` is too large", tensor.name)));
            }
            tensors.push(tensor);
        }

        let alignment = metadata.get("general.alignment").and_then(Value::as_u64).unwrap_or(32);
        if !alignment.is_power_of_two() || alignment > 1 << 20 {
            return Err(reader.damaged(format!("general.alignment is {alignment}")));
        }
        let data_offset = reader.position().next_multiple_of(alignment);
        Ok(Self { metadata, tensors, data_offset, file_bytes })
    }

    fn check_length(&self, path: &Path) -> Result<(), GgufError> {
        let end = |tensor: &TensorInfo| {
            self.data_offset.saturating_add(tensor.offset).saturating_add(tensor.bytes().unwrap_or(0))
        };
        let needed = self.tensors.iter().map(end).max().unwrap_or(0);
        if needed > self.file_bytes {
            return Err(GgufError::Truncated { path: path.to_owned(), needed, found: self.file_bytes });
        }
        Ok(())
    }

    /// The metadata value under `key`, for example `general.architecture`.
    #[must_use]
    pub fn metadata(&self, key: &str) -> Option<&Value> {
        self.metadata.get(key)
    }

    /// All metadata, ordered by key.
    pub fn entries(&self) -> impl Iterator<Item = (&str, &Value)> {
        self.metadata.iter().map(|(key, value)| (key.as_str(), value))
    }

    /// The tensors in file order.
    #[must_use]
    pub fn tensors(&self) -> &[TensorInfo] {
        &self.tensors
    }

    /// Byte of the file at which the weights begin.
    #[must_use]
    pub const fn data_offset(&self) -> u64 {
        self.data_offset
    }

    /// Length of the file in bytes.
    #[must_use]
    pub const fn file_bytes(&self) -> u64 {
        self.file_bytes
    }
}
