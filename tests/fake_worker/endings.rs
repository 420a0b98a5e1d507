//! How it ends, and what it leaves behind.

use std::os::unix::process::ExitStatusExt;

use nix::sys::signal::Signal;
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use serde_json::Value;

use crate::lone::Lone;

#[test]
fn a_half_frame_is_half_a_frame() {
    let mut worker = Lone::ready("{\"half_frame_at_token\":3,\"exit_code\":4}");
    let answer = worker.complete(9);
    assert!(answer.contains("id: 0:3:1003\n") && !answer.contains("\"text\":\"w3 \"}]"), "{answer}");
    assert_eq!(worker.ended().code(), Some(4));
}

#[test]
fn a_stopped_worker_goes_on_when_continued() {
    let worker = Lone::ready("{\"stop_at_token\":2}");
    std::thread::scope(|scope| {
        let answer = scope.spawn(|| worker.complete(3));
        let stopped = waitpid(worker.pid(), Some(WaitPidFlag::WUNTRACED)).unwrap();
        assert_eq!(stopped, WaitStatus::Stopped(worker.pid(), Signal::SIGSTOP));
        worker.signal(Signal::SIGCONT);
        assert!(answer.join().unwrap().contains("event: end"));
    });
}

#[test]
fn chances_fall_the_same_way_for_the_same_seed() {
    let fatal = |seed: u64| {
        let mut worker = Lone::ready(&format!("{{\"crash_chance\":1.0,\"seed\":{seed}}}"));
        let answer = worker.complete(1000);
        assert_eq!(worker.ended().signal(), Some(6));
        answer.matches("data: ").count()
    };
    assert_eq!(fatal(7), fatal(7));
    assert_ne!(fatal(7), fatal(8));
    let mut worker = Lone::new("{\"fail_load_chance\":1.0,\"exit_code\":5}");
    worker.start();
    assert_eq!(worker.ended().code(), Some(5));
    let worker = Lone::ready("{\"crash_chance\":0.0,\"fail_load_chance\":0.0}");
    assert!(worker.complete(50).contains("event: end"));
}

#[test]
fn only_an_orderly_end_gives_wired_memory_back() {
    let mut worker = Lone::new("{\"strand_bytes\":1000}");
    std::fs::write(worker.path("memory.json"), "{\"total\":9000,\"available\":5000,\"wired\":100}").unwrap();
    let memory = |worker: &Lone| {
        let text = std::fs::read_to_string(worker.path("memory.json")).unwrap();
        let numbers: Value = serde_json::from_str(&text).unwrap();
        ["total", "available", "wired"].map(|key| numbers[key].as_u64().unwrap())
    };
    for (signal, left) in [(Signal::SIGTERM, [9000, 5000, 100]), (Signal::SIGKILL, [9000, 4000, 1100])] {
        worker.start();
        worker.wait_until("loaded", |status| status.phase == mlxsup_worker_api::Phase::Ready);
        assert_eq!(memory(&worker), [9000, 4000, 1100]);
        worker.signal(signal);
        worker.ended();
        assert_eq!(memory(&worker), left, "{signal}");
    }
}

#[test]
fn the_footprint_falls_before_the_exit() {
    let mut worker = Lone::ready("{\"footprint_bytes\":20000000,\"resident_bytes\":8000000,\"shrink_ms\":400}");
    worker.signal(Signal::SIGTERM);
    worker.wait_until("it shrinks", |status| status.memory.footprint_bytes.unwrap() < 20_000_000);
    assert_eq!(worker.ended().code(), Some(0));
    assert!(!worker.path("worker.sock").exists());
}

#[test]
fn a_terminate_signal_can_be_ignored_and_a_lease_runs_out() {
    let mut worker = Lone::ready("{\"ignore_term\":true,\"lease_ms\":300}");
    worker.signal(Signal::SIGTERM);
    assert!(worker.complete(3).contains("event: end"));
    assert_eq!(worker.ended().code(), Some(0));
}
