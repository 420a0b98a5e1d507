//! One streamed answer: text to stdout as it comes, what the daemon says meanwhile to stderr.

use std::path::Path;
use std::time::Instant;

use http_body_util::BodyExt;
use hyper::Method;
use hyper::body::Incoming;
use serde::{Deserialize, Serialize};

use super::Message;
use crate::ctl::args::ChatArgs;
use crate::ctl::connection::{self, ConnectionError};
use crate::ctl::error_object::{self, ErrorObject};
use crate::ctl::failure::{Failure, Kind};
use crate::ctl::home::Home;
use crate::ctl::interrupt::Interrupts;
use crate::ctl::render::quantity::{plural, span};
use crate::ctl::sse::{Item, Parser};
use crate::ctl::terminal::Terminal;
use crate::supervisor::refusal::CODES;

/// Longest error answer read.
const ERROR_MAX_BYTES: usize = 1 << 20;

/// What became of a question.
#[derive(Debug)]
pub struct Answer {
    /// The text, as far as it came.
    pub text: String,
    /// True when Ctrl-C ended it.
    pub interrupted: bool,
}

#[derive(Serialize)]
struct Request<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    model: Option<&'a str>,
    messages: &'a [Message],
    stream: bool,
    stream_options: StreamOptions,
    #[serde(skip_serializing_if = "Option::is_none")]
    max_tokens: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    temperature: Option<f64>,
}

#[derive(Serialize)]
struct StreamOptions {
    include_usage: bool,
}

#[derive(Deserialize)]
struct Chunk {
    #[serde(default)]
    choices: Vec<Choice>,
    usage: Option<Usage>,
    error: Option<ErrorObject>,
}

#[derive(Deserialize)]
struct Choice {
    #[serde(default)]
    delta: Delta,
    finish_reason: Option<String>,
}

#[derive(Default, Deserialize)]
struct Delta {
    content: Option<String>,
    #[serde(alias = "reasoning")]
    reasoning_content: Option<String>,
}

#[derive(Deserialize)]
struct Usage {
    completion_tokens: u64,
}

/// Asks and prints until the answer ends. Ctrl-C hangs up, which stops the generation.
pub async fn stream(
    args: &ChatArgs,
    messages: &[Message],
    home: &Home,
    socket: &Path,
    interrupts: &mut Interrupts,
    terminal: &mut Terminal,
) -> Result<Answer, Failure> {
    let unreachable = |error| unreachable(error, home);
    let request = Request {
        model: args.model.as_deref(),
        messages,
        stream: true,
        stream_options: StreamOptions { include_usage: true },
        max_tokens: args.max_tokens,
        temperature: args.temperature,
    };
    let body = serde_json::to_vec(&request)
        .map_err(|error| Failure::new(Kind::Internal, "cannot write the question").caused_by(error))?;
    let mut request = connection::request(Method::POST, "/v1/chat/completions", Some(body)).map_err(unreachable)?;
    let headers = request.headers_mut();
    headers.insert("x-mlxsup-client", hyper::header::HeaderValue::from_static("mlxsupctl"));
    headers.insert("x-mlxsup-priority", hyper::header::HeaderValue::from_static("interactive"));

    let mut printed = Printed::new(terminal);
    let response = tokio::select! {
        response = connection::send(socket, request) => response.map_err(unreachable)?,
        () = interrupts.pressed() => return printed.interrupted(),
    };
    let status = response.status();
    if !status.is_success() {
        let text = connection::read(socket, response.into_body(), ERROR_MAX_BYTES).await.map_err(unreachable)?;
        return Err(match error_object::parse(&text) {
            Some(error) => refused(error, status.as_u16()),
            None => Failure::new(Kind::Internal, format!("the answer is {status} without a reason")),
        });
    }
    let mut body = response.into_body();
    let mut parser = Parser::default();
    loop {
        let bytes = tokio::select! {
            bytes = next_bytes(&mut body) => bytes,
            () = interrupts.pressed() => return printed.interrupted(),
        };
        let bytes = match bytes {
            Some(Ok(bytes)) => bytes,
            Some(Err(source)) => {
                printed.end_line()?;
                return Err(broken_off(home).caused_by(source));
            }
            None if printed.done => return printed.finished(),
            None => {
                printed.end_line()?;
                return Err(broken_off(home));
            }
        };
        let items = parser
            .push(&bytes)
            .map_err(|error| Failure::new(Kind::Internal, "cannot read the answer").caused_by(error))?;
        for item in items {
            printed.take(item)?;
        }
    }
}

async fn next_bytes(body: &mut Incoming) -> Option<Result<bytes::Bytes, hyper::Error>> {
    loop {
        match body.frame().await? {
            Ok(frame) => {
                if let Ok(bytes) = frame.into_data() {
                    return Some(Ok(bytes));
                }
            }
            Err(error) => return Some(Err(error)),
        }
    }
}

/// The answer on its way to the terminal.
struct Printed<'a> {
    terminal: &'a mut Terminal,
    text: String,
    started: Instant,
    tokens: Option<u64>,
    generations: Option<String>,
    comment: String,
    at_line_start: bool,
    cut: bool,
    done: bool,
}

impl<'a> Printed<'a> {
    fn new(terminal: &'a mut Terminal) -> Self {
        Self {
            terminal,
            text: String::new(),
            started: Instant::now(),
            tokens: None,
            generations: None,
            comment: String::new(),
            at_line_start: true,
            cut: false,
            done: false,
        }
    }

    fn take(&mut self, item: Item) -> Result<(), Failure> {
        match item {
            Item::Comment(comment) => self.comment(comment),
            Item::Event { data, .. } if data == "[DONE]" => {
                self.done = true;
                Ok(())
            }
            Item::Event { name, data } => {
                let chunk: Chunk = match serde_json::from_str(&data) {
                    Ok(chunk) => chunk,
                    Err(error) => {
                        self.end_line()?;
                        let what = "cannot read a piece of the answer";
                        return Err(Failure::new(Kind::Internal, what).caused_by(error));
                    }
                };
                if let Some(error) = chunk.error {
                    self.end_line()?;
                    return Err(refused(error, 500));
                }
                if name == "error" {
                    self.end_line()?;
                    return Err(Failure::new(Kind::Internal, "the answer ended with an error that gives no reason"));
                }
                self.tokens = chunk.usage.map(|usage| usage.completion_tokens).or(self.tokens);
                for choice in chunk.choices {
                    self.cut |= choice.finish_reason.as_deref() == Some("length");
                    if let Some(thought) = choice.delta.reasoning_content {
                        let thought = printable(&thought, self.terminal.err_is_terminal);
                        let shown = self.terminal.err_paint.dim(&thought);
                        self.terminal.ask(&shown)?;
                        self.at_line_start = thought.ends_with('\n');
                    }
                    if let Some(content) = choice.delta.content {
                        self.write(&content)?;
                    }
                }
                Ok(())
            }
        }
    }

    fn write(&mut self, content: &str) -> Result<(), Failure> {
        if content.is_empty() {
            return Ok(());
        }
        if self.text.is_empty() {
            // Thoughts, if any, came before.
            self.end_line()?;
        }
        let shown = printable(content, self.terminal.out_is_terminal);
        self.terminal.print(&shown)?;
        self.at_line_start = shown.ends_with('\n');
        self.text.push_str(content);
        Ok(())
    }

    /// `queued 3 ahead`: replaced by what follows where the line can be rewritten, else a line of its own.
    fn comment(&mut self, comment: String) -> Result<(), Failure> {
        if let Some(facts) = comment.strip_prefix("mlxsup ") {
            let generations = facts.split_whitespace().find_map(|fact| fact.strip_prefix("generations="));
            self.generations = generations.map(str::to_owned);
            return Ok(());
        }
        if comment == self.comment || comment.is_empty() {
            return Ok(());
        }
        let clean = printable(&comment, true);
        if self.terminal.err_is_terminal && self.at_line_start {
            self.terminal.show_transient(&clean)?;
        } else if !self.terminal.err_is_terminal {
            self.terminal.say(&clean)?;
        }
        // Within a line that both streams share there is no room for it.
        self.comment = comment;
        Ok(())
    }

    fn end_line(&mut self) -> Result<(), Failure> {
        if !self.at_line_start {
            self.terminal.print("\n")?;
            self.at_line_start = true;
        }
        Ok(())
    }

    fn interrupted(mut self) -> Result<Answer, Failure> {
        self.end_line()?;
        let note = self.terminal.err_paint.dim("(stopped)");
        self.terminal.say(&note)?;
        Ok(Answer { text: self.text, interrupted: true })
    }

    fn finished(mut self) -> Result<Answer, Failure> {
        self.end_line()?;
        if self.cut {
            self.terminal.say("The answer is cut off at its token limit; --max-tokens raises it")?;
        }
        if self.terminal.err_is_terminal {
            let mut notes = Vec::new();
            notes.extend(self.tokens.map(|tokens| plural(tokens, "token", "tokens")));
            notes.push(span(self.started.elapsed().as_secs_f64()));
            notes.extend(self.generations.filter(|all| all.contains(',')).map(|all| format!("by workers {all}")));
            let note = self.terminal.err_paint.dim(&format!("({})", notes.join(", ")));
            self.terminal.say(&note)?;
        }
        Ok(Answer { text: self.text, interrupted: false })
    }
}

/// Text without the control characters that would steer a terminal; untouched for pipes.
fn printable(text: &str, for_terminal: bool) -> String {
    if for_terminal {
        text.chars().filter(|c| !c.is_control() || matches!(c, '\n' | '\t')).collect()
    } else {
        text.to_owned()
    }
}

fn refused(error: ErrorObject, status: u16) -> Failure {
    let code = error.code.unwrap_or_default();
    let status = CODES.iter().find(|(_, text, _)| *text == code).map_or(status, |(_, _, status)| *status);
    // The service as a whole does not answer now, as opposed to a request that is at fault or failed by itself.
    let kind = if matches!(status, 429 | 503 | 504) { Kind::NotServing } else { Kind::Internal };
    let message = if code.is_empty() { error.message } else { format!("{code}: {}", error.message) };
    Failure::new(kind, message)
}

fn broken_off(home: &Home) -> Failure {
    Failure::new(Kind::Internal, "the answer broke off before its end")
        .hint(format!("see `mlxsupctl --home {} status`", home.path.display()))
}

fn unreachable(error: ConnectionError, home: &Home) -> Failure {
    let never_there = matches!(error, ConnectionError::Connect { .. });
    let message = if never_there { "cannot reach the client socket" } else { "lost the connection to the daemon" };
    let failure = Failure::new(Kind::Unreachable, message)
        .caused_by(error)
        .hint(format!("is the daemon running? see `mlxsupctl --home {} status`", home.path.display()));
    if never_there { failure.hint("a client socket elsewhere is named with --socket") } else { failure }
}
