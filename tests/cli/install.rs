//! `mlxsupctl install --into`: files that the service managers take, and what is refused.

use crate::screen::Home;

#[test]
fn a_plist_is_filled_from_the_home() {
    let home = Home::new();
    std::fs::write(home.path().join("mlxsup.toml"), "[worker]\nmodel = \"m\"\n[drain]\ngrace = \"30s\"\n").unwrap();
    let into = home.path().join("units");
    let screen = home.run(&["install", "--for", "launchd", "--into", into.to_str().unwrap()]);
    insta::assert_snapshot!(screen);
    let plist = plist::Value::from_file(into.join("io.github.mlxsup.mlxsupd.plist")).unwrap();
    let plist = plist.as_dictionary().unwrap();
    assert_eq!(plist["ExitTimeOut"].as_unsigned_integer(), Some(90), "grace and a minute");
    let arguments = plist["ProgramArguments"].as_array().unwrap();
    assert_eq!(arguments[2].as_string(), home.path().to_str());
    assert!(arguments[0].as_string().is_some_and(|program| program.ends_with("/mlxsupd")));
}

#[test]
fn systemd_gets_a_service_and_a_socket() {
    let home = Home::new();
    let into = home.path().join("units");
    insta::assert_snapshot!(home.run(&["install", "--for", "systemd", "--into", into.to_str().unwrap()]));
    let socket = std::fs::read_to_string(into.join("mlxsup.socket")).unwrap();
    assert!(socket.contains(&format!("ListenStream={}", home.path().join("mlxsup.sock").display())), "{socket}");
    assert!(into.join("mlxsup.service").is_file());
}

#[test]
fn a_system_service_never_runs_as_root() {
    let home = Home::new();
    let into = home.path().join("units");
    let arguments = ["install", "--system", "--user", "root", "--into", into.to_str().unwrap()];
    insta::assert_snapshot!(home.run(&arguments));
    assert!(!into.exists());
}
