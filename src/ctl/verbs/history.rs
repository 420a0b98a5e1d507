//! `mlxsupctl history`: curves from the home's file, in the terminal, as a picture, or as numbers. Needs no daemon.

use std::io;
use std::path::Path;

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

/// Steps of a curve in JSON.
const STEPS: u32 = 500;

/// Steps of a curve in a picture: one for every dot or two.
const PICTURE_STEPS: u32 = 1000;

/// Draws, or writes what was asked for.
pub fn run(args: &HistoryArgs, home: &Home, terminal: &mut Terminal) -> Result<ExitStatus, Failure> {
    let now = wall();
    let span = Span { from: args.since, until: args.until.unwrap_or(Wall(now.0 + 1)) };
    if span.from >= span.until {
        return Err(Failure::new(Kind::Usage, "--since is not before --until"));
    }
    let metrics = if args.metric.is_empty() { OVERVIEW.to_vec() } else { args.metric.clone() };
    let file = home.history();
    let Some(reader) = Reader::open(&file).map_err(unreadable)? else {
        return Err(Failure::new(Kind::Usage, format!("nothing is recorded in `{}`", home.path.display()))
            .hint("no daemon has run in this home; name another with --home"));
    };
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
