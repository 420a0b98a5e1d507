//! `install`, `start`, `stop`, `uninstall` where launchd runs the daemon.

use insta::assert_snapshot;

use crate::machine::Machine;

const INSTALL: &[&str] = &["install", "--for", "launchd", "--deadline", "20s"];
const PLIST: &str = "Library/LaunchAgents/io.github.mlxsup.mlxsupd.plist";

fn installed() -> Machine {
    let machine = Machine::new();
    let screen = machine.run(INSTALL);
    assert!(screen.contains("--- exit 0"), "{screen}");
    machine
}

#[test]
fn install_enables_bootstraps_kicks_and_sees_the_daemon_answer() {
    let machine = Machine::new();
    assert_snapshot!(machine.run(INSTALL));
    let plist = plist::Value::from_file(machine.home.path().join(PLIST)).unwrap();
    assert_eq!(plist.as_dictionary().unwrap()["Label"].as_string(), Some("io.github.mlxsup.mlxsupd"));
}

#[test]
fn bootstrap_is_tried_again_while_an_old_job_is_going() {
    let machine = Machine::new();
    let error = "Bootstrap failed: 5: Input/output error";
    machine.play("bootstrap.fails", &format!("5 {error}\n5 {error}\n37 {error}\n"));
    assert_snapshot!(machine.run(INSTALL));
}

#[test]
fn a_job_without_a_process_is_kicked() {
    let machine = Machine::new();
    machine.play("lazy", "");
    machine.play("kickstart.fails", "37 Operation already in progress\n");
    assert_snapshot!(machine.run(INSTALL));
}

#[test]
fn a_daemon_that_never_comes_up_is_an_error_with_its_traces() {
    let machine = Machine::new();
    machine.play("dead", "");
    let screen = machine.see(&["install", "--for", "launchd", "--deadline", "1s"]);
    assert_snapshot!(screen);
    // What was installed stays, for the next try.
    assert!(machine.holds(PLIST));
    machine.no_longer("dead");
    machine.calls();
    assert_snapshot!("and_starts_once_it_can", machine.run(&["start"]));
}

#[test]
fn a_session_without_a_screen_is_told_what_to_do() {
    let machine = Machine::new();
    machine.play("bootstrap.fails", "125 Bootstrap failed: 125: Domain does not support specified action\n");
    assert_snapshot!(machine.run(INSTALL));
}

#[test]
fn installing_again_restarts_only_what_has_changed() {
    let machine = installed();
    let screen = machine.run(INSTALL);
    assert!(screen.contains("--- exit 0") && !screen.contains("bootout"), "{screen}");
    machine.configure("[drain]\ngrace = \"10m\"\n");
    machine.play("lingers", "1\n2\n3\n");
    assert_snapshot!(machine.run(INSTALL));
    let plist = std::fs::read_to_string(machine.home.path().join(PLIST)).unwrap();
    assert!(plist.contains("<key>ExitTimeOut</key>\n\t<integer>66"), "{plist}");
}

#[test]
fn a_daemon_of_another_origin_is_in_the_way() {
    let machine = Machine::new();
    std::os::unix::fs::symlink("real.sock", machine.home.path().join("control.sock")).unwrap();
    assert_snapshot!(machine.run(INSTALL));
    assert!(!machine.holds(PLIST));
}

#[test]
fn one_service_serves_one_home() {
    let machine = installed();
    let other = machine.home.path().join("other");
    std::fs::create_dir(&other).unwrap();
    std::fs::copy(machine.home.path().join("mlxsup.toml"), other.join("mlxsup.toml")).unwrap();
    let other = other.to_str().unwrap();
    assert_snapshot!(machine.run(&["--home", other, "install", "--for", "launchd"]));
    assert_snapshot!("nor_is_it_uninstalled_by_the_other", machine.run(&["--home", other, "uninstall"]));
}

#[test]
fn a_bad_configuration_installs_nothing() {
    let machine = Machine::new();
    machine.configure("slotz = 3\n");
    assert_snapshot!(machine.run(INSTALL));
    assert!(!machine.holds("Library"));
}

#[test]
fn stop_and_start() {
    let machine = installed();
    assert_snapshot!("start_when_it_runs", machine.run(&["start"]));
    assert_snapshot!("stop", machine.run(&["stop"]));
    assert_snapshot!("status_when_it_is_stopped", machine.run(&["status"]));
    assert_snapshot!("stop_when_it_is_stopped", machine.run(&["stop"]));
    assert_snapshot!("start", machine.run(&["start", "--json"]));
    assert_snapshot!("stop_without_waiting", machine.run(&["stop", "--no-wait"]));
    assert_snapshot!("start_without_waiting", machine.run(&["start", "--no-wait"]));
    assert_snapshot!("stop_keeping_the_worker", machine.run(&["stop", "--keep-worker"]));
}

#[test]
fn uninstall_stops_removes_and_names_what_remains() {
    let machine = installed();
    machine.play("lingers", "1\n2\n");
    std::fs::write(machine.home.path().join("notes.txt"), "mine").unwrap();
    assert_snapshot!(machine.run(&["uninstall"]));
    assert!(!machine.holds(PLIST) && machine.holds("mlxsup.toml"));
    assert_snapshot!("uninstall_again", machine.run(&["uninstall"]));
    assert_snapshot!("start_without_a_service", machine.run(&["start"]));
}

#[test]
fn uninstall_with_purge_removes_what_is_ours() {
    let machine = installed();
    std::fs::write(machine.home.path().join("logs/mlxsupd.log"), "line\n").unwrap();
    std::fs::write(machine.home.path().join("model.gguf"), "weights").unwrap();
    machine.configure("");
    assert_snapshot!(machine.run(&["uninstall", "--purge"]));
    assert!(machine.holds("model.gguf") && !machine.holds("mlxsup.toml") && !machine.holds("logs"));
}

#[test]
fn purge_leaves_a_home_in_use_alone() {
    let machine = Machine::new();
    std::os::unix::fs::symlink("real.sock", machine.home.path().join("control.sock")).unwrap();
    assert_snapshot!(machine.run(&["uninstall", "--purge"]));
    assert!(machine.holds("mlxsup.toml"));
}
