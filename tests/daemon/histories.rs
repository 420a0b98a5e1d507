//! The history that a real daemon writes: what is in it, and what it survives.

use mlxsup::history::store::Store;
use mlxsup::history::{Query, Reader, Span, curves};
use mlxsup::memory::{Metric, Sample};
use mlxsup::supervisor::Wall;

use crate::http::Connection;
use crate::service::{Service, eventually};

const ALWAYS: Span = Span { from: Wall(0), until: Wall(u64::MAX) };

fn reader(service: &Service) -> Option<Reader> {
    Reader::open(&service.path("history.db")).unwrap()
}

/// Kinds and messages in the file.
fn events(service: &Service) -> Vec<(String, String)> {
    let events = reader(service).map(|reader| reader.events(ALWAYS, &[], 10_000).unwrap()).unwrap_or_default();
    events.into_iter().map(|event| (event.kind, event.message)).collect()
}

fn has_event(service: &Service, kind: &str) -> Result<(), String> {
    let events = events(service);
    events.iter().any(|event| event.0 == kind).then_some(()).ok_or_else(|| format!("no {kind}: {events:#?}"))
}

/// Seconds of the last minutes in which this was recorded.
fn recorded(service: &Service, metric: Metric) -> usize {
    let now = mlxsup::daemon::clock::wall();
    let span = Span::last(std::time::Duration::from_secs(600), now);
    let query = Query { metrics: vec![metric], span, steps: None };
    reader(service).map_or(0, |reader| curves::read(&reader, &query, now).unwrap().curves[0].1.len())
}

#[test]
fn samples_and_events_are_kept_across_daemons() {
    let mut service = Service::serving("\"footprint_bytes\":5000000", "");
    service.ctl(&["restart"]).ok();
    eventually("the restart is in the file", || has_event(&service, "restart_done"));
    eventually("some seconds are in the file", || {
        let recorded = recorded(&service, Metric::SystemUsed);
        (recorded >= 2).then_some(()).ok_or_else(|| format!("{recorded} seconds"))
    });
    let (before, seconds) = (events(&service).len(), recorded(&service, Metric::SystemUsed));
    service.kill_daemon();
    assert!(events(&service).len() >= before, "read while no daemon runs");

    service.start();
    service.wait_for("serving");
    eventually("the adoption is in the same file", || has_event(&service, "worker_adopted"));
    eventually("and more seconds", || {
        let now = recorded(&service, Metric::SystemUsed);
        (now > seconds).then_some(()).ok_or_else(|| format!("{now} seconds"))
    });
    assert!(events(&service).len() > before, "nothing was lost, nothing set aside");
    let service_events = service.events();
    assert!(service_events.iter().all(|(kind, _)| !kind.starts_with("history_")), "{service_events:#?}");

    service.signal(nix::sys::signal::Signal::SIGTERM);
    service.ended();
    has_event(&service, "stopping").unwrap();
}

#[test]
fn a_damaged_history_is_set_aside_and_the_service_goes_on() {
    let mut service = Service::new("", "");
    service.write("history.db", &"no database ".repeat(2000));
    service.start();
    service.wait_for("serving");
    let told = service.wait_for_event("history_set_aside", ".corrupt-");
    assert!(told.contains("damaged"), "{told}");
    assert_eq!(service.chat("{\"messages\":[]}").answer().status, 200);
    eventually("the new file tells of it", || has_event(&service, "history_set_aside"));
    let aside = std::fs::read_dir(service.home())
        .unwrap()
        .filter_map(|entry| entry.unwrap().file_name().into_string().ok())
        .find(|name| name.starts_with("history.db.corrupt-"));
    assert_eq!(service.read(&aside.expect("the damaged file")), "no database ".repeat(2000));
}

#[test]
fn a_history_that_cannot_be_written_stops_nothing() {
    let mut service = Service::new("", "");
    std::fs::create_dir(service.path("history.db")).unwrap();
    service.start();
    service.wait_for("serving");
    service.wait_for_event("history_blocked", "history.db");
    assert_eq!(service.chat("{\"messages\":[]}").answer().status, 200);
    service.signal(nix::sys::signal::Signal::SIGTERM);
    service.ended();
}

#[test]
fn a_daemon_killed_again_and_again_leaves_a_whole_file() {
    let mut service = Service::serving("\"footprint_bytes\":5000000", "");
    for round in 0..3 {
        let before = recorded(&service, Metric::SystemUsed);
        eventually("another batch is written", || {
            let now = recorded(&service, Metric::SystemUsed);
            (now > before).then_some(()).ok_or_else(|| format!("round {round}: {now} seconds"))
        });
        service.kill_daemon();
        service.start();
        service.wait_for("serving");
    }
    let kinds = service.events();
    assert!(kinds.iter().all(|(kind, _)| kind != "history_set_aside"), "{kinds:#?}");
    eventually("every adoption is in it", || {
        let adoptions = events(&service).iter().filter(|event| event.0 == "worker_adopted").count();
        (adoptions == 3).then_some(()).ok_or_else(|| format!("{adoptions} adoptions"))
    });
}

#[test]
fn events_and_curves_reach_back_behind_the_daemon_that_answers() {
    let mut service = Service::serving("\"footprint_bytes\":5000000", "");
    service.ctl(&["restart"]).ok();
    eventually("the restart is in the file", || has_event(&service, "restart_done"));
    service.signal(nix::sys::signal::Signal::SIGTERM);
    service.ended();
    let told = service.ctl(&["events", "-n", "1000"]).ok();
    assert!(told.out.contains("restart_done") && told.out.contains("stopping"), "no daemon runs: {}", told.out);
    assert!(told.err.contains("No daemon answers"), "{}", told.err);

    service.start();
    service.wait_for("serving");
    assert!(service.events().iter().all(|(kind, _)| kind != "restart_done"), "the journal begins with the daemon");
    for arguments in [&["events", "-n", "1000"][..], &["events", "--since", "1h"]] {
        let told = service.ctl(arguments).ok().out;
        let kinds: Vec<_> = told.lines().filter_map(|line| line.split("  ").nth(1)).map(str::trim).collect();
        let position = |wanted| kinds.iter().position(|kind| *kind == wanted);
        assert!(position("restart_done") < position("stopping"), "{told}");
        let readies = kinds.iter().filter(|kind| **kind == "worker_ready").count();
        assert_eq!(readies, 3, "none is told twice: {told}");
    }
    let told = service.ctl(&["events", "-n", "2"]).ok().out;
    assert_eq!(told.lines().count(), 2, "{told}");

    eventually("a curve of the socket", || {
        let mut connection = Connection::open(&service.path("control.sock")).unwrap();
        connection.send("GET", "/v1/history?metric=worker.footprint,system.used&since=10m&steps=100", "", "");
        let history = connection.answer().json();
        let points = history["metrics"][0]["points"].as_array().map_or(0, Vec::len);
        let marked = history["events"].as_array().unwrap().iter().any(|event| event["kind"] == "restart_done");
        (points > 0 && marked).then_some(()).ok_or_else(|| format!("{history:#}"))
    });
    let mut connection = Connection::open(&service.path("control.sock")).unwrap();
    connection.send("GET", "/v1/history?metric=worker.footprnt", "", "");
    let answer = connection.answer();
    assert_eq!(answer.status, 400);
    assert!(answer.body.contains("worker.footprint"), "{}", answer.body);
    let drawn = service.ctl(&["history", "--since", "10m", "--metric", "worker.footprint"]).ok().out;
    assert!(drawn.contains("Memory of the worker") && drawn.contains("r restart"), "{drawn}");
}

#[test]
fn rules_learn_from_what_the_last_daemon_recorded() {
    let rest = "[[rule]]\nname = \"unusual\"\nwhen = [ { metric = \"system.used\", \
                above = { percentile = 99, of = \"4h\" } } ]\nfor = \"0s\"\naction = \"warn\"\n";
    let mut service = Service::new("", rest);
    {
        let mut store = Store::open(&service.path("history.db")).unwrap();
        let now = mlxsup::daemon::clock::wall();
        let samples: Vec<_> = (1..=720)
            .map(|step| {
                let mut sample = Sample::default();
                sample.set(Metric::SystemUsed, Some(1024.0));
                (Wall(now.0 - step * 10_000), sample)
            })
            .rev()
            .collect();
        store.write(&samples, &[]).unwrap();
        store.settle().unwrap();
    }
    service.start();
    service.wait_for("serving");
    let why = service.wait_for_event("rule_fired", "unusual");
    assert!(why.contains("over 1 KiB"), "two hours of four are recorded, which is enough: {why}");
}
