//! Taking a job out: TERM, patience, KILL, and the time in which it cannot come back.

use crate::rig::{LABEL, Rig, eventually, exists};

const LOADED: &str = "<key>RunAtLoad</key><true/>";

#[test]
fn a_job_that_ignores_the_terminate_signal_is_killed_after_its_exit_timeout() {
    let rig = Rig::new(&[]);
    let script = format!("trap '' TERM; echo > {}; while :; do sleep 1; done", rig.path("begun").display());
    let plist = rig.script(&script, &format!("{LOADED}<key>ExitTimeOut</key><integer>1</integer>"));
    assert_eq!(rig.bootstrap(&plist), "ok");
    eventually("it has begun", || rig.path("begun").exists());
    let pid = rig.pid();
    assert_eq!(rig.order(&format!("bootout {LABEL}")), "ok");
    // It is asynchronous: the answer comes while the job still runs.
    assert!(exists(pid));
    assert_eq!(rig.print()["state"], "stopping");
    assert_eq!(rig.bootstrap(&plist), "error 37: Operation already in progress");
    eventually("it is gone", || !exists(pid));
    eventually("it is forgotten", || rig.order(&format!("print {LABEL}")).starts_with("error 113: "));
}

#[test]
fn after_a_bootout_a_bootstrap_fails_for_a_while() {
    let rig = Rig::new(&["--eio-ms", "300"]);
    let plist = rig.script("exec sleep 60", LOADED);
    assert_eq!(rig.bootstrap(&plist), "ok");
    assert_eq!(rig.bootstrap(&plist), "error 5: Input/output error", "it is loaded already");
    let pid = rig.pid();
    assert_eq!(rig.order(&format!("bootout {LABEL}")), "ok");
    eventually("it is gone", || !exists(pid));
    let mut refused = 0;
    eventually("it can come back", || {
        let answer = rig.bootstrap(&plist);
        refused += u32::from(answer.starts_with("error 5: "));
        answer == "ok"
    });
    assert!(refused > 0, "there was no window");
    assert_ne!(rig.pid(), pid);
}

#[test]
fn a_file_that_others_may_write_to_is_not_taken() {
    use std::os::unix::fs::PermissionsExt;
    let rig = Rig::new(&[]);
    let plist = rig.script("exec sleep 60", LOADED);
    std::fs::set_permissions(&plist, std::fs::Permissions::from_mode(0o666)).unwrap();
    assert!(rig.bootstrap(&plist).starts_with("error 122: "));
    assert!(rig.order("dance").starts_with("error 64: "));
    assert!(rig.order(&format!("bootout {LABEL}")).starts_with("error 113: "));
}
