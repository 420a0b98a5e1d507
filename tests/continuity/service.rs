//! `mlxsupd` with the real worker and the small real model, in a home of its own.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;
use tempfile::TempDir;

use crate::http::Connection;

/// Longest wait for a state: a debug build loads and warms the model in several seconds.
const PATIENCE: Duration = Duration::from_secs(180);

/// Sequences the worker decodes together.
pub const SLOTS: u64 = 4;

const LOOK_EVERY: Duration = Duration::from_millis(20);

/// A running daemon.
pub struct Service {
    folder: TempDir,
    daemon: Child,
    worker: PathBuf,
    model: PathBuf,
}

/// What a program printed and how it ended.
pub struct Said {
    pub out: String,
    pub err: String,
    pub code: Option<i32>,
}

impl Service {
    /// Started and serving.
    pub fn serving() -> Self {
        let daemon = Path::new(env!("CARGO_BIN_EXE_mlxsupd"));
        let worker = daemon.with_file_name("mlxsup-worker");
        let model = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/models/SmolLM2-135M-Instruct.Q4_1.gguf");
        for needed in [&worker, &model] {
            assert!(needed.exists(), "{} is missing; `make test` builds and fetches it", needed.display());
        }
        // Short, as socket paths have a limit.
        let folder = tempfile::Builder::new().prefix("sup").tempdir_in("/tmp").unwrap();
        configure(folder.path(), &worker, &model, "");
        let stderr = std::fs::File::create(folder.path().join("stderr")).unwrap();
        let daemon = hermetic(daemon, folder.path()).stderr(stderr).spawn().unwrap();
        let mut service = Self { folder, daemon, worker, model };
        service.wait_for("serving");
        service
    }

    /// Adds a rule that fires at once: the worker weighs more than its threshold.
    pub fn arm_rule(&self) {
        let rule = "[[rule]]\nname = \"heavy\"\nwhen = [ { metric = \"worker.footprint\", above = \"64MiB\" } ]\n\
                    for = \"1s\"\naction = \"restart\"\ncooldown = \"1h\"\n";
        configure(self.folder.path(), &self.worker, &self.model, rule);
        let said = self.ctl(&["reload"]);
        assert_eq!(said.code, Some(0), "{} {}", said.out, said.err);
    }

    pub fn client_socket(&self) -> PathBuf {
        self.folder.path().join("mlxsup.sock")
    }

    pub fn ctl(&self, arguments: &[&str]) -> Said {
        let program = Path::new(env!("CARGO_BIN_EXE_mlxsupctl"));
        let Output { status, stdout, stderr } = hermetic(program, self.folder.path()).args(arguments).output().unwrap();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Said { out: text(&stdout), err: text(&stderr), code: status.code() }
    }

    fn ask(&self, path: &str) -> Option<String> {
        let mut connection = Connection::open(&self.folder.path().join("control.sock"))?;
        connection.send("GET", path, "", "");
        Some(connection.answer().body)
    }

    #[track_caller]
    pub fn wait_until(&mut self, what: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        self.eventually(what, |service| {
            let status: Value = serde_json::from_str(&service.ask("/v1/status")?).ok()?;
            wanted(&status).then_some(status)
        })
    }

    #[track_caller]
    pub fn wait_for(&mut self, state: &str) -> Value {
        self.wait_until(state, |status| status["state"] == state)
    }

    /// Waits until no request is in hand.
    #[track_caller]
    pub fn settled(&mut self) -> Value {
        self.wait_until("no request in hand", |status| {
            status["queue"]["active"] == 0 && status["queue"]["waiting"] == 0
        })
    }

    #[track_caller]
    pub fn wait_for_event(&mut self, kind: &str, text: &str) -> String {
        self.eventually(&format!("event {kind}: {text}"), |service| {
            let events = service.ask("/v1/events")?;
            let event = |line: &str| serde_json::from_str::<Value>(line).unwrap();
            let mut wanted = events.lines().map(event).filter(|event| event["kind"] == kind);
            let found = wanted.find(|event| event["message"].as_str().is_some_and(|message| message.contains(text)))?;
            Some(format!("{kind}: {}", found["message"].as_str()?))
        })
    }

    /// Requests answered so far.
    pub fn answered(&mut self) -> u64 {
        let status = self.wait_until("a ledger", |status| status["ledger"]["answered"].is_number());
        status["ledger"]["answered"].as_u64().unwrap()
    }

    #[track_caller]
    fn eventually<T>(&mut self, what: &str, mut look: impl FnMut(&Self) -> Option<T>) -> T {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(found) = look(self) {
                return found;
            }
            let ended = self.daemon.try_wait().unwrap();
            assert!(ended.is_none(), "the daemon ended: {ended:?}");
            assert!(Instant::now() < deadline, "not within {PATIENCE:?}: {what}; last: {:?}", self.ask("/v1/status"));
            std::thread::sleep(LOOK_EVERY);
        }
    }

    pub fn worker_pid(&mut self) -> Pid {
        let status = self.wait_until("a worker", |status| status["worker"]["pid"].is_number());
        Pid::from_raw(i32::try_from(status["worker"]["pid"].as_i64().unwrap()).unwrap())
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        if std::thread::panicking() {
            for name in ["logs/mlxsupd.log", "stderr"] {
                let text = std::fs::read_to_string(self.folder.path().join(name)).unwrap_or_default();
                let tail: Vec<&str> = text.lines().rev().take(60).collect();
                let tail: String = tail.into_iter().rev().map(|line| format!("{line}\n")).collect();
                let _ = std::io::Write::write_all(&mut std::io::stderr(), tail.as_bytes());
            }
        }
        // Twice: the second signal skips the drain, and the daemon takes its worker along.
        let daemon = Pid::from_raw(i32::try_from(self.daemon.id()).unwrap());
        let _ = kill(daemon, Signal::SIGTERM);
        let _ = kill(daemon, Signal::SIGTERM);
        let _ = self.daemon.wait();
    }
}

fn configure(home: &Path, worker: &Path, model: &Path, rest: &str) {
    let text = format!(
        "[worker]\nmodel = \"{}\"\ncommand = [\"{}\"]\ndevice = \"cpu\"\nslots = {SLOTS}\ncontext = 1024\n\
         [health]\ninterval = \"500ms\"\n\
         [restart]\nbackoff_initial = \"20ms\"\nbackoff_max = \"50ms\"\nbudget = \"1000 in 1h\"\n\
         [[schedule]]\nname = \"nightly\"\ncron = \"0 4 * * *\"\naction = \"restart\"\n{rest}",
        model.display(),
        worker.display()
    );
    std::fs::write(home.join("mlxsup.toml"), text).unwrap();
}

/// A program in this home that nothing of the surroundings reaches.
fn hermetic(program: &Path, home: &Path) -> Command {
    let mut command = Command::new(program);
    let path = std::env::var_os("PATH").unwrap_or_default();
    command.env_clear().env("PATH", path).env("HOME", home).env("MLXSUP_HOME", home).env("TZ", "UTC");
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}
