#![allow(clippy::needless_pass_by_value, reason = "bodies are written where they are used")]

use serde_json::{Value, json};

use super::*;
use crate::engine::sequence::TokenLogprobs;
use crate::sampling::Sampling;
use crate::text::End;

fn chat(body: Value) -> Result<Request, Refusal> {
    parse_chat(body.to_string().as_bytes())
}

fn completion(body: Value) -> Result<Request, Refusal> {
    parse_completion(body.to_string().as_bytes())
}

/// A chat body with one more field.
fn with(key: &str, value: Value) -> Value {
    let mut body = json!({"messages": [{"role": "user", "content": "hi"}]});
    body[key] = value;
    body
}

#[test]
fn nulls_and_unknown_fields_mean_nothing() {
    let plain = chat(with("model", json!("m"))).expect("a request");
    let mut noisy = with("model", json!("m"));
    for key in [
        "temperature",
        "stop",
        "seed",
        "n",
        "max_tokens",
        "stream",
        "stream_options",
        "tools",
        "response_format",
        "logit_bias",
        "logprobs",
    ] {
        noisy[key] = Value::Null;
    }
    noisy["metadata"] = json!({"x": 1});
    assert_eq!(chat(noisy).expect("a request"), plain);
    assert_eq!(plain.sampling, Sampling::default());
    assert_eq!((plain.n, plain.stream, plain.max_tokens, plain.logprobs), (1, false, None, None));
}

#[test]
fn every_field_is_read() {
    let body = json!({"messages": [{"role": "user", "content": "hi"}], "temperature": 0.5, "top_p": 0.9, "top_k": 40,
        "min_p": 0.1, "seed": -1, "stop": "END", "max_tokens": 7, "max_completion_tokens": 9, "n": 2, "stream": true,
        "stream_options": {"include_usage": true}, "frequency_penalty": 1, "presence_penalty": -1,
        "repetition_penalty": 1.1, "logit_bias": {"5": -100}, "logprobs": true, "top_logprobs": 3});
    let request = chat(body).expect("a request");
    let sampling = Sampling {
        temperature: 0.5,
        top_p: 0.9,
        top_k: 40,
        min_p: 0.1,
        frequency_penalty: 1.0,
        presence_penalty: -1.0,
        repetition_penalty: 1.1,
        logit_bias: vec![(5, -100.0)],
    };
    assert_eq!(request.sampling, sampling);
    assert_eq!((request.seed, request.max_tokens, request.n, request.logprobs), (Some(u64::MAX), Some(9), 2, Some(3)));
    assert!(request.stream && request.include_usage);
    assert_eq!(request.stop, ["END"]);
}

#[test]
fn what_is_wrong_is_named() {
    let wrong = [
        (with("temperature", json!("hot")), "temperature"),
        (with("temperature", json!(2.5)), "temperature"),
        (with("max_tokens", json!(0)), "max_tokens"),
        (with("max_tokens", json!(1.5)), "max_tokens"),
        (with("n", json!(129)), "n"),
        (with("stop", json!(["a", 1])), "stop[1]"),
        (with("stop", json!(1)), "stop"),
        (with("top_logprobs", json!(2)), "top_logprobs"),
        (with("stream", json!("yes")), "stream"),
        (with("stream_options", json!({"include_usage": 1})), "stream_options.include_usage"),
        (with("logit_bias", json!({"x": 1})), "logit_bias.x"),
        (with("logit_bias", json!({"1": 101})), "logit_bias.1"),
        (with("response_format", json!({"type": "json_object"})), "response_format.type"),
        (with("tools", json!([1])), "tools[0]"),
        (with("messages", json!([])), "messages"),
        (
            with("messages", json!([{"role": "user", "content": "x"}, {"role": "king", "content": ""}])),
            "messages[1].role",
        ),
        (with("messages", json!([{"content": "x"}])), "messages[0].role"),
        (with("messages", json!([{"role": "user", "content": 1}])), "messages[0].content"),
        (
            with("messages", json!([{"role": "user", "content": [{"type": "image_url"}]}])),
            "messages[0].content[0].type",
        ),
        (json!({}), "messages"),
    ];
    for (body, param) in wrong {
        let refusal = chat(body.clone()).expect_err("refused");
        assert_eq!(refusal.body.param.as_deref(), Some(param), "{body}: {}", refusal.body.message);
        assert_eq!((refusal.status, refusal.body.code.as_deref()), (400, Some("invalid_value")));
    }
    assert!(parse_chat(b"{").is_err() && parse_chat(b"[]").is_err() && parse_chat(b"\xff").is_err());
}

#[test]
fn messages_become_what_templates_expect() {
    let request = chat(json!({"messages": [
        {"role": "developer", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]},
        {"role": "assistant", "content": null, "name": null, "tool_calls": [
            {"id": "1", "function": {"name": "f", "arguments": "{\"x\": 1}"}}, {"function": {"name": "g", "arguments": ""}}]}],
        "tools": [{"type": "function"}], "chat_template_kwargs": {"enable_thinking": false}}))
    .expect("a request");
    let Kind::Chat(chat) = request.kind else { panic!("not a chat") };
    assert_eq!(
        chat.messages,
        [
            json!({"role": "system", "content": "ab"}),
            json!({"role": "assistant", "content": "", "tool_calls": [
            {"id": "1", "function": {"name": "f", "arguments": {"x": 1}}}, {"function": {"name": "g", "arguments": {}}}]}),
        ]
    );
    assert_eq!(chat.tools, Some(json!([{"type": "function"}])));
    assert_eq!(chat.variables.and_then(|v| v.get("enable_thinking").cloned()), Some(json!(false)));
}

#[test]
fn tools_that_must_not_be_called_are_not_shown() {
    let mut body = with("tools", json!([{"type": "function"}]));
    body["tool_choice"] = json!("none");
    let Kind::Chat(chat) = chat(body).expect("a request").kind else { panic!("not a chat") };
    assert_eq!(chat.tools, None);
}

#[test]
fn prompts_come_in_three_forms() {
    let prompt = |value: Value| completion(json!({"prompt": value})).map(|request| request.kind);
    let text = || Ok(Kind::Completion(Prompt::Text("hi".to_owned())));
    assert_eq!(prompt(json!("hi")), text());
    assert_eq!(prompt(json!(["hi"])), text());
    assert_eq!(prompt(json!([1, 2])), Ok(Kind::Completion(Prompt::Ids(vec![1, 2]))));
    for wrong in [json!(["a", "b"]), json!([1, "b"]), json!([-1]), json!(7), Value::Null] {
        assert!(prompt(wrong.clone()).is_err(), "{wrong} was accepted");
    }
}

fn answer(chat: bool) -> Answer {
    let id = if chat { "chatcmpl-1" } else { "cmpl-1" };
    Answer { id: id.to_owned(), created: 7, model: "m".to_owned(), chat, include_usage: false }
}

#[test]
fn chunks_have_openais_shape() {
    let chat = answer(true);
    assert_eq!(
        chat.role_chunk(0).expect("a chunk"),
        r#"{"id":"chatcmpl-1","object":"chat.completion.chunk","created":7,"model":"m","choices":[{"index":0,"delta":{"role":"assistant","content":""},"logprobs":null,"finish_reason":null}]}"#
    );
    assert_eq!(
        chat.text_chunk(1, "é", None),
        r#"{"id":"chatcmpl-1","object":"chat.completion.chunk","created":7,"model":"m","choices":[{"index":1,"delta":{"content":"é"},"logprobs":null,"finish_reason":null}]}"#
    );
    assert_eq!(
        chat.finish_chunk(0, End::Length),
        r#"{"id":"chatcmpl-1","object":"chat.completion.chunk","created":7,"model":"m","choices":[{"index":0,"delta":{},"logprobs":null,"finish_reason":"length"}]}"#
    );
    let usage = Usage { prompt_tokens: 3, completion_tokens: 4, total_tokens: 7 };
    assert_eq!(
        chat.usage_chunk(usage),
        r#"{"id":"chatcmpl-1","object":"chat.completion.chunk","created":7,"model":"m","choices":[],"usage":{"prompt_tokens":3,"completion_tokens":4,"total_tokens":7}}"#
    );
    assert!(Answer { include_usage: true, ..chat }.text_chunk(0, "x", None).ends_with(r#""usage":null}"#));

    let text = answer(false);
    assert_eq!(text.role_chunk(0), None);
    assert_eq!(
        text.finish_chunk(0, End::Stop),
        r#"{"id":"cmpl-1","object":"text_completion","created":7,"model":"m","choices":[{"index":0,"text":"","logprobs":null,"finish_reason":"stop"}]}"#
    );
}

#[test]
fn whole_answers_and_log_probabilities() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let tokenizer = json!({"version": "1.0", "truncation": null, "padding": null, "normalizer": null, "pre_tokenizer": null,
        "post_processor": null, "added_tokens": [], "decoder": {"type": "ByteLevel", "add_prefix_space": false,
        "trim_offsets": true, "use_regex": true}, "model": {"type": "BPE", "vocab": {"a": 0, "Ãī": 1}, "merges": []}});
    std::fs::write(folder.path().join("tokenizer.json"), tokenizer.to_string()).expect("a writable folder");
    let codec = crate::text::Codec::open(&crate::model::ModelSource::Folder(folder.path().to_owned()))
        .expect("a usable folder");
    let token = TokenText(&codec.tokenizer);

    let logprobs = TokenLogprobs { chosen: -0.5, top: vec![(1, -0.5), (0, f32::NEG_INFINITY)] };
    let whole = WholeChoice { text: "É".to_owned(), end: End::Stop, logprobs: Some(vec![(1, logprobs, 0)]) };
    let usage = Usage { prompt_tokens: 1, completion_tokens: 1, total_tokens: 2 };
    let read = |text: String| serde_json::from_str::<Value>(&text).expect("JSON");
    let chat = read(answer(true).whole(std::slice::from_ref(&whole), usage, token));
    assert_eq!(chat["object"], "chat.completion");
    assert_eq!(chat["choices"][0]["message"], json!({"role": "assistant", "content": "É", "refusal": null}));
    assert_eq!(
        chat["choices"][0]["logprobs"]["content"][0],
        json!({"token": "É", "logprob": -0.5, "bytes": [195, 137],
        "top_logprobs": [{"token": "É", "logprob": -0.5, "bytes": [195, 137]}, {"token": "a", "logprob": -9999.0, "bytes": [97]}]})
    );
    assert_eq!(chat["usage"]["total_tokens"], 2);

    let text = read(answer(false).whole(&[whole], usage, token));
    assert_eq!((&text["choices"][0]["text"], &text["choices"][0]["finish_reason"]), (&json!("É"), &json!("stop")));
    assert_eq!(
        text["choices"][0]["logprobs"],
        json!({"tokens": ["É"], "token_logprobs": [-0.5],
        "top_logprobs": [{"É": -0.5, "a": -9999.0}], "text_offset": [0]})
    );
}

#[test]
fn a_full_context_is_explained() {
    let refusal = Refusal::context_length_exceeded("messages", 100, 120, 50);
    let start =
        "This model's maximum context length is 100 tokens. However, you requested 170 tokens (120 in the prompt, 50";
    assert!(refusal.body.message.starts_with(start), "{}", refusal.body.message);
    assert!(refusal.body.message.ends_with("Shorten the prompt by at least 21 tokens."), "{}", refusal.body.message);
}
