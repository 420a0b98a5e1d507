//! A worker that speaks the link and misbehaves on demand; for fault injection only.
//!
//! Owns the link's server side in the plainest way, blocking threads and hand-written HTTP, so that it can stop, lie or
//! die between any two bytes. What it generates follows from the request alone: token `p` of choice `c` has the id
//! `1000 * (c + 1) + p` and the word `w<p> `, so a test can tell whether an answer went on without a seam.
//! With `--port N` or `--socket PATH` it is a server of the OpenAI API instead, which knows nothing of the link; without
//! them it has that API beside the link, as mlx-lm behind its bridge does.
//! Faults come as JSON in `MLXSUP_FAKE`, or in a file that is read at every start (`MLXSUP_FAKE_FILE`).

use std::io::{self, Read, Write};
use std::net::TcpListener;
use std::os::unix::net::UnixListener;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use mlxsup_worker_api::{Phase, path, settings};

#[path = "fake_worker/chance.rs"]
mod chance;
#[path = "fake_worker/faults.rs"]
mod faults;
#[path = "fake_worker/footprint.rs"]
mod footprint;
#[path = "fake_worker/generation.rs"]
mod generation;
#[path = "fake_worker/report.rs"]
mod report;
#[path = "fake_worker/stranding.rs"]
mod stranding;

use faults::Faults;
use report::Board;
use stranding::Stranding;

/// Everything the threads share.
struct Fake {
    faults: Faults,
    board: Board,
    socket: PathBuf,
    /// Nothing but the OpenAI API.
    foreign: bool,
    stranding: Stranding,
}

/// Either kind of connection.
trait Connection: Read + Write + Send {}

impl<T: Read + Write + Send> Connection for T {}

fn main() -> ExitCode {
    match run() {
        Ok(never) => match never {},
        Err(why) => {
            let _ = writeln!(io::stderr(), "fake worker: {why}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<std::convert::Infallible, String> {
    let faults = Faults::read()?;
    let board = Board::from_env(&faults)?;
    if faults.crash_at_start && faults.hit(board.generation()) {
        let _ = writeln!(io::stderr(), "fake worker: crashing at start, as told");
        die(faults.exit_code);
    }
    let place = |option: &str| std::env::args().skip_while(|word| word != option).nth(1);
    let (port, own_socket) = (place("--port"), place("--socket"));
    let foreign = port.is_some() || own_socket.is_some();
    let socket = PathBuf::from(own_socket.map_or_else(|| variable(settings::env::SOCKET), Ok)?);
    let stranding = Stranding::of(faults.strand_bytes);
    let fake = Arc::new(Fake { faults, board, socket, foreign, stranding });
    obey_terminate(&fake)?;
    obey_lease(&fake);

    if let Some(port) = port {
        let listener = TcpListener::bind(format!("127.0.0.1:{port}")).map_err(|why| format!("bind {port}: {why}"))?;
        let loading = fake.clone();
        std::thread::spawn(move || load(&loading));
        loop {
            let (stream, _) = listener.accept().map_err(|why| format!("accept: {why}"))?;
            let fake = fake.clone();
            std::thread::spawn(move || drop(converse(&fake, stream)));
        }
    }
    // Like the real worker, it answers /status while it loads.
    let _ = std::fs::remove_file(&fake.socket);
    let listener = UnixListener::bind(&fake.socket).map_err(|why| format!("bind {}: {why}", fake.socket.display()))?;
    let loading = fake.clone();
    std::thread::spawn(move || load(&loading));
    loop {
        let (stream, _) = listener.accept().map_err(|why| format!("accept: {why}"))?;
        let fake = fake.clone();
        // A connection that breaks is a daemon that lost interest.
        std::thread::spawn(move || drop(converse(&fake, stream)));
    }
}

fn load(fake: &Fake) {
    if fake.faults.ready_before_load {
        fake.board.set_phase(Phase::Ready);
        let _ = announce();
    }
    let steps = 10;
    for step in 1..=steps {
        std::thread::sleep(Duration::from_millis(fake.faults.load_ms) / steps);
        fake.board.loaded(step, steps);
    }
    if let Some(message) = fake.faults.load_failure(fake.board.generation()) {
        fake.board.fail(&message);
        let _ = writeln!(io::stderr(), "fake worker: {message}");
        // Long enough for a prober to read the reason, which is what a real worker allows as well.
        std::thread::sleep(Duration::from_millis(200));
        die(fake.faults.exit_code);
    }
    fake.board.footprint().begin(fake.faults.resident_bytes);
    complain(fake.stranding.enter());
    fake.board.set_loaded();
    if !fake.faults.ready_before_load {
        fake.board.set_phase(Phase::Ready);
        // A daemon that adopts this worker has no pipe, and a pipe that is gone is no failure.
        let _ = announce();
    }
}

/// One newline on the inherited descriptor.
fn announce() -> io::Result<()> {
    let Ok(number) = std::env::var(settings::env::READY_FD) else { return Ok(()) };
    std::fs::OpenOptions::new().write(true).open(format!("/dev/fd/{number}"))?.write_all(b"\n")
}

fn obey_terminate(fake: &Arc<Fake>) -> Result<(), String> {
    let mut signals = signal_hook::iterator::Signals::new([signal_hook::consts::SIGTERM])
        .map_err(|why| format!("watch signals: {why}"))?;
    let fake = fake.clone();
    std::thread::spawn(move || {
        for _ in signals.forever() {
            if !fake.faults.ignore_term {
                fake.board.footprint().shrink(Duration::from_millis(fake.faults.shrink_ms));
                end_orderly(&fake);
            }
        }
    });
    Ok(())
}

/// A worker that hears from no daemon ends by itself, like the real one.
fn obey_lease(fake: &Arc<Fake>) {
    let settings = std::env::var(settings::env::SETTINGS).ok();
    let settings = settings.and_then(|text| serde_json::from_str::<settings::Settings>(&text).ok()).unwrap_or_default();
    let lease = fake.faults.lease_ms.map_or(Duration::from_secs(settings.lease_s), Duration::from_millis);
    let fake = fake.clone();
    std::thread::spawn(move || {
        loop {
            let left = lease.saturating_sub(fake.board.silence());
            if left.is_zero() && fake.board.is_idle() {
                let _ = writeln!(io::stderr(), "fake worker: no daemon for {lease:?}");
                end_orderly(&fake);
            }
            std::thread::sleep(left.max(Duration::from_millis(10)));
        }
    });
}

/// Leaves nothing behind: no socket, no wired memory.
fn end_orderly(fake: &Fake) -> ! {
    if fake.board.is_loaded() {
        complain(fake.stranding.take_out());
    }
    let _ = std::fs::remove_file(&fake.socket);
    leave(0)
}

fn complain(result: Result<(), String>) {
    if let Err(why) = result {
        let _ = writeln!(io::stderr(), "fake worker: {why}");
    }
}

/// One request, one answer, close.
fn converse(fake: &Fake, mut stream: impl Connection) -> io::Result<()> {
    let stream: &mut dyn Connection = &mut stream;
    let (line, body) = read_request(stream)?;
    fake.board.hear();
    if fake.board.is_wedged() {
        wedge();
    }
    let path = line.split(' ').nth(1).unwrap_or_default();
    match path {
        "/health" => answer(stream, 200, &serde_json::json!({"status": "ok"})),
        "/v1/models" if fake.board.is_loaded() => answer(stream, 200, &serde_json::json!({"data": [{"id": "fake"}]})),
        "/v1/models" => answer(stream, 503, &serde_json::json!({"error": "the model is not loaded"})),
        "/v1/chat/completions" | "/v1/completions" => generation::generate_plainly(fake, stream, path, &body),
        _ if fake.foreign => answer(stream, 404, &serde_json::json!({"detail": "Not Found"})),
        path::STATUS => answer(stream, 200, &fake.board.status(&fake.faults)),
        path::CLEAR_CACHE => {
            fake.board.clear_cache();
            answer(stream, 200, &fake.board.memory())
        }
        path::TRIM_PREFIX_CACHE => {
            fake.board.trim_prefix_cache();
            answer(stream, 200, &fake.board.memory())
        }
        path::SAVE_PREFIX_CACHE | path::LIMITS => answer(stream, 200, &fake.board.memory()),
        path::LINK_CHAT | path::LINK_COMPLETIONS => generation::generate(fake, stream, path, &body),
        _ => answer(stream, 404, &error("not_found", "no such path on the link")),
    }
}

fn read_request(stream: &mut dyn Connection) -> io::Result<(String, Vec<u8>)> {
    let mut bytes = Vec::new();
    let mut part = [0; 16 << 10];
    let head = loop {
        if let Some(end) = bytes.windows(4).position(|window| window == b"\r\n\r\n") {
            break end + 4;
        }
        let count = stream.read(&mut part)?;
        if count == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        bytes.extend_from_slice(&part[..count]);
    };
    let text = String::from_utf8_lossy(&bytes[..head]).to_ascii_lowercase();
    let length = text.lines().find_map(|line| line.strip_prefix("content-length:")?.trim().parse().ok()).unwrap_or(0);
    let mut body = bytes.split_off(head);
    while body.len() < length {
        let count = stream.read(&mut part)?;
        if count == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        body.extend_from_slice(&part[..count]);
    }
    let line = text.lines().next().unwrap_or_default().to_owned();
    Ok((line, body))
}

fn answer(stream: &mut dyn Connection, status: u16, document: &impl serde::Serialize) -> io::Result<()> {
    let body = serde_json::to_vec(document)?;
    let head = format!(
        "HTTP/1.1 {status} X\r\ncontent-type: application/json\r\nconnection: close\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    stream.write_all(head.as_bytes())?;
    stream.write_all(&body)
}

fn error(code: &str, message: &str) -> mlxsup_worker_api::ErrorObject {
    mlxsup_worker_api::ErrorObject {
        error: mlxsup_worker_api::ErrorBody {
            message: message.to_owned(),
            kind: "invalid_request_error".to_owned(),
            param: None,
            code: Some(code.to_owned()),
        },
    }
}

/// Alive and of no use: what a hung GPU looks like from outside.
fn wedge() -> ! {
    loop {
        std::thread::park();
    }
}

/// Stops the whole process, until somebody continues it. Once: other requests that come to the same token would stop it
/// again, before it could obey the SIGTERM that it was continued for.
fn stop() {
    static STOPPED: std::sync::Once = std::sync::Once::new();
    STOPPED.call_once(|| {
        let _ = nix::sys::signal::raise(nix::sys::signal::Signal::SIGSTOP);
    });
}

/// Dies as told: with an exit code, or by a signal nobody sent.
fn die(exit_code: Option<u8>) -> ! {
    match exit_code {
        Some(code) => leave(code),
        None => std::process::abort(),
    }
}

#[allow(clippy::exit, reason = "leaving in the middle of things is this program's purpose")]
fn leave(code: u8) -> ! {
    std::process::exit(i32::from(code))
}

fn variable(name: &str) -> Result<String, String> {
    std::env::var(name).map_err(|why| format!("{name}: {why}"))
}
