//! What the control socket tells of the past: curves, and events from before those that the journal still holds.
//!
//! The file is read on a thread for blocking work; the driver is not asked.

use std::path::Path;
use std::time::Duration;

use super::view::EventView;
use crate::daemon::clock::wall;
use crate::history::view::{self, HistoryView, OVERVIEW};
use crate::history::{HistoryError, Query, Reader, Span, moment};
use crate::supervisor::Wall;

/// Steps of a curve where nobody says how many.
const STEPS: u32 = 500;

/// Steps at most, of all curves of an answer together: what the daemon holds in memory for one caller is bounded.
const STEPS_MAX: u32 = 20_000;

/// Events of one answer at most.
const EVENTS_MAX: usize = 10_000;

/// How far back a curve reaches where nobody says.
const SINCE: Duration = Duration::from_secs(86_400);

/// Why there is no answer.
#[derive(Debug)]
pub enum PastError {
    /// The question makes no sense.
    Question(String),
    /// The file cannot be read.
    File(HistoryError),
}

/// Answers `GET /v1/history?metric=NAMES&since=7d&until=INSTANT&steps=N`, all of them optional.
///
/// # Errors
/// See [`PastError`].
pub async fn history<'a>(file: &Path, parameter: impl Fn(&str) -> Option<&'a str>) -> Result<HistoryView, PastError> {
    let now = wall();
    let instant = |name: &str| parameter(name).map(|text| instant(text, now)).transpose();
    let until = instant("until").map_err(PastError::Question)?;
    let from = instant("since").map_err(PastError::Question)?;
    let span = match (from, until) {
        (from, Some(until)) => Span { from: from.unwrap_or(Span::last(SINCE, until).from), until },
        (Some(from), None) => Span { from, until: Wall(now.0 + 1) },
        (None, None) => Span::last(SINCE, now),
    };
    let metrics = match parameter("metric") {
        Some(names) => view::metrics(names).map_err(PastError::Question)?,
        None => OVERVIEW.to_vec(),
    };
    let steps = match parameter("steps") {
        Some(number) => number.parse().map_err(|_| PastError::Question(format!("steps={number} is no number")))?,
        None => STEPS,
    };
    let steps_max = STEPS_MAX / u32::try_from(metrics.len().max(1)).unwrap_or(STEPS_MAX);
    let query = Query { metrics, span, steps: Some(steps.clamp(1, steps_max.max(1))) };
    let file = file.to_owned();
    let read = move || match Reader::open(&file)? {
        Some(reader) => view::read(&reader, &query, now),
        None => Ok(view::empty(&query)),
    };
    blocking(read).await.map_err(PastError::File)
}

/// The last `limit` events from `since` on and before `until`, oldest first. A file that cannot be read has none; that is
/// logged, and told by the writer where it matters.
pub async fn events(file: &Path, since: Option<Wall>, until: Wall, limit: usize) -> Vec<EventView> {
    let file = file.to_owned();
    let span = Span { from: since.unwrap_or(Wall(0)), until };
    let read = move || match Reader::open(&file)? {
        Some(reader) => reader.events(span, &[], limit.min(EVENTS_MAX)),
        None => Ok(Vec::new()),
    };
    match blocking(read).await {
        Ok(events) => events.into_iter().map(view::event).collect(),
        Err(error) => {
            tracing::warn!(%error, "events of the past are not shown");
            Vec::new()
        }
    }
}

/// An instant in a query, where `+` may have been written as it is.
///
/// # Errors
/// A sentence that says what may be written.
pub fn instant(text: &str, now: Wall) -> Result<Wall, String> {
    moment(&text.replace("%3A", ":").replace("%3a", ":").replace("%2B", "+").replace("%2b", "+"), now)
}

async fn blocking<T: Send + 'static>(
    read: impl FnOnce() -> Result<T, HistoryError> + Send + 'static,
) -> Result<T, HistoryError> {
    match tokio::task::spawn_blocking(read).await {
        Ok(result) => result,
        // Only when the runtime ends, and then nobody reads the answer.
        Err(error) => Err(HistoryError::File {
            doing: "go on reading",
            path: crate::history::FILE.into(),
            source: std::io::Error::other(error),
        }),
    }
}
