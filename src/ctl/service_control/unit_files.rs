//! The files of a unit: written whole or not at all, owned and closed as the service managers demand.
//!
//! A file is never changed in place: a service manager may read at any moment, and what it read half-way it keeps.

use std::fs::{File, OpenOptions, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use super::Place;
use crate::ctl::failure::{Failure, Kind};

/// Whoever else could write to a unit could run what they like as its user; launchd refuses such files.
const WRITABLE_BY_OTHERS: u32 = 0o022;

/// Readable by all, as service managers expect; there is nothing secret in it.
const MODE: u32 = 0o644;

/// What writing a file changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Written {
    /// It was there, word for word.
    Same,
    /// It is new, or says something new.
    New,
}

/// Files of one unit in one folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnitFiles {
    folder: PathBuf,
    names: Vec<String>,
}

impl UnitFiles {
    /// The files of ours that lie in this place.
    #[must_use]
    pub fn existing(place: &Place) -> Self {
        let names = place.file_names().into_iter().filter(|name| place.folder.join(name).symlink_metadata().is_ok());
        Self { names: names.collect(), folder: place.folder.clone() }
    }

    /// Those that are not among these.
    #[must_use]
    pub fn without(&self, kept: &[String]) -> Self {
        let names = self.names.iter().filter(|name| !kept.contains(name)).cloned().collect();
        Self { names, folder: self.folder.clone() }
    }

    /// Their names; for systemd, those of the units.
    #[must_use]
    pub fn names(&self) -> &[String] {
        &self.names
    }

    /// Where each lies.
    pub fn paths(&self) -> impl Iterator<Item = PathBuf> {
        self.names.iter().map(|name| self.folder.join(name))
    }

    /// Writes one file by way of a temporary one beside it, and checks what came of it.
    ///
    /// # Errors
    /// When the folder or what lies there is not ours to change, or a step fails; an old file is then still whole.
    pub fn write(folder: &Path, name: &str, text: &str) -> Result<Written, Failure> {
        let path = folder.join(name);
        let failed = |doing: &str, source: io::Error| {
            Failure::new(Kind::Internal, format!("cannot {doing} `{}`", path.display())).caused_by(source)
        };
        std::fs::create_dir_all(folder).map_err(|source| failed("make the folder of", source))?;
        judge_folder(folder)?;
        match path.symlink_metadata() {
            Ok(found) if !found.is_file() => {
                let what = if found.is_symlink() { "a link (a masked unit?)" } else { "no regular file" };
                return Err(Failure::new(Kind::Usage, format!("`{}` is {what}", path.display()))
                    .hint("move it away, then do this again"));
            }
            Ok(found) => {
                let closed = found.mode() & WRITABLE_BY_OTHERS == 0 && found.uid() == us();
                if closed && std::fs::read(&path).is_ok_and(|old| old == text.as_bytes()) {
                    return Ok(Written::Same);
                }
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(failed("look at", error)),
        }
        // No suffix a service manager knows, so a leftover is never taken for a unit.
        let fresh = folder.join(format!(".{name}.new-{}", std::process::id()));
        let written = write_fresh(&fresh, text).and_then(|()| std::fs::rename(&fresh, &path));
        if let Err(error) = written {
            let _ = std::fs::remove_file(&fresh);
            return Err(failed("write", error));
        }
        File::open(folder).and_then(|folder| folder.sync_all()).map_err(|source| failed("save", source))?;
        let found = path.symlink_metadata().map_err(|source| failed("look at", source))?;
        if found.uid() != us() || found.mode() & WRITABLE_BY_OTHERS != 0 {
            let message = format!("`{}` came out with the wrong owner or mode", path.display());
            return Err(Failure::new(Kind::Internal, message).hint("is it on a file system without owners?"));
        }
        Ok(Written::New)
    }

    /// Removes them all.
    ///
    /// # Errors
    /// When one is there and cannot be removed.
    pub fn remove(&self) -> Result<(), Failure> {
        for path in self.paths() {
            match std::fs::remove_file(&path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    let message = format!("cannot remove `{}`", path.display());
                    return Err(Failure::new(Kind::Internal, message).caused_by(error));
                }
                Ok(()) | Err(_) => {}
            }
        }
        Ok(())
    }
}

fn write_fresh(path: &Path, text: &str) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(MODE).open(path)?;
    file.write_all(text.as_bytes())?;
    // The mode above passed through the umask.
    file.set_permissions(Permissions::from_mode(MODE))?;
    file.sync_all()
}

/// In a folder that others may write to, a file of ours is not ours for long.
fn judge_folder(folder: &Path) -> Result<(), Failure> {
    let shown = folder.display();
    let found = std::fs::metadata(folder)
        .map_err(|error| Failure::new(Kind::Internal, format!("cannot look at `{shown}`")).caused_by(error))?;
    if found.uid() != us() && found.uid() != 0 {
        return Err(Failure::new(Kind::Usage, format!("`{shown}` belongs to uid {}", found.uid()))
            .hint("run this as its owner"));
    }
    // A group may: many systems give every user a group of their own and open their folders to it.
    if found.mode() & 0o002 != 0 {
        return Err(Failure::new(Kind::Usage, format!("everybody may write to `{shown}`"))
            .hint(format!("close it first: `chmod o-w {shown}`")));
    }
    Ok(())
}

fn us() -> u32 {
    nix::unistd::geteuid().as_raw()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_changed_file_is_a_new_file() {
        let outer = tempfile::tempdir().unwrap();
        let folder = outer.path().join("made/here");
        let inode = |name: &str| std::fs::metadata(folder.join(name)).unwrap().ino();
        assert_eq!(UnitFiles::write(&folder, "a.service", "one").unwrap(), Written::New);
        let first = inode("a.service");
        assert_eq!(UnitFiles::write(&folder, "a.service", "one").unwrap(), Written::Same);
        assert_eq!(inode("a.service"), first);
        // Held open, so that its number cannot be used again.
        let _old = File::open(folder.join("a.service")).unwrap();
        assert_eq!(UnitFiles::write(&folder, "a.service", "two").unwrap(), Written::New);
        assert_ne!(inode("a.service"), first);
        assert_eq!(std::fs::metadata(folder.join("a.service")).unwrap().mode() & 0o777, 0o644);
        assert_eq!(std::fs::read_dir(&folder).unwrap().count(), 1, "no temporary file stays");
        // Right words in a file that others could change are not good enough.
        std::fs::set_permissions(folder.join("a.service"), Permissions::from_mode(0o666)).unwrap();
        assert_eq!(UnitFiles::write(&folder, "a.service", "two").unwrap(), Written::New);
    }

    #[test]
    fn what_is_not_ours_to_change_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        std::os::unix::fs::symlink("/dev/null", folder.path().join("masked.service")).unwrap();
        let error = UnitFiles::write(folder.path(), "masked.service", "x").unwrap_err();
        assert_eq!(error.kind(), Kind::Usage);
        std::fs::set_permissions(folder.path(), Permissions::from_mode(0o777)).unwrap();
        let error = UnitFiles::write(folder.path(), "a.service", "x").unwrap_err();
        assert_eq!(error.kind(), Kind::Usage);
        assert!(!folder.path().join("a.service").exists());
    }
}
