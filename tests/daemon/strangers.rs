//! Other users of the machine at the daemon's sockets. Needs root, to be somebody else.

use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Output;

use crate::service::{Service, eventually};

const NOBODY: u32 = 65534;

fn open_to(path: &Path, mode: u32) {
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
}

#[test]
fn file_modes_alone_let_nobody_in() {
    if !nix::unistd::geteuid().is_root() {
        return;
    }
    let service = Service::serving("", "");
    // As if somebody had opened everything by hand.
    open_to(service.home(), 0o755);
    for socket in ["mlxsup.sock", "control.sock"] {
        open_to(&service.path(socket), 0o666);
    }
    let program = service.path("mlxsupctl");
    std::fs::copy(env!("CARGO_BIN_EXE_mlxsupctl"), &program).unwrap();
    open_to(&program, 0o755);
    let as_nobody = |arguments: &[&str]| -> Output {
        let mut command = std::process::Command::new(&program);
        command.env_clear().env("HOME", "/").env("MLXSUP_HOME", service.home()).current_dir("/");
        command.args(arguments).uid(NOBODY).gid(NOBODY).output().unwrap()
    };
    let said = as_nobody(&["status", "--json"]);
    assert!(!said.status.success() && said.stdout.is_empty(), "{said:?}");
    let log = || service.read("logs/mlxsupd.log");
    eventually("the refusal is logged", || {
        let log = log();
        if log.contains("refused a foreign uid") && log.contains("uid=65534") { Ok(()) } else { Err(log) }
    });
    let said = as_nobody(&["unload"]);
    assert!(!said.status.success(), "{said:?}");
    let said = as_nobody(&["chat", "hello"]);
    let told = String::from_utf8_lossy(&said.stderr).into_owned();
    assert!(!said.status.success() && told.contains("uid 65534 is not served"), "{told}");
    assert_eq!(service.status()["state"], "serving");
    // Listed, they may ask the model, and still steer nothing.
    let listed =
        service.read("mlxsup.toml") + "[listen]\nsocket = \"/nowhere/x\"\nmode = \"0666\"\nallow_uids = [65534]\n";
    service.write("mlxsup.toml", &listed);
    service.ctl(&["reload"]).ok();
    let said = as_nobody(&["status", "--json"]);
    assert!(!said.status.success() && said.stdout.is_empty(), "{said:?}");
}
