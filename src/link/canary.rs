//! The canary over the worker link: one greedy token from a fixed prompt, read from the event ids.
//!
//! Owns the envelope and the reading of its answer; whether the token is the right one is the supervisor's judgement.

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::{Method, Request, StatusCode};
use hyper_util::rt::TokioIo;
use mlxsup_worker_api::{Envelope, ErrorObject, EventId, envelope, path};
use serde_json::value::RawValue;

use super::client::{Address, LinkError, connect, over};
use super::events::{EventParser, Item};
use super::foreign;

/// A prompt whose next token no model is in two minds about. Greedy, so that the seed does not matter.
const REQUEST: &str = r#"{"prompt":"1 2 3 4 5 6 7 8 9","max_tokens":1,"temperature":0}"#;

/// Largest event of an answer of one token.
const EVENT_LIMIT: usize = 64 << 10;

/// Asks for one token. Returns the ids generated.
///
/// # Errors
/// When the worker refuses, breaks off, or says what makes no sense. Has no time limit of its own: the supervisor's
/// health window judges a worker that says nothing, and dropping the future hangs up.
pub async fn ask(address: &Address) -> Result<Vec<u32>, LinkError> {
    if let Some(foreign) = &address.foreign {
        return foreign::canary(address, foreign).await;
    }
    let stream = connect(&address.endpoint).await?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    let envelope = Envelope {
        id: "canary".to_owned(),
        created: 0,
        seed: 0,
        generated: Vec::new(),
        request: RawValue::from_string(REQUEST.to_owned())?,
    };
    let request = Request::builder()
        .method(Method::POST)
        .uri(path::LINK_COMPLETIONS)
        .header(hyper::header::HOST, "worker")
        .header(hyper::header::CONTENT_TYPE, "application/json")
        .body(Full::new(Bytes::from(serde_json::to_vec(&envelope)?)))
        .map_err(|error| LinkError::Body(error.to_string()))?;
    let exchange = async {
        let response = sender.send_request(request).await?;
        let status = response.status();
        let mut body = response.into_body();
        let mut reading = Reading::new(status);
        while let Some(frame) = body.frame().await {
            if let Ok(chunk) = frame?.into_data()
                && let Some(end) = reading.feed(chunk)
            {
                return end;
            }
        }
        reading.broken_off()
    };
    over(connection, exchange).await
}

/// An answer as far as it has come.
struct Reading {
    status: StatusCode,
    refusal: Vec<u8>,
    parser: EventParser,
    ids: Vec<u32>,
}

impl Reading {
    fn new(status: StatusCode) -> Self {
        Self { status, refusal: Vec::new(), parser: EventParser::new(EVENT_LIMIT), ids: Vec::new() }
    }

    /// More of the body; an end when its last event has come.
    fn feed(&mut self, chunk: Bytes) -> Option<Result<Vec<u32>, LinkError>> {
        if self.status != StatusCode::OK {
            let room = EVENT_LIMIT.saturating_sub(self.refusal.len());
            self.refusal.extend_from_slice(&chunk[..chunk.len().min(room)]);
            return None;
        }
        self.parser.feed(chunk);
        while let Some(item) = self.parser.next() {
            let event = match item {
                Ok(Item::Event(event)) => event,
                Ok(Item::Comment(_)) => continue,
                Err(error) => return Some(Err(LinkError::Body(error.to_string()))),
            };
            if let Some(id) = event.id.as_deref().and_then(|id| std::str::from_utf8(id).ok()) {
                match id.parse::<EventId>() {
                    Ok(id) => self.ids.extend(id.new_ids),
                    Err(error) => return Some(Err(LinkError::Body(error.to_string()))),
                }
            }
            match std::str::from_utf8(&event.name) {
                Ok(envelope::event::RESULT | envelope::event::END) => return Some(Ok(std::mem::take(&mut self.ids))),
                Ok(envelope::event::ERROR) => {
                    let said = event.data.map(|data| said(&data)).unwrap_or_default();
                    return Some(Err(LinkError::Body(said)));
                }
                Ok(_) | Err(_) => {}
            }
        }
        None
    }

    fn broken_off(self) -> Result<Vec<u32>, LinkError> {
        if self.status == StatusCode::OK {
            return Err(LinkError::Body("it ended before its last event".to_owned()));
        }
        Err(LinkError::Status { status: self.status, body: said(&self.refusal) })
    }
}

/// The message of an error object, or the document as it is.
fn said(document: &[u8]) -> String {
    match serde_json::from_slice::<ErrorObject>(document) {
        Ok(object) => object.error.message,
        Err(_) => String::from_utf8_lossy(document).trim().to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(status: StatusCode, chunks: &[&'static str]) -> Result<Vec<u32>, String> {
        let mut reading = Reading::new(status);
        for chunk in chunks {
            if let Some(end) = reading.feed(Bytes::from_static(chunk.as_bytes())) {
                return end.map_err(|error| error.to_string());
            }
        }
        reading.broken_off().map_err(|error| error.to_string())
    }

    #[test]
    fn the_ids_of_all_events_are_the_answer() {
        let chunks = [": prefill 3/9\n\nid: 0:1:", "42\n\n", "id: 0:1:\n\nevent: result\ndata: {}\n\n"];
        assert_eq!(read(StatusCode::OK, &chunks), Ok(vec![42]));
    }

    #[test]
    fn an_answer_that_stops_short_or_is_refused_says_why() {
        let short = read(StatusCode::OK, &["id: 0:1:42\n\n"]).unwrap_err();
        assert!(short.contains("before its last event"), "{short}");
        let refused = r#"{"error":{"message":"the GPU is gone","type":"server_error","param":null,"code":null}}"#;
        let early = read(StatusCode::SERVICE_UNAVAILABLE, &[refused]).unwrap_err();
        assert!(early.contains("the GPU is gone"), "{early}");
        let late = read(StatusCode::OK, &["event: error\ndata: nonsense\n\n"]).unwrap_err();
        assert!(late.contains("nonsense"), "{late}");
    }
}
