//! Thousands of hostile connections against the real process: afterwards it is as small as before.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::Path;

use nix::unistd::Pid;

use crate::http::expected;
use crate::service::{Service, eventually};

/// Connections per thread and round.
const EACH: usize = 200;
const THREADS: usize = 4;

/// What is sent, and whether the answer is awaited before the connection goes.
const HABITS: &[(&[u8], bool)] = &[
    (b"", false),
    (b"\x16\x03\x01\x02\x00\x01\x00", true),
    (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", true),
    (b"POST /v1/chat/comp", false),
    (b"POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\ncontent-length: 30000000\r\n\r\n{\"a\":\"", false),
    (b"POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n", true),
    (b"POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\ncontent-length: 5\r\n\r\n[[[[[", true),
    (b"POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\ncontent-length: 15\r\n\r\n{\"stream\":true}", false),
    (b"POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\ncontent-length: 15\r\n\r\n{\"stream\":true}", true),
    (b"GET /v1/models HTTP/1.1\r\nhost: evil.example\r\n\r\nGET /health HTTP/1.1\r\n\r\n", true),
    (b"GET /../../etc/passwd HTTP/1.1\r\nhost: localhost\r\n\r\n", true),
];

/// Takes whatever comes until the daemon closes, or enough has come.
fn converse(mut stream: impl Read + Write, close: impl Fn(&mut dyn Write), sends: &[u8], waits: bool, large: bool) {
    let _ = stream.write_all(sends);
    if large {
        let _ = stream.write_all(&[b'x'; 128 << 10]);
    }
    if waits {
        let mut some = [0; 256];
        let _ = stream.read(&mut some);
    }
    close(&mut stream);
}

fn storm(socket: &Path, tcp: std::net::SocketAddr, thread: usize) {
    for turn in 0..EACH {
        let (sends, waits) = HABITS[(turn + thread) % HABITS.len()];
        let large = turn % 3 == 0;
        if turn % 2 == 0 {
            let stream = UnixStream::connect(socket).expect("never refused");
            converse(&stream, |_| drop(stream.shutdown(Shutdown::Write)), sends, waits, large);
        } else {
            let stream = TcpStream::connect(tcp).expect("never refused");
            converse(&stream, |_| drop(stream.shutdown(Shutdown::Both)), sends, waits, large);
        }
    }
}

fn resident_kib(pid: Pid) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("it has memory");
    line.trim().trim_end_matches(" kB").trim().parse().unwrap()
}

fn descriptors(pid: Pid) -> usize {
    std::fs::read_dir(format!("/proc/{pid}/fd")).unwrap().count()
}

/// Idle connections to the worker that the daemon keeps at most.
const KEPT_LINKS: usize = 64;

#[test]
fn thousands_of_hostile_connections_leave_nothing_behind() {
    let mut service = Service::serving("", "[listen]\ntcp = \"127.0.0.1:0\"\napi_key_file = \"none\"\n");
    let log = service.read("logs/mlxsupd.log");
    let at = log.split("address=").nth(1).and_then(|rest| rest.split_whitespace().next()).expect("a TCP address");
    let at = at.trim_matches('"').parse().expect("an address");
    let daemon = service.daemon_pid();
    let before = descriptors(daemon);
    let round = || {
        let threads: Vec<_> = (0..THREADS)
            .map(|thread| {
                let socket = service.path("mlxsup.sock");
                std::thread::spawn(move || storm(&socket, at, thread))
            })
            .collect();
        for thread in threads {
            thread.join().unwrap();
        }
        eventually("every connection's descriptor is back", || {
            let now = descriptors(daemon);
            // The look at the control socket of another check may be among them.
            if now <= before + KEPT_LINKS + 1 { Ok(()) } else { Err(format!("{before} → {now}")) }
        });
        resident_kib(daemon)
    };
    // What allocators and stacks keep, they keep after the first rounds.
    round();
    let warm = round();
    let sizes: Vec<u64> = (0..4).map(|_| round()).collect();
    let last = sizes[sizes.len() - 1];
    println!("{} connections; resident KiB {warm} → {sizes:?}; descriptors {before}", 6 * THREADS * EACH);
    assert!(last < warm + (8 << 10), "resident KiB: {warm} → {sizes:?}");
    assert!(last < 96 << 10, "resident KiB: {sizes:?}");
    service.settled();
    assert_eq!(service.status()["state"], "serving");
    assert_eq!(service.generation(), 1, "the worker never noticed");
    assert_eq!(service.chat("{\"messages\":[],\"max_tokens\":3}").answer().text(), expected(3));
}
