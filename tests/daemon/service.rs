//! One daemon in a home of its own: starting it, asking it, waiting for its states, and leaving nothing behind.

use std::fmt::Write as _;
use std::fs::File;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use mlxsup::daemon::{leftover, state_file};
use nix::sys::signal::{Signal, kill, killpg};
use nix::unistd::Pid;
use serde_json::Value;
use tempfile::TempDir;

use crate::http::{Answer, Connection};

pub const CHAT: &str = "/v1/chat/completions";

/// Longest wait for a state; only a failure takes so long.
const PATIENCE: Duration = Duration::from_secs(30);

/// Between two looks.
const LOOK_EVERY: Duration = Duration::from_millis(10);

/// A home and, most of the time, a daemon in it.
pub struct Service {
    folder: TempDir,
    daemon: Option<Child>,
}

/// What a program printed and how it ended.
pub struct Said {
    pub out: String,
    pub err: String,
    pub code: Option<i32>,
}

impl From<Output> for Said {
    fn from(output: Output) -> Self {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Self { out: text(&output.stdout), err: text(&output.stderr), code: output.status.code() }
    }
}

impl Said {
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.out).unwrap_or_else(|why| panic!("{why}: {} {}", self.out, self.err))
    }

    #[track_caller]
    pub fn ok(self) -> Self {
        assert_eq!(self.code, Some(0), "{} {}", self.out, self.err);
        self
    }
}

impl Service {
    /// A home with a complete configuration: the fake worker with these faults, quick probes and a quick backoff where
    /// `rest` says nothing about them.
    pub fn new(faults: &str, rest: &str) -> Self {
        // Short, as socket paths have a limit.
        let folder = tempfile::Builder::new().prefix("sup").tempdir_in("/tmp").unwrap();
        let service = Self { folder, daemon: None };
        service.configure(faults, rest);
        service
    }

    /// `new`, started and serving.
    pub fn serving(faults: &str, rest: &str) -> Self {
        let mut service = Self::new(faults, rest);
        service.start();
        service.wait_for("serving");
        service
    }

    /// Writes the configuration anew.
    pub fn configure(&self, faults: &str, rest: &str) {
        let worker = env!("CARGO_BIN_EXE_mlxsup-fake-worker");
        // Through `env`, so that a reload can order other faults for the next worker.
        let command = format!("[\"/usr/bin/env\", 'MLXSUP_FAKE={{{faults}}}', \"{worker}\"]");
        let mut text = format!("[worker]\nmodel = \"fake\"\ncommand = {command}\n");
        // One worker after the other, whatever this machine has room for; hand-overs with two ask for it.
        let restart = "mode = \"sequential\"\nbackoff_initial = \"50ms\"";
        for (table, keys) in [("[health]", "interval = \"200ms\""), ("[restart]", restart)] {
            if !rest.contains(table) {
                writeln!(text, "{table}\n{keys}").unwrap();
            }
        }
        self.write("mlxsup.toml", &(text + rest));
    }

    pub fn home(&self) -> &Path {
        self.folder.path()
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.home().join(name)
    }

    pub fn read(&self, name: &str) -> String {
        std::fs::read_to_string(self.path(name)).unwrap_or_default()
    }

    pub fn write(&self, name: &str, text: &str) {
        std::fs::write(self.path(name), text).unwrap();
    }

    /// The daemon's command line, hermetic but for PATH.
    pub fn daemon_command(&self) -> Command {
        self.daemon_command_of(Path::new(env!("CARGO_BIN_EXE_mlxsupd")))
    }

    /// The command line of a daemon installed elsewhere.
    pub fn daemon_command_of(&self, image: &Path) -> Command {
        hermetic(image, self.home())
    }

    /// Lets the daemon see this memory in the place of the machine's: bytes by name, as JSON.
    pub fn pretend(&self, memory: &Value) {
        self.write("memory.new", &memory.to_string());
        std::fs::rename(self.path("memory.new"), self.path("memory.json")).unwrap();
    }

    /// Starts the daemon; its stderr goes to a file in the home.
    pub fn start(&mut self) {
        let mut command = self.daemon_command();
        command.env("MLXSUP_FAKE_MEMORY", self.path("memory.json"));
        self.start_as(&mut command);
    }

    pub fn start_as(&mut self, command: &mut Command) {
        assert!(self.daemon.is_none(), "one daemon at a time");
        let stderr = File::options().create(true).append(true).open(self.path("stderr")).unwrap();
        self.daemon = Some(command.stderr(stderr).spawn().unwrap());
    }

    /// Starts the daemon where it is not expected to stay, and tells what it said.
    pub fn start_fails(&self) -> Said {
        self.daemon_command().output().unwrap().into()
    }

    pub fn ctl_command(&self, arguments: &[&str]) -> Command {
        let mut command = hermetic(Path::new(env!("CARGO_BIN_EXE_mlxsupctl")), self.home());
        command.args(arguments);
        command
    }

    pub fn ctl(&self, arguments: &[&str]) -> Said {
        self.ctl_command(arguments).output().unwrap().into()
    }

    /// A verb under way.
    pub fn ctl_started(&self, arguments: &[&str]) -> JoinHandle<Said> {
        let mut command = self.ctl_command(arguments);
        std::thread::spawn(move || command.output().unwrap().into())
    }

    pub fn signal(&self, signal: Signal) {
        kill(self.daemon_pid(), signal).unwrap();
    }

    pub fn daemon_pid(&self) -> Pid {
        pid(self.daemon.as_ref().expect("a daemon runs").id())
    }

    /// Waits until the daemon has ended.
    pub fn ended(&mut self) -> ExitStatus {
        let mut daemon = self.daemon.take().expect("a daemon runs");
        let mut status = None;
        eventually("the daemon ends", || {
            status = daemon.try_wait().unwrap();
            status.is_some().then_some(()).ok_or_else(|| self.read("logs/mlxsupd.log"))
        });
        status.unwrap()
    }

    /// SIGKILL to the daemon: its worker stays.
    pub fn kill_daemon(&mut self) {
        self.signal(Signal::SIGKILL);
        assert_eq!(self.ended().signal(), Some(9));
    }

    /// The status of this moment; `None` while nobody answers.
    pub fn try_status(&self) -> Option<Value> {
        let mut connection = Connection::open(&self.path("control.sock"))?;
        if !connection.try_get("/v1/status") {
            return None;
        }
        connection.try_answer().map(|answer| answer.json())
    }

    pub fn status(&self) -> Value {
        self.try_status().expect("the daemon answers")
    }

    /// Waits until the status looks as wanted, and returns it.
    #[track_caller]
    pub fn wait_until(&mut self, what: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        let mut last = None;
        eventually(what, || {
            last = self.try_status();
            if last.as_ref().is_some_and(&wanted) {
                return Ok(());
            }
            let ended = self.daemon.as_mut().and_then(|daemon| daemon.try_wait().unwrap());
            assert!(ended.is_none(), "the daemon ended: {ended:?} {}", self.read("stderr"));
            Err(format!("{last:#?}"))
        });
        last.unwrap()
    }

    /// Waits until no request is in hand: a client has its answer a moment before the daemon closes its books.
    #[track_caller]
    pub fn settled(&mut self) -> Value {
        self.wait_until("no request in hand", |status| {
            status["queue"]["active"] == 0 && status["queue"]["waiting"] == 0
        })
    }

    #[track_caller]
    pub fn wait_for(&mut self, state: &str) -> Value {
        self.wait_until(state, |status| status["state"] == state)
    }

    /// Waits for an event of this kind whose message contains `text`; returns the message.
    #[track_caller]
    pub fn wait_for_event(&self, kind: &str, text: &str) -> String {
        let mut found = String::new();
        eventually(&format!("event {kind}: {text}"), || {
            let events = self.events();
            let wanted = events.iter().find(|(event, message)| event == kind && message.contains(text));
            wanted.map(|(_, message)| found.clone_from(message)).ok_or_else(|| format!("{events:#?}"))
        });
        found
    }

    /// Kinds and messages so far.
    pub fn events(&self) -> Vec<(String, String)> {
        let Some(mut connection) = Connection::open(&self.path("control.sock")) else { return Vec::new() };
        connection.send("GET", "/v1/events", "", "");
        let lines = connection.answer().body;
        let event = |line: &str| -> (String, String) {
            let event: Value = serde_json::from_str(line).unwrap();
            (event["kind"].as_str().unwrap().to_owned(), event["message"].as_str().unwrap().to_owned())
        };
        lines.lines().map(event).collect()
    }

    pub fn connect(&self) -> Connection {
        Connection::open(&self.path("mlxsup.sock")).expect("the client socket is served")
    }

    pub fn get(&self, path: &str) -> Answer {
        let mut connection = self.connect();
        connection.send("GET", path, "", "");
        connection.answer()
    }

    /// A chat request under way.
    pub fn chat(&self, body: &str) -> Connection {
        let mut connection = self.connect();
        connection.send("POST", CHAT, "", body);
        connection
    }

    /// A stream of which some words have come. They are kept for the answer's check by asking for the rest's start.
    pub fn stream_running(&self, body: &str) -> Running {
        let mut connection = self.chat(body);
        let begun = connection.until("w2 ");
        Running { connection, begun }
    }

    pub fn worker_pid(&self) -> Pid {
        pid(u32::try_from(self.status()["worker"]["pid"].as_u64().expect("a worker")).unwrap())
    }

    pub fn generation(&self) -> u64 {
        self.status()["worker"]["generation"].as_u64().expect("a worker")
    }
}

/// A stream whose beginning has been read.
pub struct Running {
    connection: Connection,
    begun: String,
}

impl Running {
    pub fn until(&mut self, text: &str) {
        let more = self.connection.until(text);
        self.begun.push_str(&more);
    }

    /// The whole answer, beginning included.
    pub fn answer(mut self) -> Answer {
        self.connection.unread(&self.begun);
        self.connection.answer()
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        if let Some(daemon) = &mut self.daemon {
            let _ = daemon.kill();
            let _ = daemon.wait();
        }
        let (state, _) = state_file::read(&self.path("state.json"));
        for worker in state.workers.iter().filter(|worker| leftover::is_alive(worker)) {
            let _ = killpg(pid(worker.pid), Signal::SIGKILL);
        }
        if std::thread::panicking() {
            let (log, stderr) = (self.read("logs/mlxsupd.log"), self.read("stderr"));
            let _ = std::io::Write::write_all(&mut std::io::stderr(), format!("{log}\n{stderr}\n").as_bytes());
        }
    }
}

/// A program in this home that nothing of the surroundings reaches.
fn hermetic(program: &Path, home: &Path) -> Command {
    let mut command = Command::new(program);
    let path = std::env::var_os("PATH").unwrap_or_default();
    command.env_clear().env("PATH", path).env("HOME", home).env("MLXSUP_HOME", home).env("TZ", "UTC");
    // A group of its own: whatever ends the test runner's group does not end it half-way.
    command.process_group(0).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// Looks until it is so; the error of the last look says why it is not.
#[track_caller]
pub fn eventually(what: &str, mut look: impl FnMut() -> Result<(), String>) {
    let deadline = Instant::now() + PATIENCE;
    while let Err(why) = look() {
        assert!(Instant::now() < deadline, "not within {PATIENCE:?}: {what}\n{why}");
        std::thread::sleep(LOOK_EVERY);
    }
}

pub fn pid(number: u32) -> Pid {
    Pid::from_raw(i32::try_from(number).unwrap())
}

/// True while there is such a process, zombies included.
pub fn exists(pid: Pid) -> bool {
    kill(pid, None).is_ok()
}
