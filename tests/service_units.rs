//! The service files, read back the way their service managers read them.
#![allow(clippy::unwrap_used, reason = "what a fixture cannot read, the test cannot go on without")]

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use mlxsup::service::units::{self, Owner, STOP_MARGIN, UnitError, UnitFacts};
use plist::Value;

fn agent() -> UnitFacts {
    UnitFacts {
        label: "io.github.mlxsup.mlxsupd".to_owned(),
        daemon_path: PathBuf::from("/opt/mlxsup/bin/mlxsupd"),
        home: PathBuf::from("/Users/ann/.mlxsup"),
        config: None,
        socket: PathBuf::from("/Users/ann/.mlxsup/mlxsup.sock"),
        mode: 0o600,
        owner: None,
        grace: Duration::from_secs(120),
        machine_bytes: 64 << 30,
        tcp: None,
    }
}

fn system() -> UnitFacts {
    UnitFacts {
        home: PathBuf::from("/var/lib/mlxsup"),
        config: Some(PathBuf::from("/etc/mlxsup/my config.toml")),
        socket: PathBuf::from("/run/mlxsup/mlxsup.sock"),
        mode: 0o660,
        owner: Some(Owner { user: "mlxsup".to_owned(), group: Some("llm".to_owned()), uid: 470, gid: 471 }),
        tcp: Some("127.0.0.1:11535".parse().unwrap()),
        ..agent()
    }
}

/// A path with everything that some format gives a meaning to.
fn hostile() -> UnitFacts {
    UnitFacts {
        daemon_path: PathBuf::from("/opt/a & b/<x>/100%/$HOME/\"q\"/it's\\mlxsupd"),
        home: PathBuf::from("/home/ann & bob/100%h"),
        socket: PathBuf::from("/home/ann & bob/100%h/s.sock"),
        ..system()
    }
}

fn parsed(facts: &UnitFacts) -> plist::Dictionary {
    let text = units::plist(facts).unwrap();
    Value::from_reader_xml(text.as_bytes()).unwrap().into_dictionary().unwrap()
}

#[test]
fn the_plist_says_what_launchd_must_know() {
    let job = parsed(&agent());
    let text = |key: &str| job.get(key).and_then(Value::as_string).unwrap().to_owned();
    let number = |key: &str| job.get(key).and_then(Value::as_unsigned_integer).unwrap();
    let yes = |key: &str| job.get(key).and_then(Value::as_boolean).unwrap();
    assert_eq!(text("Label"), "io.github.mlxsup.mlxsupd");
    assert_eq!(text("ProcessType"), "Interactive");
    assert_eq!(text("StandardErrorPath"), "/Users/ann/.mlxsup/logs/mlxsupd.stderr.log");
    assert!(yes("RunAtLoad") && yes("KeepAlive") && yes("AbandonProcessGroup"));
    assert_eq!(number("ExitTimeOut"), 120 + STOP_MARGIN.as_secs());
    assert_eq!(number("ThrottleInterval"), 1);
    let limits = job.get("SoftResourceLimits").and_then(Value::as_dictionary).unwrap();
    assert_eq!(limits.get("NumberOfFiles").and_then(Value::as_unsigned_integer), Some(4096));

    let arguments: Vec<_> = job.get("ProgramArguments").and_then(Value::as_array).unwrap().iter().collect();
    let arguments: Vec<_> = arguments.iter().map(|value| value.as_string().unwrap()).collect();
    assert_eq!(arguments, ["/opt/mlxsup/bin/mlxsupd", "--home", "/Users/ann/.mlxsup"]);

    let sockets = job.get("Sockets").and_then(Value::as_dictionary).unwrap();
    assert_eq!(sockets.keys().collect::<Vec<_>>(), ["client"], "the control socket is the daemon's own");
    let client = sockets.get("client").and_then(Value::as_dictionary).unwrap();
    assert_eq!(client.get("SockPathName").and_then(Value::as_string), Some("/Users/ann/.mlxsup/mlxsup.sock"));
    assert_eq!(client.get("SockPathMode").and_then(Value::as_unsigned_integer), Some(384), "decimal for 0600");
    assert!(!job.contains_key("UserName"), "a user's own agent runs as that user");
    for trap in ["EnablePressuredExit", "LowPriorityIO", "HardResourceLimits"] {
        assert!(!job.contains_key(trap), "{trap} would get the daemon killed or starve the load");
    }
}

#[test]
fn a_system_plist_names_its_user_and_tcp_address() {
    let job = parsed(&system());
    assert_eq!(job.get("UserName").and_then(Value::as_string), Some("mlxsup"));
    assert_eq!(job.get("GroupName").and_then(Value::as_string), Some("llm"));
    let sockets = job.get("Sockets").and_then(Value::as_dictionary).unwrap();
    let client = sockets.get("client").and_then(Value::as_dictionary).unwrap();
    let number = |key: &str| client.get(key).and_then(Value::as_unsigned_integer);
    assert_eq!((number("SockPathOwner"), number("SockPathGroup")), (Some(470), Some(471)), "launchd binds it as root");
    let tcp = sockets.get("client-tcp").and_then(Value::as_dictionary).unwrap();
    assert_eq!(tcp.get("SockNodeName").and_then(Value::as_string), Some("127.0.0.1"));
    assert_eq!(tcp.get("SockServiceName").and_then(Value::as_string), Some("11535"));
}

#[test]
fn hostile_paths_read_back_as_themselves() {
    let facts = hostile();
    let job = parsed(&facts);
    let first = &job.get("ProgramArguments").and_then(Value::as_array).unwrap()[0];
    assert_eq!(first.as_string(), facts.daemon_path.to_str());
    let service = ini(&units::systemd_service(&facts).unwrap());
    assert_eq!(
        service["Service"]["ExecStart"],
        [
            r#""/opt/a & b/<x>/100%%/$$HOME/\"q\"/it's\\mlxsupd" --home "/home/ann & bob/100%%h" --config "/etc/mlxsup/my config.toml""#
        ]
    );
    let socket = ini(&units::systemd_socket(&facts).unwrap());
    assert_eq!(socket["Socket"]["ListenStream"], ["/home/ann & bob/100%%h/s.sock"]);
}

#[test]
fn facts_no_unit_can_hold_are_refused() {
    let relative = UnitFacts { home: PathBuf::from("here"), ..agent() };
    let broken = UnitFacts { socket: PathBuf::from("/run/a\nExecStart=/bin/sh"), ..agent() };
    for build in [units::plist, units::systemd_service, units::systemd_socket] {
        assert!(matches!(build(&relative), Err(UnitError::Relative { what: "home", .. })));
        assert!(matches!(build(&broken), Err(UnitError::Unwritable { what: "socket", .. })));
    }
    let nobody = UnitFacts { owner: Some(Owner { user: String::new(), group: None, uid: 470, gid: 470 }), ..agent() };
    assert_eq!(
        units::systemd_service(&nobody).unwrap_err().to_string(),
        "the user `` cannot go into a service file: it is empty; choose another name for it"
    );
}

type Ini = BTreeMap<String, BTreeMap<String, Vec<String>>>;

/// Sections, keys and their values in order; every other line must be a comment.
fn ini(text: &str) -> Ini {
    let mut out = Ini::new();
    let mut section = None;
    for line in text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#')) {
        if let Some(name) = line.strip_prefix('[').and_then(|line| line.strip_suffix(']')) {
            section = Some(name.to_owned());
        } else {
            let (key, value) = line.split_once('=').unwrap_or_else(|| panic!("no setting: {line}"));
            let section = section.clone().unwrap_or_else(|| panic!("outside a section: {line}"));
            out.entry(section).or_default().entry(key.to_owned()).or_default().push(value.to_owned());
        }
    }
    out
}

#[test]
fn the_service_keeps_its_promises() {
    let service = ini(&units::systemd_service(&system()).unwrap());
    let expected = [
        ("Type", "notify"),
        ("Restart", "always"),
        ("RestartSec", "1"),
        ("RestartSteps", "6"),
        ("RestartMaxDelaySec", "60"),
        ("WatchdogSec", "30"),
        ("TimeoutStopSec", "180"),
        ("KillMode", "process"),
        ("OOMPolicy", "continue"),
        ("ExecReload", "/bin/kill -HUP $MAINPID"),
        ("User", "mlxsup"),
        ("Group", "llm"),
    ];
    for (key, value) in expected {
        assert_eq!(service["Service"][key], [value], "{key}");
    }
    assert_eq!(service["Unit"]["StartLimitIntervalSec"], ["0"]);
    assert_eq!(service["Service"]["Sockets"], ["mlxsup.socket", "mlxsup-tcp.socket"]);
    assert_eq!(service["Install"]["WantedBy"], ["multi-user.target"]);
    let own = ini(&units::systemd_service(&agent()).unwrap());
    assert_eq!(own["Install"]["WantedBy"], ["default.target"]);
    assert_eq!(own["Service"]["Sockets"], ["mlxsup.socket"]);
    assert!(!own["Service"].contains_key("User"));
}

#[test]
fn the_socket_keeps_its_promises() {
    let socket = ini(&units::systemd_socket(&agent()).unwrap());
    let expected =
        [("ListenStream", "/Users/ann/.mlxsup/mlxsup.sock"), ("SocketMode", "0600"), ("FileDescriptorName", "client")];
    for (key, value) in expected {
        assert_eq!(socket["Socket"][key], [value], "{key}");
    }
    assert_eq!(socket["Socket"]["Backlog"], ["4096"]);
    assert_eq!(units::systemd_tcp_socket(&agent()).unwrap(), None);
    let tcp = ini(&units::systemd_tcp_socket(&system()).unwrap().unwrap());
    assert_eq!(tcp["Socket"]["ListenStream"], ["127.0.0.1:11535"]);
    assert_eq!(tcp["Socket"]["FileDescriptorName"], ["client-tcp"]);
}

#[test]
fn golden_files() {
    let (own, all) = (agent(), system());
    insta::assert_snapshot!("agent.plist", units::plist(&own).unwrap());
    insta::assert_snapshot!("system.plist", units::plist(&all).unwrap());
    insta::assert_snapshot!("user_mlxsup.service", units::systemd_service(&own).unwrap());
    insta::assert_snapshot!("system_mlxsup.service", units::systemd_service(&all).unwrap());
    insta::assert_snapshot!("system_mlxsup.socket", units::systemd_socket(&all).unwrap());
    insta::assert_snapshot!("system_mlxsup-tcp.socket", units::systemd_tcp_socket(&all).unwrap().unwrap());
}

/// systemd's own opinion, where it is installed.
#[test]
fn systemd_accepts_the_units() {
    let dir = tempfile::tempdir().unwrap();
    // The verifier looks whether the binary exists.
    let facts = UnitFacts { daemon_path: PathBuf::from("/bin/true"), owner: None, ..system() };
    let write = |name: &str, text: String| std::fs::write(dir.path().join(name), text).unwrap();
    write("mlxsup.service", units::systemd_service(&facts).unwrap());
    write("mlxsup.socket", units::systemd_socket(&facts).unwrap());
    write("mlxsup-tcp.socket", units::systemd_tcp_socket(&facts).unwrap().unwrap());
    let verify = Command::new("systemd-analyze")
        .args(["verify", "--man=no", "--recursive-errors=no"])
        .args(["mlxsup.service", "mlxsup.socket", "mlxsup-tcp.socket"].map(|name| dir.path().join(name)))
        .env("SYSTEMD_UNIT_PATH", format!("{}:", dir.path().display()))
        .output();
    let Ok(output) = verify else {
        println!("systemd-analyze is not installed: skipped");
        return;
    };
    let said = String::from_utf8_lossy(&output.stderr);
    // Older systemd does not know the steps and ignores them, which is what we want there.
    let complaints: Vec<_> = said
        .lines()
        .filter(|line| line.contains("mlxsup"))
        .filter(|line| !line.contains("RestartSteps") && !line.contains("RestartMaxDelaySec"))
        .collect();
    assert!(complaints.is_empty(), "{said}");
}
