//! Started by the init system on the first connection.

use std::path::Path;
use std::process::Command;

use crate::http::{Connection, expected};
use crate::service::{Service, eventually};
use nix::sys::signal::Signal;

/// The program systemd brings along to try this out; not everywhere.
fn activator() -> Option<&'static str> {
    ["/usr/bin/systemd-socket-activate", "/bin/systemd-socket-activate"]
        .into_iter()
        .find(|program| Path::new(program).exists())
}

#[test]
fn the_first_connection_starts_the_daemon_and_is_answered() {
    let Some(activator) = activator() else { return };
    let mut service = Service::new("\"tokens\":5", "");
    let socket = service.path("stable.sock");
    let mut command = Command::new(activator);
    command.arg("--listen").arg(&socket).arg("--fdname=client");
    command.arg("--setenv=PATH").arg("--").arg(env!("CARGO_BIN_EXE_mlxsupd")).arg("--home").arg(service.home());
    command.stdin(std::process::Stdio::null()).stdout(std::process::Stdio::null());
    service.start_as(&mut command);
    // The socket's file is there a moment before anybody listens.
    eventually("systemd listens", || {
        let said = service.read("stderr");
        if said.contains("Listening on") { Ok(()) } else { Err(said) }
    });
    assert!(service.try_status().is_none(), "nothing runs before the first connection");

    // It comes before the daemon, and waits in the backlog.
    let mut first = Connection::open(&socket).unwrap();
    first.send("POST", "/v1/chat/completions", "", "{\"messages\":[]}");
    assert_eq!(first.answer().text(), expected(5));
    assert!(!service.path("mlxsup.sock").exists(), "only the activated socket is served");
    let mut second = Connection::open(&socket).unwrap();
    second.send("GET", "/ready", "", "");
    assert_eq!(second.answer().status, 200);

    // systemd-socket-activate becomes the daemon, so it is its pid that ends.
    service.signal(Signal::SIGTERM);
    assert_eq!(service.ended().code(), Some(0));
    assert!(socket.exists(), "it belongs to the init system");
    assert!(!service.path("control.sock").exists());
}
