//! Which program file a process was started from, so that a replaced one is noticed.

use std::ffi::OsStr;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

/// One file at one moment. Another inode, time or size is another program under the same name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Program {
    /// Its path, links followed.
    pub path: PathBuf,
    inode: u64,
    size: u64,
    modified_s: i64,
    modified_ns: i64,
}

impl Program {
    /// The program that a command of this first word would start; `None` when there is no such file.
    #[must_use]
    pub fn of_command(word: &OsStr) -> Option<Self> {
        let word = Path::new(word);
        if word.components().count() > 1 {
            return Self::at(word);
        }
        std::env::split_paths(&std::env::var_os("PATH")?)
            .filter(|folder| !folder.as_os_str().is_empty())
            .find_map(|folder| Self::at(&folder.join(word)))
    }

    /// The regular, executable file at this path; `None` when there is none.
    #[must_use]
    pub fn at(path: &Path) -> Option<Self> {
        let path = std::fs::canonicalize(path).ok()?;
        let metadata = std::fs::metadata(&path).ok()?;
        (metadata.is_file() && metadata.permissions().mode() & 0o111 != 0).then(|| Self {
            path,
            inode: metadata.ino(),
            size: metadata.len(),
            modified_s: metadata.mtime(),
            modified_ns: metadata.mtime_nsec(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_is_found_as_a_shell_would_and_known_again() {
        let sh = Program::of_command(OsStr::new("sh")).unwrap();
        assert!(sh.path.is_absolute());
        assert_eq!(Program::of_command(sh.path.as_os_str()), Some(sh));
        assert_eq!(Program::of_command(OsStr::new("no such program")), None);
        assert_eq!(Program::of_command(OsStr::new("/")), None);
    }

    #[test]
    fn a_file_put_in_its_place_is_another_program() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("worker");
        let fresh = folder.path().join("fresh");
        for file in [&path, &fresh] {
            std::fs::write(file, "#!/bin/sh\n").unwrap();
        }
        assert_eq!(Program::at(&path), None, "not executable");
        for file in [&path, &fresh] {
            std::fs::set_permissions(file, std::fs::Permissions::from_mode(0o755)).unwrap();
        }
        let before = Program::at(&path).unwrap();
        std::fs::rename(&fresh, &path).unwrap();
        assert_ne!(Program::at(&path), Some(before));
    }
}
