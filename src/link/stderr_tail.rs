//! The last words of a worker: the end of `worker.log`, from where it stood at spawn.
//!
//! Workers write to a file, never to a pipe of ours: a pipe would block or kill them when the daemon dies.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

/// Bytes read from the end.
const TAIL_BYTES: u64 = 8 << 10;

/// Lines kept.
const TAIL_LINES: usize = 5;

/// Where a worker's words begin.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StderrTail {
    path: PathBuf,
    from: u64,
}

impl StderrTail {
    /// Remembers the file's present length.
    #[must_use]
    pub fn begin(path: &Path) -> Self {
        let from = std::fs::metadata(path).map_or(0, |metadata| metadata.len());
        Self { path: path.to_owned(), from }
    }

    /// The words of a worker that were known to begin here.
    #[must_use]
    pub fn from(path: &Path, from: u64) -> Self {
        Self { path: path.to_owned(), from }
    }

    /// Length of the file at the beginning, bytes.
    #[must_use]
    pub fn begins_at(&self) -> u64 {
        self.from
    }

    /// The last lines written since, oldest first; empty when there are none or the file cannot be read.
    #[must_use]
    pub fn lines(&self) -> Vec<String> {
        self.read().unwrap_or_default()
    }

    fn read(&self) -> std::io::Result<Vec<String>> {
        let mut file = File::open(&self.path)?;
        let length = file.metadata()?.len();
        // A shorter file was rotated meanwhile: all of it is new.
        let from = if length < self.from { 0 } else { self.from };
        file.seek(SeekFrom::Start(from.max(length.saturating_sub(TAIL_BYTES))))?;
        let mut bytes = Vec::new();
        file.take(TAIL_BYTES).read_to_end(&mut bytes)?;
        let text = String::from_utf8_lossy(&bytes);
        let lines: Vec<String> = text.lines().filter(|line| !line.trim().is_empty()).map(str::to_owned).collect();
        Ok(lines[lines.len().saturating_sub(TAIL_LINES)..].to_vec())
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    #[test]
    fn only_words_since_the_spawn_count_and_only_the_last_ones() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("worker.log");
        std::fs::write(&path, "an older worker\n").unwrap();
        let tail = StderrTail::begin(&path);
        assert!(tail.lines().is_empty());
        let mut file = File::options().append(true).open(&path).unwrap();
        for number in 0..9 {
            writeln!(file, "line {number}\n").unwrap();
        }
        assert_eq!(tail.lines(), ["line 4", "line 5", "line 6", "line 7", "line 8"]);
    }

    #[test]
    fn a_rotated_or_missing_file_is_no_failure() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("worker.log");
        std::fs::write(&path, "a long line of an older worker\n").unwrap();
        let tail = StderrTail::begin(&path);
        std::fs::write(&path, "short\n").unwrap();
        assert_eq!(tail.lines(), ["short"]);
        std::fs::remove_file(&path).unwrap();
        assert!(tail.lines().is_empty());
    }
}
