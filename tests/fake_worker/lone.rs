//! One fake worker without a daemon: starting it, asking it, waiting for its end.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use mlxsup_worker_api::{Phase, WorkerStatus, settings};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tempfile::TempDir;

const PATIENCE: Duration = Duration::from_secs(30);
const LOOK_EVERY: Duration = Duration::from_millis(5);

pub struct Lone {
    folder: TempDir,
    child: Option<Child>,
    generation: u64,
}

impl Lone {
    /// A folder with these orders in it, and nobody there yet.
    pub fn new(orders: &str) -> Self {
        let folder = tempfile::Builder::new().prefix("fake").tempdir_in("/tmp").unwrap();
        let lone = Self { folder, child: None, generation: 0 };
        lone.order(orders);
        lone
    }

    /// `new`, started and ready.
    pub fn ready(orders: &str) -> Self {
        let mut lone = Self::new(orders);
        lone.start();
        lone.wait_until("ready", |status| status.phase == Phase::Ready);
        lone
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// For the next start.
    pub fn order(&self, orders: &str) {
        std::fs::write(self.path("orders"), orders).unwrap();
    }

    pub fn start(&mut self) {
        assert!(self.child.is_none(), "one at a time");
        self.generation += 1;
        let child = Command::new(env!("CARGO_BIN_EXE_mlxsup-fake-worker"))
            .env_clear()
            .env(settings::env::SOCKET, self.path("worker.sock"))
            .env(settings::env::GENERATION, self.generation.to_string())
            .env(settings::env::NONCE, "f".repeat(32))
            .env("MLXSUP_FAKE_FILE", self.path("orders"))
            .env("MLXSUP_FAKE_MEMORY", self.path("memory.json"))
            .process_group(0)
            .stdin(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        self.child = Some(child);
    }

    pub fn pid(&self) -> Pid {
        Pid::from_raw(i32::try_from(self.child.as_ref().unwrap().id()).unwrap())
    }

    pub fn signal(&self, signal: Signal) {
        kill(self.pid(), signal).unwrap();
    }

    pub fn try_status(&self) -> Option<WorkerStatus> {
        let answer = self.ask("GET", "/status", "")?;
        serde_json::from_str(answer.split_once("\r\n\r\n")?.1).ok()
    }

    pub fn status(&self) -> WorkerStatus {
        self.try_status().expect("the worker answers")
    }

    #[track_caller]
    pub fn wait_until(&self, what: &str, wanted: impl Fn(&WorkerStatus) -> bool) -> WorkerStatus {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.try_status().filter(&wanted) {
                return status;
            }
            assert!(Instant::now() < deadline, "not within {PATIENCE:?}: {what}: {:?}", self.try_status());
            std::thread::sleep(LOOK_EVERY);
        }
    }

    /// Everything that comes back for one completion of `tokens` tokens; also when it breaks off.
    pub fn complete(&self, tokens: u32) -> String {
        let request = format!("{{\"stream\":true,\"max_tokens\":{tokens}}}");
        let body = format!("{{\"id\":\"c\",\"created\":1,\"seed\":1,\"generated\":[],\"request\":{request}}}");
        self.ask("POST", "/link/completions", &body).expect("the worker listens")
    }

    fn ask(&self, method: &str, path: &str, body: &str) -> Option<String> {
        let mut stream = UnixStream::connect(self.path("worker.sock")).ok()?;
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        write!(stream, "{method} {path} HTTP/1.1\r\ncontent-length: {}\r\n\r\n{body}", body.len()).ok()?;
        let mut bytes = Vec::new();
        // A worker that dies may reset the connection; what came before counts.
        let _ = stream.read_to_end(&mut bytes);
        Some(String::from_utf8_lossy(&bytes).into_owned())
    }

    #[track_caller]
    pub fn ended(&mut self) -> ExitStatus {
        let deadline = Instant::now() + PATIENCE;
        let mut child = self.child.take().unwrap();
        loop {
            if let Some(status) = child.try_wait().unwrap() {
                return status;
            }
            assert!(Instant::now() < deadline, "it does not end");
            std::thread::sleep(LOOK_EVERY);
        }
    }
}

impl Drop for Lone {
    fn drop(&mut self) {
        if let Some(child) = &mut self.child {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}
