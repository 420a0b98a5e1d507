//! The daemon under the fake launchd, with a worker whose faults can be changed between generations.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use nix::unistd::Pid;
use serde_json::Value;

use crate::engine::Engine;
use crate::launchd::{self, pid_of};

/// Pace of the fake worker.
pub const TOKEN_MS: u32 = 5;

/// Requests a worker is given at once.
pub const SLOTS: usize = 8;

/// Between two looks at something that changes within milliseconds.
pub const LOOK_EVERY: Duration = Duration::from_millis(2);

/// Longest wait for a state; only a failure takes so long.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// Quick where a real configuration is patient, so that a thousand deaths fit into minutes.
const CONFIG: &str = r#"
[restart]
backoff_initial = "10ms"
backoff_max = "50ms"
budget = "1000 in 1m"
[log]
rotate_at = "1GiB"
"#;

const MEMORY: &str = r#"{"total": 68719476736, "available": 51539607552, "wired": 2147483648}"#;

/// The worker that serves now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Serving {
    pub pid: Pid,
    pub generation: u64,
    pub epoch: u64,
}

/// One home, one job.
pub struct Rig {
    launchd: launchd::Rig,
    engine: Engine,
}

/// A verb that has ended.
#[derive(Debug, Clone)]
pub struct Said {
    pub code: Option<i32>,
    pub text: String,
}

impl Rig {
    /// Loaded, with this grace for drains; not serving yet.
    pub fn start(engine: Engine, grace: &str) -> Self {
        let files = [
            ("MLXSUP_FAKE_FILE", "faults"),
            ("MLXSUP_FAKE_DISPATCHES", "dispatches"),
            ("MLXSUP_FAKE_MEMORY", "memory.json"),
        ];
        let rig = Self { launchd: launchd::Rig::with_environment(&[], &files), engine };
        rig.order("");
        // A machine of its own: what else runs here may wire memory, or take what a second worker would need.
        rig.launchd.write("memory.json", MEMORY);
        let worker = engine.section(&rig.launchd);
        let health = format!(
            "[health]\ninterval = \"100ms\"\ntimeout = \"500ms\"\nfailures = 2\nstall = \"{}\"\n",
            engine.stall()
        );
        let config = format!("{worker}[drain]\ngrace = \"{grace}\"\n{health}{CONFIG}");
        let plist = rig.launchd.daemon_configured(&config);
        // A second between two lives of the daemon would measure launchd.
        rig.launchd.throttle(0);
        assert_eq!(rig.launchd.bootstrap(&plist), "ok");
        rig
    }

    /// What goes wrong from the next generation on, besides the usual pace.
    pub fn order(&self, faults: &str) {
        let comma = if faults.is_empty() { "" } else { "," };
        let text = format!("{{{}{comma}{faults}}}", self.engine.pace());
        // A worker may be reading.
        let fresh = self.launchd.write("faults.new", &text);
        std::fs::rename(fresh, self.launchd.path("faults")).unwrap();
    }

    pub fn socket(&self) -> PathBuf {
        self.launchd.path("mlxsup.sock")
    }

    pub fn read(&self, name: &str) -> String {
        self.launchd.read(name)
    }

    pub fn job(&self) -> Value {
        self.launchd.print()
    }

    /// The daemon, if it runs.
    pub fn daemon(&self) -> Option<Pid> {
        let job = self.job();
        (job["state"] == "running").then(|| pid_of(&job["pid"]))
    }

    /// The daemon's status; `None` while nobody answers, or when it is killed meanwhile.
    pub fn status(&self) -> Option<Value> {
        let mut stream = UnixStream::connect(self.launchd.path("control.sock")).ok()?;
        stream.set_read_timeout(Some(PATIENCE)).ok()?;
        stream.write_all(b"GET /v1/status HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").ok()?;
        let mut text = String::new();
        stream.read_to_string(&mut text).ok()?;
        serde_json::from_str(text.split_once("\r\n\r\n")?.1).ok()
    }

    /// Waits until a worker serves for which `wanted` holds.
    pub fn serving(&self, wanted: impl Fn(&Serving) -> bool) -> Result<Serving, String> {
        let mut last = None;
        let found = patiently(|| {
            let status = self.status()?;
            let serving = (status["state"] == "serving").then(|| serving_of(&status)).flatten();
            last = Some(status);
            serving.filter(&wanted)
        });
        found.ok_or_else(|| format!("nobody serves within {PATIENCE:?}: {last:?}"))
    }

    /// Waits until no request is in hand.
    pub fn settled(&self) -> Result<(), String> {
        let is_quiet = |status: Value| status["queue"]["active"] == 0 && status["queue"]["waiting"] == 0;
        let settled = patiently(|| self.status().filter(|status| is_quiet(status.clone())).map(drop));
        settled.ok_or_else(|| format!("requests remain though all clients have ended: {:?}", self.status()))
    }

    /// Runs a verb to its end, at most as long as we are patient.
    pub fn ctl(&self, arguments: &[&str]) -> Said {
        let mut child = Command::new(env!("CARGO_BIN_EXE_mlxsupctl"))
            .args(arguments)
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("MLXSUP_HOME", self.launchd.path(""))
            .process_group(0)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        if patiently(|| child.try_wait().unwrap()).is_none() {
            child.kill().unwrap();
        }
        let output = child.wait_with_output().unwrap();
        let text = [output.stdout, output.stderr].concat();
        Said { code: output.status.code(), text: String::from_utf8_lossy(&text).trim().to_owned() }
    }

    /// Processes of this rig's fake worker.
    pub fn live_workers(&self) -> usize {
        let home = self.launchd.path("worker-");
        let home = home.to_string_lossy();
        let is_ours = |entry: &std::fs::DirEntry| {
            let read = |name: &str| std::fs::read(entry.path().join(name)).unwrap_or_default();
            let contains = |bytes: &[u8], text: &str| String::from_utf8_lossy(bytes).contains(text);
            contains(&read("cmdline"), "mlxsup-fake-worker") && contains(&read("environ"), &home)
        };
        std::fs::read_dir("/proc").unwrap().flatten().filter(is_ours).count()
    }

    /// Descriptors and resident KiB of the daemon.
    pub fn weight(&self) -> Option<Weight> {
        let process = PathBuf::from(format!("/proc/{}", self.daemon()?));
        let descriptors = std::fs::read_dir(process.join("fd")).ok()?.count();
        let status = std::fs::read_to_string(process.join("status")).ok()?;
        let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
        let resident_kib = resident.split_whitespace().next()?.parse().ok()?;
        Some(Weight { descriptors: i64::try_from(descriptors).ok()?, resident_kib })
    }
}

/// What the daemon costs.
#[derive(Debug, Clone, Copy)]
pub struct Weight {
    pub descriptors: i64,
    pub resident_kib: i64,
}

fn serving_of(status: &Value) -> Option<Serving> {
    Some(Serving {
        pid: pid_of(&Value::from(status["worker"]["pid"].as_i64()?)),
        generation: status["worker"]["generation"].as_u64()?,
        epoch: status["daemon"]["epoch"].as_u64()?,
    })
}

/// Looks until there is something, or patience ends.
pub fn patiently<T>(mut look: impl FnMut() -> Option<T>) -> Option<T> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = look() {
            return Some(found);
        }
        if Instant::now() >= deadline {
            return None;
        }
        std::thread::sleep(LOOK_EVERY);
    }
}
