//! `requests.log`: one line per request, as [`crate::gateway::RequestRecord`] writes itself.
//!
//! Owns the file; the fields and their order are the record's. Its readers are scripts.

use std::fmt::Display;
use std::io;
use std::path::Path;

use super::rotating_file::RotatingFile;
use crate::config;

/// The open log. Cheap to clone; writing is one `write(2)` under a lock.
#[derive(Debug, Clone)]
pub struct RequestsLog {
    file: RotatingFile,
}

impl RequestsLog {
    /// Opens `path` (`logs/requests.log`) with the configured rotation.
    ///
    /// # Errors
    /// When the file cannot be opened for appending.
    pub fn open(path: &Path, log: &config::Log) -> io::Result<Self> {
        RotatingFile::open(path, log.rotate_at, log.keep).map(|file| Self { file })
    }

    /// Writes one line; the newline is added here.
    ///
    /// # Errors
    /// When the file system refuses; the answer has long been sent, so the caller can only count it.
    pub fn write(&self, record: &impl Display) -> io::Result<()> {
        self.file.append(format!("{record}\n").as_bytes())
    }

    /// Opens the path anew (USR1).
    ///
    /// # Errors
    /// When it cannot be opened; the old file stays in use.
    pub fn reopen(&self) -> io::Result<()> {
        self.file.reopen()
    }

    /// Takes over changed rotation settings.
    pub fn configure(&self, log: &config::Log) {
        self.file.configure(log.rotate_at, log.keep);
    }
}
