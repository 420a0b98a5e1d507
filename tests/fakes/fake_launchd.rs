//! The part of launchd that matters to `mlxsupd`, on Linux: it holds sockets, starts jobs, and ends them its own way.
//!
//! One thread, one `poll`: control connections, the sockets of jobs that are down, a pipe that ends when whoever started
//! this does, and the end of children. What differs from the real one: sockets are handed over as systemd does it
//! (`LISTEN_FDS`, named by their plist entries), because `launch_activate_socket` exists on macOS only; a job inherits
//! this program's environment; and a full backlog makes a connect wait instead of refusing it.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::Parser;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

#[path = "fake_launchd/children.rs"]
mod children;
#[path = "fake_launchd/domain.rs"]
mod domain;
#[path = "fake_launchd/job.rs"]
mod job;
#[path = "fake_launchd/job_file.rs"]
mod job_file;
#[path = "fake_launchd/listeners.rs"]
mod listeners;
#[path = "fake_launchd/orders.rs"]
mod orders;
#[path = "fake_launchd/spawn.rs"]
mod spawn;

use domain::Domain;

/// Longest wait for the line of somebody who connected to the control socket.
const CONTROL_PATIENCE: Duration = Duration::from_secs(5);

/// Hold the sockets of a job and keep it alive, as launchd would
#[derive(Debug, Parser)]
struct Arguments {
    /// Take orders here: bootstrap FILE, bootout LABEL, kickstart [-k] LABEL, print LABEL, shutdown
    #[arg(long, value_name = "SOCKET")]
    control: PathBuf,
    /// Answer a bootstrap with EIO for so long after a bootout is over
    #[arg(long, value_name = "MS", default_value_t = 0)]
    eio_ms: u64,
    /// Shut down at the end of standard input
    #[arg(long)]
    until_eof: bool,
    /// Bootstrap these at once
    #[arg(value_name = "PLIST")]
    plists: Vec<PathBuf>,
}

fn main() -> ExitCode {
    match run(&Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            let _ = writeln!(io::stderr(), "fake launchd: {why}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &Arguments) -> Result<(), String> {
    // First, so that they hold the lowest descriptors: see `spawn`.
    let control =
        UnixListener::bind(&arguments.control).map_err(|why| format!("bind {}: {why}", arguments.control.display()))?;
    let wake = children::wake_on_signals()?;
    children::adopt_orphans()?;
    let mut domain = Domain::new(Duration::from_millis(arguments.eio_ms));
    for plist in &arguments.plists {
        domain.bootstrap(plist, Instant::now()).map_err(|refusal| refusal.to_string())?;
    }
    let stdin = io::stdin();
    while !domain.is_over() {
        let news = wait(&domain, &control, &wake, arguments.until_eof.then(|| stdin.as_fd()))?;
        let now = Instant::now();
        if news.woken {
            drain(&wake);
        }
        while let Some((pid, status)) = children::reap() {
            domain.ended(pid, status, now);
        }
        if news.stdin || children::is_told_to_stop() {
            domain.shut_down(now);
        }
        for label in news.asked {
            domain.demand(&label, now);
        }
        if news.control {
            converse(&control, &mut domain);
        }
        domain.tick(now);
    }
    children::end_orphans();
    let _ = std::fs::remove_file(&arguments.control);
    Ok(())
}

/// What happened while we slept.
#[derive(Debug, Default)]
struct News {
    control: bool,
    woken: bool,
    stdin: bool,
    asked: Vec<String>,
}

fn wait(
    domain: &Domain,
    control: &UnixListener,
    wake: &UnixStream,
    stdin: Option<BorrowedFd<'_>>,
) -> Result<News, String> {
    let mut watched =
        vec![PollFd::new(control.as_fd(), PollFlags::POLLIN), PollFd::new(wake.as_fd(), PollFlags::POLLIN)];
    // Standard input matters only when it ends.
    watched.extend(stdin.map(|stdin| PollFd::new(stdin, PollFlags::POLLIN)));
    let first_socket = watched.len();
    let (labels, sockets): (Vec<_>, Vec<_>) = domain.awaiting_demand().unzip();
    watched.extend(sockets.into_iter().map(|socket| PollFd::new(socket, PollFlags::POLLIN)));
    let timeout = match domain.next_deadline() {
        None => PollTimeout::NONE,
        // Rounded up, so that the deadline has passed when we wake.
        Some(deadline) => {
            let left = deadline.saturating_duration_since(Instant::now()) + Duration::from_micros(999);
            PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX)
        }
    };
    match poll(&mut watched, timeout) {
        Ok(_) => {}
        Err(nix::errno::Errno::EINTR) => return Ok(News::default()),
        Err(why) => return Err(format!("poll: {why}")),
    }
    let readable = |watched: &PollFd<'_>| watched.any().unwrap_or(false);
    Ok(News {
        control: readable(&watched[0]),
        woken: readable(&watched[1]),
        stdin: stdin.is_some() && readable(&watched[2]),
        asked: watched[first_socket..]
            .iter()
            .zip(labels)
            .filter(|(socket, _)| readable(socket))
            .map(|(_, label)| label)
            .collect(),
    })
}

fn drain(wake: &UnixStream) {
    let mut part = [0; 256];
    let mut wake = wake;
    while wake.read(&mut part).is_ok_and(|count| count == part.len()) {}
}

/// One line, one answer, close.
fn converse(control: &UnixListener, domain: &mut Domain) {
    let Ok((mut stream, _)) = control.accept() else { return };
    let _ = stream.set_read_timeout(Some(CONTROL_PATIENCE));
    let mut line = String::new();
    // Reads on when the end of a child interrupts it, which a bare `read` would take for the end of the line.
    if BufReader::new(&stream).read_line(&mut line).is_err() {
        return;
    }
    let answer = orders::obey(line.trim_end(), domain, Instant::now());
    // Whoever hung up does not want to know.
    let _ = stream.write_all(answer.as_bytes());
}
