//! The real program as the daemon starts it: environment, ready pipe, socket, signals.

use std::io::{PipeReader, Read, pipe};
use std::os::fd::AsRawFd;
use std::process::{Child, Command, ExitStatus, Stdio};

use mlxsup_worker_api::settings::env;
use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};

use crate::real_model;
use crate::wire::Link;

pub const NONCE: &str = "0123456789abcdef";
pub const EPOCH: &str = "5";

/// A process that is killed when dropped.
pub struct Spawned {
    child: Child,
    pub link: Link,
    _folder: tempfile::TempDir,
}

impl Spawned {
    /// A worker that has said that it is ready.
    pub fn ready(more: &Value) -> Self {
        let (worker, mut pipe) = Self::loading(more);
        let mut said = String::new();
        pipe.read_to_string(&mut said).expect("the ready pipe");
        assert_eq!(said, "\n", "the worker did not become ready");
        worker
    }

    /// A worker that has just been started, and the pipe on which it will say so.
    pub fn loading(more: &Value) -> (Self, PipeReader) {
        let mut settings = json!({"model": real_model(), "device": "cpu", "wired_limit": "off"});
        for (key, value) in more.as_object().expect("an object") {
            settings[key] = value.clone();
        }
        let folder = tempfile::tempdir().expect("a temporary folder");
        let link = Link(folder.path().join("worker-1.sock"));
        let (reader, writer) = pipe().expect("a pipe");
        fcntl(&writer, FcntlArg::F_SETFD(FdFlag::empty())).expect("an inheritable descriptor");
        let child = Command::new(env!("CARGO_BIN_EXE_mlxsup-worker"))
            .env(env::READY_FD, writer.as_raw_fd().to_string())
            .env(env::SOCKET, &link.0)
            .env(env::GENERATION, "1")
            .env(env::NONCE, NONCE)
            .env(env::EPOCH, EPOCH)
            .env(env::SETTINGS, settings.to_string())
            .stderr(Stdio::null())
            .spawn()
            .expect("the worker");
        (Self { child, link, _folder: folder }, reader)
    }

    pub fn terminate(&mut self) -> ExitStatus {
        let pid = i32::try_from(self.child.id()).expect("a process id");
        kill(Pid::from_raw(pid), Signal::SIGTERM).expect("a signal");
        self.ended()
    }

    /// Waits for its end.
    pub fn ended(&mut self) -> ExitStatus {
        self.child.wait().expect("an exit status")
    }
}

impl Drop for Spawned {
    fn drop(&mut self) {
        // Ended already, where the test got that far.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
