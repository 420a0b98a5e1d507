//! `mlxsupctl history`: curves from the home's file, in the terminal, as a picture, or as numbers. Needs no daemon.

use std::io;
use std::path::Path;
use std::time::Duration;

use crate::ctl::args::HistoryArgs;
use crate::ctl::failure::{ExitStatus, Failure, Kind};
use crate::ctl::home::Home;
use crate::ctl::picture;
use crate::ctl::render::quantity::Now;
use crate::ctl::render::{csv, history as render, json};
use crate::ctl::terminal::Terminal;
use crate::daemon::clock::{rfc3339, wall};
use crate::history::view::{self, HistoryView, OVERVIEW};
use crate::history::{HistoryError, Query, Reader, Span};
use crate::supervisor::Wall;
use crate::supervisor::time::millis;

/// Steps of a curve in JSON.
const STEPS: u32 = 500;

/// Steps of a curve in a picture: one for every dot or two.
const PICTURE_STEPS: u32 = 1000;

/// What is shown where nobody says since when, and the least of it.
const DAY: Duration = Duration::from_secs(86_400);
const SHORTEST: Duration = Duration::from_secs(600);

/// Draws, or writes what was asked for.
pub fn run(args: &HistoryArgs, home: &Home, terminal: &mut Terminal) -> Result<ExitStatus, Failure> {
    let now = wall();
    let metrics = if args.metric.is_empty() { OVERVIEW.to_vec() } else { args.metric.clone() };
    let file = home.history();
    let Some(reader) = Reader::open(&file).map_err(unreadable)? else {
        return Err(Failure::new(Kind::Usage, format!("nothing is recorded in `{}`", home.path.display()))
            .hint("no daemon has run in this home; name another with --home"));
    };
    let from = match args.since {
        Some(since) => since,
        None => usual(now, reader.oldest().map_err(unreadable)?),
    };
    let span = Span { from, until: args.until.unwrap_or(Wall(now.0 + 1)) };
    if span.from >= span.until {
        return Err(Failure::new(Kind::Usage, "--since is not before --until"));
    }
    let read = |steps| {
        let query = Query { metrics: metrics.clone(), span, steps };
        view::read(&reader, &query, now).map_err(unreadable)
    };
    if args.json {
        let answer = serde_json::to_vec(&read(Some(STEPS))?)
            .map_err(|error| Failure::new(Kind::Internal, "cannot write the history as JSON").caused_by(error))?;
        terminal.print(json::pretty(&answer))?;
        return Ok(ExitStatus::Ok);
    }
    let mut written = false;
    if let Some(csv) = &args.csv {
        written = true;
        let text = csv::table(&read(None)?);
        if csv == Path::new("-") {
            terminal.print(text)?;
        } else {
            write(csv, text.as_bytes(), terminal)?;
        }
    }
    for (file, draw) in [(&args.svg, picture::svg as picture::Draw), (&args.png, picture::png)] {
        if let Some(file) = file {
            written = true;
            let picture = draw(&read(Some(PICTURE_STEPS))?)
                .map_err(|error| Failure::new(Kind::Internal, "cannot draw the picture").caused_by(error))?;
            write(file, &picture, terminal)?;
        }
    }
    if !written {
        let cells = render::cells(terminal.columns);
        let view = read(Some(u32::try_from(cells * 2).unwrap_or(STEPS)))?;
        return show(&view, terminal);
    }
    Ok(ExitStatus::Ok)
}

/// Where the curves begin if nobody says: a day ago. A younger history would be a stroke at the right edge, so that one is
/// shown from its own beginning.
fn usual(now: Wall, oldest: Option<Wall>) -> Wall {
    let ago = |span: Duration| Wall(now.0.saturating_sub(millis(span)));
    oldest.map_or(ago(DAY), |oldest| oldest.clamp(ago(DAY), ago(SHORTEST)))
}

fn show(view: &HistoryView, terminal: &mut Terminal) -> Result<ExitStatus, Failure> {
    let now = Now::of_machine();
    if view.metrics.iter().all(|curve| curve.points.is_empty()) && view.events.is_empty() {
        let begins = view.recorded_since.clone().unwrap_or_else(|| rfc3339(wall()));
        let from = now.clock(&view.since);
        terminal.say(&format!("Nothing is recorded from {from} on; the history begins {}", now.clock(&begins)))?;
        return Ok(ExitStatus::Ok);
    }
    let (columns, paint) = (terminal.columns, terminal.out_paint);
    terminal.print(render::charts(view, columns, now, paint))?;
    Ok(ExitStatus::Ok)
}

fn write(file: &Path, content: &[u8], terminal: &mut Terminal) -> Result<(), Failure> {
    std::fs::write(file, content)
        .map_err(|error| Failure::new(Kind::Internal, format!("cannot write `{}`", file.display())).caused_by(error))?;
    terminal.say(&format!("Wrote {}", file.display()))?;
    Ok(())
}

/// A history that cannot be read, with what to do next.
pub fn unreadable(error: HistoryError) -> Failure {
    let hint = match &error {
        HistoryError::Damaged { .. } => Some("a daemon sets it aside when it starts, and begins a new one"),
        HistoryError::Newer { .. } => None,
        HistoryError::File { source, .. } if source.kind() == io::ErrorKind::PermissionDenied => {
            Some("the home belongs to another user: run this as the user the daemon runs as")
        }
        HistoryError::Unusable { .. } | HistoryError::File { .. } => {
            Some("run this as the user the daemon runs as, who alone may read the home")
        }
    };
    let failure = Failure::new(Kind::Internal, "cannot read the history").caused_by(error);
    match hint {
        Some(hint) => failure.hint(hint),
        None => failure,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_young_history_fills_the_picture_and_an_old_one_shows_a_day() {
        let now = Wall(1_800_000_000_000);
        let ago = |seconds: u64| Wall(now.0 - seconds * 1000);
        let begins = |oldest| usual(now, oldest);
        assert_eq!([begins(None), begins(Some(ago(7 * 86_400)))], [ago(86_400); 2]);
        assert_eq!(begins(Some(ago(9_900))), ago(9_900));
        assert_eq!(begins(Some(ago(21))), ago(600), "room for the numbers of the axis");
    }
}
