//! One client: asks, reads, writes down what it saw, asks again.

use std::io::Write;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

use crate::answer::Answer;
use crate::chance::Chance;
use crate::history::{Asked, Event, History, Id, Outcome, Seen};

/// Longest silence a client bears; the daemon's keep-alive is far shorter.
const PATIENCE: Duration = Duration::from_secs(60);

/// What to ask: mostly little, sometimes much. `longest` and `longest_plain` in tokens.
pub fn ask(chance: &mut Chance, longest: u32, longest_plain: u32) -> Asked {
    let tokens = match chance.below(20) {
        0..14 => 1 + chance.below(12),
        14..19 => 10 + chance.below(80),
        _ => 1 + chance.below(longest),
    };
    let choices = if chance.below(8) == 0 { 2 } else { 1 };
    let stream = chance.below(4) > 0;
    let most = if stream { longest } else { longest.min(longest_plain) };
    Asked { stream, chat: chance.below(3) > 0, tokens: tokens.min(most), choices }
}

/// Sends one request and records it from its beginning to its end.
pub fn request(socket: &Path, id: Id, asked: Asked, history: &History) {
    history.add(Event::Invoked { id, at: Instant::now(), asked });
    let seen = converse(socket, id, asked, history);
    history.add(Event::Ended { id, at: Instant::now(), seen });
}

fn converse(socket: &Path, id: Id, asked: Asked, history: &History) -> Seen {
    let nothing = |outcome| Seen { outcome, texts: Vec::new(), identities: Vec::new(), last_piece: None };
    let mut stream = match UnixStream::connect(socket) {
        Ok(stream) => stream,
        Err(why) => return nothing(Outcome::Refused { why: why.to_string() }),
    };
    if let Err(why) = stream.set_read_timeout(Some(PATIENCE)) {
        return nothing(Outcome::Garbled { why: why.to_string() });
    }
    let (path, input) = match asked.chat {
        true => ("/v1/chat/completions", "\"messages\":[]"),
        false => ("/v1/completions", "\"prompt\":\"p\""),
    };
    let Asked { stream: streamed, tokens, choices, .. } = asked;
    let body = format!("{{{input},\"stream\":{streamed},\"max_tokens\":{tokens},\"n\":{choices}}}");
    let head = format!(
        "POST {path} HTTP/1.1\r\nhost: x\r\nx-request-id: r{id}\r\nconnection: close\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    // A daemon that dies while it is written to has cut it, like one that dies later.
    if stream.write_all((head + &body).as_bytes()).is_err() {
        return nothing(Outcome::Cut);
    }
    Answer::new(stream, choices).read(|at| history.add(Event::FirstByte { id, at }))
}
