//! The home directory: what lies where, and who may look.

use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use crate::supervisor::Generation;

/// A home that exists, belongs to us, and is private.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Home {
    root: PathBuf,
}

/// Why a home cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum HomeError {
    /// It cannot be made, read or written.
    #[error(
        "cannot use the home {path}: {source}; make it readable and writable for this user, or name another with --home"
    )]
    Unusable {
        /// Which directory.
        path: PathBuf,
        /// The system's word.
        source: std::io::Error,
    },
    /// It belongs to somebody else.
    #[error("the home {path} belongs to uid {owner}, not to uid {us}; run as its owner, or name another with --home")]
    Foreign {
        /// Which directory.
        path: PathBuf,
        /// Whose it is.
        owner: u32,
        /// Who we are.
        us: u32,
    },
    /// It is a file.
    #[error("the home {0} is not a directory; move it away, or name another with --home")]
    NotADirectory(PathBuf),
}

/// Judges a home without changing it. One that is not there yet is fine.
///
/// # Errors
/// See [`HomeError`].
pub fn judge(root: &Path) -> Result<(), HomeError> {
    let unusable = |source| HomeError::Unusable { path: root.to_owned(), source };
    let metadata = match std::fs::metadata(root) {
        Ok(metadata) => metadata,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(unusable(error)),
    };
    if !metadata.is_dir() {
        return Err(HomeError::NotADirectory(root.to_owned()));
    }
    let us = nix::unistd::geteuid().as_raw();
    if metadata.uid() != us {
        return Err(HomeError::Foreign { path: root.to_owned(), owner: metadata.uid(), us });
    }
    std::fs::read_dir(root).map(drop).map_err(unusable)
}

impl Home {
    /// Opens the home, making it (0700) and `logs/` where missing and closing it to others where it is open.
    ///
    /// # Errors
    /// See [`HomeError`].
    pub fn open(root: &Path) -> Result<Self, HomeError> {
        let unusable = |source| HomeError::Unusable { path: root.to_owned(), source };
        let root = std::path::absolute(root).map_err(unusable)?;
        judge(&root)?;
        std::fs::DirBuilder::new().recursive(true).mode(0o700).create(&root).map_err(unusable)?;
        let metadata = std::fs::metadata(&root).map_err(unusable)?;
        if metadata.mode() & 0o777 != 0o700 {
            std::fs::set_permissions(&root, std::fs::Permissions::from_mode(0o700)).map_err(unusable)?;
        }
        let home = Self { root };
        std::fs::DirBuilder::new().recursive(true).mode(0o700).create(home.logs()).map_err(unusable)?;
        Ok(home)
    }

    /// The directory itself, absolute.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// `control.sock`.
    #[must_use]
    pub fn control_socket(&self) -> PathBuf {
        self.root.join("control.sock")
    }

    /// `history.db`.
    #[must_use]
    pub fn history(&self) -> PathBuf {
        self.root.join(crate::history::FILE)
    }

    /// The stable socket, as configured: relative to the home or absolute.
    #[must_use]
    pub fn client_socket(&self, configured: &Path) -> PathBuf {
        self.root.join(configured)
    }

    /// Where a worker of this generation listens.
    #[must_use]
    pub fn worker_socket(&self, generation: Generation) -> PathBuf {
        self.root.join(format!("worker-{generation}.sock"))
    }

    /// Where saved prompts outlive workers.
    #[must_use]
    pub fn prefix_cache(&self) -> PathBuf {
        self.root.join("prefix-cache")
    }

    /// Where the bridge for mlx-lm is kept.
    #[must_use]
    pub fn bridge(&self) -> PathBuf {
        self.root.join("mlx_lm_worker.py")
    }

    /// `mlxsup.toml`.
    #[must_use]
    pub fn config(&self) -> PathBuf {
        self.root.join("mlxsup.toml")
    }

    /// `state.json`.
    #[must_use]
    pub fn state(&self) -> PathBuf {
        self.root.join("state.json")
    }

    /// The file whose lock makes one daemon per home.
    #[must_use]
    pub fn lock(&self) -> PathBuf {
        self.root.join("mlxsupd.lock")
    }

    /// `logs/`.
    #[must_use]
    pub fn logs(&self) -> PathBuf {
        self.root.join("logs")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_open_home_is_closed_to_others() {
        let parent = tempfile::tempdir().unwrap();
        let root = parent.path().join("home");
        std::fs::create_dir(&root).unwrap();
        std::fs::set_permissions(&root, std::fs::Permissions::from_mode(0o755)).unwrap();
        let home = Home::open(&root).unwrap();
        assert_eq!(std::fs::metadata(home.root()).unwrap().mode() & 0o777, 0o700);
        assert!(home.logs().is_dir());
    }

    #[test]
    fn a_file_in_its_place_is_refused() {
        let parent = tempfile::tempdir().unwrap();
        let root = parent.path().join("home");
        std::fs::write(&root, "").unwrap();
        assert!(matches!(Home::open(&root), Err(HomeError::NotADirectory(_))));
    }
}
