//! Engines that speak the OpenAI API instead of the worker link: what a client may count on there.

use nix::sys::signal::{Signal, kill};

use crate::http::expected;
use crate::service::Service;

/// A server of the OpenAI API with these faults, told where to listen by `place`.
fn openai(faults: &str, place: &str, rest: &str) -> Service {
    let service = Service::new("", "");
    let server = env!("CARGO_BIN_EXE_mlxsup-fake-worker");
    let command = format!("[\"/usr/bin/env\", 'MLXSUP_FAKE={{{faults}}}', \"{server}\", {place}]");
    configure(&service, &format!("engine = \"openai\"\ncommand = {command}"), rest);
    service
}

/// What stands for mlx-lm behind its bridge: the link's status and commands, and the OpenAI API.
fn mlx_lm(faults: &str, rest: &str) -> Service {
    let service = Service::new("", "");
    let python = service.path("python3");
    let worker = env!("CARGO_BIN_EXE_mlxsup-fake-worker");
    std::fs::write(&python, format!("#!/bin/sh\nMLXSUP_FAKE='{{{faults}}}' exec {worker}\n")).unwrap();
    std::fs::set_permissions(&python, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let keys = format!("engine = \"mlx_lm\"\npython = \"{}\"", python.display());
    configure(&service, &keys, rest);
    service
}

fn configure(service: &Service, worker: &str, rest: &str) {
    let health = "[health]\ninterval = \"200ms\"\n[restart]\nmode = \"sequential\"\nbackoff_initial = \"50ms\"\n";
    service.write("mlxsup.toml", &format!("[worker]\nmodel = \"the model\"\n{worker}\n{health}{rest}"));
}

fn serving(mut service: Service) -> Service {
    service.start();
    service.wait_for("serving");
    service
}

const BY_PORT: &str = "\"--port\", \"{port}\"";
const BY_SOCKET: &str = "\"--socket\", \"{socket}\"";

#[test]
fn answers_pass_unchanged_but_for_the_models_name() {
    for place in [BY_PORT, BY_SOCKET] {
        let service = serving(openai("", place, ""));
        let plain = service.chat("{\"model\":\"whatever\",\"messages\":[],\"max_tokens\":4}").answer();
        assert_eq!((plain.status, plain.text()), (200, expected(4)), "{place}");
        assert_eq!(plain.json()["model"], "the model");
        let stream = service.chat("{\"messages\":[],\"stream\":true,\"max_tokens\":4}").answer();
        assert_eq!(stream.streamed(), expected(4));
        assert!(stream.complete && stream.body.contains("\"id\":\"cmpl-foreign-1-"), "{}", stream.body);
        assert_eq!(stream.body.matches("[DONE]").count(), 1);
        assert!(stream.body.trim_end().ends_with("generations=1"), "{}", stream.body);
    }
}

#[test]
fn status_names_the_engine_and_what_it_cannot_do() {
    let service = serving(openai("", BY_PORT, ""));
    let status = service.status();
    assert_eq!((&status["worker"]["engine"], &status["worker"]["model"]), (&"openai".into(), &"the model".into()));
    assert_eq!(status["queue"]["slots"], 4);
    assert_eq!(status["memory"]["mlx.cache"], serde_json::Value::Null);
    let refused = service.ctl(&["clear-cache"]);
    assert!(refused.code != Some(0) && refused.err.contains("restart"), "{} {}", refused.out, refused.err);
}

#[test]
fn a_request_that_has_not_begun_survives_its_worker() {
    let mut service = serving(openai("\"crash_at_token\":3,\"only_generation\":1", BY_PORT, ""));
    // Nothing of a plain answer is delivered before all of it is there.
    let plain = service.chat("{\"messages\":[],\"max_tokens\":6}").answer();
    assert_eq!((plain.status, plain.text()), (200, expected(6)));
    let status = service.settled();
    assert_eq!((&status["worker"]["generation"], &status["ledger"]["lost"]), (&2.into(), &0.into()));
}

#[test]
fn a_stream_that_has_begun_ends_with_an_error_when_its_worker_dies() {
    for fault in ["crash_at_token", "half_frame_at_token"] {
        let mut service = serving(openai(&format!("\"{fault}\":3,\"only_generation\":1"), BY_SOCKET, ""));
        let stream = service.chat("{\"messages\":[],\"stream\":true,\"max_tokens\":6}").answer();
        assert!(!stream.complete && !stream.body.contains("[DONE]"), "{fault}: {}", stream.body);
        let (begun, end) = stream.body.split_once("event: error").expect("a terminal error");
        assert!(begun.contains("w2 ") && begun.ends_with("\n\n"), "whole events only: {begun}");
        assert!(end.contains("engine_error") && end.contains("retry"), "{end}");
        let status = service.wait_until("the next serves", |status| status["worker"]["generation"] == 2);
        assert_eq!(status["ledger"]["lost"], 1);
    }
}

#[test]
fn planned_restarts_wait_for_streams_and_two_servers_overlap_on_two_ports() {
    let mut service = openai("\"token_ms\":20", BY_PORT, "");
    let text = service.read("mlxsup.toml").replace("mode = \"sequential\"", "mode = \"overlap\"");
    service.write("mlxsup.toml", &text);
    service = serving(service);
    let mut stream = service.chat("{\"messages\":[],\"stream\":true,\"max_tokens\":60}");
    stream.until("w3 ");
    service.ctl(&["restart"]).ok();
    assert!(stream.until("[DONE]").contains("w60 "));
    assert_eq!(service.wait_for("serving")["worker"]["generation"], 2);
}

#[test]
fn a_server_that_cannot_overlap_says_so_in_the_plan() {
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let service = openai("", &format!("\"--port\", \"{port}\""), "");
    let text =
        service.read("mlxsup.toml").replace("command =", &format!("upstream = \"http://127.0.0.1:{port}\"\ncommand ="));
    service.write("mlxsup.toml", &text.replace("mode = \"sequential\"", "mode = \"auto\""));
    let service = serving(service);
    let plan = service.ctl(&["restart", "--plan"]).ok();
    assert!(plan.out.contains("sequential") && plan.out.contains("{port}"), "{}", plan.out);
}

#[test]
fn errors_of_the_engine_keep_their_status_and_get_the_known_shape() {
    let service = serving(openai("\"refuse_generations\":422", BY_PORT, ""));
    let refused = service.chat("{\"messages\":[]}").answer();
    assert_eq!(refused.status, 422);
    assert_eq!(refused.json()["error"]["message"], "everything is refused, as told");
}

#[test]
fn the_next_daemon_adopts_a_server_that_knows_nothing_of_it() {
    for mut service in [openai("", BY_PORT, ""), openai("", BY_SOCKET, ""), mlx_lm("", "")] {
        service.start();
        let worker = service.wait_for("serving")["worker"]["pid"].clone();
        service.signal(Signal::SIGKILL);
        service.ended();
        service.start();
        let status = service.wait_for("serving");
        assert_eq!((&status["worker"]["pid"], &status["worker"]["generation"]), (&worker, &1.into()));
        assert_eq!(service.chat("{\"messages\":[],\"max_tokens\":2}").answer().text(), expected(2));
    }
}

#[test]
fn mlx_lm_reports_over_the_link_and_answers_by_itself() {
    let mut service = serving(mlx_lm("\"cache_bytes\":4096", ""));
    let status = service.wait_until("a report", |status| status["memory"]["mlx.cache"] == 4096.0);
    assert_eq!(status["worker"]["engine"], "mlx_lm");
    assert!(service.path("mlx_lm_worker.py").exists(), "the bridge lies in the home");
    service.ctl(&["clear-cache"]).ok();
    assert_eq!(service.chat("{\"messages\":[],\"max_tokens\":5}").answer().text(), expected(5));
    kill(service.worker_pid(), Signal::SIGKILL).unwrap();
    let plain = service.chat("{\"messages\":[],\"max_tokens\":5}").answer();
    assert_eq!(plain.text(), expected(5), "whoever comes meanwhile waits");
}

#[test]
fn a_server_that_never_loads_is_a_load_failure_with_its_last_words() {
    let mut service = openai("\"fail_load\":\"no such model\"", BY_PORT, "[restart.recycle]\nmax_age = \"off\"\n");
    service.start();
    let status = service.wait_until("a failure", |status| !status["last_failure"].is_null());
    let failure = status["last_failure"].to_string();
    assert!(failure.contains("no such model"), "{failure}");
}
