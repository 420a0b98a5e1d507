//! Everything that keeps the daemon from starting: one clear message and an exit status each.

use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener;
use std::os::unix::process::CommandExt;

use insta::assert_snapshot;

use crate::service::{Said, Service};

/// What a person sees, volatile parts replaced by name.
fn screen(service: &Service, said: &Said) -> String {
    let mut text = said.out.clone() + &said.err;
    text.push_str(&match said.code {
        Some(code) => format!("--- exit {code}\n"),
        None => "--- killed\n".to_owned(),
    });
    let text = text.replace(service.home().to_str().unwrap(), "[HOME]");
    // The same error has different numbers on Linux and macOS, and pids and limits differ anyway.
    let text = number_after(&text, "(os error ", "[errno]");
    let text = number_after(&text, "(pid ", "[pid]");
    let text = number_after(&text, "this system allows ", "[limit]");
    let text = number_after(&text, ".sock has ", "[length]");
    text.replace("; Linux takes 107", "; [system] takes [limit]")
        .replace("; macOS takes 103", "; [system] takes [limit]")
}

fn number_after(text: &str, before: &str, name: &str) -> String {
    let mut parts = text.split(before);
    let mut out = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let rest = part.trim_start_matches(|digit: char| digit.is_ascii_digit());
        out.push_str(before);
        out.push_str(if rest.len() == part.len() { "" } else { name });
        out.push_str(rest);
    }
    out
}

fn refused(service: &Service) -> String {
    let screen = screen(service, &service.start_fails());
    for socket in ["mlxsup.sock", "control.sock"] {
        let path = service.path(socket);
        assert!(!path.exists() || path.is_file(), "{socket} was left behind");
    }
    screen
}

#[test]
fn no_configuration() {
    let service = Service::new("", "");
    std::fs::remove_file(service.path("mlxsup.toml")).unwrap();
    assert_snapshot!(refused(&service));
}

#[test]
fn a_wrong_configuration_with_all_its_problems() {
    let service = Service::new("", "");
    service.write(
        "mlxsup.toml",
        "[worker]\nmodel = \"fake\"\nslotz = 4\nstart_timeout = \"10\"\n\n[drain]\ngrace = \"5 minuts\"\n",
    );
    assert_snapshot!(refused(&service));
}

#[test]
fn a_configuration_that_is_no_toml() {
    let service = Service::new("", "");
    service.write("mlxsup.toml", "[worker\nmodel = \"fake\"\n");
    assert_snapshot!(refused(&service));
}

#[test]
fn a_model_that_is_not_there() {
    let service = Service::new("", "");
    service.write("mlxsup.toml", "[worker]\nmodel = \"/nowhere/Some-Model-8bit\"\ncommand = [\"true\"]\n");
    assert_snapshot!(refused(&service));
}

#[test]
fn a_worker_program_that_is_not_there() {
    let service = Service::new("", "");
    service.write("mlxsup.toml", "[worker]\nmodel = \"fake\"\ncommand = [\"/nowhere/mlxsup-worker\"]\n");
    assert_snapshot!(refused(&service));
}

#[test]
fn a_socket_that_another_program_serves() {
    let service = Service::new("", "");
    let outside = tempfile::Builder::new().prefix("out").tempdir_in("/tmp").unwrap();
    let socket = outside.path().join("taken.sock");
    let _listener = UnixListener::bind(&socket).unwrap();
    service.configure("", &format!("[listen]\nsocket = \"{}\"\n", socket.display()));
    let screen = refused(&service).replace(outside.path().to_str().unwrap(), "[OUTSIDE]");
    assert_snapshot!(screen);
    assert!(socket.exists());
}

#[test]
fn a_file_where_the_socket_should_be() {
    let service = Service::new("", "");
    service.write("mlxsup.sock", "precious");
    assert_snapshot!(refused(&service));
    assert_eq!(service.read("mlxsup.sock"), "precious");
}

#[test]
fn a_socket_in_a_folder_that_is_not_there() {
    let service = Service::new("", "");
    service.configure("", "[listen]\nsocket = \"/nowhere/at/all/mlxsup.sock\"\n");
    assert_snapshot!(refused(&service));
}

#[test]
fn a_socket_path_that_is_too_long() {
    let service = Service::new("", "");
    let long = service.path(&"x".repeat(120));
    std::fs::create_dir(&long).unwrap();
    std::fs::rename(service.path("mlxsup.toml"), long.join("mlxsup.toml")).unwrap();
    let said: Said = service.daemon_command().arg("--home").arg(&long).output().unwrap().into();
    assert_snapshot!(screen(&service, &said).replace(&"x".repeat(120), "[120 times x]"));
}

#[test]
fn a_configured_socket_path_that_is_too_long() {
    let service = Service::new("", "");
    service.configure("", &format!("[listen]\nsocket = \"/tmp/{}.sock\"\n", "x".repeat(120)));
    assert_snapshot!(refused(&service).replace(&"x".repeat(120), "[120 times x]"));
}

#[test]
fn a_home_that_is_a_file() {
    let service = Service::new("", "");
    let config = service.path("mlxsup.toml");
    let home = service.path("file");
    service.write("file", "");
    let said: Said =
        service.daemon_command().arg("--home").arg(home).arg("--config").arg(config).output().unwrap().into();
    assert_snapshot!(screen(&service, &said));
}

#[test]
fn a_home_that_cannot_be_read() {
    let service = Service::new("", "");
    std::fs::set_permissions(service.home(), std::fs::Permissions::from_mode(0o755)).unwrap();
    let closed = service.path("closed");
    std::fs::create_dir(&closed).unwrap();
    std::fs::set_permissions(&closed, std::fs::Permissions::from_mode(0o000)).unwrap();
    let mut command = service.daemon_command();
    if nix::unistd::geteuid().is_root() {
        // Nothing is closed to root: somebody else tries, with a copy of the program that is within reach.
        let program = service.path("mlxsupd");
        std::fs::copy(env!("CARGO_BIN_EXE_mlxsupd"), &program).unwrap();
        command = std::process::Command::new(program);
        command.env_clear().uid(65_534).gid(65_534);
    }
    let said: Said = command.arg("--home").arg(closed.join("home")).output().unwrap().into();
    assert_snapshot!(screen(&service, &said));
}

#[test]
fn a_home_of_somebody_else() {
    let service = Service::new("", "");
    let config = service.path("mlxsup.toml");
    // The system's temporary folder belongs to root; to root it is this home that is another's.
    let (home, owner, us) = if nix::unistd::geteuid().is_root() {
        let uid = nix::unistd::Uid::from_raw(65_534);
        let home = service.path("foreign");
        std::fs::create_dir(&home).unwrap();
        nix::unistd::chown(&home, Some(uid), None).unwrap();
        (home, 65_534, 0)
    } else {
        (std::path::PathBuf::from("/usr"), 0, nix::unistd::geteuid().as_raw())
    };
    let said: Said =
        service.daemon_command().arg("--home").arg(&home).arg("--config").arg(config).output().unwrap().into();
    let screen = screen(&service, &said)
        .replace(home.file_name().unwrap().to_str().unwrap(), "[FOREIGN]")
        .replace("[HOME]/[FOREIGN]", "[FOREIGN]")
        .replace("/[FOREIGN]", "[FOREIGN]")
        .replace(&format!("uid {owner},"), "uid [other],")
        .replace(&format!("uid {us};"), "uid [us];");
    assert_snapshot!(screen);
}

#[test]
fn a_second_daemon_in_the_same_home() {
    let service = Service::serving("", "");
    let said = service.start_fails();
    assert_snapshot!(screen(&service, &said));
    assert_eq!(service.status()["state"], "serving", "the first one is not disturbed");
    assert!(service.path("control.sock").exists() && service.path("mlxsup.sock").exists());
}

#[test]
fn check_judges_without_starting() {
    let service = Service::new("", "");
    let said: Said = service.daemon_command().arg("--check").output().unwrap().into();
    assert_eq!(said.code, Some(0), "{}", said.err);
    assert!(!service.path("mlxsupd.lock").exists());
    service.write("mlxsup.toml", "[worker]\nmodel = \"x\"\nslots = 0\nenv = { MLXSUP_FAKE = \"1\" }\n");
    let said: Said = service.daemon_command().arg("--check").output().unwrap().into();
    assert_snapshot!(screen(&service, &said));
}

#[test]
fn a_flag_that_does_not_exist() {
    let service = Service::new("", "");
    let said: Said = service.daemon_command().arg("--hoem").output().unwrap().into();
    assert_snapshot!(screen(&service, &said));
}
