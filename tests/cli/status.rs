//! `status` in every state: the table, the JSON, the exit status.

use insta::assert_snapshot;
use mlxsup::control::view::{LimitsView, QueueView, State, Status};

use super::fixtures;
use super::screen::Home;
use super::server::{Reply, Server};

fn screen(status: &Status) -> String {
    screen_of(&Reply::ok(status), &["status"])
}

fn screen_of(reply: &Reply, arguments: &[&str]) -> String {
    let home = Home::new();
    let _server = Server::start(&home.control_socket(), vec![("GET /v1/status", vec![reply.clone()])]);
    home.run(arguments)
}

#[test]
fn serving() {
    assert_snapshot!(screen(&fixtures::serving()));
}

#[test]
fn a_worker_that_reports_nothing_yet() {
    let mut status = fixtures::starting();
    status.worker = Some(mlxsup::control::view::WorkerView {
        footprint_bytes: None,
        load: None,
        phase: "spawning".to_owned(),
        uptime_s: 0,
        ..fixtures::loading(0.0)
    });
    status.memory.clear();
    status.schedules.clear();
    status.rules.clear();
    assert_snapshot!(screen(&status));
}

#[test]
fn starting_with_the_model_loading() {
    assert_snapshot!(screen(&fixtures::starting()));
}

#[test]
fn starting_after_a_crash() {
    let mut status = fixtures::without_worker(
        State::Starting,
        "crash_backoff",
        "the worker was killed by signal 9; crash 2 of 5 in 30 min",
        "mlxsupctl restart",
    );
    status.cause.as_mut().unwrap().retry_at = Some(fixtures::from_now(26 * 60));
    status.queue = QueueView { waiting: 10, active: 0, slots: 4, oldest_wait_s: Some(3.2) };
    assert_snapshot!(screen(&status));
}

#[test]
fn draining() {
    assert_snapshot!(screen(&fixtures::draining()));
}

#[test]
fn drained_and_refusing() {
    let mut status = fixtures::draining();
    status.state = State::Drained;
    let drain = status.drain.as_mut().unwrap();
    (drain.active, drain.waiting, drain.deadline_at, drain.refusing) = (0, 0, None, true);
    assert_snapshot!(screen(&status));
}

#[test]
fn handover_in_sequence() {
    assert_snapshot!(screen(&fixtures::handover("loading", fixtures::loading(12.3))));
}

#[test]
fn unloaded() {
    let message = "unloaded by the operator, 35.1 GiB returned";
    assert_snapshot!(screen(&fixtures::without_worker(State::Unloaded, "operator", message, "mlxsupctl load")));
}

#[test]
fn parked_with_a_rejected_configuration() {
    let message = "5 crashes in 30 min, the last: killed by signal 9 (SIGKILL) while loading";
    let mut status = fixtures::without_worker(State::Parked, "crash_budget", message, "mlxsupctl restart");
    status.config.problems = vec!["mlxsup.toml:14: `45G` is no size: write 45GiB or 45GB".to_owned()];
    status.config.pending = vec!["worker.slots".to_owned(), "worker.context".to_owned()];
    assert_snapshot!(screen(&status));
}

#[test]
fn json_keeps_what_a_newer_daemon_adds() {
    let text = r#"{"schema":1,"state":"asleep","cause":null,"mood":["calm",{}],"daemon":{"pid":812,"version":"9.9.9","uptime_s":5,"epoch":1},"worker":null,"queue":{"waiting":0,"active":0,"slots":0},"handover":null,"memory":{"system.used":1.50},"schedules":[],"last_restart":null,"rules":[],"ledger":{"answered":0,"carried":0,"lost":0,"restarts":0,"longest_wait_s":0.0},"config":{"hash":"","pending":[],"problems":[]}}"#;
    assert_snapshot!(screen_of(&Reply::Json(200, text.to_owned()), &["status", "--json"]));
}

#[test]
fn every_state_has_the_exit_status_of_the_design() {
    for (state, expected) in [
        (State::Serving, 0),
        (State::Handover, 0),
        (State::Asleep, 0),
        (State::Starting, 3),
        (State::Draining, 3),
        (State::Drained, 3),
        (State::Unloaded, 3),
        (State::Parked, 3),
        (State::Stranded, 3),
        (State::Stopping, 3),
    ] {
        let screen = screen(&Status { state, ..fixtures::serving() });
        assert!(screen.ends_with(&format!("--- exit {expected}\n")), "{state:?}: {screen}");
    }
}

#[test]
fn serving_with_its_limits_and_their_sums() {
    let explain = [
        ("weights", "weights 36.0 GiB on disk, 34.3 GiB in memory"),
        ("worker.slots", "slots 8: 8 requests of 74,496 tokens each fit at once"),
        ("worker.context", "context 262,144: the model's own length"),
        ("worker.memory.wired_limit", "wired_limit 34.8 of 51.8 GiB = weights 34.3 + state 0.5"),
        ("worker.memory.memory_limit", "memory_limit 49.2 GiB = 95 % of the 51.8 GiB working set"),
        ("pool", "for requests 13.4 GiB = memory_limit 49.2 − weights 34.3 − runtime 1.5"),
    ];
    let limits = LimitsView {
        source: "worker".to_owned(),
        slots: Some(8),
        context_tokens: Some(262_144),
        wired_limit_bytes: Some(37_343_117_312),
        cache_limit_bytes: Some(512 << 20),
        memory_limit_bytes: Some(52_879_687_680),
        recommended_working_set_bytes: Some(55_662_780_416),
        device: Some("gpu".to_owned()),
        explain: explain.map(|(key, sum)| (key.to_owned(), sum.to_owned())).into(),
    };
    let screen = screen(&Status { limits: Some(limits), ..fixtures::serving() });
    let shown: Vec<&str> = screen
        .lines()
        .skip_while(|line| !line.starts_with("limits"))
        .take_while(|line| !line.starts_with("queue"))
        .collect();
    assert_snapshot!(shown.join("\n"));
}
