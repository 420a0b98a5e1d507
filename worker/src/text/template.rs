//! Chat templates: messages to prompt text, through a real Jinja engine.
//!
//! Owns the environment that Hugging Face templates expect (whitespace rules, Python methods, `tojson`,
//! `raise_exception`, `strftime_now`). A rendering is a pure function of its input: the clock a template sees is the
//! request's `created`.

use std::collections::BTreeMap;

use chrono::{DateTime, Local};
use minijinja::syntax::SyntaxConfig;
use minijinja::value::{Kwargs, Serde, ValueKind};
use minijinja::{Environment, Error, ErrorKind, Output, State, Value};
use serde_json::Value as Json;

use super::python_json;

const DEFAULT: &str = "chat";
const TOOL_USE: &str = "tool_use";

/// Template texts and the special tokens they may name.
#[derive(Debug, Default)]
pub(super) struct Sources {
    pub(super) default: Option<String>,
    pub(super) tool_use: Option<String>,
    pub(super) special_tokens: BTreeMap<String, String>,
}

impl Sources {
    /// `chat_template` is one text, or a list of named ones.
    pub(super) fn from_config(config: &Json) -> Self {
        let mut sources = Self::default();
        match config.get("chat_template") {
            Some(Json::String(text)) => sources.default = Some(text.clone()),
            Some(Json::Array(named)) => {
                for entry in named {
                    let text = entry.get("template").and_then(Json::as_str).map(str::to_owned);
                    match entry.get("name").and_then(Json::as_str) {
                        Some("default") => sources.default = text,
                        Some("tool_use") => sources.tool_use = text,
                        _ => {}
                    }
                }
            }
            _ => {}
        }
        sources
    }
}

/// What one rendering sees.
#[derive(Debug, Clone, Copy, Default)]
pub struct TemplateInput<'a> {
    /// Messages with text content.
    pub messages: &'a [Json],
    /// Tool descriptions as the client sent them.
    pub tools: Option<&'a Json>,
    /// Further variables (`chat_template_kwargs`).
    pub variables: Option<&'a serde_json::Map<String, Json>>,
    /// Seconds since the Unix epoch; the template's idea of now.
    pub created: u64,
}

/// What a template said against its input.
#[derive(Debug, thiserror::Error)]
#[error("the model's chat template refused the messages: {0}")]
pub struct TemplateError(String);

/// A compiled template.
#[derive(Debug)]
pub struct ChatTemplate {
    environment: Environment<'static>,
    special_tokens: BTreeMap<String, String>,
}

impl ChatTemplate {
    /// The error is for the client of a chat request.
    pub(super) fn compile(sources: Sources) -> Result<Self, String> {
        let Some(default) = sources.default.or_else(|| sources.tool_use.clone()) else {
            return Err("this model has no chat template; use /v1/completions".to_owned());
        };
        let broken = |error: Error| format!("this model's chat template cannot be used ({error}); use /v1/completions");
        let mut environment = environment().map_err(broken)?;
        environment.add_template_owned(DEFAULT, without_generation_marks(&default)).map_err(broken)?;
        if let Some(text) = sources.tool_use {
            environment.add_template_owned(TOOL_USE, without_generation_marks(&text)).map_err(broken)?;
        }
        Ok(Self { environment, special_tokens: sources.special_tokens })
    }

    /// The prompt, ready for the assistant's answer.
    ///
    /// # Errors
    /// [`TemplateError`] with the template's own words (`raise_exception`) or with what it could not do.
    pub fn render(&self, input: &TemplateInput<'_>) -> Result<String, TemplateError> {
        let mut variables: BTreeMap<String, Value> = BTreeMap::new();
        for (name, text) in &self.special_tokens {
            variables.insert(name.clone(), Value::from(text.as_str()));
        }
        variables.insert("messages".to_owned(), Value::from(Serde(input.messages)));
        variables.insert("add_generation_prompt".to_owned(), Value::from(true));
        if let Some(tools) = input.tools {
            variables.insert("tools".to_owned(), Value::from(Serde(tools)));
        }
        for (name, value) in input.variables.into_iter().flatten() {
            variables.insert(name.clone(), Value::from(Serde(value)));
        }
        let created = input.created;
        variables.insert("strftime_now".to_owned(), Value::from_function(move |format: String| now(created, &format)));

        let name =
            if input.tools.is_some() && self.environment.get_template(TOOL_USE).is_ok() { TOOL_USE } else { DEFAULT };
        let template = self.environment.get_template(name).map_err(|error| refusal(&error))?;
        template.render(Value::from(variables)).map_err(|error| refusal(&error))
    }
}

fn environment() -> Result<Environment<'static>, Error> {
    let mut environment = Environment::new();
    environment.set_syntax(SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build()?);
    environment.set_unknown_method_callback(minijinja_contrib::pycompat::unknown_method_callback);
    environment.set_formatter(python_words);
    environment.add_filter("tojson", tojson);
    environment.add_function("raise_exception", |message: String| -> Result<Value, Error> {
        Err(Error::new(ErrorKind::InvalidOperation, message))
    });
    Ok(environment)
}

/// Booleans and none as Python prints them; everything unescaped.
fn python_words(out: &mut Output, _: &mut State, value: &Value) -> Result<(), Error> {
    let word = match value.kind() {
        ValueKind::None => "None",
        ValueKind::Bool if value.is_true() => "True",
        ValueKind::Bool => "False",
        ValueKind::Undefined => "",
        _ => return write!(out, "{value}").map_err(Error::from),
    };
    out.write_str(word).map_err(Error::from)
}

/// `json.dumps(value, ensure_ascii=False, indent=indent)`.
#[allow(clippy::needless_pass_by_value, reason = "the engine hands arguments over by value")]
fn tojson(value: &Value, options: Kwargs) -> Result<Value, Error> {
    let indent: Option<usize> = options.get::<Option<usize>>("indent")?;
    let unknown = |error: serde_json::Error| Error::new(ErrorKind::BadSerialization, error.to_string());
    python_json::to_string(value, indent).map(Value::from_safe_string).map_err(unknown)
}

/// The request's creation time in the machine's zone.
fn now(created: u64, format: &str) -> Result<String, Error> {
    let invalid = |what: &str| Error::new(ErrorKind::InvalidOperation, format!("strftime_now: {what}"));
    let seconds = i64::try_from(created).map_err(|_| invalid("the time is out of range"))?;
    let utc = DateTime::from_timestamp(seconds, 0).ok_or_else(|| invalid("the time is out of range"))?;
    let items: Vec<_> = chrono::format::StrftimeItems::new(format).collect();
    if items.iter().any(|item| matches!(item, chrono::format::Item::Error)) {
        return Err(invalid(&format!("`{format}` is not a time format")));
    }
    Ok(utc.with_timezone(&Local).format_with_items(items.into_iter()).to_string())
}

/// The message of `raise_exception`, or what the engine could not do and where.
fn refusal(error: &Error) -> TemplateError {
    let what = error.detail().map_or_else(|| error.kind().to_string(), str::to_owned);
    let at = error.line().map_or_else(String::new, |line| format!(" (line {line} of the template)"));
    TemplateError(format!("{what}{at}"))
}

/// `{% generation %}` marks what training masks; it is not Jinja, and means nothing here.
fn without_generation_marks(source: &str) -> String {
    let mut result = String::with_capacity(source.len());
    let mut rest = source;
    while let Some(start) = rest.find("{%") {
        let Some(length) = rest[start..].find("%}") else { break };
        let tag = &rest[start..start + length + 2];
        result.push_str(&rest[..start]);
        match tag.trim_matches(|c: char| "{%}-+".contains(c) || c.is_whitespace()) {
            "generation" => result.push_str(&tag.replace("generation", "if true")),
            "endgeneration" => result.push_str(&tag.replace("endgeneration", "endif")),
            _ => result.push_str(tag),
        }
        rest = &rest[start + length + 2..];
    }
    result + rest
}

#[cfg(test)]
#[path = "template_tests.rs"]
mod tests;
