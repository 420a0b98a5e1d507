//! Verbs that only print: rules, clients, schedules, events.

use insta::assert_snapshot;

use super::fixtures;
use super::screen::Home;
use super::server::{Reply, Server};

fn ask(arguments: &[&str], path: &str, reply: Reply) -> (String, Vec<String>) {
    let home = Home::new();
    let server = Server::start(&home.control_socket(), vec![(path, vec![reply])]);
    (home.run(arguments), server.orders())
}

#[test]
fn rules() {
    let (screen, _) = ask(&["rules"], "GET /v1/rules", Reply::ok(&fixtures::rules()));
    assert_snapshot!(screen);
}

#[test]
fn rules_as_json() {
    let (screen, _) = ask(&["rules", "--json"], "GET /v1/rules", Reply::ok(&fixtures::rules()[..1].to_vec()));
    assert_snapshot!(screen);
}

#[test]
fn clients() {
    let (screen, _) = ask(&["clients"], "GET /v1/clients", Reply::ok(&fixtures::clients()));
    assert_snapshot!(screen);
}

#[test]
fn clients_as_json() {
    let (screen, _) = ask(&["clients", "--json"], "GET /v1/clients", Reply::ok(&fixtures::clients()[1..].to_vec()));
    assert_snapshot!(screen);
}

#[test]
fn no_clients() {
    let (screen, _) = ask(&["clients"], "GET /v1/clients", Reply::Json(200, "[]".to_owned()));
    assert_snapshot!(screen);
}

#[test]
fn schedule_with_several_firings() {
    let (screen, asked) = ask(&["schedule", "--next", "2"], "GET /v1/schedule", Reply::ok(&fixtures::schedules()));
    assert_eq!(asked, ["GET /v1/schedule?next=2"]);
    assert_snapshot!(screen);
}

#[test]
fn no_schedules() {
    let (screen, _) = ask(&["schedule"], "GET /v1/schedule", Reply::Json(200, "[]".to_owned()));
    assert_snapshot!(screen);
}

#[test]
fn events() {
    let lines = [
        fixtures::event("worker_ready", "generation 4 is ready after 14.2 s: load 10.4 s, warm up 1.3 s"),
        fixtures::event("rule_fired", "mlx-cache: mlx.cache 1.4 GiB above 1 GiB for 60 s → clear-cache"),
    ];
    let text: String = lines.iter().map(|event| serde_json::to_string(event).unwrap() + "\n").collect();
    // Cut in the middle of a line, as a socket does.
    let (first, second) = text.split_at(50);
    let pieces = Reply::Stream(vec![first.to_owned(), second.to_owned()]);
    let (screen, asked) = ask(&["events", "-n", "2"], "GET /v1/events", pieces);
    assert_eq!(asked, ["GET /v1/events?limit=2&follow=false"]);
    assert_snapshot!(screen);
}

#[test]
fn events_followed_until_the_daemon_ends() {
    let line = serde_json::to_string(&fixtures::event("stopping", "SIGTERM")).unwrap() + "\n";
    let (screen, _) = ask(&["events", "-f"], "GET /v1/events", Reply::Stream(vec![line]));
    assert_snapshot!(screen);
}
