//! `logs`: the end of a file, and what follows.

use std::io::{BufRead, BufReader, Write};

use insta::assert_snapshot;

use super::screen::Home;

fn home_with_log(name: &str, text: &str) -> Home {
    let home = Home::new();
    std::fs::create_dir(home.path().join("logs")).unwrap();
    std::fs::write(home.path().join("logs").join(name), text).unwrap();
    home
}

#[test]
fn the_last_lines() {
    let home = home_with_log("requests.log", "at=1 id=a\nat=2 id=b\nat=3 id=c\n");
    assert_snapshot!(home.run(&["logs", "requests", "-n", "2"]));
}

#[test]
fn no_log_yet() {
    assert_snapshot!(Home::new().run(&["logs", "worker"]));
}

#[test]
fn followed_across_rotation() {
    let home = home_with_log("mlxsupd.log", "one\n");
    let path = home.path().join("logs/mlxsupd.log");
    let mut child = home.command(&["logs", "-f"]).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut next = || lines.next().unwrap().unwrap();
    assert_eq!(next(), "one");
    std::fs::OpenOptions::new().append(true).open(&path).unwrap().write_all(b"two\n").unwrap();
    assert_eq!(next(), "two");
    std::fs::rename(&path, home.path().join("logs/mlxsupd.log.1")).unwrap();
    std::fs::write(&path, "three\n").unwrap();
    assert_eq!(next(), "three");
    child.kill().unwrap();
    child.wait().unwrap();
}
