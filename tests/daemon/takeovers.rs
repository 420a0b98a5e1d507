//! What one daemon leaves behind and the next one does with it.

use crate::http::Connection;
use crate::service::Service;

#[test]
fn a_state_that_cannot_be_read_is_set_aside() {
    let mut service = Service::new("", "");
    service.write("state.json", "{ half a docu");
    service.start();
    service.wait_for("serving");
    service.wait_for_event("state_set_aside", "state.json.bad-");
    let aside: Vec<_> = std::fs::read_dir(service.home())
        .unwrap()
        .filter_map(|entry| entry.unwrap().file_name().into_string().ok())
        .filter(|name| name.starts_with("state.json.bad-"))
        .collect();
    assert_eq!(aside.len(), 1);
    assert_eq!(service.read(&aside[0]), "{ half a docu");
}

#[test]
fn a_socket_outside_the_home_that_a_killed_daemon_left_is_served_again() {
    let outside = tempfile::Builder::new().prefix("out").tempdir_in("/tmp").unwrap();
    let socket = outside.path().join("stable.sock");
    let listen = format!("[listen]\nsocket = \"{}\"\n", socket.display());
    let mut service = Service::serving("", &listen);
    service.kill_daemon();
    assert!(socket.exists() && Connection::open(&socket).is_none());
    service.start();
    service.wait_for("serving");
    let mut connection = Connection::open(&socket).unwrap();
    connection.send("GET", "/ready", "", "");
    assert_eq!(connection.answer().status, 200);
    assert!(!service.path("mlxsup.sock").exists());
    service.ctl(&["stop"]).ok();
    assert!(service.ended().success());
    assert!(!socket.exists());
}

#[cfg(target_os = "linux")]
#[test]
fn the_worker_inherits_nothing_but_its_log_and_its_pipe() {
    let service = Service::serving("", "");
    let descriptors = format!("/proc/{}/fd", service.worker_pid());
    let mut foreign = Vec::new();
    for entry in std::fs::read_dir(descriptors).unwrap() {
        let Ok(target) = std::fs::read_link(entry.unwrap().path()) else { continue };
        let name = target.to_string_lossy().into_owned();
        // Its own: listener, signal pipe, connections. Ours would be files of the home other than its log.
        if name.starts_with('/') && name != "/dev/null" && !name.ends_with("/logs/worker.log") {
            foreign.push(name);
        }
    }
    assert!(foreign.is_empty(), "{foreign:?}");
}
