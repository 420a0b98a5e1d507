//! The reader tells the ends of an answer apart.

use std::io::Write;
use std::os::unix::net::UnixStream;

use crate::answer::Answer;
use crate::history::{Outcome, Seen};

const TOKEN: &str = "data: {\"id\":\"a\",\"choices\":[{\"index\":0,\"delta\":{\"content\":\"w1 \"}}]}\n\n";
const ERROR: &str = "event: error\ndata: {\"error\":{\"message\":\"m\",\"code\":\"engine_error\"}}\n\n";
const DONE: &str = "data: [DONE]\n\n";
const LAST_CHUNK: &str = "0\r\n\r\n";

/// What a client makes of a stream of these events, and of `rest` behind the last of them.
fn streamed(events: &[&str], rest: &str) -> Seen {
    let (mut server, client) = UnixStream::pair().unwrap();
    let mut text =
        "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n".to_owned();
    for event in events {
        text += &format!("{:x}\r\n{event}\r\n", event.len());
    }
    server.write_all((text + rest).as_bytes()).unwrap();
    drop(server);
    Answer::new(client, 1).read(|_| {})
}

#[test]
fn a_stream_is_whole_with_its_terminator_and_the_last_chunk() {
    assert_eq!(streamed(&[TOKEN, DONE], LAST_CHUNK).outcome, Outcome::Complete);
    assert_eq!(streamed(&[TOKEN], LAST_CHUNK).outcome, Outcome::Unterminated);
    assert_eq!(streamed(&[TOKEN, DONE], "").outcome, Outcome::Cut);
    assert_eq!(streamed(&[TOKEN], "").outcome, Outcome::Cut);
}

#[test]
fn an_error_event_ends_a_stream_and_nothing_comes_after_it() {
    let broken = streamed(&[TOKEN, ERROR], "");
    assert_eq!(broken.outcome, Outcome::Error { status: 200, code: "engine_error".to_owned() });
    assert_eq!((broken.texts, broken.identities.len()), (vec!["w1 ".to_owned()], 1));
    // In one chunk with a note behind it, as the daemon writes it.
    let with_note = streamed(&[TOKEN, &format!("{ERROR}: mlxsup generations=1\n\n")], "");
    assert!(matches!(with_note.outcome, Outcome::Error { .. }), "{with_note:?}");

    for (events, rest) in [
        (&[TOKEN, ERROR, DONE][..], ""),
        (&[TOKEN, ERROR, TOKEN], ""),
        (&[TOKEN, ERROR, ERROR], ""),
        (&[TOKEN, DONE, ERROR], ""),
        // To HTTP a broken stream must look broken.
        (&[TOKEN, ERROR], LAST_CHUNK),
    ] {
        let seen = streamed(events, rest);
        assert!(matches!(seen.outcome, Outcome::Garbled { .. }), "{events:?} {rest:?}: {seen:?}");
    }
}
