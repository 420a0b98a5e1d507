//! When it does not work: who is told what, and with which exit status.

use std::io::Read;
use std::os::unix::fs::PermissionsExt;

use insta::assert_snapshot;

use super::fixtures;
use super::screen::Home;
use super::server::{Reply, Server};

fn error(code: &str, message: &str) -> String {
    serde_json::json!({ "error": { "message": message, "type": "server_error", "param": null, "code": code } })
        .to_string()
}

fn ask(arguments: &[&str], path: &str, reply: Reply) -> String {
    let home = Home::new();
    let _server = Server::start(&home.control_socket(), vec![(path, vec![reply])]);
    home.run(arguments)
}

#[test]
fn no_daemon_in_this_home() {
    assert_snapshot!(Home::new().run(&["status"]));
}

#[test]
fn no_daemon_anywhere() {
    let home = Home::new();
    let output = home.command(&["drain"]).env_remove("MLXSUP_HOME").output().unwrap();
    let screen = home.screen(&["drain"], &output);
    // The system's home is another one on macOS.
    let screen = screen.replace("/usr/local/var/mlxsup", "[SYSTEM]").replace("/var/lib/mlxsup", "[SYSTEM]");
    assert_snapshot!(screen);
}

#[test]
fn no_daemon_in_the_home_of_the_flag() {
    let home = Home::new();
    let other = home.path().join("other");
    let screen = home.run(&["--home", other.to_str().unwrap(), "status", "--json"]);
    assert_snapshot!(screen);
}

#[test]
fn a_daemon_that_died() {
    let home = Home::new();
    drop(std::os::unix::net::UnixListener::bind(home.control_socket()).unwrap());
    assert_snapshot!(home.run(&["status"]));
}

#[test]
fn a_home_of_somebody_else() {
    let home = Home::new();
    let closed = home.path().join("closed");
    std::fs::create_dir(&closed).unwrap();
    std::fs::set_permissions(&closed, std::fs::Permissions::from_mode(0o000)).unwrap();
    if std::fs::read_dir(&closed).is_ok() {
        // Nothing is closed to root.
        return;
    }
    assert_snapshot!(home.run(&["--home", closed.to_str().unwrap(), "status"]));
}

#[test]
fn a_home_with_too_long_a_path() {
    let home = Home::new();
    let long = home.path().join("x".repeat(120));
    assert_snapshot!(home.run(&["--home", long.to_str().unwrap(), "status"]));
}

#[test]
fn a_daemon_that_dies_while_we_wait() {
    let home = Home::new();
    let broken = Reply::BrokenStream(vec!["{\"result\":".to_owned()]);
    let _server = Server::start(&home.control_socket(), vec![("POST /v1/restart", vec![broken])]);
    assert_snapshot!(home.run(&["restart"]));
}

#[test]
fn an_answer_that_is_no_status() {
    assert_snapshot!(ask(&["status"], "GET /v1/status", Reply::Json(200, "{\"schema\":9}".to_owned())));
}

#[test]
fn a_verb_this_daemon_does_not_know() {
    let unknown = Reply::Json(404, error("not_found", "there is no `/v1/rules` here"));
    assert_snapshot!(ask(&["rules"], "GET /v1/rules", unknown));
}

#[test]
fn a_uid_that_may_not() {
    let denied = Reply::Json(403, error("uid_not_allowed", "uid 501 may not steer this daemon; its owner is uid 0"));
    assert_snapshot!(ask(&["unload"], "POST /v1/unload", denied));
}

#[test]
fn a_schedule_that_does_not_exist() {
    let unknown = Reply::Json(400, error("invalid_value", "there is no schedule `nightyl`; there is: nightly"));
    assert_snapshot!(ask(&["schedule", "run", "nightyl"], "POST /v1/schedule", unknown));
}

#[test]
fn events_that_are_refused() {
    let stopping = Reply::Json(503, error("stopping", "the daemon is going down; start it with `mlxsupd`"));
    assert_snapshot!(ask(&["events"], "GET /v1/events", stopping));
}

#[test]
fn a_reader_that_goes_away_is_no_error() {
    let home = Home::new();
    let event = serde_json::to_string(&fixtures::event("warn", &"x".repeat(1000))).unwrap() + "\n";
    // More than a pipe holds, so that writing fails however early the reader left.
    let many = Reply::Stream(vec![event; 500]);
    let _server = Server::start(&home.control_socket(), vec![("GET /v1/events", vec![many])]);
    let mut child = home.command(&["events"]).spawn().unwrap();
    let mut first = [0; 10];
    child.stdout.take().unwrap().read_exact(&mut first).unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stderr), "");
    assert_eq!(output.status.code(), Some(0));
}
