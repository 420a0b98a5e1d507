//! A machine of the test's own: a home, a daemon, and `launchctl` and `systemctl` as scripts, first in PATH, which record
//! what they are told and play what the test wrote down.

use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::Command;

use mlxsup::control::view::Status;

use crate::fixtures;
use crate::screen::Home;
use crate::server::{Reply, Server};

const LAUNCHCTL: &str = include_str!("../fakes/launchctl.sh");
const SYSTEMCTL: &str = include_str!("../fakes/systemctl.sh");

/// The pid of the daemon that is pretended: larger than any a kernel hands out.
pub const DAEMON: u32 = 99_000_812;

/// A home, a service manager, and a daemon that answers once the manager has started it.
pub struct Machine {
    pub home: Home,
    fakes: Home,
    _daemon: Server,
}

impl Machine {
    pub fn new() -> Self {
        let (home, fakes) = (Home::new(), Home::new());
        let status = Status { daemon: fixtures::daemon(DAEMON), ..fixtures::starting() };
        let daemon = Server::start(&home.path().join("real.sock"), vec![("GET /v1/status", vec![Reply::ok(&status)])]);
        let machine = Self { home, fakes, _daemon: daemon };
        for (name, script) in [("launchctl", LAUNCHCTL), ("systemctl", SYSTEMCTL)] {
            machine.play(name, script);
            std::fs::set_permissions(machine.fake(name), std::fs::Permissions::from_mode(0o755)).unwrap();
        }
        machine.play("home", machine.home.path().to_str().unwrap());
        machine.play("pid.next", &DAEMON.to_string());
        machine.configure("");
        machine
    }

    /// A complete configuration and what the test adds to it.
    pub fn configure(&self, rest: &str) {
        let text = format!("[worker]\nmodel = \"m\"\ncommand = [\"true\"]\n{rest}");
        std::fs::write(self.home.path().join("mlxsup.toml"), text).unwrap();
    }

    /// Writes one of the files the script goes by.
    pub fn play(&self, file: &str, text: &str) {
        std::fs::write(self.fake(file), text).unwrap();
    }

    pub fn no_longer(&self, file: &str) {
        std::fs::remove_file(self.fake(file)).unwrap();
    }

    fn fake(&self, file: &str) -> PathBuf {
        self.fakes.path().join(file)
    }

    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = self.home.command(arguments);
        command.env("PATH", format!("{}:/usr/bin:/bin", self.fakes.path().display()));
        command
    }

    /// What the person sees.
    pub fn see(&self, arguments: &[&str]) -> String {
        let screen = self.run(arguments);
        screen.split("--- told\n").next().unwrap().to_owned()
    }

    /// What the person sees, and below it what the service manager was told since the last time.
    pub fn run(&self, arguments: &[&str]) -> String {
        let output = self.command(arguments).output().unwrap();
        let screen = self.home.screen(arguments, &output);
        self.named(&format!("{screen}--- told\n{}", self.calls()))
    }

    /// What the service manager was told since the last time.
    pub fn calls(&self) -> String {
        let calls = std::fs::read_to_string(self.fake("calls")).unwrap_or_default();
        self.play("calls", "");
        // How often is looked depends on the machine's speed.
        let mut lines: Vec<&str> = calls.lines().collect();
        lines.dedup();
        lines.into_iter().map(|line| self.named(line) + "\n").collect()
    }

    pub fn named(&self, text: &str) -> String {
        text.replace(self.home.path().to_str().unwrap(), "[HOME]")
            .replace(&format!("gui/{}", nix::unistd::getuid()), "gui/[uid]")
            .replace(&DAEMON.to_string(), "[pid]")
    }

    pub fn holds(&self, file: &str) -> bool {
        self.home.path().join(file).symlink_metadata().is_ok()
    }
}
