//! Reasons for which the daemon does not start: each one clear message that names the thing and what mends it, and its
//! exit status. Nothing is left behind that was not there before.
#![cfg(feature = "fake-worker")]
#![allow(clippy::unwrap_used, reason = "a test whose surroundings cannot be set up fails right there")]

use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// A home whose path is short enough for sockets and the same in every snapshot.
struct Home {
    folder: tempfile::TempDir,
}

impl Home {
    fn with(config: &str) -> Self {
        let home = Self { folder: tempfile::Builder::new().prefix("mlxsup").tempdir_in("/tmp").unwrap() };
        std::fs::create_dir(home.path()).unwrap();
        // A model that exists, so that only what a test is about is wrong.
        std::fs::write(home.path().join("model.gguf"), "GGUF").unwrap();
        std::fs::write(home.path().join("mlxsup.toml"), home.fill(config)).unwrap();
        home
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join("home")
    }

    fn fill(&self, text: &str) -> String {
        text.replace("HOME", &self.path().display().to_string())
            .replace("FAKE", env!("CARGO_BIN_EXE_mlxsup-fake-worker"))
    }

    /// What `mlxsupd --home HOME` says on stderr, and its exit status.
    fn start(&self) -> String {
        start(&self.path(), self.folder.path())
    }
}

fn start(home: &Path, replaced: &Path) -> String {
    let output = Command::new(env!("CARGO_BIN_EXE_mlxsupd"))
        .arg("--home")
        .arg(home)
        .env_remove("MLXSUP_HOME")
        .stdin(Stdio::null())
        .output()
        .unwrap();
    assert!(output.stdout.is_empty(), "talk belongs on stderr");
    let said = String::from_utf8(output.stderr).unwrap();
    let said = said.replace(&replaced.display().to_string(), "FOLDER");
    let said = said.replace(env!("CARGO_BIN_EXE_mlxsup-fake-worker"), "FAKE");
    format!("{said}{}", output.status)
}

const GOOD: &str = "[worker]\nmodel = \"HOME/model.gguf\"\ncommand = [\"FAKE\"]\n";

#[test]
fn a_wrong_configuration() {
    let home = Home::with("[worker]\nmodle = \"x\"\n\n[drain]\ngrace = 5\n");
    insta::assert_snapshot!(home.start());
}

#[test]
fn no_configuration() {
    let home = Home::with(GOOD);
    std::fs::remove_file(home.path().join("mlxsup.toml")).unwrap();
    insta::assert_snapshot!(home.start());
}

#[test]
fn a_missing_model() {
    let home = Home::with("[worker]\nmodel = \"HOME/none.gguf\"\ncommand = [\"FAKE\"]\n");
    insta::assert_snapshot!(home.start());
}

#[test]
fn a_missing_worker_program() {
    let home = Home::with("[worker]\nmodel = \"HOME/model.gguf\"\ncommand = [\"HOME/no-such-worker\"]\n");
    insta::assert_snapshot!(home.start());
}

#[test]
fn a_socket_somebody_serves() {
    let elsewhere = tempfile::Builder::new().prefix("mlxsup").tempdir_in("/tmp").unwrap();
    let path = elsewhere.path().join("served.sock");
    let home = Home::with(&format!("[listen]\nsocket = \"{}\"\n{GOOD}", path.display()));
    let _listener = UnixListener::bind(&path).unwrap();
    insta::assert_snapshot!(home.start().replace(&elsewhere.path().display().to_string(), "ELSEWHERE"));
    assert!(path.exists(), "somebody else's socket is left alone");
}

#[test]
fn a_file_in_the_sockets_place() {
    let home = Home::with(GOOD);
    let path = home.path().join("mlxsup.sock");
    std::fs::write(&path, "precious").unwrap();
    insta::assert_snapshot!(home.start());
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "precious");
}

#[test]
fn too_long_a_socket_path() {
    let home = Home::with(&format!("[listen]\nsocket = \"{}.sock\"\n{GOOD}", "x".repeat(120)));
    // Its length depends on the temporary folder's name only, which is always as long.
    insta::assert_snapshot!(home.start());
}

#[test]
fn a_home_that_is_a_file() {
    let home = Home::with(GOOD);
    std::fs::remove_dir_all(home.path()).unwrap();
    std::fs::write(home.path(), "").unwrap();
    insta::assert_snapshot!(home.start());
}

#[test]
fn a_home_that_cannot_be_made() {
    insta::assert_snapshot!(start(Path::new("/dev/null/home"), Path::new("/nowhere")));
}

#[test]
fn a_second_daemon() {
    let home = Home::with(GOOD);
    let mut first = Command::new(env!("CARGO_BIN_EXE_mlxsupd"))
        .arg("--home")
        .arg(home.path())
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let control = home.path().join("control.sock");
    while std::os::unix::net::UnixStream::connect(&control).is_err() {
        assert!(first.try_wait().unwrap().is_none(), "the first daemon ended");
        std::thread::yield_now();
    }
    let said = home.start().replace(&format!("pid {}", first.id()), "pid N");
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(first.id().cast_signed()), nix::sys::signal::SIGTERM).unwrap();
    assert!(first.wait().unwrap().success(), "SIGTERM ends a daemon with exit status 0");
    insta::assert_snapshot!(said);
}
