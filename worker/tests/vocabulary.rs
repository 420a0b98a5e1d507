//! Tokenizer, template and detokeniser of a real GGUF file. Needs `make model`.
#![allow(clippy::expect_used, reason = "a failed step of a test is a failed test")]

use std::path::Path;
use std::sync::Arc;

use mlxsup_worker::gguf::Header;
use mlxsup_worker::model::ModelSource;
use mlxsup_worker::text::{Codec, TemplateInput};
use serde_json::json;

fn smollm2() -> Codec {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/models/SmolLM2-135M-Instruct.Q4_1.gguf");
    assert!(path.is_file(), "{} is missing: run `make model`", path.display());
    let header = Arc::new(Header::read(&path).expect("a header"));
    Codec::open(&ModelSource::Gguf { path, header }).expect("a text side")
}

#[test]
fn text_and_ids_round_trip() {
    let codec = smollm2();
    for text in [
        "Hello, world! It's 1984 again.",
        "  leading spaces\n\n\tand tabs  ",
        "naïve café – 東京 🦀👩‍👩‍👧 \u{1F1EB}\u{1F1F7}",
        "fn main() { println!(\"{}\", 12_345); }",
        "",
    ] {
        let ids = codec.tokenizer.encode_prompt(text).expect("ids");
        let mut answer = codec.answer(&[], u32::MAX);
        let parts: Vec<String> = ids.iter().map(|&id| answer.push(id)).collect();
        assert_eq!(parts.concat(), text);
        assert!(parts.iter().all(|part| !part.contains('\u{FFFD}')), "{parts:?}");
    }
    // Digits stand alone, words carry their space, marks of the template are one id each.
    let ids = |text: &str| codec.tokenizer.encode_rendered(text).expect("ids");
    assert_eq!(ids("1984").len(), 4);
    assert_eq!(ids("The capital of France is Paris."), [504, 3575, 282, 4649, 314, 7042, 30]);
    assert_eq!(ids("<|im_start|><|im_end|>"), [1, 2]);
}

#[test]
fn the_files_own_template_and_endings_are_used() {
    let codec = smollm2();
    assert_eq!(codec.stop_ids.as_ref(), [0, 2]);
    let messages = [json!({"role": "user", "content": "Hi"})];
    let template = codec.template.as_ref().expect("a template");
    let text = template.render(&TemplateInput { messages: &messages, ..TemplateInput::default() }).expect("a prompt");
    assert_eq!(
        text,
        "<|im_start|>system\nYou are a helpful AI assistant named SmolLM, trained by Hugging Face<|im_end|>\n\
         <|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n"
    );
}
