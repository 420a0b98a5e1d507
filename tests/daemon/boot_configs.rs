//! A bad configuration at a start by an init system, where nobody would read why it failed.

use std::os::unix::net::UnixDatagram;

use nix::sys::signal::Signal;

use crate::http::expected;
use crate::service::{CHAT, Service};

const BAD: &str = "[worker]\nmodell = \"x\"\n";

/// Starts the daemon as systemd does; the returned socket is systemd's.
fn start_as_service(service: &mut Service) -> UnixDatagram {
    let path = service.path("notify");
    let _ = std::fs::remove_file(&path);
    let systemd = UnixDatagram::bind(&path).unwrap();
    let mut command = service.daemon_command();
    service.start_as(command.env("NOTIFY_SOCKET", path));
    systemd
}

fn ready(systemd: &UnixDatagram) {
    let mut buffer = [0; 256];
    let length = systemd.recv(&mut buffer).unwrap();
    assert_eq!(&buffer[..length], b"READY=1");
}

#[test]
fn the_last_accepted_file_is_served_and_the_bad_one_reported() {
    let mut service = Service::new("\"tokens\":5", "");
    let good = service.read("mlxsup.toml");
    let systemd = start_as_service(&mut service);
    ready(&systemd);
    let hash = service.wait_for("serving")["config"]["hash"].clone();
    assert_eq!(service.read("mlxsup.last-good.toml"), good);
    service.signal(Signal::SIGTERM);
    assert_eq!(service.ended().code(), Some(0));

    service.write("mlxsup.toml", BAD);
    let systemd = start_as_service(&mut service);
    ready(&systemd);
    let status = service.wait_for("serving");
    assert_eq!(status["config"]["hash"], hash);
    assert!(status["config"]["problems"].to_string().contains("modell"), "{status}");
    service.wait_for_event("config_rejected", "modell");
    assert!(service.read("logs/mlxsupd.log").contains("modell"));
    assert_eq!(service.chat("{\"messages\":[]}").answer().text(), expected(5));
    assert_eq!(service.read("mlxsup.last-good.toml"), good, "a bad file is not kept");

    service.write("mlxsup.toml", &good);
    service.ctl(&["reload"]).ok();
    assert_eq!(service.status()["config"]["problems"], serde_json::json!([]));
}

#[test]
fn with_nothing_to_serve_with_it_is_parked_until_a_reload() {
    let mut service = Service::new("\"tokens\":5", "");
    let good = service.read("mlxsup.toml");
    service.write("mlxsup.toml", BAD);
    let systemd = start_as_service(&mut service);
    ready(&systemd);
    let status = service.wait_for("parked");
    assert_eq!(status["cause"]["code"], "config_error", "{status}");
    assert!(status["cause"]["message"].to_string().contains("`model` is missing"), "{status}");
    assert!(status["config"]["problems"].to_string().contains("modell"), "{status}");
    service.wait_for_event("config_error", "and 1 more");
    assert_eq!(service.ctl(&["status"]).code, Some(3));
    let mut client = service.connect();
    client.send("POST", CHAT, "", "{\"messages\":[]}");
    let refused = client.answer();
    assert_eq!((refused.status, refused.json()["error"]["code"].as_str()), (503, Some("config_error")));
    assert_eq!(service.get("/ready").status, 503);

    // Still bad: nothing changes but the problems.
    service.write("mlxsup.toml", "[worker]\nmodelll = \"x\"\n");
    let said = service.ctl(&["reload"]);
    assert_eq!(said.code, Some(1), "{}", said.err);
    assert!(said.err.contains("modelll") && said.err.contains("still none to serve with"), "{}", said.err);
    let status = service.status();
    assert_eq!((&status["state"], &status["cause"]["code"]), (&"parked".into(), &"config_error".into()));

    service.write("mlxsup.toml", &good);
    service.signal(Signal::SIGHUP);
    service.wait_for("serving");
    assert_eq!(service.chat("{\"messages\":[]}").answer().text(), expected(5));
    assert_eq!(service.read("mlxsup.last-good.toml"), good);
}

#[test]
fn a_reload_keeps_what_it_accepted_for_the_next_start() {
    let service = Service::serving("", "");
    service.configure("", "[drain]\ngrace = \"7s\"\n");
    service.ctl(&["reload"]).ok();
    let accepted = service.read("mlxsup.toml");
    assert_eq!(service.read("mlxsup.last-good.toml"), accepted);
    service.write("mlxsup.toml", BAD);
    assert_eq!(service.ctl(&["reload"]).code, Some(1));
    service.wait_for_event("config_rejected", "modell");
    assert_eq!(service.read("mlxsup.last-good.toml"), accepted);
}

#[test]
fn a_service_is_told_when_its_unit_no_longer_fits() {
    let mut service = Service::new("", "");
    let systemd = start_as_service(&mut service);
    ready(&systemd);
    service.wait_for("serving");
    service.configure("", "[drain]\ngrace = \"10m\"\n[listen]\nsocket = \"other.sock\"\n");
    let said = service.ctl(&["reload"]).ok();
    assert!(said.out.contains("needs `mlxsupctl install`: listen.socket"), "{}", said.out);
    assert!(said.out.contains("so that a stop waits for the longer drain.grace"), "{}", said.out);
}
