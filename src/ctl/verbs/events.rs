//! `mlxsupctl events`: what was decided and why, one line each, with `-f` as it happens.

use http_body_util::BodyExt;

use crate::control::view::EventView;
use crate::ctl::args::EventsArgs;
use crate::ctl::connection::ConnectionError;
use crate::ctl::control::{Answer, Control};
use crate::ctl::failure::{ExitStatus, Failure, Kind};
use crate::ctl::render::human;
use crate::ctl::render::quantity::Now;
use crate::ctl::terminal::Terminal;

/// Longest line accepted.
const LINE_MAX_BYTES: usize = 1 << 20;

/// Prints events until the daemon has no more, or with `-f` until the daemon ends.
pub async fn run(args: &EventsArgs, control: &Control, terminal: &mut Terminal) -> Result<ExitStatus, Failure> {
    let path = format!("/v1/events?limit={}&follow={}", args.lines, args.follow);
    let response = control.open(&path).await?;
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
