//! What `auto` comes to, told at the start and kept in `status`, while the worker's own numbers win.

use serde_json::{Value, json};

use crate::service::Service;

fn tiny() -> String {
    format!("{}/worker/tests/reference/tiny-4bit", env!("CARGO_MANIFEST_DIR"))
}

fn with_model(model: &str) -> Service {
    let service = Service::new("", "");
    let text = service.read("mlxsup.toml").replace("model = \"fake\"", &format!("model = {}", json!(model)));
    service.write("mlxsup.toml", &text);
    service
}

#[test]
fn the_sums_are_told_at_the_start_and_stand_beside_the_workers_numbers() {
    let mut service = with_model(&tiny());
    service.start();
    let event = service.wait_for_event("limits", "memory_limit");
    let both = |status: &Value| status["state"] == "serving" && status["limits"] != Value::Null;
    let status = service.wait_until("the sums of a service that serves", both);
    assert!(event.contains("slots 4") && event.contains("= weights"), "{event}");
    assert!(service.read("logs/mlxsupd.log").contains("for requests"));
    let limits = &status["limits"];
    let explained = |key: &str| limits["explain"][key].as_str().unwrap_or_default().to_owned();
    assert!(explained("worker.memory.wired_limit").starts_with("wired_limit "), "{limits}");
    assert!(explained("pool").contains("− runtime"), "{limits}");
    // The fake worker reports a slot count of its own.
    assert_eq!((&limits["source"], &limits["slots"]), (&json!("worker"), &status["queue"]["slots"]));
    let shown = service.ctl(&["status"]).ok().out;
    assert!(shown.lines().any(|line| line.starts_with("limits ")), "{shown}");
}

#[test]
fn a_model_that_cannot_be_read_is_said_to_be_unknown() {
    let mut service = with_model("nobody/has-this");
    service.start();
    let status = service.wait_for("serving");
    service.wait_for_event("limits", "not known before the worker says");
    let problem = status["limits"]["explain"]["problem"].as_str().unwrap_or_default().to_owned();
    assert!(problem.contains("nobody/has-this"), "{status}");
    assert_ne!(status["limits"]["slots"], Value::Null, "the worker has said it");
}
