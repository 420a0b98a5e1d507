//! A fake launchd in a folder of its own, with jobs that are the real daemon or a few lines of shell.

use std::fmt::Write as _;
use std::fs::File;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use mlxsup::service::units::{self, UnitFacts};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;
use tempfile::TempDir;

use crate::http::Connection;

pub const LABEL: &str = "io.github.mlxsup.mlxsupd";

/// Longest wait for a state; only a failure takes so long.
const PATIENCE: Duration = Duration::from_secs(30);
const LOOK_EVERY: Duration = Duration::from_millis(5);

pub struct Rig {
    folder: TempDir,
    launchd: Child,
}

impl Rig {
    /// A launchd without jobs.
    pub fn new(options: &[&str]) -> Self {
        Self::with_environment(options, &[])
    }

    /// `new`, with variables that every job inherits; the values are names of files in the folder.
    pub fn with_environment(options: &[&str], files: &[(&str, &str)]) -> Self {
        // Short, as socket paths have a limit.
        let folder = tempfile::Builder::new().prefix("lnd").tempdir_in("/tmp").unwrap();
        std::fs::create_dir(folder.path().join("logs")).unwrap();
        let stderr = File::create(folder.path().join("launchd.stderr")).unwrap();
        let launchd = Command::new(env!("CARGO_BIN_EXE_mlxsup-fake-launchd"))
            .arg("--until-eof")
            .arg("--control")
            .arg(folder.path().join("launchd.sock"))
            .args(options)
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("HOME", folder.path())
            .envs(files.iter().map(|(name, file)| (name, folder.path().join(file))))
            .process_group(0)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(stderr)
            .spawn()
            .unwrap();
        let rig = Self { folder, launchd };
        eventually("launchd listens", || UnixStream::connect(rig.path("launchd.sock")).is_ok());
        rig
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub fn write(&self, name: &str, text: &str) -> PathBuf {
        std::fs::write(self.path(name), text).unwrap();
        self.path(name)
    }

    pub fn read(&self, name: &str) -> String {
        std::fs::read_to_string(self.path(name)).unwrap_or_default()
    }

    /// The answer to one order.
    pub fn order(&self, line: &str) -> String {
        let mut stream = UnixStream::connect(self.path("launchd.sock")).unwrap();
        stream.write_all(format!("{line}\n").as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer.trim_end().to_owned()
    }

    pub fn bootstrap(&self, plist: &Path) -> String {
        self.order(&format!("bootstrap {}", plist.display()))
    }

    pub fn print(&self) -> Value {
        let answer = self.order(&format!("print {LABEL}"));
        serde_json::from_str(&answer).unwrap_or_else(|why| panic!("{why}: {answer}"))
    }

    #[track_caller]
    pub fn wait_until(&self, what: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        let mut last = Value::Null;
        eventually(what, || {
            last = self.print();
            wanted(&last)
        });
        last
    }

    /// A job that runs this script, with `extra` keys in its plist.
    pub fn script(&self, script: &str, extra: &str) -> PathBuf {
        let mut keys = String::new();
        writeln!(keys, "<key>Label</key><string>{LABEL}</string><key>ProgramArguments</key><array>").unwrap();
        for word in ["/bin/sh", "-c", script] {
            writeln!(keys, "<string>{}</string>", word.replace('&', "&amp;").replace('<', "&lt;")).unwrap();
        }
        writeln!(keys, "</array>{extra}").unwrap();
        self.write("job.plist", &format!("<plist version=\"1.0\"><dict>{keys}</dict></plist>"))
    }

    /// The plist that `mlxsupctl install` would write for a daemon in this folder, with the fake worker.
    pub fn daemon(&self, faults: &str) -> PathBuf {
        let worker = env!("CARGO_BIN_EXE_mlxsup-fake-worker");
        let command = format!("[\"/usr/bin/env\", 'MLXSUP_FAKE={{{faults}}}', \"{worker}\"]");
        self.daemon_configured(&format!("[worker]\nmodel = \"fake\"\ncommand = {command}\n"))
    }

    /// The same with this configuration.
    pub fn daemon_configured(&self, config: &str) -> PathBuf {
        self.write("mlxsup.toml", config);
        let facts = UnitFacts {
            label: LABEL.to_owned(),
            daemon_path: env!("CARGO_BIN_EXE_mlxsupd").into(),
            home: self.folder.path().to_owned(),
            config: None,
            socket: self.path("mlxsup.sock"),
            mode: 0o600,
            owner: None,
            grace: Duration::from_secs(5),
            machine_bytes: 16 << 30,
            tcp: None,
        };
        self.write("job.plist", &units::plist(&facts).unwrap())
    }

    /// Changes the throttle in the plist that `daemon` wrote.
    pub fn throttle(&self, seconds: u32) {
        let key = "<key>ThrottleInterval</key>\n\t<integer>";
        let changed = self.read("job.plist").replace(&format!("{key}1<"), &format!("{key}{seconds}<"));
        self.write("job.plist", &changed);
    }

    pub fn pid(&self) -> Pid {
        pid_of(&self.print()["pid"])
    }

    /// The daemon's status; `None` while nobody answers.
    pub fn try_status(&self) -> Option<Value> {
        let mut connection = Connection::open(&self.path("control.sock"))?;
        if !connection.try_get("/v1/status") {
            return None;
        }
        connection.try_answer().map(|answer| answer.json())
    }

    #[track_caller]
    pub fn serving(&self) -> Value {
        let mut status = Value::Null;
        eventually("serving", || {
            status = self.try_status().unwrap_or_default();
            status["state"] == "serving"
        });
        status
    }
}

impl Drop for Rig {
    fn drop(&mut self) {
        // Ends the jobs' orphans as well, whatever became of the test.
        if let Ok(mut stream) = UnixStream::connect(self.path("launchd.sock")) {
            let _ = stream.write_all(b"shutdown\n");
        }
        drop(self.launchd.stdin.take());
        let deadline = Instant::now() + Duration::from_secs(20);
        while Instant::now() < deadline && matches!(self.launchd.try_wait(), Ok(None)) {
            std::thread::sleep(LOOK_EVERY);
        }
        let _ = self.launchd.kill();
        let _ = self.launchd.wait();
        if std::thread::panicking() {
            let (log, stderr) = (self.read("logs/mlxsupd.log"), self.read("launchd.stderr"));
            let _ = std::io::stderr().write_all(format!("{log}\n{stderr}\n").as_bytes());
        }
    }
}

#[track_caller]
pub fn eventually(what: &str, mut look: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !look() {
        assert!(Instant::now() < deadline, "not within {PATIENCE:?}: {what}");
        std::thread::sleep(LOOK_EVERY);
    }
}

pub fn pid_of(value: &Value) -> Pid {
    Pid::from_raw(i32::try_from(value.as_i64().expect("a pid")).unwrap())
}

pub fn exists(pid: Pid) -> bool {
    kill(pid, None).is_ok()
}

pub fn send(pid: Pid, signal: Signal) {
    kill(pid, signal).unwrap();
}
