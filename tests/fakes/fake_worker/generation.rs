//! Answers of the fake: chunks, ids and the faults between them.

use std::io::{self, Write};
use std::time::Duration;

use mlxsup_worker_api::{Choice, Envelope, EventId, path};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::faults::Fault;
use crate::{Connection, Fake};

const PROMPT_TOKENS: u32 = 12;

/// The few fields of a request that matter here.
#[derive(Debug, Deserialize)]
struct Request {
    #[serde(default)]
    model: Option<String>,
    #[serde(default)]
    stream: bool,
    #[serde(default)]
    max_tokens: Option<u32>,
    #[serde(default)]
    n: Option<u32>,
    #[serde(default)]
    stream_options: Option<Value>,
}

/// One answer being written.
struct Writer<'a> {
    fake: &'a Fake,
    stream: &'a mut dyn Connection,
    envelope: Envelope,
    request: Request,
    chat: bool,
    /// As a server of the OpenAI API: no ids, no events of the link.
    plain: bool,
    /// Which of the worker's requests this is, from 0.
    number: u64,
    fatal_token: Option<u32>,
}

/// Serves one envelope; fails when the daemon hung up.
pub fn generate(fake: &Fake, stream: &mut dyn Connection, path: &str, body: &[u8]) -> io::Result<()> {
    match serde_json::from_slice::<Envelope>(body) {
        Ok(envelope) => begin(fake, stream, path == path::LINK_CHAT, false, envelope),
        Err(why) => crate::answer(stream, 400, &crate::error("invalid_value", &why.to_string())),
    }
}

/// Serves a client's own request, as any server of the OpenAI API would.
pub fn generate_plainly(fake: &Fake, stream: &mut dyn Connection, path: &str, body: &[u8]) -> io::Result<()> {
    let request = String::from_utf8_lossy(body).into_owned();
    match serde_json::value::RawValue::from_string(request) {
        Ok(request) => {
            let envelope = Envelope { id: String::new(), created: 0, seed: 0, generated: Vec::new(), request };
            begin(fake, stream, path == "/v1/chat/completions", true, envelope)
        }
        Err(why) => crate::answer(stream, 400, &json!({"error": why.to_string()})),
    }
}

fn begin(fake: &Fake, stream: &mut dyn Connection, chat: bool, plain: bool, mut envelope: Envelope) -> io::Result<()> {
    let request = match serde_json::from_str::<Request>(envelope.request.get()) {
        Ok(request) => request,
        Err(why) => return crate::answer(stream, 400, &crate::error("invalid_value", &why.to_string())),
    };
    if let Some(status) = fake.faults.refuse_generations {
        return crate::answer(stream, status, &crate::error("engine_error", "everything is refused, as told"));
    }
    if !fake.board.is_loaded() {
        return crate::answer(stream, 503, &crate::error("engine_error", "the model is not loaded"));
    }
    let (number, _active) = fake.board.begin();
    if plain {
        // Never the same twice: pieces of two answers in one show.
        envelope.id = format!("cmpl-foreign-{}-{number}", fake.board.generation());
    }
    note_dispatch(fake.board.generation(), &envelope);
    let limit = request.max_tokens.or(fake.faults.tokens).unwrap_or(16);
    let fatal_token = fake.faults.fatal_token(fake.board.generation(), number, limit);
    let mut writer = Writer { fake, stream, envelope, request, chat, plain, number, fatal_token };
    let written = writer.write();
    if written.is_err() {
        fake.board.cancelled();
    }
    written
}

/// One line per generation taken, `GENERATION ID TOKENS-REPLAYED`, in the file that `MLXSUP_FAKE_DISPATCHES` names: the
/// worker's side of a history.
fn note_dispatch(generation: u64, envelope: &Envelope) {
    let Some(path) = std::env::var_os("MLXSUP_FAKE_DISPATCHES") else { return };
    let replayed: usize = envelope.generated.iter().map(|choice| choice.ids.len()).sum();
    let line = format!("{generation} {} {replayed}\n", envelope.id);
    let file = std::fs::File::options().create(true).append(true).open(path);
    // One write, so that the lines of many threads and workers do not mix.
    if let Err(why) = file.and_then(|mut file| file.write_all(line.as_bytes())) {
        let _ = writeln!(io::stderr(), "fake worker: dispatch not noted: {why}");
    }
}

impl Writer<'_> {
    fn write(&mut self) -> io::Result<()> {
        let head = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n";
        // A plain answer is written whole at the end.
        if !self.plain || self.request.stream {
            self.stream.write_all(head.as_bytes())?;
        }
        let choices = self.request.n.unwrap_or(1);
        self.envelope.generated.resize(choices as usize, Choice::default());
        let replayed: usize = self.envelope.generated.iter().map(|choice| choice.ids.len()).sum();
        self.prefill(replayed)?;
        let limit = self.request.max_tokens.or(self.fake.faults.tokens).unwrap_or(16);
        for choice in 0..choices {
            self.choice(choice, limit)?;
        }
        let usage = json!({"prompt_tokens": PROMPT_TOKENS, "completion_tokens": limit * choices,
            "total_tokens": PROMPT_TOKENS + limit * choices});
        if !self.request.stream {
            let choices: Vec<Value> = (0..choices).map(|choice| self.whole(choice, limit)).collect();
            let mut result = self.chunk(&Value::Null);
            result["choices"] = Value::Array(choices);
            result["usage"] = usage;
            if self.plain {
                return crate::answer(self.stream, 200, &result);
            }
            return self.last(&format!("event: result\ndata: {result}\n\n"));
        }
        if self.request.stream_options.as_ref().is_some_and(|options| options["include_usage"] == true) {
            let mut chunk = self.chunk(&Value::Null);
            chunk["choices"] = json!([]);
            chunk["usage"] = usage;
            self.event(0, limit, &[], Some(&chunk))?;
        }
        self.last(if self.plain { "data: [DONE]\n\n" } else { "event: end\n\n" })
    }

    fn prefill(&mut self, replayed: usize) -> io::Result<()> {
        let total = PROMPT_TOKENS as usize + replayed;
        for quarter in 1..=4 {
            std::thread::sleep(Duration::from_millis(self.fake.faults.prefill_ms) / 4);
            self.fake.board.step();
            self.frame(format!(": prefill {}/{total}\n\n", total * quarter / 4).as_bytes())?;
        }
        Ok(())
    }

    fn choice(&mut self, choice: u32, limit: u32) -> io::Result<()> {
        let replayed = self.envelope.generated[choice as usize].clone();
        let replayable = replayed.ids.iter().zip(1..).all(|(id, position)| *id == token_id(choice, position));
        if !replayable {
            let error = crate::error("engine_error", "`generated` holds ids that this model cannot have produced");
            self.last(&format!("event: error\ndata: {}\n\n", serde_json::to_string(&error)?))?;
            return Err(io::ErrorKind::InvalidData.into());
        }
        if replayed.finish_reason.is_some() {
            return Ok(());
        }
        if replayed.ids.is_empty() && self.chat {
            let chunk = self.chunk(&json!({"index": choice, "delta": {"role": "assistant"}, "finish_reason": null}));
            self.event(choice, 0, &[], Some(&chunk))?;
        }
        let first = u32::try_from(replayed.ids.len()).unwrap_or(u32::MAX).saturating_add(1);
        for position in first..=limit {
            std::thread::sleep(Duration::from_millis(self.fake.faults.token_ms));
            self.token(choice, position)?;
        }
        let finish = if self.chat {
            json!({"index": choice, "delta": {}, "finish_reason": "length"})
        } else {
            json!({"index": choice, "text": "", "finish_reason": "length"})
        };
        let chunk = self.chunk(&finish);
        self.event(choice, limit, &[], Some(&chunk))
    }

    fn token(&mut self, choice: u32, position: u32) -> io::Result<()> {
        let ordered = self.fake.faults.at(position, self.fake.board.generation(), self.number);
        let fault = ordered.or((self.fatal_token == Some(position)).then_some(Fault::Crash));
        let text = self.word(position);
        let inner = if self.chat {
            json!({"index": choice, "delta": {"content": text}, "finish_reason": null})
        } else {
            json!({"index": choice, "text": text, "finish_reason": null})
        };
        let chunk = self.chunk(&inner);
        let event = self.event_text(choice, position, &[token_id(choice, position)], Some(&chunk));
        match fault {
            None | Some(Fault::Crash) => {}
            Some(Fault::HalfFrame) => {
                self.frame(&event.as_bytes()[..event.len() / 2])?;
                crate::die(self.fake.faults.exit_code);
            }
            Some(Fault::Wedge) => {
                self.fake.board.wedge();
                crate::wedge();
            }
            Some(Fault::Stop) => crate::stop(),
            Some(Fault::Stall) => crate::wedge(),
            Some(Fault::Fail) => {
                let error = crate::error("engine_error", "the engine failed, as told");
                if self.plain && !self.request.stream {
                    return crate::answer(self.stream, 500, &error);
                }
                self.last(&format!("event: error\ndata: {}\n\n", serde_json::to_string(&error)?))?;
                return Err(io::ErrorKind::Other.into());
            }
        }
        self.frame(event.as_bytes())?;
        self.fake.board.step();
        if fault == Some(Fault::Crash) {
            crate::die(self.fake.faults.exit_code);
        }
        Ok(())
    }

    fn chunk(&self, choice: &Value) -> Value {
        let object = match (self.chat, self.request.stream) {
            (true, true) => "chat.completion.chunk",
            (true, false) => "chat.completion",
            (false, _) => "text_completion",
        };
        // What it was asked for, so that a test sees what a foreign engine is told.
        let model = self.request.model.as_deref().filter(|_| self.plain).unwrap_or("fake");
        json!({"id": self.envelope.id, "object": object, "created": self.envelope.created, "model": model,
            "seed": self.envelope.seed, "choices": [choice]})
    }

    fn whole(&self, choice: u32, limit: u32) -> Value {
        let text: String = (1..=limit).map(|position| self.word(position)).collect();
        if self.chat {
            json!({"index": choice, "message": {"role": "assistant", "content": text}, "finish_reason": "length"})
        } else {
            json!({"index": choice, "text": text, "finish_reason": "length"})
        }
    }

    fn word(&self, position: u32) -> String {
        if self.fake.faults.canary_wrong && self.request.max_tokens == Some(1) {
            return "wrong ".to_owned();
        }
        format!("w{position} ")
    }

    fn event_text(&self, choice: u32, tokens: u32, new_ids: &[u32], data: Option<&Value>) -> String {
        if self.plain {
            return data.map_or_else(String::new, |data| format!("data: {data}\n\n"));
        }
        let id = EventId { choice, tokens, new_ids: new_ids.to_vec() };
        match data {
            Some(data) if self.request.stream => format!("id: {id}\ndata: {data}\n\n"),
            _ => format!("id: {id}\n\n"),
        }
    }

    fn event(&mut self, choice: u32, tokens: u32, new_ids: &[u32], data: Option<&Value>) -> io::Result<()> {
        let text = self.event_text(choice, tokens, new_ids, data);
        self.frame(text.as_bytes())
    }

    /// One HTTP chunk.
    fn frame(&mut self, bytes: &[u8]) -> io::Result<()> {
        if bytes.is_empty() || self.plain && !self.request.stream {
            return Ok(());
        }
        let mut framed = format!("{:x}\r\n", bytes.len()).into_bytes();
        framed.extend_from_slice(bytes);
        framed.extend_from_slice(b"\r\n");
        self.stream.write_all(&framed)
    }

    fn last(&mut self, text: &str) -> io::Result<()> {
        self.frame(text.as_bytes())?;
        self.stream.write_all(b"0\r\n\r\n")
    }
}

fn token_id(choice: u32, position: u32) -> u32 {
    1000 * (choice + 1) + position
}
