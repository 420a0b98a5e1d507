//! `chat`: streamed answers, what is said meanwhile, and every way an answer can fail.

use insta::assert_snapshot;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::json;

use super::screen::Home;
use super::server::{Reply, Server};

const PATH: &str = "POST /v1/chat/completions";

fn piece(text: &str) -> String {
    format!("data: {}\n\n", json!({ "choices": [{ "index": 0, "delta": { "content": text }, "finish_reason": null }] }))
}

fn end(reason: &str) -> String {
    let last = json!({ "choices": [{ "index": 0, "delta": {}, "finish_reason": reason }] });
    let usage = json!({ "choices": [], "usage": { "prompt_tokens": 14, "completion_tokens": 7, "total_tokens": 21 } });
    format!("data: {last}\n\ndata: {usage}\n\n: mlxsup queue_ms=12 generations=3,4\n\ndata: [DONE]\n\n")
}

fn ask(arguments: &[&str], reply: Reply) -> (String, Vec<String>) {
    let home = Home::new();
    let server = Server::start(&home.client_socket(), vec![(PATH, vec![reply])]);
    (home.run(arguments), server.orders())
}

fn refusal(status: u16, code: &str, message: &str) -> Reply {
    let error = json!({ "error": { "message": message, "type": "server_error", "param": null, "code": code } });
    Reply::Json(status, error.to_string())
}

#[test]
fn a_question_on_the_command_line() {
    let pieces = vec![
        ": queued 3 ahead\n\n".to_owned(),
        ": queued 3 ahead\n\n: queued 1 ahead\n\n: reading prompt 40 %\n\n".to_owned(),
        piece("The capital of France"),
        ": changing worker\n\n".to_owned(),
        piece(" is Paris."),
        end("stop"),
    ];
    let arguments =
        ["chat", "--system", "Be brief.", "--max-tokens", "64", "--temperature", "0", "What is the capital of France?"];
    let (screen, asked) = ask(&arguments, Reply::Stream(pieces));
    assert_snapshot!(format!("{screen}--- asked\n{}\n", asked.join("\n")));
}

#[test]
fn a_question_from_a_pipe_cut_off_at_its_limit() {
    let home = Home::new();
    let answer = Reply::Stream(vec![piece("1, 2,"), piece(" 3\n"), end("length")]);
    let server = Server::start(&home.client_socket(), vec![(PATH, vec![answer])]);
    let screen = home.run_with_input(&["chat", "--model", "tiny"], "Count.\n");
    assert_snapshot!(format!("{screen}--- asked\n{}\n", server.orders().join("\n")));
}

#[test]
fn no_question() {
    assert_snapshot!(Home::new().run(&["chat"]));
}

#[test]
fn nobody_listens() {
    assert_snapshot!(Home::new().run(&["chat", "Hello"]));
}

#[test]
fn the_service_is_parked() {
    let message = "The worker crashed 5 times in 30 min and is parked; `mlxsupctl restart` tries again.";
    assert_snapshot!(ask(&["chat", "Hello"], refusal(503, "parked", message)).0);
}

#[test]
fn the_question_is_at_fault() {
    let message = "This model's maximum context length is 8192 tokens. However, you requested 9000 tokens.";
    assert_snapshot!(ask(&["chat", "Hello"], refusal(400, "context_length_exceeded", message)).0);
}

#[test]
fn an_error_in_the_middle_of_the_answer() {
    let error = json!({ "error": { "message": "No worker came within the deadline; see `mlxsupctl status`.", "type": "server_error", "param": null, "code": "stopping" } });
    let pieces = vec![piece("The capital"), format!("event: error\ndata: {error}\n\n")];
    assert_snapshot!(ask(&["chat", "Hello"], Reply::BrokenStream(pieces)).0);
}

#[test]
fn an_answer_that_breaks_off() {
    assert_snapshot!(ask(&["chat", "Hello"], Reply::BrokenStream(vec![piece("The capital")])).0);
}

#[test]
fn an_interrupt_hangs_up() {
    let home = Home::new();
    let server = Server::start(&home.client_socket(), vec![(PATH, vec![Reply::Never])]);
    let child = home.command(&["chat", "Hello"]).spawn().unwrap();
    server.wait_for_orders(1);
    kill(Pid::from_raw(child.id().cast_signed()), Signal::SIGINT).unwrap();
    assert_snapshot!(home.finish(&["chat", "Hello"], child));
}
