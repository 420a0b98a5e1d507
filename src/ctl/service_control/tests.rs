//! Both service managers as scripts, for what the program itself cannot be tried with: services of the whole machine.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

use super::*;
use crate::ctl::home::{Home, Source};

const LAUNCHCTL: &str = include_str!("../../../tests/fakes/launchctl.sh");
const SYSTEMCTL: &str = include_str!("../../../tests/fakes/systemctl.sh");

/// Larger than any pid a kernel hands out.
const DAEMON: u32 = 99_000_812;

struct Machine {
    folder: tempfile::TempDir,
}

impl Machine {
    fn new() -> Self {
        let machine = Self { folder: tempfile::Builder::new().prefix("svc").tempdir_in("/tmp").unwrap() };
        for (name, text) in [("launchctl", LAUNCHCTL), ("systemctl", SYSTEMCTL)] {
            machine.play(name, text);
            std::fs::set_permissions(machine.path(name), std::fs::Permissions::from_mode(0o755)).unwrap();
        }
        machine.play("home", machine.folder.path().to_str().unwrap());
        machine.play("pid.next", &DAEMON.to_string());
        answer_status(&machine.path("real.sock"));
        machine
    }

    fn path(&self, file: &str) -> PathBuf {
        self.folder.path().join(file)
    }

    fn play(&self, file: &str, text: &str) {
        std::fs::write(self.path(file), text).unwrap();
    }

    fn control(&self) -> Control {
        Control::new(Home { path: self.folder.path().to_owned(), source: Source::Flag })
    }

    fn tool(&self, program: &'static str) -> Tool {
        Tool::found_in(program, format!("{}:/usr/bin:/bin", self.folder.path().display()).into())
    }

    /// The machine's launchd with our job.
    fn launchd(&self) -> ServiceControl {
        let plist = PathBuf::from("/Library/LaunchDaemons/io.github.mlxsup.mlxsupd.plist");
        ServiceControl::Launchd(Launchd::new(self.tool("launchctl"), Scope::System, LABEL, plist))
    }

    fn systemd(&self) -> ServiceControl {
        ServiceControl::Systemd(Systemd::new(self.tool("systemctl"), Scope::System))
    }

    async fn up(&self, service: &ServiceControl, limit: Duration) -> Result<Running, Failure> {
        let files = ["mlxsup.socket", "mlxsup.service"].map(str::to_owned);
        let (mut wait, mut terminal) = (Patience::new(limit), Terminal::of_process());
        service.bring_up(&files, true, &self.control(), &mut wait, &mut terminal).await
    }

    async fn down(&self, service: &ServiceControl) -> Result<bool, Failure> {
        let files = ["mlxsup.socket", "mlxsup.service"].map(str::to_owned);
        let (mut wait, mut terminal) = (Patience::new(Duration::from_secs(20)), Terminal::of_process());
        service.bring_down(&files, true, &mut wait, &mut terminal).await
    }

    fn calls(&self) -> String {
        let mut lines: Vec<String> =
            std::fs::read_to_string(self.path("calls")).unwrap().lines().map(str::to_owned).collect();
        lines.dedup();
        self.play("calls", "");
        lines.join("\n")
    }
}

/// A daemon that answers every request with its status.
fn answer_status(socket: &Path) {
    let listener = UnixListener::bind(socket).unwrap();
    let mut status = crate::daemon::publish::initial();
    status.daemon.pid = DAEMON;
    let body = serde_json::to_string(&status).unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let mut reader = BufReader::new(&stream);
            let mut line = String::new();
            while reader.read_line(&mut line).is_ok_and(|read| read > 2) {
                line.clear();
            }
            let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\nconnection: close\r\n\r\n", body.len());
            let _ = (&stream).write_all((head + &body).as_bytes());
        }
    });
}

#[tokio::test]
async fn the_machines_launchd_is_spoken_to_in_its_own_domain() {
    let machine = Machine::new();
    let service = machine.launchd();
    let error = "Bootstrap failed: 5: Input/output error";
    machine.play("bootstrap.fails", &format!("5 {error}\n5 {error}\n5 {error}\n"));
    machine.play("lingers", "1\n2\n");
    assert_eq!(machine.up(&service, Duration::from_secs(20)).await.unwrap().pid, DAEMON);
    assert!(machine.down(&service).await.unwrap());
    assert!(!machine.down(&service).await.unwrap(), "nothing is left to stop");
    insta::assert_snapshot!(machine.calls(), @"
    launchctl enable system/io.github.mlxsup.mlxsupd
    launchctl print system/io.github.mlxsup.mlxsupd
    launchctl bootstrap system /Library/LaunchDaemons/io.github.mlxsup.mlxsupd.plist
    launchctl print system/io.github.mlxsup.mlxsupd
    launchctl bootstrap system /Library/LaunchDaemons/io.github.mlxsup.mlxsupd.plist
    launchctl print system/io.github.mlxsup.mlxsupd
    launchctl bootstrap system /Library/LaunchDaemons/io.github.mlxsup.mlxsupd.plist
    launchctl print system/io.github.mlxsup.mlxsupd
    launchctl bootstrap system /Library/LaunchDaemons/io.github.mlxsup.mlxsupd.plist
    launchctl kickstart system/io.github.mlxsup.mlxsupd
    launchctl print system/io.github.mlxsup.mlxsupd
    launchctl bootout system/io.github.mlxsup.mlxsupd
    launchctl print system/io.github.mlxsup.mlxsupd
    ");
}

#[tokio::test]
async fn the_machines_systemd_is_spoken_to_without_a_user() {
    let machine = Machine::new();
    let service = machine.systemd();
    assert_eq!(machine.up(&service, Duration::from_secs(20)).await.unwrap().pid, DAEMON);
    assert!(machine.down(&service).await.unwrap());
    insta::assert_snapshot!(machine.calls(), @"
    systemctl daemon-reload
    systemctl enable --now mlxsup.socket mlxsup.service
    systemctl show --property=LoadState,ActiveState,SubState,MainPID,Result mlxsup.service
    systemctl disable --now mlxsup.socket mlxsup.service
    systemctl show --property=LoadState,ActiveState,SubState,MainPID,Result mlxsup.service
    ");
}

#[tokio::test]
async fn a_stop_that_is_refused_is_not_repeated() {
    let machine = Machine::new();
    let service = machine.launchd();
    machine.up(&service, Duration::from_secs(20)).await.unwrap();
    machine.calls();
    machine.play("bootout.fails", "1 Boot-out failed: 1: Operation not permitted\n");
    assert_eq!(machine.down(&service).await.unwrap_err().kind(), Kind::Internal);
    assert_eq!(machine.calls().matches("bootout").count(), 1, "each would be another SIGTERM");
}
