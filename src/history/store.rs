//! The file, open for writing: samples and events in, thinned as they come. One per home; only the lock's holder has it.

use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::{Connection, OpenFlags, ToSql};

use super::HistoryError;
use super::rollup::{self, Touched};
use super::schema::{self, columns};
use crate::memory::{METRICS, Sample, Unit};
use crate::supervisor::Wall;

/// Memory for pages, KiB. The daemon is to stay small, and one row is a page or two.
const PAGE_CACHE_KIB: i64 = 64;

/// For all of SQLite's allocations in this process, bytes; beyond it the page cache shrinks.
const HEAP_SOFT_LIMIT_BYTES: i64 = 1 << 20;

/// Pages of the log before it is copied into the file: 1 MiB.
const LOG_PAGES: i64 = 256;

/// The file's size at most, in pages of 4 KiB: 256 MiB. Retention holds it at about a quarter of that.
const PAGES_MAX: i64 = 65_536;

/// For somebody else's lock on the file, who ought to have none.
const LOCK_PATIENCE: Duration = Duration::from_secs(2);

/// Between two removals of what has grown old.
const PRUNE_EVERY_MS: u64 = 60_000;

/// Something that was decided, as it is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Happening {
    /// When.
    pub at: Wall,
    /// Stable word.
    pub kind: String,
    /// One sentence.
    pub message: String,
}

/// The open file.
#[derive(Debug)]
pub struct Store {
    db: Connection,
    path: PathBuf,
    touched: Touched,
    pruned: Option<Wall>,
    insert_sample: String,
}

impl Store {
    /// Opens the file, making it where there is none, and checks it from end to end.
    ///
    /// # Errors
    /// `Damaged` for what should be set aside, else what keeps the file from being used.
    pub fn open(path: &Path) -> Result<Self, HistoryError> {
        let failed = |source| HistoryError::of(path, source);
        make_private(path)?;
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let mut db = Connection::open_with_flags(path, flags).map_err(failed)?;
        db.busy_timeout(LOCK_PATIENCE).map_err(failed)?;
        set_up(&db).map_err(failed)?;
        check(&db, path)?;
        schema::make_current(&mut db, path)?;
        let touched = Touched::left_behind(&db).map_err(failed)?;
        let names = columns().collect::<Vec<_>>().join(", ");
        let places = vec!["?"; METRICS.len()].join(", ");
        let insert_sample = format!("INSERT OR REPLACE INTO sample (at_ms, {names}) VALUES (?, {places})");
        Ok(Self { db, path: path.to_owned(), touched, pruned: None, insert_sample })
    }

    /// Writes samples and events in one transaction, computes the buckets that are over, and removes what has grown old.
    /// Either all of it is in the file or nothing.
    ///
    /// # Errors
    /// When the file does not take it; then the same may be tried again.
    pub fn write(&mut self, samples: &[(Wall, Sample)], events: &[Happening]) -> Result<(), HistoryError> {
        self.try_write(samples, events, false).map_err(|source| HistoryError::of(&self.path, source))
    }

    /// Computes the buckets that are filling as well, so that nothing is missing while no daemon runs.
    ///
    /// # Errors
    /// As [`Store::write`].
    pub fn settle(&mut self) -> Result<(), HistoryError> {
        self.try_write(&[], &[], true).map_err(|source| HistoryError::of(&self.path, source))
    }

    fn try_write(&mut self, samples: &[(Wall, Sample)], events: &[Happening], all: bool) -> rusqlite::Result<()> {
        let change = self.db.transaction()?;
        {
            let mut insert = change.prepare_cached(&self.insert_sample)?;
            for (at, sample) in samples {
                let at = millis(*at);
                let values: Vec<Option<f64>> = METRICS
                    .iter()
                    .map(|(metric, _, unit)| {
                        sample.get(*metric).filter(|value| value.is_finite()).map(|value| stored(value, *unit))
                    })
                    .collect();
                let row: Vec<&dyn ToSql> =
                    std::iter::once(&at as &dyn ToSql).chain(values.iter().map(|value| value as &dyn ToSql)).collect();
                insert.execute(row.as_slice())?;
                self.touched.add(at);
            }
            let mut insert = change.prepare_cached("INSERT INTO event (at_ms, kind, message) VALUES (?1, ?2, ?3)")?;
            for event in events {
                insert.execute((millis(event.at), &event.kind, &event.message))?;
            }
        }
        self.touched.roll_up(&change, all)?;
        let now = samples.last().map(|(at, _)| *at).or_else(|| events.last().map(|event| event.at));
        let due = |now: Wall| self.pruned.is_none_or(|last| now.0.abs_diff(last.0) >= PRUNE_EVERY_MS);
        let pruning = now.filter(|now| due(*now));
        if let Some(now) = pruning {
            rollup::prune(&change, now)?;
        }
        change.commit()?;
        self.pruned = pruning.or(self.pruned);
        Ok(())
    }

    /// Lets the file grow to so many pages and no further: a full disk, for tests.
    #[cfg(test)]
    pub fn set_pages_max(&self, pages: i64) {
        self.db.pragma_update(None, "max_page_count", pages).unwrap();
    }

    /// Pages of the file.
    #[cfg(test)]
    pub fn pages(&self) -> i64 {
        self.db.query_row("PRAGMA page_count", [], |row| row.get(0)).unwrap()
    }
}

fn millis(at: Wall) -> i64 {
    i64::try_from(at.0).unwrap_or(i64::MAX)
}

fn stored(value: f64, unit: Unit) -> f64 {
    match unit {
        Unit::Bytes | Unit::BytesPerSecond => value.round(),
        Unit::Percent | Unit::Seconds | Unit::Count | Unit::PerSecond => value,
    }
}

/// A new file is nobody else's from its first moment on; SQLite gives its companions the same mode. One that is there is not
/// opened: closing it would drop the locks that this process may hold on it.
fn make_private(path: &Path) -> Result<(), HistoryError> {
    match std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path) {
        Ok(_) => Ok(()),
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => Ok(()),
        Err(source) => Err(HistoryError::File { doing: "make", path: path.to_owned(), source }),
    }
}

/// With the log, a power loss takes the last seconds and nothing else, and readers disturb nobody.
fn set_up(db: &Connection) -> rusqlite::Result<()> {
    db.set_prepared_statement_cache_capacity(2);
    for (name, value) in [
        ("cache_size", -PAGE_CACHE_KIB),
        ("mmap_size", 0),
        ("soft_heap_limit", HEAP_SOFT_LIMIT_BYTES),
        ("wal_autocheckpoint", LOG_PAGES),
        ("journal_size_limit", LOG_PAGES * 4096),
        ("max_page_count", PAGES_MAX),
    ] {
        // Some of these answer with the new value.
        db.pragma_update_and_check(None, name, value, |_| Ok(())).or_else(none_said)?;
    }
    db.pragma_update_and_check(None, "journal_mode", "WAL", |_| Ok(()))?;
    db.pragma_update(None, "synchronous", "NORMAL")
}

fn none_said(error: rusqlite::Error) -> rusqlite::Result<()> {
    match error {
        rusqlite::Error::QueryReturnedNoRows => Ok(()),
        other => Err(other),
    }
}

fn check(db: &Connection, path: &Path) -> Result<(), HistoryError> {
    let verdict: String =
        db.query_row("PRAGMA quick_check(1)", [], |row| row.get(0)).map_err(|source| HistoryError::of(path, source))?;
    if verdict == "ok" { Ok(()) } else { Err(HistoryError::Damaged { path: path.to_owned(), why: verdict }) }
}

#[cfg(test)]
#[path = "store_tests.rs"]
mod tests;
