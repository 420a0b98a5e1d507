//! A small model folder for tests: everything about text, no weights.

use std::path::Path;

use serde_json::{Value, json};

/// A byte-level tokenizer with an alphabet of all bytes (ids 0–255), one merge (256) and three added tokens: 257
/// `<|im_start|>`, 258 `<|im_end|>` (ends an answer), 259 `<think>` (shown).
pub(crate) fn write(folder: &Path) {
    let mut vocabulary = serde_json::Map::new();
    for code in (0x21..=0x7E).chain(0xA1..=0xAC).chain(0xAE..=0xFF).chain(0x100..=0x143) {
        let id = vocabulary.len();
        vocabulary.insert(char::from_u32(code).expect("a character").to_string(), json!(id));
    }
    vocabulary.insert("Ġt".to_owned(), json!(256));
    let added = |id: u32, content: &str, special: bool| {
        json!({"id": id, "content": content, "special": special, "single_word": false, "lstrip": false,
               "rstrip": false, "normalized": false})
    };
    let byte_level = json!({"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true});
    let tokenizer = json!({
        "version": "1.0", "truncation": null, "padding": null, "normalizer": null, "post_processor": null,
        "added_tokens": [added(257, "<|im_start|>", true), added(258, "<|im_end|>", true), added(259, "<think>", false)],
        "pre_tokenizer": byte_level, "decoder": byte_level,
        "model": {"type": "BPE", "vocab": vocabulary, "merges": [["Ġ", "t"]]}});
    let write = |name: &str, document: Value| {
        std::fs::write(folder.join(name), document.to_string()).expect("a writable folder");
    };
    write("tokenizer.json", tokenizer);
    write(
        "tokenizer_config.json",
        json!({"eos_token": {"content": "<|im_end|>"}, "bos_token": "<|im_start|>",
               "chat_template": "{{ bos_token }}{{ messages[0].content }}{{ eos_token }}"}),
    );
    write("generation_config.json", json!({"eos_token_id": [258, 7]}));
    write("config.json", json!({"eos_token_id": 9}));
}
