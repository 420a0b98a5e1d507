//! The TCP listener of a running daemon: configured, reloaded, handed over by the init system, kept by an upgrade.

use std::net::SocketAddr;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use nix::sys::signal::Signal;
use nix::unistd::Pid;

use crate::http::{Answer, Connection, expected};
use crate::service::{CHAT, Service, eventually};

const KEY: &str = "0123456789abcdef-laptop";
const KEYED: &str = "[listen]\ntcp = \"127.0.0.1:0\"\napi_key_file = \"api.key\"\n";

fn write_keys(service: &Service, lines: &str, mode: u32) {
    service.write("api.key", lines);
    let permissions = std::fs::Permissions::from_mode(mode);
    std::fs::set_permissions(service.path("api.key"), permissions).unwrap();
}

fn keyed(faults: &str) -> Service {
    let mut service = Service::new(faults, KEYED);
    write_keys(&service, &format!("laptop {KEY}\n"), 0o600);
    service.start();
    service.wait_for("serving");
    service
}

/// Where the daemon said that it listens, most recently.
fn address(service: &Service) -> SocketAddr {
    let log = service.read("logs/mlxsupd.log");
    let line = log.lines().rfind(|line| line.contains("listening on TCP")).expect("it says so");
    let at = line.split_once("address=").expect("an address").1;
    at.split_whitespace().next().unwrap().trim_matches('"').parse().expect("an address")
}

fn ask(address: SocketAddr, key: &str) -> Answer {
    let mut connection = Connection::open_tcp(address).expect("it listens");
    let headers = if key.is_empty() { String::new() } else { format!("authorization: Bearer {key}\r\n") };
    connection.send("POST", CHAT, &headers, "{\"messages\":[],\"max_tokens\":3}");
    connection.answer()
}

/// Inodes of the sockets that listen on this address, as the kernel lists them.
fn sockets_of(daemon: Pid) -> Vec<u64> {
    let folder = std::fs::read_dir(format!("/proc/{daemon}/fd")).unwrap();
    let mut inodes: Vec<u64> = folder
        .flatten()
        .filter(|entry| std::fs::read_link(entry.path()).is_ok_and(|to| to.to_string_lossy().starts_with("socket:")))
        .filter_map(|entry| Some(std::fs::metadata(entry.path()).ok()?.ino()))
        .collect();
    inodes.sort_unstable();
    inodes.dedup();
    inodes
}

fn listening_inode(address: SocketAddr) -> u64 {
    let port = format!(":{:04X}", address.port());
    let table = std::fs::read_to_string("/proc/net/tcp").unwrap();
    let fields = |line: &str| line.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
    let listening =
        table.lines().map(fields).find(|row| row[1].ends_with(&port) && row[3] == "0A").expect("it listens");
    listening[9].parse().unwrap()
}

#[test]
fn a_key_opens_the_door_and_its_name_is_in_the_log() {
    let service = keyed("");
    let at = address(&service);
    assert_eq!(ask(at, KEY).text(), expected(3));
    for wrong in ["", "0123456789abcdef-laptoP"] {
        assert_eq!(ask(at, wrong).code(), "invalid_api_key");
    }
    eventually("the record", || {
        let log = service.read("logs/requests.log");
        let told = log.contains("client=laptop class=normal status=200") && log.contains("client=tcp:127.0.0.1");
        if told { Ok(()) } else { Err(log) }
    });
    assert!(!(service.read("logs/requests.log") + &service.read("logs/mlxsupd.log")).contains(KEY));
    assert_eq!(service.chat("{\"messages\":[],\"max_tokens\":3}").answer().text(), expected(3));
}

#[test]
fn a_reload_reads_the_keys_again_and_bad_ones_change_nothing() {
    let mut service = keyed("");
    let at = address(&service);
    let fresh = "fedcba9876543210-desk";
    write_keys(&service, &format!("laptop {KEY}\ndesk {fresh}\n"), 0o600);
    assert_eq!(ask(at, fresh).status, 401, "not before the reload");
    let said = service.ctl(&["reload"]).ok();
    assert!((said.out + &said.err).contains("API keys read: 2"));
    assert_eq!(ask(at, fresh).status, 200);

    write_keys(&service, &format!("desk {fresh}\n"), 0o644);
    let said = service.ctl(&["reload"]);
    assert_eq!(said.code, Some(1));
    assert!(said.err.contains("configuration and keys") && said.err.contains("chmod 600"), "{}", said.err);
    service.wait_until("problems", |status| status["config"]["problems"][0].is_string());
    assert_eq!((ask(at, KEY).status, ask(at, fresh).status), (200, 200), "the old keys stay");
    let said = service.ctl(&["config", "check"]);
    assert_eq!(said.code, Some(2));
    assert!(said.err.contains("mode 0644") && said.err.contains("api_key_file = "), "{}", said.err);

    write_keys(&service, &format!("desk {fresh}\n"), 0o600);
    service.signal(Signal::SIGHUP);
    eventually(
        "the removed key is out",
        || {
            if ask(at, KEY).status == 401 { Ok(()) } else { Err("still in".to_owned()) }
        },
    );
    assert_eq!(ask(at, fresh).status, 200);
    service.ctl(&["config", "check"]).ok();
}

#[test]
fn keys_that_others_can_read_or_that_are_missing_keep_it_from_starting() {
    let service = Service::new("", KEYED);
    for lines in [None, Some(""), Some("laptop short\nlaptop\n")] {
        if let Some(lines) = lines {
            write_keys(&service, lines, 0o600);
        }
        let said = service.start_fails();
        assert_eq!(said.code, Some(2), "{lines:?} {}", said.err);
        assert!(said.err.contains("api.key"), "{}", said.err);
    }
    write_keys(&service, &format!("laptop {KEY}\n"), 0o640);
    let mut check = service.daemon_command();
    let checked = check.arg("--check").output().unwrap();
    let told = String::from_utf8_lossy(&checked.stderr).into_owned();
    assert_eq!(checked.status.code(), Some(2));
    assert!(told.contains("mode 0640") && told.contains("chmod 600"), "{told}");
    assert!(!service.path("mlxsup.sock").exists());
}

#[test]
fn an_address_in_use_is_told() {
    let other = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = other.local_addr().unwrap().port();
    let service = Service::new("", &format!("[listen]\ntcp = \"127.0.0.1:{port}\"\napi_key_file = \"none\"\n"));
    let said = service.start_fails();
    assert!(said.err.contains(&format!("cannot listen on 127.0.0.1:{port}")), "{}", said.err);
    assert!(said.err.contains("set listen.tcp to another port"), "{}", said.err);
}

#[test]
fn without_keys_a_page_in_a_browser_is_kept_out() {
    let service = Service::serving("", "[listen]\ntcp = \"127.0.0.1:0\"\napi_key_file = \"none\"\n");
    let at = address(&service);
    for (host, status) in [(format!("localhost:{}", at.port()), 200), ("rebound.example".to_owned(), 403)] {
        let mut connection = Connection::open_tcp(at).unwrap();
        connection.write(&format!("GET /v1/models HTTP/1.1\r\nhost: {host}\r\n\r\n"));
        assert_eq!(connection.answer().status, status, "{host}");
    }
}

#[test]
fn an_upgrade_keeps_the_listener_and_refuses_nobody() {
    let mut service = keyed("");
    let at = address(&service);
    let (daemon, inode) = (service.daemon_pid(), listening_inode(at));
    assert!(sockets_of(daemon).contains(&inode));
    let over = Arc::new(AtomicBool::new(false));
    let clients: Vec<_> = (0..3)
        .map(|_| {
            let over = Arc::clone(&over);
            std::thread::spawn(move || {
                let mut answered = 0_u32;
                while !over.load(Ordering::SeqCst) {
                    assert_eq!(ask(at, KEY).text(), expected(3), "refused");
                    answered += 1;
                }
                answered
            })
        })
        .collect();
    for round in 2..=4 {
        service.ctl(&["upgrade"]).ok();
        let status = service.wait_for("serving");
        assert_eq!((&status["daemon"]["epoch"], &status["daemon"]["pid"]), (&round.into(), &daemon.as_raw().into()));
        assert_eq!((address(&service), listening_inode(at)), (at, inode), "the same socket");
        assert!(sockets_of(daemon).contains(&inode));
    }
    over.store(true, Ordering::SeqCst);
    for client in clients {
        assert!(client.join().unwrap() > 0);
    }
    service.ctl(&["stop"]).ok();
    assert_eq!(service.ended().code(), Some(0));
    assert!(Connection::open_tcp(at).is_none(), "nobody listens any more");
}

/// The program systemd brings along to try this out; not everywhere.
fn activator() -> Option<&'static str> {
    ["/usr/bin/systemd-socket-activate", "/bin/systemd-socket-activate"]
        .into_iter()
        .find(|program| Path::new(program).exists())
}

#[test]
fn both_listeners_come_from_the_init_system() {
    let Some(activator) = activator() else { return };
    // Any free port: the program takes numbers only.
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let mut service = Service::new("\"tokens\":5", &KEYED.replace("127.0.0.1:0", &free.to_string()));
    write_keys(&service, &format!("laptop {KEY}\n"), 0o600);
    let socket = service.path("stable.sock");
    let mut command = Command::new(activator);
    command.arg("--listen").arg(&socket).arg("--listen").arg(free.to_string()).arg("--fdname=client:client-tcp");
    command.arg("--setenv=PATH").arg("--").arg(env!("CARGO_BIN_EXE_mlxsupd")).arg("--home").arg(service.home());
    command.stdin(std::process::Stdio::null()).stdout(std::process::Stdio::null());
    service.start_as(&mut command);
    eventually("systemd listens", || {
        let said = service.read("stderr");
        if said.matches("Listening on").count() == 2 { Ok(()) } else { Err(said) }
    });
    // The first connection, over TCP, starts the daemon.
    assert_eq!(ask(free, KEY).text(), expected(3));
    let mut unix = Connection::open(&socket).unwrap();
    unix.send("GET", "/ready", "", "");
    assert_eq!(unix.answer().status, 200);
    service.ctl(&["upgrade"]).ok();
    assert_eq!(ask(free, KEY).text(), expected(3));
    service.signal(Signal::SIGTERM);
    assert_eq!(service.ended().code(), Some(0));
}
