//! The configuration file, changed as a whole or not at all.

use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::Path;

use super::change::Change;
use crate::config::{self, edit};
use crate::ctl::failure::{Failure, Kind};

/// The text as it is, and with the changes; the second is a valid configuration.
pub(super) fn edited(file: &Path, changes: &[Change]) -> Result<(String, String), Failure> {
    let old = fs::read_to_string(file).map_err(|error| failure(file, "read").caused_by(error))?;
    let new = edit::edit(&old, &super::edits(changes)).map_err(|error| failure(file, "edit").caused_by(error))?;
    config::parse(&new, file).map_err(|problems| {
        Failure::new(Kind::Internal, "the changed configuration would not be valid; nothing was written")
            .with_details(problems.to_string())
    })?;
    Ok((old, new))
}

/// Puts the text in the file's place: whoever reads meanwhile sees the old or the new one. The mode stays, and so does a
/// link that leads to it.
pub(super) fn replace(file: &Path, text: &str) -> Result<(), Failure> {
    let target = fs::canonicalize(file).map_err(|error| failure(file, "find").caused_by(error))?;
    let mut fresh = target.clone().into_os_string();
    fresh.push(".new");
    let fresh = Path::new(&fresh);
    let write = || {
        let mode = fs::metadata(&target)?.mode() & 0o777;
        let mut out: File = fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(fresh)?;
        out.set_permissions(fs::Permissions::from_mode(mode))?;
        out.write_all(text.as_bytes())?;
        out.sync_all()?;
        fs::rename(fresh, &target)
    };
    write().map_err(|error| {
        // What is left of a failed attempt is ours.
        let _ = fs::remove_file(fresh);
        failure(file, "write").caused_by(error)
    })
}

fn failure(file: &Path, doing: &str) -> Failure {
    Failure::new(Kind::Internal, format!("cannot {doing} {}", file.display()))
}
