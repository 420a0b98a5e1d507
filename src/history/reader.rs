//! The file, open for reading: by `mlxsupctl`, also while no daemon runs, and by the daemon for its control socket.
//!
//! A reader blocks; in the daemon it belongs on a thread for such work. It never disturbs the writer.

use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::{Connection, OpenFlags};

use super::store::Happening;
use super::{HistoryError, Span, schema};
use crate::supervisor::Wall;

/// Memory for pages, KiB.
const PAGE_CACHE_KIB: i64 = 64;

/// For a writer that recovers its log.
const LOCK_PATIENCE: Duration = Duration::from_secs(2);

/// A view of the file.
#[derive(Debug)]
pub struct Reader {
    pub(super) db: Connection,
    path: PathBuf,
}

impl Reader {
    /// Opens the file; `None` where nothing was ever recorded.
    ///
    /// # Errors
    /// When there is a file that cannot be read, or that a newer version has written.
    pub fn open(path: &Path) -> Result<Option<Self>, HistoryError> {
        let failed = |source| HistoryError::of(path, source);
        match std::fs::symlink_metadata(path) {
            Ok(_) => {}
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(source) => return Err(HistoryError::File { doing: "look at", path: path.to_owned(), source }),
        }
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let db = Connection::open_with_flags(path, flags).map_err(failed)?;
        db.busy_timeout(LOCK_PATIENCE).map_err(failed)?;
        db.pragma_update(None, "cache_size", -PAGE_CACHE_KIB).map_err(failed)?;
        let found: i64 = db.query_row("PRAGMA user_version", [], |row| row.get(0)).map_err(failed)?;
        match found {
            // Made a moment ago, and nothing in it yet.
            0 => Ok(None),
            found if found > schema::VERSION => {
                Err(HistoryError::Newer { path: path.to_owned(), found, known: schema::VERSION })
            }
            _ => Ok(Some(Self { db, path: path.to_owned() })),
        }
    }

    /// When the oldest sample was taken; `None` while there is none.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn oldest(&self) -> Result<Option<Wall>, HistoryError> {
        let query = "SELECT min(at) FROM (SELECT min(at_ms) AS at FROM sample UNION ALL \
                     SELECT min(at) * 1000 FROM mean_10s UNION ALL SELECT min(at) * 1000 FROM mean_5min)";
        let oldest: Option<i64> =
            self.db.query_row(query, [], |row| row.get(0)).map_err(|source| self.failed(source))?;
        Ok(oldest.map(wall))
    }

    /// The last `limit` events of a span, oldest first; of these kinds, or of all where none is named.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn events(&self, span: Span, kinds: &[&str], limit: usize) -> Result<Vec<Happening>, HistoryError> {
        let chosen = match kinds.len() {
            0 => String::new(),
            many => format!(" AND kind IN ({})", vec!["?"; many].join(", ")),
        };
        let query = format!(
            "SELECT at_ms, kind, message FROM event WHERE at_ms >= ? AND at_ms < ?{chosen} \
             ORDER BY at_ms DESC, id DESC LIMIT ?"
        );
        let read = || -> rusqlite::Result<Vec<Happening>> {
            let mut statement = self.db.prepare(&query)?;
            let (from, until) = (span.begin_ms(), span.end_ms());
            let limit = i64::try_from(limit).unwrap_or(i64::MAX);
            let mut values: Vec<&dyn rusqlite::ToSql> = vec![&from, &until];
            values.extend(kinds.iter().map(|kind| kind as &dyn rusqlite::ToSql));
            values.push(&limit);
            let rows = statement.query_map(values.as_slice(), |row| {
                Ok(Happening { at: wall(row.get(0)?), kind: row.get(1)?, message: row.get(2)? })
            })?;
            rows.collect()
        };
        let mut events = read().map_err(|source| self.failed(source))?;
        events.reverse();
        Ok(events)
    }

    pub(super) fn failed(&self, source: rusqlite::Error) -> HistoryError {
        HistoryError::of(&self.path, source)
    }
}

fn wall(ms: i64) -> Wall {
    Wall(u64::try_from(ms).unwrap_or(0))
}
