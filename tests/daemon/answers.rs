//! Ordinary requests through the stable socket.

use crate::http::expected;
use crate::service::{Service, eventually};

#[test]
fn a_stream_a_plain_answer_and_their_usage() {
    let mut service = Service::serving("\"tokens\":7", "");
    let body = "{\"messages\":[],\"stream\":true,\"stream_options\":{\"include_usage\":true}}";
    let stream = service.chat(body).answer();
    assert_eq!(stream.streamed(), expected(7));
    assert!(stream.body.contains("\"completion_tokens\":7"), "{}", stream.body);
    assert!(stream.body.contains(": mlxsup queue_ms="), "{}", stream.body);

    let plain = service.chat("{\"messages\":[]}").answer();
    assert_eq!(plain.text(), expected(7));
    assert_eq!(plain.json()["usage"]["total_tokens"], 19);
    assert_eq!(plain.header("x-mlxsup-generation"), Some("1"));
    assert!(plain.header("x-request-id").is_some());
    assert_eq!(service.settled()["ledger"]["answered"], 2);
}

#[test]
fn one_connection_serves_several_requests_and_the_fact_pages() {
    let service = Service::serving("\"tokens\":3", "");
    let mut connection = service.connect();
    for _ in 0..3 {
        connection.send("POST", "/v1/chat/completions", "", "{\"messages\":[]}");
        assert_eq!(connection.answer().text(), expected(3));
    }
    connection.send("GET", "/v1/models", "", "");
    assert_eq!(connection.answer().json()["data"][0]["id"], "fake");
    connection.send("GET", "/ready", "", "");
    assert_eq!(connection.answer().status, 200);
    connection.send("GET", "/nowhere", "", "");
    let nowhere = connection.answer();
    assert_eq!((nowhere.status, nowhere.code().as_str()), (404, "not_found"));
}

#[test]
fn more_requests_than_slots_are_all_answered() {
    let mut service = Service::serving("\"tokens\":5,\"slots\":1,\"token_ms\":1", "");
    let mut requests: Vec<_> = (0..12).map(|_| service.chat("{\"messages\":[]}")).collect();
    for request in &mut requests {
        assert_eq!(request.answer().text(), expected(5));
    }
    let status = service.settled();
    assert_eq!(status["ledger"]["answered"], 12);
    assert_eq!(status["ledger"]["lost"], 0);
}

#[test]
fn clients_are_told_apart_by_who_they_are_and_what_they_call_themselves() {
    let mut service = Service::serving("\"tokens\":5,\"slots\":1,\"token_ms\":1", "");
    let mut connection = service.connect();
    connection.send("POST", "/v1/chat/completions", "x-mlxsup-client: mail\r\n", "{\"messages\":[]}");
    assert_eq!(connection.answer().text(), expected(5));
    assert_eq!(service.chat("{\"messages\":[]}").answer().text(), expected(5));
    service.settled();
    let clients = service.ctl(&["clients", "--json"]).ok().json();
    assert_eq!(clients[0]["name"], format!("uid:{}", nix::unistd::getuid()), "{clients}");
    assert_eq!(clients[0]["served"]["completion_tokens"], 10, "{clients}");
    assert_eq!((clients[0]["active"].clone(), clients[0]["share"].clone()), (0.into(), 1.0.into()), "{clients}");
    let names: Vec<_> = clients[0]["clients"].as_array().unwrap().iter().map(|name| name["name"].clone()).collect();
    assert_eq!(names, ["mail".into(), serde_json::Value::Null]);
    let table = service.ctl(&["clients"]).ok().out;
    assert!(table.contains("  mail") && table.contains("  (no name)"), "{table}");
}

#[test]
fn a_client_that_hangs_up_frees_its_slot() {
    let mut service = Service::serving("\"slots\":1,\"token_ms\":5", "");
    drop(service.stream_running("{\"messages\":[],\"stream\":true,\"max_tokens\":1000000}"));
    service.wait_until("the slot is free", |status| status["queue"]["active"] == 0);
    assert_eq!(service.chat("{\"messages\":[]}").answer().text(), expected(16));
}

#[test]
fn every_request_leaves_one_line_in_the_log_without_its_words() {
    let service = Service::serving("\"tokens\":4", "");
    let mut connection = service.connect();
    let headers = "x-mlxsup-client: mail\r\nx-request-id: req-77\r\n";
    connection.send(
        "POST",
        "/v1/chat/completions",
        headers,
        "{\"messages\":[{\"role\":\"user\",\"content\":\"secret\"}]}",
    );
    assert_eq!(connection.answer().text(), expected(4));
    eventually("a line in requests.log", || {
        let log = service.read("logs/requests.log");
        if log.lines().count() == 1 { Ok(()) } else { Err(log) }
    });
    let line = service.read("logs/requests.log");
    for part in [
        "at=",
        "id=req-77",
        "client=",
        "class=normal",
        "status=200",
        "prompt_tokens=12",
        "completion_tokens=4",
        "queue_ms=",
        "ttft_ms=",
        "total_ms=",
        "generations=1",
        "finish=length",
    ] {
        assert!(line.contains(part), "no {part}: {line}");
    }
    for log in ["logs/requests.log", "logs/mlxsupd.log"] {
        let text = service.read(log);
        assert!(!text.contains("secret") && !text.contains("w1 "), "{log}: {text}");
    }
}

#[test]
fn chat_answers_in_the_terminal() {
    let service = Service::serving("\"tokens\":4", "");
    let said = service.ctl(&["chat", "hello"]).ok();
    assert_eq!(said.out.trim_end(), expected(4).trim_end());
}

#[test]
fn how_fast_answers_come_is_a_metric_once_there_are_answers() {
    let mut service = Service::serving("\"token_ms\":20", "");
    let names = ["latency.ttft_p50", "latency.ttft_p99", "latency.token_p50"];
    let before = service.wait_until("a sample", |status| status["memory"]["system.used"].is_number());
    assert!(names.iter().all(|name| before["memory"][name].is_null()), "{}", before["memory"]);
    let request = "{\"messages\":[],\"stream\":true,\"max_tokens\":5}";
    assert_eq!(service.chat(request).answer().streamed(), expected(5));
    let after = service.wait_until("latencies", |status| status["memory"][names[2]].is_number());
    let [first, worst, gap] = names.map(|name| after["memory"][name].as_f64().unwrap());
    assert!(first <= worst && (0.01..10.0).contains(&gap), "{}", after["memory"]);
}
