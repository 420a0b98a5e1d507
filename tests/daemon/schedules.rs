//! What runs by the clock.

use nix::sys::signal::Signal;
use serde_json::Value;

use crate::service::Service;

const NIGHTLY: &str = "[[schedule]]\nname = \"nightly\"\ncron = \"0 4 * * *\"\naction = \"restart\"\n";

fn every_second(action: &str) -> String {
    format!(
        "[[schedule]]\nname = \"often\"\ncron = \"* * * * * *\"\naction = \"{action}\"\nmin_uptime = \"0s\"\n\
         wait_for_idle = \"1s\"\n"
    )
}

#[test]
fn four_in_the_morning_can_be_proved_in_the_afternoon() {
    let mut service = Service::serving("", NIGHTLY);
    let said = service.ctl(&["schedule", "run", "nightly"]);
    assert_eq!(said.code, Some(0), "{} {}", said.out, said.err);
    let status = service.wait_until("the restart", |status| status["worker"]["generation"] == 2);
    drop(status);
    let status = service.wait_for("serving");
    assert_eq!(status["last_restart"]["reason"], "schedule nightly");
    let unknown = service.ctl(&["schedule", "run", "nightyl"]);
    assert_ne!(unknown.code, Some(0));
    assert!(unknown.err.contains("nightly"), "{}", unknown.err);
}

#[test]
fn a_schedule_of_every_second_restarts_the_worker() {
    let mut service = Service::serving("", &every_second("restart"));
    let status = service.wait_until("the second restart", |status| {
        status["worker"]["generation"].as_u64() >= Some(3) && status["last_restart"].is_object()
    });
    assert_eq!(status["last_restart"]["reason"], "schedule often");
    assert!(status["schedules"][0]["next_at"].is_string());
    service.wait_for_event("schedule_due", "often");
}

#[test]
fn a_schedule_of_every_second_clears_the_cache() {
    let service = Service::serving("\"cache_bytes\":1073741824", &every_second("clear-cache"));
    service.wait_for_event("cache_cleared", "0");
    assert_eq!(service.generation(), 1);
}

#[test]
fn a_young_worker_is_left_alone() {
    let rest = every_second("restart").replace("min_uptime = \"0s\"", "min_uptime = \"6h\"");
    let service = Service::serving("", &rest);
    service.wait_for_event("schedule_skipped", "min_uptime");
    assert_eq!(service.generation(), 1);
}

#[test]
fn a_daemon_that_was_down_over_a_firing_makes_up_for_it_once() {
    let schedule = NIGHTLY.replace("\"restart\"", "\"clear-cache\"\nmissed = \"run-once\"\nwait_for_idle = \"0s\"");
    let mut service = Service::serving("", &schedule);
    let stop = |service: &mut Service| {
        service.signal(Signal::SIGTERM);
        assert!(service.ended().success());
    };
    stop(&mut service);
    // It was two days ago, as the state tells it.
    let mut state: Value = serde_json::from_str(&service.read("state.json")).unwrap();
    let begun = state["core"]["firings"]["nightly"].as_u64().expect("a schedule counts from when it was first seen");
    state["core"]["firings"]["nightly"] = (begun - 2 * 86_400_000).into();
    service.write("state.json", &state.to_string());
    service.start();
    service.wait_for("serving");
    service.wait_for_event("schedule_missed", "nightly");
    service.wait_for_event("cache_cleared", "");
    stop(&mut service);
    service.start();
    service.wait_for("serving");
    assert!(service.events().iter().all(|(kind, _)| !kind.starts_with("schedule_")), "{:?}", service.events());
}
