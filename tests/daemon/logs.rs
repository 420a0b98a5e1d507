//! The log files of a running daemon.

use nix::sys::signal::Signal;

use crate::service::{Service, eventually};

fn has(service: &Service, name: &str, text: &str) {
    eventually(&format!("{text} in {name}"), || {
        let log = service.read(name);
        if log.contains(text) { Ok(()) } else { Err(log) }
    });
}

#[test]
fn usr1_opens_the_logs_anew_after_somebody_moved_them() {
    let service = Service::serving("", "");
    assert_eq!(service.chat("{\"messages\":[]}").answer().status, 200);
    has(&service, "logs/requests.log", "status=200");
    for name in ["mlxsupd", "requests"] {
        std::fs::rename(service.path(&format!("logs/{name}.log")), service.path(&format!("logs/{name}.old"))).unwrap();
    }
    service.signal(Signal::SIGUSR1);
    eventually("fresh files", || {
        let there = ["logs/mlxsupd.log", "logs/requests.log"].iter().all(|name| service.path(name).exists());
        if there { Ok(()) } else { Err("not reopened".to_owned()) }
    });
    assert_eq!(service.chat("{\"messages\":[]}").answer().status, 200);
    has(&service, "logs/requests.log", "status=200");
    service.ctl(&["restart"]).ok();
    has(&service, "logs/mlxsupd.log", "worker_ready");
}

#[test]
fn decisions_are_in_the_log_and_the_workers_words_in_theirs() {
    let service = Service::serving("\"crash_at_token\":2,\"only_generation\":1,\"exit_code\":4", "");
    assert_eq!(service.chat("{\"messages\":[]}").answer().status, 200);
    let log = service.read("logs/mlxsupd.log");
    for kind in ["worker_spawned", "worker_ready", "worker_crashed", "crash_backoff", "restart_done"] {
        assert!(log.contains(kind), "no {kind}: {log}");
    }
    let said = service.ctl(&["logs", "-n", "100"]).ok();
    assert!(said.out.contains("worker_ready"), "{}", said.out);
    service.ctl(&["logs", "worker"]).ok();
}
