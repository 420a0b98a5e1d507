//! Sockets that outlive their job, and the job that starts because somebody came.

use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;

use crate::rig::{LABEL, Rig, eventually};

/// Says what it was given, and ends.
const REPORT: &str = "echo \"$LISTEN_FDS $LISTEN_FDNAMES $$ $LISTEN_PID $XPC_SERVICE_NAME\" >> ";

fn socket_keys(rig: &Rig) -> String {
    let path = rig.path("stable.sock");
    format!(
        "<key>ThrottleInterval</key><integer>0</integer><key>Sockets</key><dict><key>client</key><dict>\
         <key>SockPathName</key><string>{}</string><key>SockPathMode</key><integer>432</integer></dict></dict>",
        path.display()
    )
}

#[test]
fn a_job_starts_when_somebody_connects_and_not_before() {
    let rig = Rig::new(&[]);
    let script = format!("{REPORT}{}; exec sleep 60", rig.path("report").display());
    assert_eq!(rig.bootstrap(&rig.script(&script, &socket_keys(&rig))), "ok");
    assert_eq!((rig.print()["state"].as_str(), rig.print()["runs"].as_u64()), (Some("waiting"), Some(0)));
    let mode = std::fs::metadata(rig.path("stable.sock")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o660, "432 is decimal");

    let _first = UnixStream::connect(rig.path("stable.sock")).unwrap();
    let pid = rig.wait_until("the start", |job| job["runs"] == 1)["pid"].clone();
    eventually("the report", || rig.read("report").ends_with('\n'));
    assert_eq!(rig.read("report"), format!("1 client {pid} {pid} {LABEL}\n"));
}

#[test]
fn an_unserved_connection_starts_the_job_again_and_the_path_stays_after_a_bootout() {
    let rig = Rig::new(&[]);
    assert_eq!(rig.bootstrap(&rig.script("exit 0", &socket_keys(&rig))), "ok");
    let mut waiting = UnixStream::connect(rig.path("stable.sock")).unwrap();
    rig.wait_until("three runs", |job| job["runs"].as_u64() >= Some(3));
    assert_eq!(rig.order(&format!("bootout {LABEL}")), "ok");
    eventually("it is gone", || rig.order(&format!("print {LABEL}")).starts_with("error 113: "));
    assert!(rig.path("stable.sock").exists(), "launchd removes no path");
    assert!(UnixStream::connect(rig.path("stable.sock")).is_err(), "nobody listens any more");
    assert!(matches!(waiting.read(&mut [0]), Ok(0) | Err(_)), "whoever waited learns of it");
}
