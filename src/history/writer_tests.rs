use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

use super::*;
use crate::history::{Reader, Span};
use crate::memory::Metric;

fn writer(path: &Path) -> (HistoryWriter, UnboundedReceiver<Note>) {
    let (notes_in, notes) = unbounded_channel();
    (HistoryWriter::new(path.to_owned(), notes_in).unwrap(), notes)
}

fn sample(value: f64) -> Sample {
    let mut sample = Sample::default();
    sample.set(Metric::WorkerFootprint, Some(value));
    sample
}

fn messages(path: &Path) -> Vec<String> {
    let span = Span { from: Wall(0), until: Wall(u64::MAX) };
    let reader = Reader::open(path).unwrap().expect("a history");
    reader.events(span, &[], 1_000_000).unwrap().into_iter().map(|event| event.message).collect()
}

fn count(path: &Path, table: &str) -> i64 {
    let reader = Reader::open(path).unwrap().expect("a history");
    reader.db.query_row(&format!("SELECT count(*) FROM {table}"), [], |row| row.get(0)).unwrap()
}

#[test]
fn what_was_handed_in_is_in_the_file_after_a_flush() {
    let home = tempfile::tempdir().unwrap();
    let path = home.path().join("history.db");
    let (writer, mut notes) = writer(&path);
    writer.history().sample(Wall(1_000_000), &sample(1.0));
    writer.history().event(Wall(1_000_001), "worker_ready", "generation 1");
    writer.history().flush();
    assert_eq!((count(&path, "samples_1s"), messages(&path)), (1, vec!["generation 1".to_owned()]));
    assert!(notes.try_recv().is_err(), "nothing to tell");
}

#[test]
fn a_dropped_writer_has_written_and_thinned() {
    let home = tempfile::tempdir().unwrap();
    let path = home.path().join("history.db");
    let (writer, _notes) = writer(&path);
    for second in 0..25 {
        writer.history().sample(Wall(1_000_000 + second * 1000), &sample(1.0));
    }
    drop(writer);
    assert!(!home.path().join("history.db-wal").exists(), "the log was copied into the file");
    assert_eq!(["samples_1s", "samples_10s", "samples_5min"].map(|view| count(&path, view)), [25, 3, 1]);
}

#[test]
fn a_damaged_file_is_set_aside_and_told_and_a_new_one_begun() {
    let home = tempfile::tempdir().unwrap();
    let path = home.path().join("history.db");
    std::fs::write(&path, "garbage ".repeat(1000)).unwrap();
    let (writer, mut notes) = writer(&path);
    writer.history().event(Wall(1), "worker_ready", "generation 1");
    writer.history().flush();
    assert_eq!(messages(&path), ["generation 1"]);
    let note = notes.try_recv().unwrap();
    assert_eq!(note.kind, "history_set_aside");
    let aside = note.message.split_whitespace().find(|word| word.contains(".corrupt-")).unwrap();
    let aside = home.path().join(aside.trim_end_matches(','));
    assert_eq!(std::fs::read_to_string(aside).unwrap(), "garbage ".repeat(1000));
    assert!(notes.try_recv().is_err(), "told once");
}

#[test]
fn a_file_that_breaks_under_way_is_noticed_when_it_is_written() {
    let home = tempfile::tempdir().unwrap();
    let path = home.path().join("history.db");
    let (writer, mut notes) = writer(&path);
    for second in 0..200 {
        writer.history().sample(Wall(1_000_000 + second * 1000), &sample(1.0));
    }
    writer.history().flush();
    // All of it but the first page; the log has no pages that would hide the damage.
    let other = rusqlite::Connection::open(&path).unwrap();
    let _: i64 = other.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |row| row.get(0)).unwrap();
    drop(other);
    let length = std::fs::metadata(&path).unwrap().len();
    let mut bytes = std::fs::read(&path).unwrap();
    bytes[4096..].fill(0x5a);
    std::fs::write(&path, bytes).unwrap();
    assert_eq!(std::fs::metadata(&path).unwrap().len(), length);
    for second in 400..2000 {
        writer.history().sample(Wall(1_000_000 + second * 1000), &sample(1.0));
        if second % 200 == 0 {
            writer.history().flush();
        }
    }
    writer.history().flush();
    assert_eq!(notes.try_recv().unwrap().kind, "history_set_aside");
    assert!(count(&path, "samples_1s") > 1000);
}

#[test]
fn a_place_that_takes_nothing_is_told_once_and_what_waits_is_written_later() {
    let home = tempfile::tempdir().unwrap();
    let folder = home.path().join("later");
    let path = folder.join("history.db");
    let (writer, mut notes) = writer(&path);
    for round in 0..3 {
        writer.history().event(Wall(round), "worker_ready", &format!("generation {round}"));
        writer.history().flush();
    }
    let note = notes.try_recv().unwrap();
    assert_eq!(note.kind, "history_blocked");
    assert!(note.message.contains("history.db") && note.message.contains("30 s"), "{}", note.message);
    assert!(notes.try_recv().is_err(), "told once");
    std::fs::create_dir(&folder).unwrap();
    writer.history().flush();
    assert_eq!(messages(&path).len(), 3);
    let note = notes.try_recv().unwrap();
    assert_eq!(
        (note.kind, note.message.as_str()),
        ("history_resumed", "history.db is written again; nothing lost meanwhile")
    );
}

#[test]
fn what_waits_is_bounded_and_what_is_lost_is_counted() {
    let home = tempfile::tempdir().unwrap();
    let folder = home.path().join("later");
    let path = folder.join("history.db");
    let (writer, mut notes) = writer(&path);
    for second in 0..1000 {
        writer.history().sample(Wall(1_000_000 + second * 1000), &sample(1.0));
        if second % 100 == 0 {
            writer.history().flush();
        }
    }
    writer.history().flush();
    std::fs::create_dir(&folder).unwrap();
    writer.history().flush();
    assert_eq!(count(&path, "samples_1s"), 900);
    assert_eq!(notes.try_recv().unwrap().kind, "history_blocked");
    let resumed = notes.try_recv().unwrap();
    assert_eq!(resumed.message, "history.db is written again; 100 samples and events lost meanwhile");
}

#[test]
fn a_file_of_a_newer_version_is_neither_written_nor_set_aside() {
    let home = tempfile::tempdir().unwrap();
    let path = home.path().join("history.db");
    drop(Store::open(&path).unwrap());
    let db = rusqlite::Connection::open(&path).unwrap();
    db.execute_batch("PRAGMA user_version = 7").unwrap();
    drop(db);
    let (writer, mut notes) = writer(&path);
    writer.history().event(Wall(1), "worker_ready", "generation 1");
    writer.history().flush();
    drop(writer);
    let note = notes.try_recv().unwrap();
    assert!(note.kind == "history_blocked" && note.message.contains("newer"), "{note:?}");
    assert!(matches!(Reader::open(&path), Err(HistoryError::Newer { found: 7, .. })));
}
