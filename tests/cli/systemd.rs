//! `install`, `start`, `stop`, `uninstall` where systemd runs the daemon.

use insta::assert_snapshot;

use crate::machine::Machine;

const INSTALL: &[&str] = &["install", "--for", "systemd", "--deadline", "20s"];
const UNITS: &str = ".config/systemd/user";

fn installed() -> Machine {
    let machine = Machine::new();
    let screen = machine.run(INSTALL);
    assert!(screen.contains("--- exit 0"), "{screen}");
    machine
}

#[test]
fn install_enables_starts_and_sees_the_daemon_answer() {
    let machine = Machine::new();
    assert_snapshot!(machine.run(INSTALL));
    for unit in ["mlxsup.service", "mlxsup.socket"] {
        assert!(machine.holds(&format!("{UNITS}/{unit}")), "{unit}");
    }
}

#[test]
fn a_user_without_a_systemd_of_their_own_is_told_what_to_do() {
    let machine = Machine::new();
    machine.play("show.fails", "1 Failed to connect to bus: No medium found\n");
    assert_snapshot!(machine.run(INSTALL));
}

#[test]
fn a_service_that_fails_to_start_is_an_error_with_its_traces() {
    let machine = Machine::new();
    let said = "Job for mlxsup.service failed because the control process exited with error code.";
    machine.play("enable.fails", &format!("1 {said}\n"));
    assert_snapshot!(machine.run(INSTALL));
}

#[test]
fn a_daemon_that_never_comes_up_is_an_error_with_its_traces() {
    let machine = Machine::new();
    machine.play("dead", "");
    assert_snapshot!(machine.see(&["install", "--for", "systemd", "--deadline", "1s"]));
}

#[test]
fn a_socket_that_is_no_longer_configured_is_taken_out() {
    let machine = Machine::new();
    machine.configure("[listen]\ntcp = \"127.0.0.1:11535\"\napi_key_file = \"none\"\n");
    assert_snapshot!("with_tcp", machine.run(INSTALL));
    machine.configure("");
    assert_snapshot!("without_tcp", machine.run(INSTALL));
    assert!(!machine.holds(&format!("{UNITS}/mlxsup-tcp.socket")));
}

#[test]
fn stop_and_start() {
    let machine = installed();
    assert_snapshot!("stop", machine.run(&["stop"]));
    assert_snapshot!("start", machine.run(&["start"]));
    assert_snapshot!("stop_without_waiting", machine.run(&["stop", "--no-wait"]));
    assert_snapshot!("start_without_waiting", machine.run(&["start", "--no-wait"]));
}

#[test]
fn uninstall_disables_removes_and_rereads() {
    let machine = installed();
    assert_snapshot!(machine.run(&["uninstall"]));
    for unit in ["mlxsup.service", "mlxsup.socket"] {
        assert!(!machine.holds(&format!("{UNITS}/{unit}")), "{unit}");
    }
}

#[test]
fn without_any_service_manager_there_is_still_a_way() {
    let machine = Machine::new();
    let output = machine.command(INSTALL).env("PATH", "/nowhere").output().unwrap();
    assert_snapshot!(machine.home.screen(INSTALL, &output));
}
