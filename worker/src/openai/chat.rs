//! Messages and tools of a chat request, in the form chat templates expect.
//!
//! Owns the differences between what clients send and what templates were written for: content in parts becomes one
//! text, a null content an empty one, the arguments of tool calls an object, `developer` the system role.

use serde_json::{Map, Value};

use super::Refusal;
use super::fields::{Fields, mismatch};

/// Messages one request may have.
const MAX_MESSAGES: usize = 65_536;
const ROLES: [&str; 6] = ["system", "developer", "user", "assistant", "tool", "function"];

/// What a chat template gets.
#[derive(Debug, Clone, PartialEq)]
pub struct Chat {
    /// Messages, each with a role and text content.
    pub messages: Vec<Value>,
    /// Tools as the client sent them.
    pub tools: Option<Value>,
    /// Further template variables, `chat_template_kwargs`.
    pub variables: Option<Map<String, Value>>,
}

impl Chat {
    pub(super) fn parse(fields: &Fields<'_>) -> Result<Self, Refusal> {
        let messages = fields.array("messages")?.ok_or_else(|| fields.refuse("messages", "`messages` is missing"))?;
        if messages.is_empty() || messages.len() > MAX_MESSAGES {
            return Err(fields.refuse("messages", format!("`messages` must have 1 to {MAX_MESSAGES} messages")));
        }
        let messages = messages.iter().enumerate().map(message).collect::<Result<_, _>>()?;
        let tools = fields.array("tools")?.filter(|tools| !tools.is_empty());
        for (index, tool) in tools.into_iter().flatten().enumerate() {
            Fields::inside(tool, format!("tools[{index}]"))?;
        }
        // A model that must not call tools is not shown any.
        let unwanted = fields.get("tool_choice").and_then(Value::as_str) == Some("none");
        let tools = tools.filter(|_| !unwanted).map(|tools| Value::Array(tools.clone()));
        let variables = fields.object("chat_template_kwargs")?.cloned();
        Ok(Self { messages, tools, variables })
    }
}

fn message((index, value): (usize, &Value)) -> Result<Value, Refusal> {
    let fields = Fields::inside(value, format!("messages[{index}]"))?;
    let role = fields.string("role")?.ok_or_else(|| fields.refuse("role", "a message has no `role`"))?;
    if !ROLES.contains(&role) {
        return Err(fields.refuse("role", format!("`{role}` is not a role; give one of {}", ROLES.join(", "))));
    }
    let mut message = value.as_object().cloned().unwrap_or_default();
    message.insert("content".to_owned(), Value::String(content(&fields)?));
    if role == "developer" {
        message.insert("role".to_owned(), Value::from("system"));
    }
    if let Some(calls) = fields.array("tool_calls")? {
        let at = fields.path("tool_calls");
        message.insert("tool_calls".to_owned(), tool_calls(calls, &at)?);
    }
    // Templates test for presence, where clients write null for absence.
    message.retain(|_, value| !value.is_null());
    Ok(Value::Object(message))
}

/// A text, or text parts put together.
fn content(fields: &Fields<'_>) -> Result<String, Refusal> {
    let parts = match fields.get("content") {
        None => return Ok(String::new()),
        Some(Value::String(text)) => return Ok(text.clone()),
        Some(Value::Array(parts)) => parts,
        Some(other) => return Err(mismatch(&fields.path("content"), "a string or an array of text parts", other)),
    };
    let mut text = String::new();
    for (index, part) in parts.iter().enumerate() {
        let part = Fields::inside(part, format!("{}[{index}]", fields.path("content")))?;
        match part.string("type")? {
            Some("text" | "input_text" | "refusal") | None => {}
            Some(other) => return Err(part.refuse("type", format!("this model reads text only, not `{other}`"))),
        }
        let piece = part.string("text")?.or(part.string("refusal")?);
        text.push_str(piece.ok_or_else(|| part.refuse("text", "a text part has no `text`"))?);
    }
    Ok(text)
}

/// Clients carry arguments as JSON text; templates write them out as an object.
fn tool_calls(calls: &[Value], at: &str) -> Result<Value, Refusal> {
    let mut calls = calls.to_vec();
    for (index, call) in calls.iter_mut().enumerate() {
        let at = format!("{at}[{index}]");
        Fields::inside(call, at.clone())?;
        let Some(arguments) = call.pointer_mut("/function/arguments") else { continue };
        if let Value::String(text) = arguments {
            let path = format!("{at}.function.arguments");
            let text = if text.trim().is_empty() { "{}" } else { text };
            *arguments = serde_json::from_str(text)
                .map_err(|error| Refusal::invalid_value(&path, format!("`{path}` is not valid JSON: {error}")))?;
        }
    }
    Ok(Value::Array(calls))
}
