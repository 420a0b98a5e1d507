//! The daemon as a service, from `install` to `uninstall --purge`, under service managers of the test's own that really
//! run what they are given.

use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use nix::sys::signal::{Signal, kill};
use tempfile::TempDir;

use crate::http::expected;
use crate::service::{Said, Service, pid};

/// A home, and a service manager first in PATH.
struct Machine {
    service: Service,
    fakes: TempDir,
}

impl Machine {
    fn new(program: &str, script: &str) -> Self {
        let fakes = tempfile::tempdir().unwrap();
        let path = fakes.path().join(program);
        std::fs::write(&path, script).unwrap();
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).unwrap();
        Self { service: Service::new("\"tokens\":5", ""), fakes }
    }

    fn ctl(&self, arguments: &[&str]) -> Said {
        let mut command = self.service.ctl_command(arguments);
        command.env("PATH", format!("{}:/usr/bin:/bin", self.fakes.path().display()));
        command.output().unwrap().into()
    }

    fn pid_file(&self) -> PathBuf {
        self.fakes.path().join("pid")
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        // Only where a test failed half-way: otherwise nobody has this number any more, or the daemon is on its way out.
        if self.fakes.path().join("registered").exists()
            && let Ok(number) = std::fs::read_to_string(self.pid_file()).unwrap_or_default().trim().parse()
        {
            let _ = kill(pid(number), Signal::SIGKILL);
        }
    }
}

fn whole_life(manager: &str, program: &str, script: &str) {
    let mut machine = Machine::new(program, script);
    let said = machine.ctl(&["install", "--for", manager]).ok();
    assert!(said.out.contains("mlxsupd runs (pid "), "{}", said.out);
    machine.service.wait_for("serving");
    assert_eq!(machine.service.chat("{\"messages\":[]}").answer().text(), expected(5));
    let first = machine.service.status()["daemon"]["pid"].clone();
    let again = machine.ctl(&["install", "--for", manager]).ok();
    assert!(again.out.contains(&format!("pid {first}")), "the daemon was not disturbed: {}", again.out);

    machine.ctl(&["stop"]).ok();
    assert!(machine.service.try_status().is_none(), "stop returns once nobody answers");
    machine.ctl(&["start"]).ok();
    let second = machine.service.wait_for("serving")["daemon"]["pid"].clone();
    assert_ne!(first, second);

    let said = machine.ctl(&["uninstall", "--purge"]).ok();
    assert!(machine.service.try_status().is_none());
    for gone in ["mlxsup.toml", "mlxsup.last-good.toml", "state.json", "logs", "control.sock", "mlxsupd.lock"] {
        assert!(!machine.service.path(gone).exists(), "{gone}: {}", said.out);
    }
}

#[test]
fn a_whole_life_under_launchd() {
    whole_life("launchd", "launchctl", include_str!("../fakes/running_launchctl.sh"));
}

#[test]
fn a_whole_life_under_systemd() {
    whole_life("systemd", "systemctl", include_str!("../fakes/running_systemctl.sh"));
}
