//! What was, for 90 days: samples, thinned out as they age, and events, in `history.db`.
//!
//! ```text
//! driver, journal ─▶ writer (thread) ─▶ store ── schema · rollup      mlxsupctl, control socket ─▶ reader ── curves
//!                       │                 └ file_fate: set aside                                     └ percentile
//!                       └─ notes ─▶ driver ─▶ events
//! ```
//! Owns the file and its meaning; decides nothing. The writer alone writes, and nobody waits for it: what it cannot take is
//! counted and told. Readers open the file by themselves, read-only, also while no daemon runs.
//!
//! A sample is one row; every 10 s and every 5 min hold mean, lowest and highest of the samples that fell into them. All of
//! it is computed from rows in the file, so a killed daemon loses a few seconds and no shape. The views are public:
//! `docs/history.md`.

pub mod curves;
mod file_fate;
mod moment;
pub mod percentile;
pub mod playback;
pub mod reader;
mod rollup;
mod schema;
pub mod store;
pub mod view;
pub mod writer;

use std::path::PathBuf;
use std::time::Duration;

pub use curves::{Query, Span};
pub use moment::moment;
pub use reader::Reader;
pub use writer::{History, HistoryWriter, Note};

/// Name of the file in the home.
pub const FILE: &str = "history.db";

/// Events kept at most, whatever their age.
pub const EVENTS_KEPT: u64 = 100_000;

/// How long events are kept.
pub const EVENTS_AGE: Duration = Duration::from_secs(90 * 86_400);

/// How finely and for how long samples are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Resolution {
    /// As taken: one a second, four while a worker loads.
    Sample,
    /// Ten seconds.
    TenSeconds,
    /// Five minutes.
    FiveMinutes,
}

impl Resolution {
    /// All, finest first.
    pub const ALL: [Self; 3] = [Self::Sample, Self::TenSeconds, Self::FiveMinutes];

    /// Seconds that one row stands for.
    #[must_use]
    pub const fn seconds(self) -> i64 {
        match self {
            Self::Sample => 1,
            Self::TenSeconds => 10,
            Self::FiveMinutes => 300,
        }
    }

    /// How long rows are kept.
    #[must_use]
    pub const fn kept(self) -> Duration {
        match self {
            Self::Sample => Duration::from_secs(3600),
            Self::TenSeconds => Duration::from_secs(8 * 86_400),
            Self::FiveMinutes => Duration::from_secs(90 * 86_400),
        }
    }
}

/// Why the history cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum HistoryError {
    /// The file is not a database, or a broken one.
    #[error("{path} is damaged: {why}")]
    Damaged {
        /// Which file.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// It is whole, but of a later version.
    #[error("{path} was written by a newer mlxsup (its version {found}, ours {known}); update this one")]
    Newer {
        /// Which file.
        path: PathBuf,
        /// Its version.
        found: i64,
        /// The newest we know.
        known: i64,
    },
    /// Full, locked, not ours.
    #[error("cannot use {path}: {source}")]
    Unusable {
        /// Which file.
        path: PathBuf,
        /// The database's word.
        source: rusqlite::Error,
    },
    /// A file operation beside the database.
    #[error("cannot {doing} {path}: {source}")]
    File {
        /// What was tried.
        doing: &'static str,
        /// On which file.
        path: PathBuf,
        /// The system's word.
        source: std::io::Error,
    },
}

impl HistoryError {
    /// From what SQLite said about a file.
    fn of(path: &std::path::Path, source: rusqlite::Error) -> Self {
        use rusqlite::ErrorCode::{DatabaseCorrupt, NotADatabase};
        let path = path.to_owned();
        match source.sqlite_error_code() {
            Some(DatabaseCorrupt | NotADatabase) => Self::Damaged { path, why: source.to_string() },
            _ => Self::Unusable { path, source },
        }
    }
}
