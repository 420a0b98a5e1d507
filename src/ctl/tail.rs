//! The end of a log file, and what is written to it from then on, across rotations.

use std::fs::{File, Metadata};
use std::io::{self, ErrorKind, Read, Seek, SeekFrom};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// Step in which a file is read, from either side.
const STEP_BYTES: u64 = 64 << 10;

/// An open log and how far it has been read.
#[derive(Debug)]
pub struct Tail {
    path: PathBuf,
    file: Option<File>,
    at: u64,
}

impl Tail {
    /// Opens the log; its last `lines` lines are what [`Tail::fresh`] gives first. A file that is not there yet is
    /// waited for.
    ///
    /// # Errors
    /// When the file is there but cannot be read.
    pub fn open(path: &Path, lines: u32) -> io::Result<Self> {
        let mut tail = Self { path: path.to_owned(), file: None, at: 0 };
        if let Some(mut file) = open_if_there(path)? {
            tail.at = start_of_last(&mut file, lines)?;
            tail.file = Some(file);
        }
        Ok(tail)
    }

    /// True once there is a file.
    #[must_use]
    pub fn is_there(&self) -> bool {
        self.file.is_some()
    }

    /// Some bytes that were not given before; empty when there are none now. A rotated file is read to its end before
    /// its successor is begun, and a file that was cut short is read from its beginning.
    ///
    /// # Errors
    /// When reading fails.
    pub fn fresh(&mut self) -> io::Result<Vec<u8>> {
        if let Some(file) = &mut self.file {
            if file.metadata()?.len() < self.at {
                self.at = 0;
            }
            file.seek(SeekFrom::Start(self.at))?;
            let mut bytes = Vec::new();
            file.take(STEP_BYTES).read_to_end(&mut bytes)?;
            self.at += bytes.len() as u64;
            if !bytes.is_empty() {
                return Ok(bytes);
            }
        }
        if self.is_replaced()? {
            self.file = open_if_there(&self.path)?;
            self.at = 0;
            return if self.file.is_some() { self.fresh() } else { Ok(Vec::new()) };
        }
        Ok(Vec::new())
    }

    fn is_replaced(&self) -> io::Result<bool> {
        let Some(file) = &self.file else { return Ok(true) };
        let identity = |metadata: &Metadata| (metadata.dev(), metadata.ino());
        match std::fs::metadata(&self.path) {
            Ok(now) => Ok(identity(&now) != identity(&file.metadata()?)),
            // Between the two halves of a rotation there is no file; the old one may still grow.
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
            Err(error) => Err(error),
        }
    }
}

fn open_if_there(path: &Path) -> io::Result<Option<File>> {
    match File::open(path) {
        Ok(file) => Ok(Some(file)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Offset at which the last `lines` lines begin, found from the end so that a large log is not read.
fn start_of_last(file: &mut File, lines: u32) -> io::Result<u64> {
    let length = file.seek(SeekFrom::End(0))?;
    let mut end = length;
    let mut wanted = u64::from(lines);
    let mut block = Vec::new();
    while end > 0 {
        let start = end.saturating_sub(STEP_BYTES);
        file.seek(SeekFrom::Start(start))?;
        block.clear();
        file.take(end - start).read_to_end(&mut block)?;
        for (index, _) in block.iter().enumerate().rev().filter(|(_, byte)| **byte == b'\n') {
            let after = start + index as u64 + 1;
            // The line feed that ends the file begins no line.
            if after == length {
                continue;
            }
            if wanted <= 1 {
                return Ok(if wanted == 0 { length } else { after });
            }
            wanted -= 1;
        }
        end = start;
    }
    Ok(if lines == 0 { length } else { 0 })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    fn all(tail: &mut Tail) -> String {
        let mut text = Vec::new();
        loop {
            let bytes = tail.fresh().unwrap();
            if bytes.is_empty() {
                return String::from_utf8(text).unwrap();
            }
            text.extend(bytes);
        }
    }

    #[test]
    fn the_last_lines_of_files_of_every_shape() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("log");
        for (content, lines, expected) in [
            ("", 2, ""),
            ("a\nb\nc\n", 2, "b\nc\n"),
            ("a\nb\nc", 2, "b\nc"),
            ("a\nb\nc\n", 9, "a\nb\nc\n"),
            ("a\nb\n", 0, ""),
            ("\n\n\n", 2, "\n\n"),
        ] {
            std::fs::write(&path, content).unwrap();
            assert_eq!(all(&mut Tail::open(&path, lines).unwrap()), expected, "{content:?} {lines}");
        }
        let long: String = (0..40_000).map(|number| format!("line {number}\n")).collect();
        std::fs::write(&path, &long).unwrap();
        assert_eq!(all(&mut Tail::open(&path, 2).unwrap()), "line 39998\nline 39999\n");
        assert_eq!(all(&mut Tail::open(&path, 40_000).unwrap()), long);
    }

    #[test]
    fn a_log_is_followed_across_rotation_and_truncation() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("log");
        let mut tail = Tail::open(&path, 5).unwrap();
        assert!(!tail.is_there());
        std::fs::write(&path, "first\n").unwrap();
        assert_eq!(all(&mut tail), "first\n");
        let mut old = std::fs::OpenOptions::new().append(true).open(&path).unwrap();
        std::fs::rename(&path, home.path().join("log.1")).unwrap();
        assert_eq!(all(&mut tail), "");
        old.write_all(b"last of the old\n").unwrap();
        std::fs::write(&path, "first of the new\n").unwrap();
        assert_eq!(all(&mut tail), "last of the old\nfirst of the new\n");
        std::fs::write(&path, "short\n").unwrap();
        assert_eq!(all(&mut tail), "short\n");
    }
}
