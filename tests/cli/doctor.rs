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
