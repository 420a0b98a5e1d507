//! Keeping a job alive, and the pause before it is started again.

use nix::sys::signal::Signal;

use crate::rig::{Rig, eventually, exists, pid_of, send};

const KEPT: &str = "<key>KeepAlive</key><true/>";

#[test]
fn a_killed_job_comes_back_after_what_is_left_of_its_throttle() {
    let rig = Rig::new(&[]);
    let plist = rig.script("exec sleep 60", &format!("{KEPT}<key>ThrottleInterval</key><integer>1</integer>"));
    assert_eq!(rig.bootstrap(&plist), "ok");
    let first = rig.pid();
    send(first, Signal::SIGKILL);
    let after = rig.wait_until("the next run", |job| job["runs"] == 2);
    let last = &after["last_run"];
    assert_eq!(last["signal"], 9);
    // Both are rounded down to milliseconds.
    let sum = last["ran_ms"].as_u64().unwrap() + last["pause_ms"].as_u64().unwrap();
    assert!((999..=1000).contains(&sum), "{after}");
    assert_ne!(pid_of(&after["pid"]), first);
}

#[test]
fn a_job_that_ran_long_enough_comes_back_at_once() {
    let rig = Rig::new(&[]);
    let plist = rig.script("exec sleep 60", &format!("{KEPT}<key>ThrottleInterval</key><integer>0</integer>"));
    assert_eq!(rig.bootstrap(&plist), "ok");
    for run in 1..=5 {
        send(rig.pid(), Signal::SIGKILL);
        let after = rig.wait_until("the next run", |job| job["runs"] == run + 1 && job["state"] == "running");
        assert_eq!(after["last_run"]["pause_ms"], 0);
    }
}

#[test]
fn without_the_key_ten_seconds_are_the_throttle() {
    let rig = Rig::new(&[]);
    assert_eq!(rig.bootstrap(&rig.script("exit 3", KEPT)), "ok");
    let after = rig.wait_until("the end", |job| job["state"] == "throttled");
    assert_eq!(after["last_run"]["code"], 3);
    assert!(after["last_run"]["pause_ms"].as_u64().unwrap() > 9000, "{after}");
    // An operator does not wait for it.
    assert_eq!(rig.order(&format!("kickstart {}", crate::rig::LABEL)), "ok");
    rig.wait_until("the next run", |job| job["runs"] == 2);
}

#[test]
fn the_group_that_a_job_leaves_is_told_to_end_unless_it_is_abandoned() {
    for (abandon, survives) in [("", false), ("<key>AbandonProcessGroup</key><true/>", true)] {
        let rig = Rig::new(&[]);
        let script = format!("sleep 60 & echo $! > {}; wait", rig.path("child").display());
        let plist = rig.script(&script, &format!("<key>RunAtLoad</key><true/>{abandon}"));
        assert_eq!(rig.bootstrap(&plist), "ok");
        eventually("the child", || rig.read("child").ends_with('\n'));
        let child = pid_of(&rig.read("child").trim().parse::<i64>().unwrap().into());
        send(rig.pid(), Signal::SIGKILL);
        rig.wait_until("the end", |job| job["exits"] == 1);
        if survives {
            assert!(exists(child));
        } else {
            eventually("the child is gone, and reaped", || !exists(child));
        }
        drop(rig);
        assert!(!exists(child), "nobody outlives the rig");
    }
}
