//! `doctor`: what it finds in a good home, with the daemon down, after a crash, with bad files. Of the machine the tests
//! see a pretended one; sizes of disk and limits are replaced by name.

use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::process::Output;

use insta::assert_snapshot;
use mlxsup::control::view::{ConfigView, State, Status};

use super::fixtures;
use super::machine::Machine;
use super::screen::Home;
use super::server::{Reply, Server};

/// A home with a model that is whole.
struct Patient {
    home: Home,
}

impl Patient {
    fn new() -> Self {
        let home = Home::new();
        std::fs::set_permissions(home.path(), std::fs::Permissions::from_mode(0o700)).unwrap();
        let patient = Self { home };
        let model = patient.at("model");
        std::fs::create_dir(&model).unwrap();
        for (name, text) in [("config.json", "{}"), ("tokenizer.json", "{}"), ("model.safetensors.index.json", INDEX)] {
            std::fs::write(model.join(name), text).unwrap();
        }
        for shard in ["model-1.safetensors", "model-2.safetensors"] {
            std::fs::write(model.join(shard), weights()).unwrap();
        }
        patient.configure("");
        patient
    }

    fn at(&self, name: &str) -> std::path::PathBuf {
        self.home.path().join(name)
    }

    fn configure(&self, rest: &str) {
        let model = self.at("model");
        let text = format!("{rest}[worker]\nmodel = \"{}\"\ncommand = [\"true\"]\n", model.display());
        std::fs::write(self.at("mlxsup.toml"), text).unwrap();
    }

    /// A daemon that says this, and serves the stable socket.
    fn serve(&self, status: Status) -> (Server, UnixListener) {
        let text = std::fs::read_to_string(self.at("mlxsup.toml")).unwrap();
        let hash = mlxsup::config::parse(&text, Path::new("t")).unwrap().hash;
        let config = ConfigView { hash, ..status.config };
        let status = Status { config, ..status };
        let client = UnixListener::bind(self.home.client_socket()).unwrap();
        let replies =
            vec![("GET /v1/status", vec![Reply::ok(&status)]), ("GET /v1/events", vec![Reply::Stream(vec![events()])])];
        (Server::start(&self.home.control_socket(), replies), client)
    }

    fn run(&self, arguments: &[&str]) -> String {
        let output = self.home.command(arguments).env("MLXSUP_FAKE_MACHINE", "1").output().unwrap();
        screen(&self.home, arguments, &output)
    }
}

const INDEX: &str = r#"{"weight_map":{"a":"model-1.safetensors","b":"model-2.safetensors"}}"#;

/// One tensor of 16 bytes.
fn weights() -> Vec<u8> {
    let header = br#"{"a":{"dtype":"F16","shape":[8],"data_offsets":[0,16]}}"#;
    let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
    bytes.extend(header);
    bytes.extend([0; 16]);
    bytes
}

fn events() -> String {
    serde_json::to_string(&fixtures::event("worker_ready", "generation 4 is ready after 14.2 s")).unwrap() + "\n"
}

fn screen(home: &Home, arguments: &[&str], output: &Output) -> String {
    let text = home.screen(arguments, output);
    let line = |line: &str| {
        for (words, name) in [(" of disk are free", "[disk]"), ("open files suffice for ", "[limit]")] {
            if let Some((before, after)) = line.split_once(words) {
                let quoted = line.contains('"');
                return match (name, quoted) {
                    ("[disk]", true) => format!("      \"what\": \"{name}{words}{after}"),
                    ("[disk]", false) => format!("  ok       {name}{words}{after}"),
                    _ => format!("{before}{words}{name} connections at once{}", if quoted { "\"," } else { "" }),
                };
            }
        }
        // How long a stop may take depends on the machine's memory.
        match line.split_once("launchd kills the daemon ").zip(line.split_once(" s after it asked")) {
            Some(((before, _), (_, after))) => {
                format!("{before}launchd kills the daemon [seconds] s after it asked{after}")
            }
            None => line.to_owned(),
        }
    };
    text.lines().map(|text| line(text) + "\n").collect()
}

#[test]
fn a_healthy_home() {
    let patient = Patient::new();
    let _serving = patient.serve(fixtures::serving());
    assert_snapshot!(patient.run(&["doctor"]));
}

#[test]
fn as_json() {
    let patient = Patient::new();
    let _serving = patient.serve(fixtures::serving());
    let text = patient.run(&["doctor", "--json"]);
    assert_snapshot!(text);
}

#[test]
fn the_daemon_is_down() {
    assert_snapshot!(Patient::new().run(&["doctor"]));
}

/// A start waits for what the weights take in memory, which on a CPU is more than what they take on disk.
#[cfg(feature = "fake-worker")]
#[test]
fn room_is_for_unpacked_weights() {
    const MODEL: &str = "mlx-community/Llama-3.2-3B-8bit";
    let shop = super::hub::Shop::linux(64.0);
    shop.put(MODEL, &super::hub::llama(), 3_212_749_824);
    let hub = shop.home.path().join("hub");
    std::fs::write(hub.join("models--mlx-community--Llama-3.2-3B-8bit/snapshots/c0ffee/tokenizer.json"), "{}").unwrap();
    shop.configure(&format!("[worker]\nmodel = \"{MODEL}\"\ncommand = [\"true\"]\n"));
    let mut command = shop.home.command(&["doctor"]);
    command.env("MLXSUP_FAKE_MEMORY", shop.home.path().join("machine.json")).env("MLXSUP_FAKE_MACHINE", "1");
    let screen = screen(&shop.home, &["doctor"], &command.env("HF_HUB_CACHE", hub).output().unwrap());
    assert!(screen.contains(&format!("{MODEL} is whole: 3.2 GiB on disk\n")), "{screen}");
    assert!(screen.contains("40.0 GiB available for weights of 12.0 GiB\n"), "{screen}");
}

#[test]
fn the_service_is_down() {
    let machine = Machine::new();
    machine.run(&["install", "--for", "launchd", "--deadline", "20s"]);
    machine.run(&["stop"]);
    machine.configure("[drain]\ngrace = \"10m\"\n");
    let arguments = ["doctor"];
    let output = machine.command(&arguments).env("MLXSUP_FAKE_MACHINE", "1").output().unwrap();
    assert_snapshot!(machine.named(&screen(&machine.home, &arguments, &output)));
}

#[test]
fn a_daemon_that_died_leaves_stale_sockets() {
    let patient = Patient::new();
    for socket in ["control.sock", "mlxsup.sock", "worker-3.sock"] {
        drop(UnixListener::bind(patient.at(socket)).unwrap());
    }
    assert_snapshot!(patient.run(&["doctor"]));
    assert!(patient.at("worker-3.sock").exists(), "nothing is changed");
}

#[test]
fn a_bad_configuration() {
    let patient = Patient::new();
    std::fs::write(patient.at("mlxsup.toml"), "[worker]\nmodell = \"m\"\nslots = 0\n").unwrap();
    assert_snapshot!(patient.run(&["doctor"]));
}

#[test]
fn a_model_without_one_of_its_shards() {
    let patient = Patient::new();
    std::fs::remove_file(patient.at("model/model-2.safetensors")).unwrap();
    assert_snapshot!(patient.run(&["doctor"]));
}

#[test]
fn a_parked_service() {
    let patient = Patient::new();
    let why = "5 crashes in 30 min, the last: killed by signal 9";
    let status = fixtures::without_worker(State::Parked, "crash_budget", why, "mlxsupctl restart");
    let _serving = patient.serve(status);
    assert_snapshot!(patient.run(&["doctor"]));
}

#[test]
fn no_home_at_all() {
    let patient = Patient::new();
    let none = patient.at("none");
    assert_snapshot!(patient.run(&["--home", none.to_str().unwrap(), "doctor"]));
    assert!(!none.exists(), "nothing is made");
}

/// The report with its long blocks cut out, and the instants in it replaced: those of the fixtures are relative to now.
fn in_short(report: &str) -> String {
    let mut language = "";
    let mut out = String::new();
    for line in report.lines() {
        let was_long = ["toml", "json"].contains(&language);
        if let Some(name) = line.strip_prefix("```") {
            language = name;
        } else if was_long {
            continue;
        }
        match line.split_once(' ') {
            Some((first, rest)) if first.starts_with("20") && first.contains("-") => {
                out.push_str(&format!("[time] {rest}\n"));
            }
            _ => out.push_str(&format!("{line}\n")),
        }
    }
    out
}

#[test]
fn a_report_holds_nothing_private() {
    let patient = Patient::new();
    const KEY: &str = "Zk81-not-a-real-key-77";
    let listen = "[listen]\ntcp = \"127.0.0.1:11535\"\napi_key_file = \"api.key\"\n";
    patient.configure(listen);
    let text = std::fs::read_to_string(patient.at("mlxsup.toml")).unwrap();
    std::fs::write(patient.at("mlxsup.toml"), text + "env = { HF_TOKEN = \"tok-en-of-ann\" }\n").unwrap();
    std::fs::write(patient.at("api.key"), format!("laptop {KEY}\n")).unwrap();
    std::fs::set_permissions(patient.at("api.key"), std::fs::Permissions::from_mode(0o600)).unwrap();
    std::fs::create_dir(patient.at("logs")).unwrap();
    let log = format!(
        "mlxsupd starts home={home}\nkey {KEY} of annie at 192.168.7.9, in /Users/bob, tok-en-of-ann\n",
        home = patient.home.path().display()
    );
    std::fs::write(patient.at("logs/mlxsupd.log"), log).unwrap();
    let _serving = patient.serve(fixtures::serving());
    let arguments = ["doctor", "--report"];
    let mut command = patient.home.command(&arguments);
    command.env("MLXSUP_FAKE_MACHINE", "1").env("USER", "annie");
    let output = command.output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    for private in [KEY, "tok-en-of-ann", "annie", "192.168.7.9", "bob", patient.home.path().to_str().unwrap()] {
        assert!(!said.contains(private), "{private} in\n{said}");
    }
    let status = said.split("```json\n").nth(1).and_then(|rest| rest.split("```").next()).unwrap();
    assert_eq!(serde_json::from_str::<Status>(status).unwrap().daemon.pid, 812);
    assert!(said.contains("# 88 % of memory until the worker has reported its limit\n"), "{said}");
    assert!(said.contains("model = \"[home]/model\"") && said.contains("HF_TOKEN = \"****\""), "{said}");
    assert_snapshot!(in_short(&screen(&patient.home, &arguments, &output)));
}
