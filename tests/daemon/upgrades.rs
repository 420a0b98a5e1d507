//! Another image takes the daemon's place: same process, same worker, nobody refused, no stream cut.

use std::fs::{Permissions, copy, rename, set_permissions};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::net::{UnixDatagram, UnixListener};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::http::{Connection, expected};
use crate::service::{CHAT, Service, eventually};

const PLAIN: &str = "{\"messages\":[]}";

/// An image that is none, in the home of this service.
fn script(service: &Service, text: &str) -> String {
    let path = service.path("image");
    std::fs::write(&path, format!("#!/bin/sh\n{text}\n")).unwrap();
    set_permissions(&path, Permissions::from_mode(0o755)).unwrap();
    path.display().to_string()
}

/// The image and its worker, installed in the home by rename, as they should be.
fn install(service: &Service, program: &str, name: &str) -> PathBuf {
    let (fresh, path) = (service.path("fresh"), service.path(name));
    copy(program, &fresh).unwrap();
    rename(&fresh, &path).unwrap();
    path
}

fn image_of(daemon: Pid) -> PathBuf {
    std::fs::read_link(format!("/proc/{daemon}/exe")).unwrap()
}

fn epoch(service: &Service) -> u64 {
    service.status()["daemon"]["epoch"].as_u64().unwrap()
}

fn descriptors(daemon: Pid) -> usize {
    std::fs::read_dir(format!("/proc/{daemon}/fd")).unwrap().count()
}

fn inode(path: &Path) -> u64 {
    std::fs::symlink_metadata(path).unwrap().ino()
}

#[test]
fn five_in_a_row_keep_process_worker_sockets_and_descriptors() {
    let mut service = Service::serving("", "");
    let (daemon, worker) = (service.daemon_pid(), service.worker_pid());
    let sockets = ["mlxsup.sock", "control.sock"].map(|name| service.path(name));
    let inodes = sockets.each_ref().map(|path| inode(path));
    let mut open = None;
    for round in 2..=6 {
        let reply = service.ctl(&["upgrade", "--json"]).ok().json();
        assert_eq!(reply["result"], "done", "{reply}");
        assert_eq!((&reply["facts"]["epoch"], &reply["facts"]["pid"]), (&round.into(), &daemon.as_raw().into()));
        let status = service.wait_for("serving");
        assert_eq!(status["daemon"]["pid"], daemon.as_raw());
        assert_eq!((service.worker_pid(), service.generation()), (worker, 1));
        assert_eq!(service.chat(PLAIN).answer().text(), expected(16));
        assert_eq!(sockets.each_ref().map(|path| inode(path)), inodes, "never unlinked, never bound anew");
        let before = *open.get_or_insert_with(|| descriptors(daemon));
        eventually("no descriptor is left over", || {
            let now = descriptors(daemon);
            if now <= before { Ok(()) } else { Err(format!("{before} → {now}")) }
        });
    }
    let table = service.ctl(&["upgrade"]).ok().out;
    assert!(table.starts_with("Upgraded: ") && table.contains("new clients waited for 0."), "{table}");
    service.ctl(&["stop"]).ok();
    assert_eq!(service.ended().code(), Some(0));
    assert!(sockets.iter().all(|path| !path.exists()), "the last image unlinks them");
}

#[test]
fn a_worker_is_still_our_child_and_tells_how_it_ended() {
    let mut service = Service::serving("", "");
    service.ctl(&["upgrade"]).ok();
    kill(service.worker_pid(), Signal::SIGKILL).unwrap();
    service.wait_for_event("worker_crashed", "signal 9");
    service.wait_until("the next worker", |status| status["state"] == "serving" && status["worker"]["generation"] == 2);
}

#[test]
fn streams_finish_under_the_old_image_and_who_comes_meanwhile_waits_for_the_new_one() {
    let mut service = Service::serving("\"token_ms\":10", "");
    let running: Vec<_> =
        (0..3).map(|_| service.stream_running("{\"messages\":[],\"stream\":true,\"max_tokens\":80}")).collect();
    let upgrade = service.ctl_started(&["upgrade", "--json"]);
    // Connections are taken by the kernel, and by nobody else.
    let paused = |service: &Service| service.events().iter().any(|(kind, _)| kind == "upgrade");
    eventually("the upgrade began", || if paused(&service) { Ok(()) } else { Err(String::new()) });
    let mut late: Vec<_> = (0..8).map(|_| service.chat(PLAIN)).collect();
    for stream in running {
        assert_eq!(stream.answer().streamed(), expected(80));
    }
    upgrade.join().unwrap().ok();
    for request in &mut late {
        assert_eq!(request.answer().text(), expected(16));
    }
    assert_eq!((epoch(&service), service.generation()), (2, 1));
    assert_eq!(service.settled()["ledger"]["lost"], 0);
}

#[test]
fn nobody_is_refused_while_clients_come_and_images_change() {
    let service = Service::serving("", "");
    let over = Arc::new(AtomicBool::new(false));
    let clients: Vec<_> = (0..4)
        .map(|index| {
            let (over, socket) = (Arc::clone(&over), service.path("mlxsup.sock"));
            std::thread::spawn(move || {
                let mut answered = 0_u32;
                while !over.load(Ordering::SeqCst) {
                    let mut connection = Connection::open(&socket).expect("never refused");
                    let body = format!("{{\"messages\":[],\"max_tokens\":3,\"stream\":{}}}", index % 2 == 0);
                    connection.send("POST", CHAT, "", &body);
                    let answer = connection.answer();
                    let text = if index % 2 == 0 { answer.streamed() } else { answer.text() };
                    assert_eq!(text, expected(3));
                    answered += 1;
                }
                answered
            })
        })
        .collect();
    for round in 2..=6 {
        service.ctl(&["upgrade"]).ok();
        assert_eq!(epoch(&service), round);
    }
    over.store(true, Ordering::SeqCst);
    for client in clients {
        assert!(client.join().unwrap() > 0);
    }
    assert_eq!(service.generation(), 1);
}

#[test]
fn an_image_that_does_not_run_here_leaves_the_old_one_serving() {
    let mut service = Service::serving("", "");
    let plain = service.path("mlxsup.toml").display().to_string();
    let refuses = "case \"$*\" in --version) echo mlxsupd 9.9.9;; *) echo no such model >&2; exit 2;; esac";
    let cases = [
        (script(&service, "exit 1"), "is no mlxsupd"),
        (plain, "no program"),
        (service.path("missing").display().to_string(), "no program"),
    ];
    let mut tried = |image: &str, why: &str| {
        let said = service.ctl(&["upgrade", "--to", image]);
        assert_eq!(said.code, Some(1), "{image}: {} {}", said.out, said.err);
        assert!(said.err.contains(why) && said.err.contains("serves on"), "{image}: {}", said.err);
        assert_eq!(service.settled()["daemon"]["epoch"], 1);
        assert_eq!(service.chat(PLAIN).answer().text(), expected(16));
    };
    for (image, why) in cases {
        tried(&image, why);
    }
    let home = tempfile::tempdir().unwrap();
    let image = home.path().join("image");
    let write = |text: &str| {
        std::fs::write(&image, format!("#!/bin/sh\n{text}\n")).unwrap();
        set_permissions(&image, Permissions::from_mode(0o755)).unwrap();
    };
    write(refuses);
    tried(image.to_str().unwrap(), "no such model");
    // It proves itself, and is gone when its hour comes: the exec fails, and everything is as it was.
    write("case \"$*\" in --version) echo mlxsupd 9.9.9;; *) chmod -x \"$0\";; esac");
    tried(image.to_str().unwrap(), "replaced after it had been tried");
    service.ctl(&["upgrade"]).ok();
    assert_eq!(epoch(&service), 2);
}

#[test]
fn a_stream_that_outlasts_the_grace_postpones_the_upgrade_and_nothing_else() {
    let mut service = Service::serving("\"token_ms\":10", "[drain]\ngrace = \"300ms\"\n");
    let running = service.stream_running("{\"messages\":[],\"stream\":true,\"max_tokens\":150}");
    let said = service.ctl(&["upgrade"]);
    assert_eq!(said.code, Some(6), "{} {}", said.out, said.err);
    assert!(said.err.contains("postponed: 1 request"), "{}", said.err);
    assert_eq!(service.chat("{\"messages\":[],\"max_tokens\":2}").answer().text(), expected(2));
    assert_eq!(running.answer().streamed(), expected(150));
    assert_eq!(service.settled()["daemon"]["epoch"], 1);
    service.ctl(&["upgrade"]).ok();
    assert_eq!(epoch(&service), 2);
}

#[test]
fn a_second_upgrade_is_denied_and_resume_aborts_the_first() {
    let mut service = Service::serving("\"token_ms\":10", "");
    let running = service.stream_running("{\"messages\":[],\"stream\":true,\"max_tokens\":150}");
    let first = service.ctl_started(&["upgrade"]);
    let began = |service: &Service| service.events().iter().any(|(kind, _)| kind == "upgrade");
    eventually("the first began", || if began(&service) { Ok(()) } else { Err(String::new()) });
    let second = service.ctl(&["upgrade"]);
    assert_eq!(second.code, Some(5), "{} {}", second.out, second.err);
    service.ctl(&["resume"]).ok();
    assert_eq!(first.join().unwrap().code, Some(1));
    assert_eq!(service.chat("{\"messages\":[],\"max_tokens\":2}").answer().text(), expected(2));
    assert_eq!(running.answer().streamed(), expected(150));
    assert_eq!(service.settled()["daemon"]["epoch"], 1);
}

#[test]
fn usr2_upgrades_and_without_waiting_the_verb_returns_at_once() {
    let mut service = Service::serving("", "");
    service.signal(Signal::SIGUSR2);
    service.wait_until("the next image", |status| status["daemon"]["epoch"] == 2 && status["state"] == "serving");
    service.ctl(&["upgrade", "--no-wait"]).ok();
    service.wait_until("the next image", |status| status["daemon"]["epoch"] == 3 && status["state"] == "serving");
    // Signals reach the new image too.
    service.signal(Signal::SIGTERM);
    assert_eq!(service.ended().code(), Some(0));
}

#[test]
fn the_installed_image_is_taken_or_the_one_that_is_named() {
    let mut service = Service::new("", "");
    let installed = install(&service, env!("CARGO_BIN_EXE_mlxsupd"), "mlxsupd");
    let mut command = service.daemon_command_of(&installed);
    service.start_as(&mut command);
    service.wait_for("serving");
    let daemon = service.daemon_pid();
    install(&service, env!("CARGO_BIN_EXE_mlxsupd"), "mlxsupd");
    assert!(image_of(daemon).display().to_string().ends_with(" (deleted)"));
    service.ctl(&["upgrade"]).ok();
    assert_eq!(image_of(daemon), installed);
    let other = install(&service, env!("CARGO_BIN_EXE_mlxsupd"), "older");
    let relative = service.ctl_command(&["upgrade", "--to", "older"]).current_dir(service.home()).output().unwrap();
    assert_eq!(relative.status.code(), Some(0), "{relative:?}");
    assert_eq!(image_of(daemon), other);
    assert_eq!(epoch(&service), 3);
}

#[test]
fn a_worker_of_a_replaced_program_is_handed_over_afterwards() {
    let mut service = Service::new("", "");
    let worker = install(&service, env!("CARGO_BIN_EXE_mlxsup-fake-worker"), "worker");
    service.write("mlxsup.toml", &format!("[worker]\nmodel = \"fake\"\ncommand = [\"{}\"]\n", worker.display()));
    service.start();
    service.wait_for("serving");
    service.ctl(&["upgrade"]).ok();
    service.wait_for("serving");
    assert_eq!(service.generation(), 1, "nothing changed, nothing to hand over");
    install(&service, env!("CARGO_BIN_EXE_mlxsup-fake-worker"), "worker");
    service.ctl(&["upgrade"]).ok();
    service.wait_until("the next worker", |status| status["state"] == "serving" && status["worker"]["generation"] == 2);
    service.wait_for_event("worker_outdated", "handed over");
    // After a crash it is only told: nobody asked for a change.
    install(&service, env!("CARGO_BIN_EXE_mlxsup-fake-worker"), "worker");
    service.kill_daemon();
    service.start();
    service.wait_for("serving");
    service.wait_for_event("worker_outdated", "mlxsupctl restart");
    assert_eq!(service.generation(), 2);
}

#[test]
fn a_loading_worker_goes_on_loading() {
    let mut service = Service::new("\"load_ms\":2500", "");
    service.start();
    service.wait_until("loading", |status| status["worker"]["phase"] == "loading");
    let worker = service.worker_pid();
    service.ctl(&["upgrade"]).ok();
    assert_eq!(service.status()["state"], "starting");
    service.wait_for("serving");
    assert_eq!((service.worker_pid(), service.generation(), epoch(&service)), (worker, 1, 2));
    assert_eq!(service.chat(PLAIN).answer().text(), expected(16));
}

#[test]
fn a_socket_from_the_init_system_outlives_every_image() {
    let mut service = Service::new("", "");
    let socket = service.path("stable.sock");
    let listener = UnixListener::bind(&socket).unwrap();
    // As systemd does it, but for a shell that knows the pid in time.
    fcntl(&listener, FcntlArg::F_SETFD(FdFlag::empty())).unwrap();
    let passed = format!("exec 3<&{}; LISTEN_FDS=1 LISTEN_PID=$$ exec \"$@\"", listener.as_raw_fd());
    let mut command = Command::new("sh");
    command.args(["-c", &passed, "sh", env!("CARGO_BIN_EXE_mlxsupd"), "--home"]).arg(service.home());
    service.start_as(&mut command);
    service.wait_for("serving");
    let ask = || {
        let mut connection = Connection::open(&socket).unwrap();
        connection.send("POST", CHAT, "", PLAIN);
        connection.answer().text()
    };
    assert_eq!(ask(), expected(16));
    for round in 2..=3 {
        service.ctl(&["upgrade"]).ok();
        assert_eq!((epoch(&service), ask()), (round, expected(16)));
        assert!(!service.path("mlxsup.sock").exists(), "only the activated socket is served");
    }
    service.ctl(&["stop"]).ok();
    assert_eq!(service.ended().code(), Some(0));
    assert!(socket.exists(), "it belongs to the init system");
}

#[test]
fn systemd_is_told_before_and_after() {
    let mut service = Service::new("", "");
    let manager = UnixDatagram::bind(service.path("notify")).unwrap();
    manager.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    let mut command = service.daemon_command();
    command.env("NOTIFY_SOCKET", service.path("notify"));
    service.start_as(&mut command);
    let heard = |wanted: &str| {
        let mut buffer = [0; 512];
        loop {
            let length = manager.recv(&mut buffer).unwrap();
            let message = String::from_utf8_lossy(&buffer[..length]).into_owned();
            if message.starts_with(wanted) {
                return message;
            }
            assert!(message.starts_with("STATUS="), "{message} before {wanted}");
        }
    };
    heard("READY=1");
    service.wait_for("serving");
    service.ctl(&["upgrade"]).ok();
    assert!(heard("RELOADING=1").contains("MONOTONIC_USEC="));
    heard("READY=1");
}

#[test]
fn drained_unloaded_and_parked_stay_what_they_are() {
    let mut service = Service::serving("", "");
    service.ctl(&["drain"]).ok();
    service.ctl(&["upgrade"]).ok();
    service.wait_for("drained");
    service.ctl(&["resume"]).ok();
    service.ctl(&["unload"]).ok();
    service.ctl(&["upgrade"]).ok();
    assert_eq!(service.wait_for("unloaded")["daemon"]["epoch"], 3);
    service.ctl(&["load"]).ok();
    assert_eq!(service.chat(PLAIN).answer().text(), expected(16));
}

#[test]
fn a_stop_that_comes_in_the_middle_is_obeyed_by_the_old_image_or_the_new_one() {
    for moment in ["trying the installed image", "exec of version", "another image takes this one's place"] {
        let mut service = Service::serving("", "");
        let worker = service.worker_pid();
        service.signal(Signal::SIGUSR2);
        let log = || service.read("logs/mlxsupd.log");
        eventually(moment, || if log().contains(moment) { Ok(()) } else { Err(log()) });
        service.signal(Signal::SIGTERM);
        assert_eq!(service.ended().code(), Some(0), "{moment}");
        assert!(!crate::service::exists(worker), "{moment}");
    }
}

#[test]
fn facts_can_be_read_all_the_while() {
    let service = Service::serving("", "");
    let over = Arc::new(AtomicBool::new(false));
    let reader = {
        let (over, control) = (Arc::clone(&over), service.path("control.sock"));
        std::thread::spawn(move || {
            let mut read = 0_u32;
            while !over.load(Ordering::SeqCst) {
                let mut connection = Connection::open(&control).expect("never refused");
                connection.send("GET", "/v1/status", "", "");
                assert_eq!(connection.answer().json()["schema"], 1);
                read += 1;
            }
            read
        })
    };
    for _ in 0..5 {
        service.ctl(&["upgrade"]).ok();
    }
    over.store(true, Ordering::SeqCst);
    assert!(reader.join().unwrap() > 0);
}

#[test]
fn a_request_that_is_on_its_way_in_puts_the_exec_off() {
    let mut service = Service::serving("\"token_ms\":10", "");
    let body = "{\"messages\":[],\"stream\":true,\"max_tokens\":60}";
    let mut slow = service.connect();
    slow.write(&format!("POST {CHAT} HTTP/1.1\r\nhost: x\r\n"));
    let upgrade = service.ctl_started(&["upgrade"]);
    service.wait_for_event("upgrade_exec", "");
    slow.write(&format!("content-length: {}\r\n\r\n{body}", body.len()));
    let answer = slow.answer();
    assert_eq!((answer.streamed(), answer.header("connection")), (expected(60), Some("close")));
    upgrade.join().unwrap().ok();
    assert_eq!(service.settled()["daemon"]["epoch"], 2);
}
