//! A cheap, stable identity of weights, tokenizer and template.
//!
//! Hashes headers, file lengths, all small text files and a few samples out of every weight file, so that two fine-tunes of
//! one base differ while a 35 GB model costs milliseconds. Guards against mix-ups, not against forgery.

use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom};
use std::path::Path;

use mlxsup_fit::{FileError, safetensors};

use super::{ModelError, ModelSource};

/// Files that shape tokens or template, where they exist.
const TEXT_FILES: [&str; 8] = [
    "config.json",
    "generation_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "tokenizer.model",
    "special_tokens_map.json",
    "chat_template.jinja",
    "chat_template.json",
];
/// Samples taken from each weight file, evenly spread.
const SAMPLES: u64 = 64;
/// Bytes of one sample.
const SAMPLE: u64 = 4096;
/// Bytes of a text file that are hashed; tokenizers reach some tens of megabytes.
const MAX_TEXT: u64 = 64 << 20;

/// The digest as 32 hexadecimal digits.
pub(super) fn of(source: &ModelSource) -> Result<String, ModelError> {
    let mut digest = Digest::new();
    match source {
        ModelSource::Folder(folder) => {
            for name in TEXT_FILES {
                let path = folder.join(name);
                if path.is_file() {
                    digest.add(name.as_bytes());
                    digest.add_range(&path, 0, MAX_TEXT)?;
                }
            }
            for file in safetensors::files(folder)? {
                digest.add_weights(&file, 1 << 20)?;
            }
        }
        ModelSource::Gguf { path, header } => digest.add_weights(path, header.data_offset().min(MAX_TEXT))?,
    }
    Ok(format!("{:032x}", digest.0))
}

/// FNV-1a with 128 bits: stable over releases and platforms, unlike the standard library's hashers.
struct Digest(u128);

impl Digest {
    const PRIME: u128 = 0x0000_0000_0100_0000_0000_0000_0000_013b;

    const fn new() -> Self {
        Self(0x6c62_272e_07bb_0142_62b8_2175_6295_c58d)
    }

    fn add(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = (self.0 ^ u128::from(*byte)).wrapping_mul(Self::PRIME);
        }
    }

    fn add_weights(&mut self, path: &Path, head: u64) -> Result<(), ModelError> {
        let length = fs::metadata(path).map_err(|source| io_error(path, source))?.len();
        self.add(&length.to_le_bytes());
        self.add_range(path, 0, head)?;
        let stride = (length.saturating_sub(head) / SAMPLES).max(SAMPLE);
        for sample in 0..SAMPLES {
            let start = head + sample * stride;
            if start >= length {
                break;
            }
            self.add_range(path, start, SAMPLE)?;
        }
        Ok(())
    }

    fn add_range(&mut self, path: &Path, start: u64, length: u64) -> Result<(), ModelError> {
        let read = || -> io::Result<Vec<u8>> {
            let mut file = File::open(path)?;
            file.seek(SeekFrom::Start(start))?;
            let mut bytes = Vec::new();
            file.take(length).read_to_end(&mut bytes)?;
            Ok(bytes)
        };
        let bytes = read().map_err(|source| io_error(path, source))?;
        self.add(&bytes);
        Ok(())
    }
}

fn io_error(path: &Path, source: io::Error) -> ModelError {
    FileError::io(path)(source).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder(weights: &[u8], template: &str) -> String {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("config.json"), "{}").unwrap();
        fs::write(folder.path().join("chat_template.jinja"), template).unwrap();
        fs::write(folder.path().join("model.safetensors"), weights).unwrap();
        of(&ModelSource::Folder(folder.path().to_owned())).unwrap()
    }

    #[test]
    fn it_depends_on_content_and_not_on_the_place() {
        let weights = vec![7; 3 << 20];
        assert_eq!(folder(&weights, "a"), folder(&weights, "a"));
        assert_ne!(folder(&weights, "a"), folder(&weights, "b"));
        assert_ne!(folder(&weights, "a"), folder(&vec![8; 3 << 20], "a"));
        assert_ne!(folder(&weights, "a"), folder(&weights[1..], "a"));
    }

    #[test]
    fn the_digest_is_the_published_one() {
        let mut digest = Digest::new();
        digest.add(b"foobar");
        assert_eq!(format!("{:032x}", digest.0), "343e1662793c64bf6f0d3597ba446f18");
    }
}
