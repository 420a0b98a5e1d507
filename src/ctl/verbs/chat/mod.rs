//! `mlxsupctl chat`: an ordinary client of the stable socket, for a first answer and for trying things.
//!
//! One question from the command line or a pipe, or a conversation in a terminal. The conversation lives here and is
//! sent whole each time; the model's context bounds it.

mod answer;
mod socket;

use std::io::{self, IsTerminal, Read};
use std::path::Path;

use serde::Serialize;

use crate::ctl::args::ChatArgs;
use crate::ctl::failure::{ExitStatus, Failure, Kind};
use crate::ctl::home::Home;
use crate::ctl::interrupt::Interrupts;
use crate::ctl::terminal::Terminal;

/// Longest question read from a pipe; the daemon's own limit (`listen.max_body`) is no larger by default.
const QUESTION_MAX_BYTES: u64 = 32 << 20;

/// One turn of a conversation.
#[derive(Debug, Clone, Serialize)]
struct Message {
    role: &'static str,
    content: String,
}

/// Answers the prompt, or what standard input says.
pub async fn run(args: ChatArgs, home: &Home, terminal: &mut Terminal) -> Result<ExitStatus, Failure> {
    let mut interrupts = Interrupts::listen()
        .map_err(|error| Failure::new(Kind::Internal, "cannot watch for Ctrl-C").caused_by(error))?;
    let socket = socket::of_clients(args.socket.as_deref(), home);
    if args.prompt.is_empty() && io::stdin().is_terminal() {
        return converse(&args, home, &socket, &mut interrupts, terminal).await;
    }
    let question = if args.prompt.is_empty() { read_question()? } else { args.prompt.join(" ") };
    if question.trim().is_empty() {
        return Err(Failure::new(Kind::Usage, "there is no question").hint(
            "pass it as an argument, as in `mlxsupctl chat \"What is the capital of France?\"`, or on standard input",
        ));
    }
    let mut messages = opening(&args);
    messages.push(Message { role: "user", content: question });
    let answer = answer::stream(&args, &messages, home, &socket, &mut interrupts, terminal).await?;
    Ok(if answer.interrupted { ExitStatus::Interrupted } else { ExitStatus::Ok })
}

fn opening(args: &ChatArgs) -> Vec<Message> {
    args.system.iter().map(|text| Message { role: "system", content: text.clone() }).collect()
}

fn read_question() -> Result<String, Failure> {
    let mut bytes = Vec::new();
    let unreadable = |error| Failure::new(Kind::Internal, "cannot read standard input").caused_by(error);
    io::stdin().lock().take(QUESTION_MAX_BYTES + 1).read_to_end(&mut bytes).map_err(unreadable)?;
    if bytes.len() as u64 > QUESTION_MAX_BYTES {
        return Err(Failure::new(Kind::Usage, format!("the question is longer than {QUESTION_MAX_BYTES} bytes")));
    }
    String::from_utf8(bytes)
        .map_err(|error| Failure::new(Kind::Usage, "the question is no UTF-8 text").caused_by(error))
}

/// Question after question until the input ends. A failed answer takes its question out of the conversation again.
async fn converse(
    args: &ChatArgs,
    home: &Home,
    socket: &Path,
    interrupts: &mut Interrupts,
    terminal: &mut Terminal,
) -> Result<ExitStatus, Failure> {
    let mut messages = opening(args);
    let paint = terminal.err_paint;
    terminal.say(&paint.dim("Ctrl-C stops an answer, Ctrl-D ends the conversation."))?;
    loop {
        terminal.ask(&paint.bold("> "))?;
        let line = tokio::select! {
            line = tokio::task::spawn_blocking(read_line) => line,
            () = interrupts.pressed() => {
                terminal.say("")?;
                return Ok(ExitStatus::Ok);
            }
        };
        let line = line
            .map_err(io::Error::other)
            .flatten()
            .map_err(|error| Failure::new(Kind::Internal, "cannot read standard input").caused_by(error))?;
        let Some(line) = line else {
            terminal.say("")?;
            return Ok(ExitStatus::Ok);
        };
        if line.trim().is_empty() {
            continue;
        }
        messages.push(Message { role: "user", content: line });
        match answer::stream(args, &messages, home, socket, interrupts, terminal).await {
            Ok(answer) => messages.push(Message { role: "assistant", content: answer.text }),
            Err(failure) if matches!(failure.kind(), Kind::Unreachable | Kind::BrokenPipe) => return Err(failure),
            Err(failure) => {
                failure.report(terminal)?;
                messages.pop();
            }
        }
    }
}

/// One line without its end; `None` at the end of the input. Blocks, so it runs on a thread of its own.
fn read_line() -> io::Result<Option<String>> {
    let mut line = String::new();
    let length = io::stdin().read_line(&mut line)?;
    Ok((length > 0).then(|| line.trim_end_matches(['\r', '\n']).to_owned()))
}
