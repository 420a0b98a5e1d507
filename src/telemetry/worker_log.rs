//! Rotation of a file that another process writes: `worker.log`.
//!
//! Owns two ways, because the worker holds the file open for as long as it lives: move it before a spawn, or copy and
//! truncate it under a living worker (which appends, so it goes on at the new end).

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use super::rotating_file::{make_room, shift, sibling};

/// Bytes copied at a time.
const CHUNK: usize = 64 * 1024;

/// Moves `path` to `path.1` when it has more than `limit` bytes; true when it did. For the moment before a spawn: a worker
/// that still runs keeps writing to the moved file, so nothing is lost either way.
///
/// # Errors
/// When the file system refuses; the file then stays as it is.
pub fn rotate_if_larger(path: &Path, limit: u64, keep: u32) -> io::Result<bool> {
    if !is_larger(path, limit)? {
        return Ok(false);
    }
    if keep == 0 {
        fs::remove_file(path)?;
    } else {
        shift(path, keep)?;
    }
    Ok(true)
}

/// Copies `path` to `path.1` and empties it when it has more than `limit` bytes; true when it did. For a file a living
/// worker appends to (`O_APPEND`). What is written in the few microseconds between the last look and the truncation is
/// lost; nothing else is. Blocks for the length of the copy: run it off the event loop.
///
/// # Errors
/// When the file system refuses; the file is then not truncated.
pub fn copy_and_truncate_if_larger(path: &Path, limit: u64, keep: u32) -> io::Result<bool> {
    if !is_larger(path, limit)? {
        return Ok(false);
    }
    let mut source = OpenOptions::new().read(true).write(true).open(path)?;
    if keep > 0 {
        make_room(path, keep)?;
        let target = sibling(path, 1);
        let mut copy = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(target)?;
        copy_to_the_end(&mut source, &mut copy)?;
    }
    source.set_len(0)?;
    Ok(true)
}

fn is_larger(path: &Path, limit: u64) -> io::Result<bool> {
    match fs::metadata(path) {
        Ok(metadata) => Ok(metadata.len() > limit),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

/// Copies until a read finds no more, including what the writer added meanwhile; a writer that outruns us is left at twice
/// the length seen at first.
fn copy_to_the_end(source: &mut File, copy: &mut File) -> io::Result<()> {
    let most = source.seek(SeekFrom::End(0))?.saturating_mul(2);
    source.rewind()?;
    let mut buffer = vec![0; CHUNK];
    let mut copied = 0_u64;
    while copied < most {
        match source.read(&mut buffer) {
            Ok(0) => break,
            Ok(read) => {
                copy.write_all(&buffer[..read])?;
                copied = copied.saturating_add(read as u64);
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn before_a_spawn_the_file_is_moved() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("worker.log");
        assert!(!rotate_if_larger(&path, 3, 2).unwrap(), "no file yet");
        for text in ["old\n", "older\n"] {
            fs::write(&path, text).unwrap();
            assert!(rotate_if_larger(&path, 3, 2).unwrap());
            assert!(!path.exists());
        }
        assert_eq!(fs::read_to_string(sibling(&path, 1)).unwrap(), "older\n");
        assert_eq!(fs::read_to_string(sibling(&path, 2)).unwrap(), "old\n");
        fs::write(&path, "abc").unwrap();
        assert!(!rotate_if_larger(&path, 3, 2).unwrap(), "not larger");
        assert!(rotate_if_larger(&path, 2, 0).unwrap());
        assert!(!path.exists());
    }

    #[test]
    fn under_a_living_writer_the_file_is_copied_and_emptied() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("worker.log");
        let mut writer = OpenOptions::new().append(true).create(true).open(&path).unwrap();
        let long = "x".repeat(3 * CHUNK);
        writeln!(writer, "{long}").unwrap();
        assert!(copy_and_truncate_if_larger(&path, 10, 2).unwrap());
        writeln!(writer, "next").unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "next\n", "the writer goes on at the new end");
        assert_eq!(fs::read_to_string(sibling(&path, 1)).unwrap(), format!("{long}\n"));
        assert!(!copy_and_truncate_if_larger(&path, 10, 2).unwrap());
        assert!(copy_and_truncate_if_larger(&path, 1, 0).unwrap());
        assert_eq!(fs::read_to_string(&path).unwrap(), "");
    }
}
