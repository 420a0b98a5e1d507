//! `mlxsupctl top` at a real terminal, before a real daemon.

use std::os::unix::process::ExitStatusExt;

use nix::sys::signal::Signal;

use crate::pty::Terminal;
use crate::service::{Service, eventually};

const SERVING: &str = "serving: requests are answered";

#[test]
fn a_person_watches_the_daemon_go_and_come_back_and_leaves() {
    let rules = "[[rule]]\nname = \"roomy\"\nwhen = [ { metric = \"mlx.cache\", above = \"64MiB\" } ]\nfor = \"1h\"\n\
                 action = \"warn\"\n";
    let mut service = Service::serving("\"cache_bytes\":134217728", rules);
    let mut top = Terminal::start(service.home(), &["top", "--interval", "200ms"], (100, 30));
    top.shows(&[SERVING, "Memory Used", "Memory of the worker", "MLX cache", "[events]", "worker_ready", "q quit"]);
    top.press("\t");
    top.shows(&["[rules]", "roomy", "pending"]);
    top.press("\t?");
    top.shows(&["It only looks"]);
    top.press("?");
    top.shows(&["[clients]", "No client has asked for anything"]);

    service.kill_daemon();
    // The picture stays, under the news.
    top.shows(&["no daemon answers at", "trying again", "Memory of the worker"]);
    service.start();
    service.wait_for("serving");
    top.shows(&[SERVING, "epoch 2"]);

    top.resize((64, 18));
    eventually("the keys in the new last row", || {
        let rows = top.rows();
        let keys = rows.iter().position(|row| row.starts_with("q quit"));
        (keys == Some(17)).then_some(()).ok_or_else(|| rows.join("\n"))
    });
    top.press("q");
    assert_eq!(top.ended().code(), Some(0));
    top.is_given_back();
}

#[test]
fn the_daemon_is_upgraded_under_the_view() {
    let service = Service::serving("", "");
    let mut top = Terminal::start(service.home(), &["top", "--interval", "200ms"], (100, 30));
    top.shows(&[SERVING]);
    service.ctl(&["upgrade"]).ok();
    top.shows(&[SERVING, "epoch 2", "worker_adopted"]);
    top.press("q");
    assert_eq!(top.ended().code(), Some(0));
}

#[test]
fn a_key_is_heard_before_there_is_a_daemon() {
    let service = Service::new("", "");
    let mut top = Terminal::start(service.home(), &["top"], (80, 24));
    top.shows(&["no daemon answers at", "mlxsupd --home"]);
    top.press("\x03");
    assert_eq!(top.ended().code(), Some(0));
    top.is_given_back();
}

#[test]
fn whatever_ends_or_stops_it_gives_the_terminal_back() {
    let service = Service::serving("", "");
    for signal in [Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP] {
        let mut top = Terminal::start(service.home(), &["top"], (80, 24));
        top.shows(&[SERVING]);
        top.press("\x1a");
        top.stopped();
        top.is_given_back();
        top.signal(Signal::SIGCONT);
        top.shows(&[SERVING]);
        top.signal(Signal::SIGTSTP);
        top.stopped();
        top.is_given_back();
        top.signal(Signal::SIGCONT);
        top.shows(&[SERVING]);
        top.signal(signal);
        assert_eq!(top.ended().signal(), Some(signal as i32));
        top.is_given_back();
    }
}
