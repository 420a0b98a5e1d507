//! Tables, columns and public views; how an older file becomes a current one.
//!
//! One row holds all metrics of an instant, one column each, so that a second costs one page and not thirty. Means and
//! extremes lie apart: percentiles read the means alone. A lowest or highest value is only stored where it differs from the
//! mean. A new metric is a new column; `user_version` rises only with what older daemons could not live with.

use std::collections::BTreeSet;
use std::path::Path;

use rusqlite::Connection;

use super::{HistoryError, Resolution};
use crate::memory::{METRICS, Metric, Unit};

/// Version of the tables.
pub const VERSION: i64 = 1;

/// Marks the file as ours: `mlxu`.
const APPLICATION: i64 = 0x6d6c_7875;

/// Tables of the two thinned resolutions: means, extremes.
pub(super) const fn tables(resolution: Resolution) -> (&'static str, &'static str) {
    match resolution {
        Resolution::Sample => ("sample", "sample"),
        Resolution::TenSeconds => ("mean_10s", "range_10s"),
        Resolution::FiveMinutes => ("mean_5min", "range_5min"),
    }
}

/// The column of a metric: its name with an underscore for every dot.
#[must_use]
pub fn column(metric: Metric) -> String {
    metric.name().replace('.', "_")
}

/// Every metric's column.
pub(super) fn columns() -> impl Iterator<Item = String> {
    METRICS.iter().map(|(metric, _, _)| column(*metric))
}

/// The unit's name in the view `metrics` and in JSON.
#[must_use]
pub const fn unit_name(unit: Unit) -> &'static str {
    match unit {
        Unit::Bytes => "bytes",
        Unit::BytesPerSecond => "bytes_per_second",
        Unit::Percent => "percent",
        Unit::Seconds => "seconds",
        Unit::Count => "count",
        Unit::PerSecond => "per_second",
    }
}

/// Makes a new or older file current. Cheap when it is current already.
///
/// # Errors
/// When the file is of a newer version, belongs to another program, or cannot be written.
pub fn make_current(db: &mut Connection, path: &Path) -> Result<(), HistoryError> {
    let failed = |source| HistoryError::of(path, source);
    let found = number(db, "PRAGMA user_version").map_err(failed)?;
    if found > VERSION {
        return Err(HistoryError::Newer { path: path.to_owned(), found, known: VERSION });
    }
    let objects = number(db, "SELECT count(*) FROM sqlite_schema").map_err(failed)?;
    if objects > 0 && number(db, "PRAGMA application_id").map_err(failed)? != APPLICATION {
        let why = "it is a database of another program".to_owned();
        return Err(HistoryError::Damaged { path: path.to_owned(), why });
    }
    let change = db.transaction().map_err(failed)?;
    if found < VERSION {
        change.execute_batch(&create()).map_err(failed)?;
        change
            .execute_batch(&format!("PRAGMA application_id = {APPLICATION}; PRAGMA user_version = {VERSION};"))
            .map_err(failed)?;
    }
    add_new_metrics(&change).and_then(|()| renew_views(&change)).map_err(failed)?;
    change.commit().map_err(failed)
}

fn number(db: &Connection, query: &str) -> rusqlite::Result<i64> {
    db.query_row(query, [], |row| row.get(0))
}

fn create() -> String {
    let joined = |each: &dyn Fn(&str) -> String| columns().map(|name| each(&name)).collect::<Vec<_>>().join(", ");
    let plain = joined(&|name| format!("{name} REAL"));
    let extremes = joined(&|name| format!("{name}_lowest REAL, {name}_highest REAL"));
    let mut sql = format!("CREATE TABLE sample (at_ms INTEGER PRIMARY KEY, {plain});\n");
    for resolution in [Resolution::TenSeconds, Resolution::FiveMinutes] {
        let (means, ranges) = tables(resolution);
        sql += &format!("CREATE TABLE {means} (at INTEGER PRIMARY KEY, samples INTEGER NOT NULL, {plain});\n");
        sql += &format!("CREATE TABLE {ranges} (at INTEGER PRIMARY KEY, {extremes});\n");
    }
    sql + "CREATE TABLE event (id INTEGER PRIMARY KEY, at_ms INTEGER NOT NULL, kind TEXT NOT NULL, message TEXT NOT NULL);\n\
           CREATE INDEX event_at ON event (at_ms);\n\
           CREATE TABLE metric (name TEXT PRIMARY KEY, column_name TEXT NOT NULL, unit TEXT NOT NULL) WITHOUT ROWID;\n"
}

/// Columns of metrics that the file's first daemon did not know, and the list of all.
fn add_new_metrics(db: &Connection) -> rusqlite::Result<()> {
    let known: BTreeSet<String> = db
        .prepare("SELECT name FROM pragma_table_info('sample')")?
        .query_map([], |row| row.get(0))?
        .collect::<rusqlite::Result<_>>()?;
    for name in columns().filter(|name| !known.contains(name)) {
        for table in ["sample", "mean_10s", "mean_5min"] {
            db.execute_batch(&format!("ALTER TABLE {table} ADD COLUMN {name} REAL;"))?;
        }
        for table in ["range_10s", "range_5min"] {
            db.execute_batch(&format!(
                "ALTER TABLE {table} ADD COLUMN {name}_lowest REAL; ALTER TABLE {table} ADD COLUMN {name}_highest REAL;"
            ))?;
        }
    }
    let listed = number(db, "SELECT count(*) FROM metric")?;
    if usize::try_from(listed) != Ok(METRICS.len()) {
        let mut insert = db.prepare("INSERT OR REPLACE INTO metric VALUES (?1, ?2, ?3)")?;
        for (metric, name, unit) in METRICS {
            insert.execute((name, column(*metric), unit_name(*unit)))?;
        }
    }
    Ok(())
}

fn renew_views(db: &Connection) -> rusqlite::Result<()> {
    for (name, select) in views() {
        let wanted = format!("CREATE VIEW {name} AS {select}");
        let found =
            db.query_row("SELECT max(sql) FROM sqlite_schema WHERE type = 'view' AND name = ?1", [name], |row| {
                row.get::<_, Option<String>>(0)
            })?;
        if found.as_ref() != Some(&wanted) {
            db.execute_batch(&format!("DROP VIEW IF EXISTS {name}; {wanted};"))?;
        }
    }
    Ok(())
}

/// Names and definitions of the public views. `docs/history.md` promises their columns.
fn views() -> [(&'static str, String); 6] {
    const UTC: &str = "'%Y-%m-%dT%H:%M:%SZ'";
    let plain = columns().collect::<Vec<_>>().join(", ");
    // No name says its table where it need not: every connection holds these in memory as trees, a node for each word.
    let thinned = |resolution| {
        let (means, ranges) = tables(resolution);
        let each = |name: String| {
            format!(
                "{name}, ifnull({name}_lowest, {name}) AS {name}_lowest, ifnull({name}_highest, {name}) AS {name}_highest"
            )
        };
        let values = columns().map(each).collect::<Vec<_>>().join(", ");
        format!(
            "SELECT at, strftime({UTC}, at, 'unixepoch') AS time, samples, {values} FROM {means} LEFT JOIN {ranges} USING (at)"
        )
    };
    [
        (
            "samples_1s",
            format!(
                "SELECT at_ms / 1000.0 AS at, strftime({UTC}, at_ms / 1000, 'unixepoch') AS time, {plain} FROM sample"
            ),
        ),
        ("samples_10s", thinned(Resolution::TenSeconds)),
        ("samples_5min", thinned(Resolution::FiveMinutes)),
        ("means_10s", format!("SELECT at, samples, {plain} FROM mean_10s")),
        (
            "events",
            format!(
                "SELECT at_ms / 1000.0 AS at, strftime({UTC}, at_ms / 1000, 'unixepoch') AS time, kind, message FROM event"
            ),
        ),
        ("metrics", "SELECT name, column_name, unit FROM metric".to_owned()),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn column_names(db: &Connection, of: &str) -> Vec<String> {
        let mut names = db.prepare(&format!("SELECT name FROM pragma_table_info('{of}')")).unwrap();
        names.query_map([], |row| row.get(0)).unwrap().collect::<Result<_, _>>().unwrap()
    }

    fn current() -> Connection {
        let mut db = Connection::open_in_memory().unwrap();
        make_current(&mut db, Path::new("history.db")).unwrap();
        db
    }

    #[test]
    fn no_two_columns_of_a_view_share_a_name() {
        let db = current();
        for (view, _) in views() {
            let names = column_names(&db, view);
            assert!(!names.is_empty(), "{view}");
            assert_eq!(names.iter().collect::<BTreeSet<_>>().len(), names.len(), "{view}: {names:?}");
        }
    }

    #[test]
    fn the_public_columns_stay() {
        let db = current();
        assert_eq!(column_names(&db, "events"), ["at", "time", "kind", "message"]);
        assert_eq!(column_names(&db, "metrics"), ["name", "column_name", "unit"]);
        assert_eq!(column_names(&db, "means_10s")[..4], ["at", "samples", "system_total", "system_used"]);
        assert_eq!(column_names(&db, "samples_1s")[..4], ["at", "time", "system_total", "system_used"]);
        for view in ["samples_10s", "samples_5min"] {
            let expected = ["at", "time", "samples", "system_total", "system_total_lowest", "system_total_highest"];
            assert_eq!(column_names(&db, view)[..6], expected, "{view}");
        }
    }

    #[test]
    fn a_metric_the_file_does_not_know_becomes_a_column() {
        let mut db = current();
        for (table, column) in [
            ("sample", "speed_decode"),
            ("mean_10s", "speed_decode"),
            ("mean_5min", "speed_decode"),
            ("range_10s", "speed_decode_lowest"),
            ("range_10s", "speed_decode_highest"),
            ("range_5min", "speed_decode_lowest"),
            ("range_5min", "speed_decode_highest"),
        ] {
            for (view, _) in views() {
                db.execute_batch(&format!("DROP VIEW IF EXISTS {view}")).unwrap();
            }
            db.execute_batch(&format!("ALTER TABLE {table} DROP COLUMN {column}")).unwrap();
        }
        db.execute_batch("DELETE FROM metric WHERE name = 'speed.decode'").unwrap();
        make_current(&mut db, Path::new("history.db")).unwrap();
        assert!(column_names(&db, "samples_5min").contains(&"speed_decode_highest".to_owned()));
        assert_eq!(number(&db, "SELECT count(*) FROM metrics"), Ok(i64::try_from(METRICS.len()).unwrap()));
    }

    #[test]
    fn files_of_others_and_of_the_future_are_left_alone() {
        let mut db = Connection::open_in_memory().unwrap();
        db.execute_batch("CREATE TABLE bookmarks (url TEXT)").unwrap();
        assert!(matches!(make_current(&mut db, Path::new("x")), Err(HistoryError::Damaged { .. })));
        let mut db = current();
        db.execute_batch("PRAGMA user_version = 9").unwrap();
        assert!(matches!(make_current(&mut db, Path::new("x")), Err(HistoryError::Newer { found: 9, .. })));
    }
}
