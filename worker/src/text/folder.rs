//! The text side of a model folder in Hugging Face layout.
//!
//! Owns which file says what: `tokenizer.json` the tokenizer, `tokenizer_config.json` and `chat_template.jinja` the chat
//! template, `generation_config.json`, `config.json` and `tokenizer_config.json` the ids that end an answer.

use std::path::Path;

use serde_json::Value;

use super::pieces::Decoding;
use super::template::{ChatTemplate, Sources};
use super::{Codec, TextError, Tokenizer, stop_id_set};

pub(super) fn open(folder: &Path) -> Result<Codec, TextError> {
    let path = folder.join("tokenizer.json");
    let bytes = read(&path)?;
    let damaged = |what: String| TextError::Damaged { path: path.clone(), what };
    let inner = tokenizers::Tokenizer::from_bytes(&bytes).map_err(|error| damaged(error.to_string()))?;
    let decoder = serde_json::to_value(inner.get_decoder()).map_err(|error| damaged(error.to_string()))?;
    let decoding = Decoding::from_json(&decoder).map_err(|what| TextError::Unsupported { path: path.clone(), what })?;
    let tokenizer = Tokenizer::new(inner, &decoding, None);

    let config = optional_json(&folder.join("tokenizer_config.json"))?.unwrap_or(Value::Null);
    let mut stop_ids: Vec<u32> =
        ["eos_token", "eot_token"].iter().filter_map(|key| tokenizer.id_of(&token_text(&config, key)?)).collect();
    for file in ["generation_config.json", "config.json"] {
        let document = optional_json(&folder.join(file))?.unwrap_or(Value::Null);
        stop_ids.extend(id_or_ids(document.get("eos_token_id")));
        stop_ids.extend(id_or_ids(document.pointer("/text_config/eos_token_id")));
    }

    let mut sources = Sources::from_config(&config);
    if let Some(text) = optional_text(&folder.join("chat_template.jinja"))? {
        sources.default = Some(text);
    } else if let Some(document) = optional_json(&folder.join("chat_template.json"))? {
        let wrapped = Sources::from_config(&document);
        sources.default = wrapped.default.or(sources.default);
    }
    for key in ["bos_token", "eos_token", "unk_token", "pad_token"] {
        if let Some(text) = token_text(&config, key) {
            sources.special_tokens.insert(key.to_owned(), text);
        }
    }
    Ok(Codec { tokenizer, template: ChatTemplate::compile(sources), stop_ids: stop_id_set(stop_ids) })
}

/// A special token is either its text or an object with `content`.
fn token_text(config: &Value, key: &str) -> Option<String> {
    let token = config.get(key)?;
    token.as_str().or_else(|| token.get("content")?.as_str()).map(str::to_owned)
}

/// `eos_token_id` is one id or a list of them.
fn id_or_ids(value: Option<&Value>) -> Vec<u32> {
    let id = |value: &Value| value.as_u64().and_then(|id| u32::try_from(id).ok());
    match value {
        Some(Value::Array(ids)) => ids.iter().filter_map(id).collect(),
        Some(value) => id(value).into_iter().collect(),
        None => Vec::new(),
    }
}

fn read(path: &Path) -> Result<Vec<u8>, TextError> {
    std::fs::read(path).map_err(|source| TextError::Io { path: path.to_owned(), source })
}

fn optional(path: &Path) -> Result<Option<Vec<u8>>, TextError> {
    match std::fs::read(path) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(TextError::Io { path: path.to_owned(), source }),
    }
}

fn optional_json(path: &Path) -> Result<Option<Value>, TextError> {
    let Some(bytes) = optional(path)? else { return Ok(None) };
    let damaged = |error: serde_json::Error| TextError::Damaged { path: path.to_owned(), what: error.to_string() };
    serde_json::from_slice(&bytes).map(Some).map_err(damaged)
}

fn optional_text(path: &Path) -> Result<Option<String>, TextError> {
    let Some(bytes) = optional(path)? else { return Ok(None) };
    let damaged = |_| TextError::Damaged { path: path.to_owned(), what: "it is not UTF-8".to_owned() };
    String::from_utf8(bytes).map(Some).map_err(damaged)
}

#[cfg(test)]
mod tests {
    use super::super::{TemplateInput, sample_folder};
    use serde_json::json;

    #[test]
    fn every_file_has_its_say() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        sample_folder::write(folder.path());
        let codec = super::open(folder.path()).expect("a usable folder");
        assert_eq!(codec.stop_ids.as_ref(), [7, 9, 258]);
        let template = codec.template.as_ref().expect("a template");
        let messages = [json!({"role": "user", "content": "a t<think>"})];
        let text =
            template.render(&TemplateInput { messages: &messages, ..TemplateInput::default() }).expect("a prompt");
        let ids = codec.tokenizer.encode_rendered(&text).expect("ids");
        assert_eq!(ids, [257, 64, 256, 259, 258]);
        let mut answer = codec.answer(&[], 99);
        assert_eq!(ids[..4].iter().map(|&id| answer.push(id)).collect::<String>(), "a t<think>");
    }

    #[test]
    fn a_missing_tokenizer_names_the_file() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let error = super::open(folder.path()).expect_err("refused").to_string();
        assert!(error.contains("tokenizer.json"), "{error}");
    }

    #[test]
    fn a_template_file_beats_the_configuration() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        sample_folder::write(folder.path());
        std::fs::write(folder.path().join("chat_template.jinja"), "from the file").expect("a writable folder");
        let codec = super::open(folder.path()).expect("a usable folder");
        let text = codec.template.expect("a template").render(&TemplateInput::default()).expect("a prompt");
        assert_eq!(text, "from the file");
    }
}
