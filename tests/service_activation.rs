//! Socket activation end to end: this test binary starts itself the way systemd starts the daemon.

use std::io::{Read, Write};
use std::net::Shutdown;
use std::os::fd::OwnedFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::process::{Command, Stdio};

use mlxsup::service::{ActivationError, take_listeners};

/// Set in the child only.
const AS_SERVICE: &str = "MLXSUP_TEST_AS_SERVICE";

/// The child's part: takes the listener, answers one client with what it got.
#[test]
fn serve_one_client_if_activated() {
    if std::env::var_os(AS_SERVICE).is_none() {
        assert!(take_listeners().unwrap().is_none(), "nobody passed anything to the test runner");
        return;
    }
    let listeners = take_listeners().unwrap().unwrap();
    let listener = listeners.client.unwrap();
    listener.set_nonblocking(false).unwrap();
    let again = matches!(take_listeners(), Err(ActivationError::TakenBefore));
    let (mut stream, _) = listener.accept().unwrap();
    write!(stream, "tcp={} again={again}", listeners.client_tcp.len()).unwrap();
}

#[test]
fn a_descriptor_passed_by_number_is_served_on() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("stable.sock");
    let listener = UnixListener::bind(&path).unwrap();
    // The client comes before the service and waits in the backlog.
    let mut client = UnixStream::connect(&path).unwrap();
    client.shutdown(Shutdown::Write).unwrap();

    let script = "exec 3<&0 0</dev/null; LISTEN_PID=$$ LISTEN_FDS=1 LISTEN_FDNAMES=mlxsup.socket; \
                  export LISTEN_PID LISTEN_FDS LISTEN_FDNAMES; exec \"$0\" \"$@\"";
    let mut service = Command::new("sh")
        .args(["-c", script])
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", "serve_one_client_if_activated"])
        .env(AS_SERVICE, "1")
        .stdin(Stdio::from(OwnedFd::from(listener)))
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    assert!(service.wait().unwrap().success());
    let mut answer = String::new();
    client.read_to_string(&mut answer).unwrap();
    assert_eq!(answer, "tcp=0 again=true");
}
