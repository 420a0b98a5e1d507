//! Entries for fuzzing: each takes any bytes, as a reader of ours would get them, and panics when a promise is broken.
//!
//! Owns the promises; the readers themselves are elsewhere. Used by `fuzz/` and by `tests/fuzzing.rs`, never by the programs.

use std::path::Path;

use bytes::Bytes;

pub use crate::gateway::fuzzing::{intake, keys};

use crate::config;
use crate::daemon::state_file;
use crate::link::events::{Event, EventError, EventParser, Item};
use crate::schedule::{Expression, Zone};
use crate::supervisor::Wall;

/// A target: its name, as in `fuzz/seeds/`, and its entry.
pub type Target = (&'static str, fn(&[u8]));

/// All of them.
pub const TARGETS: &[Target] = &[
    ("events", events),
    ("intake", intake),
    ("keys", keys),
    ("config", config),
    ("crontab", crontab),
    ("state_file", state_file),
];

/// Small, so that inputs reach it.
const EVENT_LIMIT: usize = 64;

/// The parser of the worker link. However the bytes are cut, the same events come out, and none is larger than the cap.
/// The first byte says how they are cut.
pub fn events(bytes: &[u8]) {
    let Some((cut, stream)) = bytes.split_first() else { return };
    let whole = items(stream, stream.len().max(1));
    assert_eq!(items(stream, usize::from(*cut).max(1)), whole, "cut into {cut}");
    for item in whole.iter().flatten() {
        let size = match item {
            Item::Event(Event { name, id, data }) => {
                name.len() + id.as_ref().map_or(0, Bytes::len) + data.as_ref().map_or(0, Bytes::len)
            }
            Item::Comment(text) => text.len(),
        };
        assert!(size <= EVENT_LIMIT, "an event of {size} bytes");
    }
}

fn items(stream: &[u8], cut: usize) -> Vec<Result<Item, EventError>> {
    let mut parser = EventParser::new(EVENT_LIMIT);
    let mut items = Vec::new();
    for part in stream.chunks(cut) {
        parser.feed(Bytes::copy_from_slice(part));
        while let Some(item) = parser.next() {
            let failed = item.is_err();
            items.push(item);
            if failed {
                assert_eq!(parser.next(), items.last().cloned(), "it failed, and went on");
                return items;
            }
        }
    }
    items
}

/// The configuration. Every problem can be shown; what is accepted can be shown and is read again as what it was.
pub fn config(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let file = Path::new("mlxsup.toml");
    match config::parse(text, file) {
        Ok(accepted) => {
            assert!(config::to_json(&accepted).is_object());
            let shown = config::show(&accepted);
            let again = match config::parse(&shown, file) {
                Ok(again) => again,
                Err(problems) => panic!("what is shown is not accepted: {problems}\n{shown}"),
            };
            let mut changed = config::diff(&accepted, &again);
            // Values that look secret are masked.
            changed.retain(|change| !change.key.starts_with("worker.env"));
            assert!(changed.is_empty(), "{changed:?}\n{shown}");
            let _ = config::check_home(&accepted, Path::new("/home/somebody/.mlxsup"));
        }
        Err(problems) => assert!(!problems.to_string().is_empty()),
    }
}

/// Crontab text: first line the expression, second line the zone. Firings come one after the other, and never stand still.
pub fn crontab(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let (text, zone) = text.split_once('\n').unwrap_or((text, "UTC"));
    let zone = zone.parse().unwrap_or(Zone::Local);
    match Expression::parse(text, zone) {
        Ok(expression) => {
            // The winter of 2026, a leap year's February, and the last second of a century.
            for start in [1_767_225_600_000, 1_835_395_200_000, 4_102_444_799_000] {
                let mut after = Wall(start);
                for _ in 0..3 {
                    let Some(next) = expression.next_after(after) else { break };
                    assert!(next > after, "{text:?}: {next:?} does not follow {after:?}");
                    after = next;
                }
            }
        }
        Err(error) => {
            assert!(text.get(error.span.clone()).is_some(), "{text:?}: {:?} is no part of it", error.span);
            assert!(!error.to_string().is_empty());
        }
    }
}

/// `state.json`. What is accepted is written and read again as what it was.
pub fn state_file(bytes: &[u8]) {
    match state_file::parse(bytes) {
        Ok(state) => match serde_json::to_vec(&state) {
            Ok(written) => assert_eq!(state_file::parse(&written).as_ref(), Ok(&state)),
            Err(error) => panic!("it cannot be written again: {error}"),
        },
        Err(problem) => assert!(!problem.is_empty()),
    }
}
