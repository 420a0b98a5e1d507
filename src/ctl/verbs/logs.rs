//! `mlxsupctl logs`: the end of a log, with `-f` as it grows. Reads files only; needs no daemon.

use std::io;
use std::path::Path;
use std::time::Duration;

use crate::ctl::args::{Log, LogsArgs};
use crate::ctl::failure::{ExitStatus, Failure, Kind};
use crate::ctl::home::Home;
use crate::ctl::tail::Tail;
use crate::ctl::terminal::Terminal;

/// Between two looks at a log that is followed.
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// Prints the last lines, and with `-f` every later one.
pub async fn run(args: &LogsArgs, home: &Home, terminal: &mut Terminal) -> Result<ExitStatus, Failure> {
    let path = home.logs().join(match args.log {
        Log::Daemon => "mlxsupd.log",
        Log::Worker => "worker.log",
        Log::Requests => "requests.log",
    });
    let mut tail = Tail::open(&path, args.lines).map_err(|error| unreadable(&path, error))?;
    if !tail.is_there() {
        if !args.follow {
            return Err(Failure::new(Kind::Usage, format!("there is no log at `{}`", path.display()))
                .hint("no daemon has run in this home; name another with --home"));
        }
        terminal.say(&format!("Waiting for `{}`", path.display()))?;
    }
    loop {
        let bytes = tail.fresh().map_err(|error| unreadable(&path, error))?;
        if !bytes.is_empty() {
            terminal.print(bytes)?;
        } else if args.follow {
            tokio::time::sleep(LOOK_EVERY).await;
        } else {
            return Ok(ExitStatus::Ok);
        }
    }
}

fn unreadable(path: &Path, error: io::Error) -> Failure {
    let denied = error.kind() == io::ErrorKind::PermissionDenied;
    let failure = Failure::new(Kind::Internal, format!("cannot read `{}`", path.display())).caused_by(error);
    if denied {
        failure.hint("the home belongs to another user: run this as the user the daemon runs as")
    } else {
        failure
    }
}
