//! What becomes of a damaged file: set aside under a name that tells when, for whoever wants to save something from it.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use chrono::{DateTime, Utc};

use super::HistoryError;

/// Damaged files kept.
const KEPT: usize = 2;

/// Between the file's name and the time.
const MARK: &str = ".corrupt-";

/// What belongs to a database: itself, its log, the log's index.
const PARTS: [&str; 3] = ["", "-wal", "-shm"];

/// Renames the file with its companions and removes the oldest of those set aside before. Returns the new name.
///
/// # Errors
/// When it cannot be renamed; then it lies where it was.
pub fn set_aside(path: &Path, now: DateTime<Utc>) -> Result<PathBuf, HistoryError> {
    let aside = with_suffix(path, &format!("{MARK}{}", now.format("%Y%m%dT%H%M%SZ")));
    for part in PARTS {
        let from = with_suffix(path, part);
        match std::fs::rename(&from, with_suffix(&aside, part)) {
            // An index without its file is of no use to anybody.
            Err(error) if error.kind() != ErrorKind::NotFound => {
                return Err(HistoryError::File { doing: "set aside", path: from, source: error });
            }
            Ok(()) | Err(_) => {}
        }
    }
    forget_older(path);
    Ok(aside)
}

/// Names carry the time, so their order is that of their age.
fn forget_older(path: &Path) {
    let (Some(folder), Some(name)) = (path.parent(), path.file_name().and_then(|name| name.to_str())) else { return };
    let lead = format!("{name}{MARK}");
    let Ok(entries) = std::fs::read_dir(folder) else { return };
    let mut aside: Vec<PathBuf> = entries
        .flatten()
        .map(|entry| entry.path())
        .filter(|path| path.file_name().and_then(|name| name.to_str()).is_some_and(|name| name.starts_with(&lead)))
        .filter(|path| !PARTS[1..].iter().any(|part| path.to_string_lossy().ends_with(part)))
        .collect();
    aside.sort();
    let surplus = aside.len().saturating_sub(KEPT);
    for old in aside.iter().take(surplus) {
        for part in PARTS {
            // What cannot be removed is in nobody's way.
            let _ = std::fs::remove_file(with_suffix(old, part));
        }
    }
}

fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_two_are_kept_with_their_logs() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("history.db");
        for second in 0..4 {
            std::fs::write(&path, format!("damage {second}")).unwrap();
            std::fs::write(with_suffix(&path, "-wal"), "log").unwrap();
            set_aside(&path, DateTime::from_timestamp(1_800_000_000 + second, 0).unwrap()).unwrap();
        }
        let mut left: Vec<_> = std::fs::read_dir(home.path())
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        left.sort();
        let newest = "history.db.corrupt-20270115T080003Z";
        assert_eq!(left.len(), 4, "{left:?}");
        assert_eq!(left[2..], [newest.to_owned(), format!("{newest}-wal")]);
        assert_eq!(std::fs::read_to_string(home.path().join(newest)).unwrap(), "damage 3");
    }
}
