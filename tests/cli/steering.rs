//! Verbs that start something: what is sent, what is shown meanwhile, how the outcome is told.

use insta::assert_snapshot;
use mlxsup::control::view::{State, Status, VerbReply, VerbResult};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::json;

use super::fixtures::{self, reply};
use super::screen::Home;
use super::server::{Reply, Server};

/// Runs the verb against one reply; the screen, and below it what was asked of the daemon.
fn steer(arguments: &[&str], reply: &VerbReply) -> String {
    let home = Home::new();
    let path = format!("POST /v1/{}", arguments[0]);
    let server = Server::start(&home.control_socket(), vec![(&path, vec![Reply::ok(reply)])]);
    let screen = home.run(arguments);
    screen + &asked(&server)
}

/// Like [`steer`], the reply held back until every status was shown.
fn steer_slowly(arguments: &[&str], statuses: &[Status], reply: &VerbReply) -> String {
    let home = Home::new();
    let path = format!("POST /v1/{}", arguments[0]);
    let statuses = statuses.iter().map(Reply::ok).collect();
    let replies = vec![(path.as_str(), vec![Reply::ok(reply).held()]), ("GET /v1/status", statuses)];
    let server = Server::start(&home.control_socket(), replies);
    let screen = home.run(arguments);
    screen + &asked(&server)
}

/// The orders with only what is set in their bodies.
fn asked(server: &Server) -> String {
    let mut text = "--- asked\n".to_owned();
    for order in server.orders() {
        let (line, body) = order.split_at(order.find('{').unwrap_or(order.len()));
        let options: serde_json::Map<String, serde_json::Value> = serde_json::from_str(body).unwrap_or_default();
        let set: Vec<String> = options
            .iter()
            .filter(|(_, value)| !value.is_null() && **value != json!(false))
            .map(|(name, value)| format!("{name}={value}"))
            .collect();
        text.push_str(format!("{line}{}", set.join(" ")).trim_end());
        text.push('\n');
    }
    text
}

#[test]
fn drain_with_progress() {
    let fewer = |active, waiting| {
        let mut status = fixtures::draining();
        let drain = status.drain.as_mut().unwrap();
        (drain.active, drain.waiting) = (active, waiting);
        status
    };
    let done = reply(VerbResult::Done, State::Drained, "Drained; requests wait until `mlxsupctl resume`", &[]);
    assert_snapshot!(steer_slowly(&["drain", "--deadline", "90s"], &[fewer(2, 1), fewer(1, 0)], &done));
}

#[test]
fn drain_past_its_deadline() {
    let late = reply(
        VerbResult::Deadline,
        State::Draining,
        "1 stream is still running after 90 s; `mlxsupctl restart --mode now` ends it",
        &[("streams_left", json!(1))],
    );
    assert_snapshot!(steer(&["drain", "--refuse"], &late));
}

#[test]
fn resume_when_nothing_was_drained() {
    assert_snapshot!(steer(&["resume"], &reply(VerbResult::Already, State::Serving, "Already serving", &[])));
}

#[test]
fn restart_with_progress() {
    let phases = [
        fixtures::handover("draining", fixtures::worker("draining")),
        fixtures::handover("stopping", fixtures::worker("stopping")),
        fixtures::handover("loading", fixtures::loading(1.2)),
        fixtures::handover("loading", fixtures::loading(30.0)),
        fixtures::handover(
            "warming",
            mlxsup::control::view::WorkerView { phase: "warming".to_owned(), load: None, ..fixtures::loading(34.3) },
        ),
    ];
    let done = reply(
        VerbResult::Done,
        State::Serving,
        "Generation 5 serves after 14.2 s",
        &[("stop_s", json!(2.1)), ("load_s", json!(10.4)), ("warm_up_s", json!(1.3)), ("requests_carried", json!(3))],
    );
    assert_snapshot!(steer_slowly(&["restart"], &phases, &done));
}

#[test]
fn restart_plan() {
    let plan = reply(
        VerbResult::Done,
        State::Serving,
        "Sequential: overlap needs 79.6 GiB, 57.2 GiB are available",
        &[
            ("strategy", json!("sequential")),
            ("weights_bytes", json!(36_829_193_830_u64)),
            ("needed_bytes", json!(85_469_849_190_u64)),
            ("available_bytes", json!(61_418_031_513_u64)),
            ("would_come_back", json!(true)),
        ],
    );
    assert_snapshot!(steer(&["restart", "--mode", "overlap", "--plan"], &plan));
}

#[test]
fn restart_denied() {
    let denied = reply(
        VerbResult::Denied,
        State::Handover,
        "a handover is in progress: generation 5 is loading, 12 s of 10 min; wait for it with `mlxsupctl status`",
        &[],
    );
    assert_snapshot!(steer(&["restart"], &denied));
}

#[test]
fn unload_says_what_came_back() {
    let done = reply(
        VerbResult::Done,
        State::Unloaded,
        "Unloaded; 35.1 GiB returned",
        &[("returned_bytes", json!(37_688_120_934_u64)), ("wired_bytes", json!(3_221_225_472_u64))],
    );
    assert_snapshot!(steer(&["unload", "--now"], &done));
}

#[test]
fn unload_as_json_keeps_the_exit_status() {
    let denied = reply(VerbResult::Denied, State::Stranded, "the memory of worker 4 did not come back", &[]);
    assert_snapshot!(steer(&["unload", "--json"], &denied));
}

#[test]
fn load_that_fails() {
    let failed = reply(
        VerbResult::Failed,
        State::Parked,
        "the worker ended while loading: exit status 3; see `mlxsupctl logs worker`",
        &[("exit", json!("exit status 3")), ("last_lines", json!(["no such file: model.safetensors"]))],
    );
    assert_snapshot!(steer(&["load"], &failed));
}

#[test]
fn clear_cache_without_waiting() {
    assert_snapshot!(steer(
        &["clear-cache", "--no-wait"],
        &reply(VerbResult::Started, State::Serving, "Clearing MLX's cache", &[])
    ));
}

#[test]
fn reload_says_what_becomes_of_each_key() {
    let done = reply(
        VerbResult::Done,
        State::Serving,
        "Reloaded",
        &[("applied", json!(["queue.max_waiting", "log.level"])), ("at_the_next_worker", json!(["worker.slots"]))],
    );
    assert_snapshot!(steer(&["reload"], &done));
}

#[test]
fn schedule_run() {
    let done = reply(VerbResult::Done, State::Serving, "Ran nightly: generation 5 serves after 14.2 s", &[]);
    assert_snapshot!(steer(&["schedule", "run", "nightly"], &done));
}

#[test]
fn stop_waits_until_nobody_listens() {
    let home = Home::new();
    let gone = Reply::Last(Box::new(Reply::ok(&reply(VerbResult::Done, State::Stopping, "Stopped", &[]))));
    let server = Server::start(&home.control_socket(), vec![("POST /v1/stop", vec![gone])]);
    let screen = home.run(&["stop", "--keep-worker"]);
    assert!(std::os::unix::net::UnixStream::connect(home.control_socket()).is_err());
    assert_snapshot!(screen + &asked(&server));
}

#[test]
fn an_interrupt_ends_only_the_waiting() {
    let home = Home::new();
    let server = Server::start(&home.control_socket(), vec![("POST /v1/drain", vec![Reply::Never])]);
    let child = home.command(&["drain"]).spawn().unwrap();
    server.wait_for_orders(1);
    kill(Pid::from_raw(child.id().cast_signed()), Signal::SIGINT).unwrap();
    assert_snapshot!(home.finish(&["drain"], child));
}

#[test]
fn upgrade_is_told_by_the_next_image() {
    let home = Home::new();
    let before = fixtures::serving();
    let mut after = before.clone();
    (after.daemon.epoch, after.daemon.version) = (before.daemon.epoch + 1, "0.2.0".to_owned());
    let words = "0.1.0 → 0.2.0 in place (pid 501); new clients waited for 0.04 s";
    let event = json!({"at": "2026-03-01T10:30:12.000+01:00", "kind": "upgraded", "message": words});
    let replies = vec![
        ("POST /v1/upgrade", vec![Reply::BrokenStream(vec!["{".to_owned()])]),
        ("GET /v1/status", vec![Reply::ok(&before), Reply::ok(&before), Reply::ok(&after)]),
        ("GET /v1/events", vec![Reply::Stream(vec![format!("{event}\n")])]),
    ];
    let server = Server::start(&home.control_socket(), replies);
    let screen = home.run(&["upgrade", "--to", "/opt/mlxsupd"]);
    assert_snapshot!(screen + &asked(&server));
}

#[test]
fn an_upgrade_that_is_postponed() {
    let home = Home::new();
    let message = "postponed: 1 requests still here after 300.0 s; try again later; this daemon serves on";
    let late = reply(VerbResult::Deadline, State::Serving, message, &[]);
    let replies =
        vec![("POST /v1/upgrade", vec![Reply::ok(&late)]), ("GET /v1/status", vec![Reply::ok(&fixtures::serving())])];
    let server = Server::start(&home.control_socket(), replies);
    let screen = home.run(&["upgrade"]);
    assert_snapshot!(screen + &asked(&server));
}
