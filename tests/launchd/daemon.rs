//! The real daemon as a job, from the plist that `mlxsupctl install` writes.

use nix::sys::signal::Signal;

use crate::http::{Connection, expected};
use crate::rig::{LABEL, Rig, eventually, exists, pid_of, send};

const CHAT: &str = "/v1/chat/completions";

#[test]
fn connects_wait_in_the_backlog_while_the_daemon_is_down_and_are_served_after() {
    let rig = Rig::new(&[]);
    let plist = rig.daemon("\"tokens\":5");
    // A throttle so long that nobody can be there before we say so.
    rig.throttle(3600);
    assert_eq!(rig.bootstrap(&plist), "ok");
    rig.serving();
    send(rig.pid(), Signal::SIGKILL);
    rig.wait_until("it is down", |job| job["state"] == "throttled");
    let mut waiting: Vec<Connection> = (0..40)
        .map(|_| {
            let mut connection = Connection::open(&rig.path("mlxsup.sock")).expect("no connect is refused");
            connection.send("POST", CHAT, "", "{\"messages\":[]}");
            connection
        })
        .collect();
    assert_eq!(rig.print()["state"], "throttled", "all of them came while it was down");
    assert_eq!(rig.order(&format!("kickstart {LABEL}")), "ok");
    for connection in &mut waiting {
        assert_eq!(connection.answer().text(), expected(5));
    }
    assert_eq!(rig.print()["runs"], 2);
}

#[test]
fn the_worker_survives_its_killed_daemon_and_ends_with_a_bootout() {
    let rig = Rig::new(&[]);
    assert_eq!(rig.bootstrap(&rig.daemon("")), "ok");
    let worker = pid_of(&rig.serving()["worker"]["pid"]);
    send(rig.pid(), Signal::SIGKILL);
    rig.wait_until("it is down", |job| job["exits"] == 1);
    assert!(exists(worker), "its session is its own, and its group is abandoned");
    let status = rig.serving();
    assert_eq!(status["daemon"]["epoch"], 2);

    let worker = pid_of(&status["worker"]["pid"]);
    assert_eq!(rig.order(&format!("bootout {LABEL}")), "ok");
    eventually("the job is gone", || rig.order(&format!("print {LABEL}")).starts_with("error 113: "));
    assert!(!exists(worker), "a daemon that is told to stop takes its worker along");
    assert!(rig.path("mlxsup.sock").exists() && !rig.path("control.sock").exists());
}
