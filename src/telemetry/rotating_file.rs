//! A log file that rotates by itself.
//!
//! Owns the file and its older siblings `NAME.1` (youngest) … `NAME.keep`. Whole lines only: each write is one line or
//! several, and a line is never split between two files nor lost to a failed rotation.

use std::fmt;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// A shared handle; clones write to the same file. Writing holds a lock for the length of one `write(2)`.
#[derive(Debug, Clone)]
pub struct RotatingFile {
    shared: Arc<Mutex<Open>>,
}

#[derive(Debug)]
struct Open {
    path: PathBuf,
    file: File,
    length: u64,
    limit: u64,
    keep: u32,
    /// The last write broke off in mid-line.
    torn: bool,
    /// Writes that failed since the last one that succeeded.
    failed: u64,
}

impl RotatingFile {
    /// Opens `path` for appending, creating it (0600). It is rotated before a line would take it over `limit` bytes, and
    /// `keep` older files stay; with 0 none does.
    ///
    /// # Errors
    /// When the file cannot be opened for appending.
    pub fn open(path: &Path, limit: u64, keep: u32) -> io::Result<Self> {
        let (file, length) = open_append(path)?;
        let open = Open { path: path.to_owned(), file, length, limit, keep, torn: false, failed: 0 };
        Ok(Self { shared: Arc::new(Mutex::new(open)) })
    }

    /// Appends `lines` (each ended by a newline) in one piece.
    ///
    /// # Errors
    /// When the file system refuses, most likely because it is full. The next write tries again and starts a new line.
    pub fn append(&self, lines: &[u8]) -> io::Result<()> {
        self.lock().append(lines)
    }

    /// Opens the path anew, for the case that somebody else moved the file away. The old file stays in use if that fails.
    ///
    /// # Errors
    /// When the path cannot be opened for appending.
    pub fn reopen(&self) -> io::Result<()> {
        self.lock().reopen()
    }

    /// Changes limit and number of older files, from the next write on.
    pub fn configure(&self, limit: u64, keep: u32) {
        let mut open = self.lock();
        open.limit = limit;
        open.keep = keep;
    }

    /// Writes that failed since the last one that succeeded: a full disk is worth telling in `status`.
    #[must_use]
    pub fn failed_writes(&self) -> u64 {
        self.lock().failed
    }

    /// A writer that panicked half-way left nothing worse than a torn line, which `append` repairs.
    fn lock(&self) -> MutexGuard<'_, Open> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Open {
    fn append(&mut self, lines: &[u8]) -> io::Result<()> {
        let adds = lines.len() as u64;
        if self.length > 0 && self.length.saturating_add(adds) > self.limit {
            self.rotate();
        }
        let outcome = self.write(lines);
        self.failed = if outcome.is_ok() { 0 } else { self.failed.saturating_add(1) };
        outcome
    }

    fn write(&mut self, lines: &[u8]) -> io::Result<()> {
        if self.torn {
            self.file.write_all(b"\n")?;
            self.length += 1;
            self.torn = false;
        }
        let mut rest = lines;
        while !rest.is_empty() {
            match self.file.write(rest) {
                Ok(0) => return Err(self.broke_off(lines, rest, io::ErrorKind::WriteZero.into())),
                Ok(written) => {
                    self.length = self.length.saturating_add(written as u64);
                    rest = rest.get(written..).unwrap_or_default();
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(self.broke_off(lines, rest, error)),
            }
        }
        Ok(())
    }

    fn broke_off(&mut self, lines: &[u8], rest: &[u8], error: io::Error) -> io::Error {
        self.torn = rest.len() < lines.len();
        error
    }

    /// Moves the file away and starts a new one. Whatever fails, the file at hand goes on being written: an oversized log
    /// is better than a lost line, and the next write tries again.
    fn rotate(&mut self) {
        if self.keep == 0 {
            if self.file.set_len(0).is_ok() {
                self.length = 0;
                self.torn = false;
            }
            return;
        }
        if shift(&self.path, self.keep).is_ok() {
            let _ = self.reopen();
        }
    }

    fn reopen(&mut self) -> io::Result<()> {
        let (file, length) = open_append(&self.path)?;
        self.file = file;
        self.length = length;
        self.torn = false;
        Ok(())
    }
}

impl Write for RotatingFile {
    fn write(&mut self, lines: &[u8]) -> io::Result<usize> {
        self.append(lines).map(|()| lines.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }

    /// In one piece: the default writes each part of a format string by itself, and lines of other threads between them.
    fn write_fmt(&mut self, arguments: fmt::Arguments<'_>) -> io::Result<()> {
        match arguments.as_str() {
            Some(text) => self.append(text.as_bytes()),
            None => self.append(fmt::format(arguments).as_bytes()),
        }
    }
}

fn open_append(path: &Path) -> io::Result<(File, u64)> {
    let file = OpenOptions::new().append(true).create(true).mode(0o600).open(path)?;
    let length = file.metadata()?.len();
    Ok((file, length))
}

/// `NAME.number`.
pub(super) fn sibling(path: &Path, number: u32) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".{number}"));
    PathBuf::from(name)
}

/// Makes room at `NAME.1` and moves `path` there; the oldest of `keep` files is replaced. Nothing is moved over anything
/// but the oldest: when one step fails, the younger files stay where they are.
pub(super) fn shift(path: &Path, keep: u32) -> io::Result<()> {
    make_room(path, keep)?;
    fs::rename(path, sibling(path, 1))
}

/// Frees `NAME.1`.
pub(super) fn make_room(path: &Path, keep: u32) -> io::Result<()> {
    for number in (1..keep).rev() {
        match fs::rename(sibling(path, number), sibling(path, number + 1)) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn read(path: &Path) -> String {
        fs::read_to_string(path).unwrap_or_default()
    }

    #[test]
    fn it_rotates_before_the_line_that_would_not_fit() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.log");
        let log = RotatingFile::open(&path, 10, 2).unwrap();
        for line in ["one\n", "two\n", "three\n", "four\n", "a line longer than the limit\n", "x\n"] {
            log.append(line.as_bytes()).unwrap();
        }
        assert_eq!(read(&path), "x\n");
        assert_eq!(read(&sibling(&path, 1)), "a line longer than the limit\n");
        assert_eq!(read(&sibling(&path, 2)), "four\n");
        assert!(!sibling(&path, 3).exists());
    }

    #[test]
    fn it_goes_on_where_an_earlier_daemon_stopped() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.log");
        fs::write(&path, "12345678\n").unwrap();
        RotatingFile::open(&path, 10, 1).unwrap().append(b"ab\n").unwrap();
        assert_eq!((read(&sibling(&path, 1)), read(&path)), ("12345678\n".to_owned(), "ab\n".to_owned()));
    }

    #[test]
    fn nothing_is_kept_when_nothing_is_to_be_kept() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.log");
        let log = RotatingFile::open(&path, 4, 0).unwrap();
        log.append(b"one\n").unwrap();
        log.append(b"two\n").unwrap();
        assert_eq!(read(&path), "two\n");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn reopen_follows_a_foreign_rotation() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.log");
        let log = RotatingFile::open(&path, 1000, 2).unwrap();
        log.append(b"before\n").unwrap();
        let moved = dir.path().join("moved");
        fs::rename(&path, &moved).unwrap();
        log.append(b"still there\n").unwrap();
        log.reopen().unwrap();
        log.append(b"after\n").unwrap();
        assert_eq!((read(&moved), read(&path)), ("before\nstill there\n".to_owned(), "after\n".to_owned()));
    }

    #[test]
    fn a_rotation_that_fails_loses_no_line() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.log");
        // A directory with content cannot be replaced by a file.
        fs::create_dir_all(sibling(&path, 1).join("in the way")).unwrap();
        let log = RotatingFile::open(&path, 5, 1).unwrap();
        log.append(b"one\n").unwrap();
        log.append(b"two\n").unwrap();
        assert_eq!(read(&path), "one\ntwo\n");
        assert_eq!(log.failed_writes(), 0);
    }

    #[test]
    fn a_full_disk_is_an_error_and_counted() {
        let full = Path::new("/dev/full");
        if !full.exists() {
            return;
        }
        let log = RotatingFile::open(full, 1000, 1).unwrap();
        assert!(log.append(b"x\n").is_err());
        assert!(log.append(b"y\n").is_err());
        assert_eq!(log.failed_writes(), 2);
    }

    #[test]
    fn every_line_of_every_thread_is_there_once_and_whole() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.log");
        let log = RotatingFile::open(&path, 2_000, 1_000).unwrap();
        std::thread::scope(|scope| {
            for thread in 0..4 {
                let mut log = log.clone();
                scope.spawn(move || {
                    for number in 0..500 {
                        writeln!(log, "thread {thread} line {number}").unwrap();
                    }
                });
            }
        });
        let mut seen = BTreeMap::new();
        let mut files = 0;
        for entry in fs::read_dir(dir.path()).unwrap() {
            let text = read(&entry.unwrap().path());
            assert!(text.len() <= 2_000 && text.ends_with('\n'));
            files += 1;
            for line in text.lines() {
                *seen.entry(line.to_owned()).or_insert(0) += 1;
            }
        }
        assert!(files > 10, "{files}");
        assert_eq!(seen.len(), 2_000);
        assert!(seen.values().all(|count| *count == 1));
        assert!(seen.contains_key("thread 3 line 499"));
    }
}
