//! A worker outlives its daemon, and the next one goes on with it, or ends it, or leaves a stranger alone.

use std::os::unix::net::UnixListener;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command};
use std::time::Instant;

use mlxsup::daemon::leftover;
use mlxsup::daemon::state_file::{self, State, WorkerRecord};
use mlxsup::memory::process_start_id;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::http::expected;
use crate::service::{Service, eventually, exists, pid};

/// Quick to find out that somebody does not answer.
const IMPATIENT: &str = "[health]\ninterval = \"100ms\"\ntimeout = \"100ms\"\nfailures = 2\n";

fn state_of(service: &Service) -> State {
    let (state, problem) = state_file::read(&service.path("state.json"));
    assert_eq!(problem, None);
    state
}

fn keep(service: &Service, change: impl FnOnce(&mut State)) {
    let mut state = state_of(service);
    change(&mut state);
    state_file::write(&service.path("state.json"), &state).unwrap();
}

fn gone(service: &Service, worker: Pid) {
    eventually("the process is gone", || {
        let known = state_of(service).workers;
        let runs = leftover_runs(worker) || known.iter().any(|record| pid(record.pid) == worker);
        if runs { Err(format!("{worker} is still there: {known:?}")) } else { Ok(()) }
    });
}

/// An orphan stays a zombie where nobody reaps it, so that its existence says nothing.
fn leftover_runs(worker: Pid) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{worker}/stat")).unwrap_or_default();
    exists(worker) && !stat.contains(") Z ")
}

/// A process of the test's own that must come to no harm.
struct Bystander(Child);

impl Bystander {
    fn new() -> Self {
        Self(Command::new("sleep").arg("600").process_group(0).spawn().unwrap())
    }

    #[track_caller]
    fn unharmed(mut self) {
        assert_eq!(self.0.try_wait().unwrap(), None, "it was signalled");
    }
}

impl Drop for Bystander {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn after_kill_9_of_the_daemon_the_same_worker_serves() {
    let mut service = Service::serving("", "");
    assert_eq!(service.chat("{\"messages\":[]}").answer().text(), expected(16));
    for round in 2..=4 {
        let worker = service.worker_pid();
        service.kill_daemon();
        assert!(exists(worker), "the worker outlives its daemon");
        // Nobody holds the lock for the dead daemon: the worker did not inherit it.
        service.start();
        let status = service.wait_for("serving");
        assert_eq!(status["daemon"]["epoch"], round);
        assert_eq!((service.worker_pid(), service.generation()), (worker, 1));
        let note = service.wait_for_event("worker_adopted", "serves fake");
        assert!(note.contains(&worker.to_string()), "{note}");
        assert_eq!(service.chat("{\"messages\":[]}").answer().text(), expected(16));
        assert_eq!(service.chat("{\"messages\":[],\"stream\":true}").answer().streamed(), expected(16));
        assert_eq!(state_of(&service).epoch, round);
    }
    // It is a worker like any other: its successor counts on, and it goes when it is told.
    let adopted = service.worker_pid();
    service.ctl(&["restart"]).ok();
    assert_eq!(service.generation(), 2);
    gone(&service, adopted);
}

#[test]
fn a_worker_kept_by_a_planned_stop_serves_the_next_daemon() {
    let mut service = Service::serving("", "");
    let worker = service.worker_pid();
    service.ctl(&["stop", "--keep-worker"]).ok();
    assert_eq!(service.ended().code(), Some(0));
    service.start();
    service.wait_for("serving");
    assert_eq!((service.worker_pid(), service.generation()), (worker, 1));
    assert_eq!(service.chat("{\"messages\":[]}").answer().text(), expected(16));
    service.ctl(&["stop"]).ok();
    assert_eq!(service.ended().code(), Some(0));
    gone(&service, worker);
}

#[test]
fn an_adopted_worker_that_crashes_is_replaced_and_its_request_carried_over() {
    let mut service = Service::serving("\"token_ms\":10", "");
    let worker = service.worker_pid();
    service.kill_daemon();
    service.start();
    service.wait_for("serving");
    let stream = service.stream_running("{\"messages\":[],\"stream\":true,\"max_tokens\":40}");
    kill(worker, Signal::SIGKILL).unwrap();
    assert_eq!(stream.answer().streamed(), expected(40));
    service.wait_for("serving");
    assert_eq!(service.generation(), 2);
    // Whose child it was, its parent would know; the last daemon is not there to ask.
    service.wait_for_event("worker_crashed", "");
    assert_eq!(service.settled()["ledger"]["lost"], 0);
}

#[test]
fn a_worker_that_hangs_is_ended_and_replaced() {
    let mut service = Service::serving("", IMPATIENT);
    let worker = service.worker_pid();
    service.kill_daemon();
    kill(worker, Signal::SIGSTOP).unwrap();
    service.start();
    service.wait_until("the next worker", |status| status["state"] == "serving" && status["worker"]["generation"] == 2);
    service.wait_for_event("worker_adopted", "is ended");
    gone(&service, worker);
    assert_eq!(service.chat("{\"messages\":[]}").answer().text(), expected(16));
}

#[test]
fn a_worker_that_ends_while_no_daemon_runs_is_missed_and_replaced() {
    let mut service = Service::serving("", "");
    let worker = service.worker_pid();
    service.kill_daemon();
    kill(worker, Signal::SIGKILL).unwrap();
    eventually("it ends", || if leftover_runs(worker) { Err(String::new()) } else { Ok(()) });
    service.start();
    service.wait_for("serving");
    service.wait_for_event("leftover_worker", "ended while no daemon ran");
    assert_eq!(service.generation(), 2);
    assert_eq!(state_of(&service).workers.len(), 1);
}

#[test]
fn a_loading_worker_is_adopted_and_becomes_ready() {
    let mut service = Service::new("\"load_ms\":3000", "");
    service.start();
    service.wait_until("loading", |status| status["worker"]["phase"] == "loading");
    let worker = service.worker_pid();
    service.kill_daemon();
    service.start();
    service.wait_for_event("worker_adopted", "loads");
    assert_eq!(service.status()["state"], "starting");
    let mut early = service.chat("{\"messages\":[]}");
    service.wait_for("serving");
    assert_eq!((service.worker_pid(), service.generation()), (worker, 1));
    assert_eq!(early.answer().text(), expected(16));
}

#[test]
fn a_worker_that_never_becomes_ready_has_no_more_time_than_it_had() {
    let mut service = Service::new("\"load_ms\":600000", "");
    let config = service.read("mlxsup.toml").replace("[worker]\n", "[worker]\nstart_timeout = \"3s\"\n");
    service.write("mlxsup.toml", &config);
    service.start();
    service.wait_until("loading", |status| status["worker"]["phase"] == "loading");
    let spawned = Instant::now();
    let worker = service.worker_pid();
    service.kill_daemon();
    service.start();
    service.wait_for_event("worker_late", "");
    assert!(spawned.elapsed().as_secs() < 10, "{:?}", spawned.elapsed());
    gone(&service, worker);
}

#[test]
fn a_pid_that_belongs_to_somebody_else_now_is_left_alone() {
    let mut service = Service::serving("", "");
    let worker = service.worker_pid();
    service.kill_daemon();
    kill(worker, Signal::SIGKILL).unwrap();
    eventually("it ends", || if leftover_runs(worker) { Err(String::new()) } else { Ok(()) });
    let bystander = Bystander::new();
    keep(&service, |state| state.workers[0].pid = bystander.0.id());
    service.start();
    service.wait_for("serving");
    service.wait_for_event("leftover_worker", "another process's now");
    assert_eq!(service.generation(), 2);
    service.ctl(&["stop"]).ok();
    service.ended();
    bystander.unharmed();
}

#[test]
fn whoever_answers_in_a_workers_place_is_left_alone() {
    let mut service = Service::serving("", "");
    let worker = service.worker_pid();
    service.kill_daemon();
    let socket = service.path("worker-1.sock");
    std::fs::remove_file(&socket).unwrap();
    // This very test listens there, and says nothing.
    let _listener = UnixListener::bind(&socket).unwrap();
    service.start();
    service.wait_until("the next worker", |status| status["state"] == "serving" && status["worker"]["generation"] == 2);
    let note = service.wait_for_event("worker_adopted", "answers at its socket");
    assert!(note.contains(&format!("process {}", std::process::id())), "{note}");
    // The process that the record names is ours, proved by pid and start time: two models must not stay.
    gone(&service, worker);
}

#[test]
fn a_stranger_at_a_socket_without_a_record_is_left_alone() {
    let mut service = Service::new("", "");
    let listener = UnixListener::bind(service.path("worker-7.sock")).unwrap();
    service.start();
    service.wait_for("serving");
    service.wait_for_event("leftover_worker", "left alone");
    drop(listener);
}

#[test]
fn a_worker_whose_record_was_lost_is_found_by_its_socket_and_ended_before_any_start() {
    let mut service = Service::serving("", "");
    let worker = service.worker_pid();
    service.kill_daemon();
    service.write("state.json", "{ half a docu");
    service.start();
    service.wait_until("the next worker", |status| status["state"] == "serving" && status["worker"]["generation"] == 2);
    let note = service.wait_for_event("worker_adopted", "its record was lost");
    assert!(note.contains(&worker.to_string()), "{note}");
    gone(&service, worker);
    assert_ne!(service.worker_pid(), worker);
    assert_eq!(service.chat("{\"messages\":[]}").answer().text(), expected(16));
}

/// A second worker of an earlier generation, as an interrupted hand-over leaves one.
fn second_worker(service: &Service, generation: u64, faults: &str) -> (Child, WorkerRecord) {
    let (nonce, socket) = (format!("{generation:032x}"), service.path(&format!("worker-{generation}.sock")));
    let child = Command::new(env!("CARGO_BIN_EXE_mlxsup-fake-worker"))
        .env("MLXSUP_FAKE", format!("{{{faults}}}"))
        .env("MLXSUP_SOCKET", &socket)
        .env("MLXSUP_GENERATION", generation.to_string())
        .env("MLXSUP_NONCE", &nonce)
        .process_group(0)
        .spawn()
        .unwrap();
    let start = process_start_id(child.id());
    let record = WorkerRecord { pid: child.id(), start, generation, nonce, ..WorkerRecord::default() };
    assert!(leftover::is_alive(&record));
    eventually("it listens", || crate::http::Connection::open(&socket).map(drop).ok_or_else(String::new));
    (child, record)
}

#[test]
fn of_two_ready_workers_the_newer_one_serves() {
    let mut service = Service::serving("", "");
    let first = service.worker_pid();
    service.kill_daemon();
    let (mut child, record) = second_worker(&service, 2, "");
    keep(&service, |state| state.workers.insert(0, record));
    service.start();
    service.wait_for("serving");
    assert_eq!((service.worker_pid(), service.generation()), (pid(child.id()), 2));
    gone(&service, first);
    assert_eq!(service.chat("{\"messages\":[]}").answer().text(), expected(16));
    service.ctl(&["restart"]).ok();
    assert_eq!(service.generation(), 3);
    assert!(child.wait().unwrap().success(), "it was asked, not killed");
}

#[test]
fn a_green_that_loads_beside_a_ready_blue_is_ended() {
    let mut service = Service::serving("", "");
    let blue = service.worker_pid();
    service.kill_daemon();
    let (mut green, record) = second_worker(&service, 2, "\"load_ms\":600000");
    keep(&service, |state| state.workers.push(record));
    service.start();
    service.wait_for("serving");
    assert_eq!((service.worker_pid(), service.generation()), (blue, 1));
    assert!(green.wait().unwrap().success());
    service.ctl(&["restart"]).ok();
    assert_eq!(service.generation(), 3, "generations are never used twice");
}

#[test]
fn drained_stays_drained_with_the_same_worker() {
    let mut service = Service::serving("", "");
    let worker = service.worker_pid();
    service.ctl(&["drain"]).ok();
    service.kill_daemon();
    service.start();
    service.wait_for("drained");
    assert_eq!(service.worker_pid(), worker);
    service.ctl(&["resume"]).ok();
    assert_eq!(service.chat("{\"messages\":[]}").answer().text(), expected(16));
}
