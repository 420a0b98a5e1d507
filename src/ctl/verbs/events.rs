//! `mlxsupctl events`: what was decided and why, one line each, with `-f` as it happens. While no daemon answers, the history
//! tells what the last one did.

use std::path::Path;

use chrono::{DateTime, SecondsFormat};
use http_body_util::BodyExt;

use super::history;
use crate::control::view::EventView;
use crate::ctl::args::EventsArgs;
use crate::ctl::connection::ConnectionError;
use crate::ctl::control::{Answer, Control};
use crate::ctl::failure::{ExitStatus, Failure, Kind};
use crate::ctl::home::Home;
use crate::ctl::render::human;
use crate::ctl::render::quantity::Now;
use crate::ctl::terminal::Terminal;
use crate::daemon::clock::rfc3339;
use crate::history::store::Happening;
use crate::history::{Reader, Span, view};
use crate::supervisor::Wall;

/// Longest line accepted.
const LINE_MAX_BYTES: usize = 1 << 20;

/// Past events where nothing else is said.
const LINES: u32 = 50;

/// Past events at most.
const LINES_MAX: u32 = 100_000;

/// Prints events until the daemon has no more, or with `-f` until the daemon ends.
pub async fn run(
    args: &EventsArgs,
    control: &Control,
    home: &Home,
    terminal: &mut Terminal,
) -> Result<ExitStatus, Failure> {
    let lines = args.lines.unwrap_or(if args.since.is_some() { LINES_MAX } else { LINES });
    let since = args.since.and_then(utc).map(|since| format!("&since={since}")).unwrap_or_default();
    let path = format!("/v1/events?limit={lines}&follow={}{since}", args.follow);
    let response = match control.open(&path).await {
        Ok(response) => response,
        Err(failure) if failure.kind() == Kind::Unreachable && !args.follow => {
            return of_the_last_daemon(args, lines, &home.history(), terminal)?.ok_or(failure);
        }
        Err(failure) => return Err(failure),
    };
    if !response.status().is_success() {
        // Only an error object is expected here; anything else is told as the unreadable answer it is.
        let _: Answer<()> = control.understand(&path, response).await?;
        return Err(Failure::new(Kind::Internal, "the daemon answers `/v1/events` with neither events nor an error"));
    }
    let mut body = response.into_body();
    let mut pending = Vec::new();
    while let Some(frame) = body.frame().await {
        let broken = |source| ConnectionError::Broken { socket: control.socket().to_owned(), source };
        let frame = frame.map_err(|error| control.unreachable(broken(error)))?;
        let Ok(bytes) = frame.into_data() else { continue };
        pending.extend_from_slice(&bytes);
        while let Some(end) = pending.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = pending.drain(..=end).collect();
            print(&line, args.json, terminal)?;
        }
        if pending.len() > LINE_MAX_BYTES {
            return Err(Failure::new(Kind::Internal, format!("an event is longer than {LINE_MAX_BYTES} bytes")));
        }
    }
    print(&pending, args.json, terminal)?;
    if args.follow {
        terminal.say("The daemon has ended")?;
    }
    Ok(ExitStatus::Ok)
}

/// In a form that needs no quoting in a query.
fn utc(at: Wall) -> Option<String> {
    let at = DateTime::from_timestamp_millis(i64::try_from(at.0).ok()?)?;
    Some(at.to_rfc3339_opts(SecondsFormat::Millis, true))
}

/// From the file; `None` where nothing was ever recorded. A span without events is an answer too.
fn of_the_last_daemon(
    args: &EventsArgs,
    lines: u32,
    file: &Path,
    terminal: &mut Terminal,
) -> Result<Option<ExitStatus>, Failure> {
    let Some(reader) = Reader::open(file).map_err(history::unreadable)? else { return Ok(None) };
    let span = Span { from: args.since.unwrap_or(Wall(0)), until: Wall(u64::MAX) };
    let limit = usize::try_from(lines).unwrap_or(usize::MAX);
    let events = reader.events(span, &[], limit).map_err(history::unreadable)?;
    terminal.say(&heading(&events, args.since))?;
    for event in events {
        let line = serde_json::to_vec(&view::event(event))
            .map_err(|error| Failure::new(Kind::Internal, "cannot write an event").caused_by(error))?;
        print(&line, args.json, terminal)?;
    }
    Ok(Some(ExitStatus::Ok))
}

/// Says whose events these are, or that there are none.
fn heading(events: &[Happening], since: Option<Wall>) -> String {
    match (events, since) {
        ([], Some(since)) => {
            let from = Now::of_machine().clock(&rfc3339(since));
            format!("No daemon answers, and the last one wrote down no events from {from} on")
        }
        ([], None) => "No daemon answers, and the last one wrote down no events".to_owned(),
        _ => "No daemon answers; this is what the last one wrote down".to_owned(),
    }
}

fn print(line: &[u8], as_json: bool, terminal: &mut Terminal) -> Result<(), Failure> {
    let line = line.trim_ascii();
    if line.is_empty() {
        return Ok(());
    }
    let event: EventView = serde_json::from_slice(line)
        .map_err(|error| Failure::new(Kind::Internal, "cannot read an event of the daemon").caused_by(error))?;
    if as_json {
        terminal.print([line, b"\n"].concat())?;
    } else {
        let paint = terminal.out_paint;
        terminal.print(human::event(&event, Now::of_machine(), paint))?;
    }
    Ok(())
}
