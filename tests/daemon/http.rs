//! A plain HTTP/1.1 client over a Unix socket or TCP, byte by byte, that notices an answer cut off in the middle.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use serde_json::Value;

/// Longest silence of the daemon; only a hang takes so long.
const PATIENCE: Duration = Duration::from_secs(30);

/// A connection to one of the daemon's sockets.
pub struct Connection {
    stream: Box<dyn Stream>,
    buffer: Vec<u8>,
}

trait Stream: Read + Write + Send {
    fn be_patient(&self, patience: Duration);
}

impl Stream for UnixStream {
    fn be_patient(&self, patience: Duration) {
        self.set_read_timeout(Some(patience)).unwrap();
    }
}

impl Stream for TcpStream {
    fn be_patient(&self, patience: Duration) {
        self.set_read_timeout(Some(patience)).unwrap();
    }
}

/// A whole answer.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub head: String,
    pub body: String,
    /// The final chunk, or the announced length, was there.
    pub complete: bool,
}

impl Connection {
    /// `None` while nobody listens.
    pub fn open(socket: &Path) -> Option<Self> {
        Some(Self::over(UnixStream::connect(socket).ok()?))
    }

    /// The same over TCP.
    #[allow(dead_code, reason = "only the tests of the daemon's TCP listener use it, and others share this file")]
    pub fn open_tcp(address: SocketAddr) -> Option<Self> {
        Some(Self::over(TcpStream::connect(address).ok()?))
    }

    fn over(stream: impl Stream + 'static) -> Self {
        stream.be_patient(PATIENCE);
        Self { stream: Box::new(stream), buffer: Vec::new() }
    }

    /// Waits longer for news: a real model on a busy machine takes its time.
    #[allow(dead_code, reason = "only the tests with a real model are so patient, and they share this file")]
    pub fn patient(self, patience: Duration) -> Self {
        self.stream.be_patient(patience);
        self
    }

    pub fn send(&mut self, method: &str, path: &str, headers: &str, body: &str) {
        let length = body.len();
        let request = format!("{method} {path} HTTP/1.1\r\nhost: x\r\n{headers}content-length: {length}\r\n\r\n{body}");
        self.write(&request);
    }

    /// The same; false when the other end has gone already.
    pub fn try_get(&mut self, path: &str) -> bool {
        self.stream.write_all(format!("GET {path} HTTP/1.1\r\nhost: x\r\n\r\n").as_bytes()).is_ok()
    }

    /// Some bytes, whatever they are.
    pub fn write(&mut self, text: &str) {
        self.stream.write_all(text.as_bytes()).unwrap();
    }

    /// Reads up to and including `text`.
    pub fn until(&mut self, text: &str) -> String {
        self.try_until(text).unwrap_or_else(|| {
            panic!("the answer ended before {text:?}: {}", String::from_utf8_lossy(&self.buffer));
        })
    }

    fn try_until(&mut self, text: &str) -> Option<String> {
        loop {
            let found = self.buffer.windows(text.len()).position(|window| window == text.as_bytes());
            if let Some(start) = found {
                let bytes = self.buffer.drain(..start + text.len()).collect();
                return Some(String::from_utf8(bytes).unwrap());
            }
            if !self.fill() {
                return None;
            }
        }
    }

    /// Reads some more; false at the end.
    fn fill(&mut self) -> bool {
        let mut part = [0; 4096];
        match self.stream.read(&mut part) {
            Ok(0) => false,
            Ok(count) => {
                self.buffer.extend_from_slice(&part[..count]);
                true
            }
            Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => false,
            Err(error) => panic!("no news for long: {error}"),
        }
    }

    /// Puts back what was read.
    pub fn unread(&mut self, text: &str) {
        self.buffer.splice(..0, text.bytes());
    }

    /// Reads the answer, from its first byte to its end.
    pub fn answer(&mut self) -> Answer {
        self.try_answer().unwrap_or_else(|| panic!("no answer: {}", String::from_utf8_lossy(&self.buffer)))
    }

    /// The same; `None` when the connection ends before the answer begins.
    pub fn try_answer(&mut self) -> Option<Answer> {
        let head = self.try_until("\r\n\r\n")?;
        let status = head[9..12].parse().unwrap();
        let mut answer = Answer { status, head, body: String::new(), complete: false };
        if let Some(length) = answer.header("content-length") {
            let length: usize = length.parse().unwrap();
            while self.buffer.len() < length && self.fill() {}
            answer.complete = self.buffer.len() >= length;
            let bytes = self.buffer.drain(..length.min(self.buffer.len())).collect();
            answer.body = String::from_utf8(bytes).unwrap();
            return Some(answer);
        }
        while let Some(size) = self.try_until("\r\n") {
            let size = usize::from_str_radix(size.trim(), 16).unwrap();
            while self.buffer.len() < size + 2 && self.fill() {}
            if self.buffer.len() < size + 2 {
                break;
            }
            let chunk = self.buffer.drain(..size + 2).take(size).collect();
            answer.body.push_str(&String::from_utf8(chunk).unwrap());
            if size == 0 {
                answer.complete = true;
                break;
            }
        }
        Some(answer)
    }
}

impl Answer {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().find_map(|line| {
            let (key, value) = line.split_once(':')?;
            key.eq_ignore_ascii_case(name).then(|| value.trim())
        })
    }

    pub fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|why| panic!("{why}: {self:?}"))
    }

    /// The code of the error object.
    pub fn code(&self) -> String {
        self.json()["error"]["code"].as_str().unwrap_or_else(|| panic!("no error: {self:?}")).to_owned()
    }

    /// The text of a plain answer that came whole.
    #[track_caller]
    pub fn text(&self) -> String {
        assert!(self.status == 200 && self.complete, "{self:?}");
        self.json()["choices"][0]["message"]["content"].as_str().unwrap().to_owned()
    }

    /// The words of a stream that came whole, put together by a client that trusts every event.
    #[track_caller]
    pub fn streamed(&self) -> String {
        assert!(self.status == 200 && self.complete && self.body.contains("data: [DONE]"), "{self:?}");
        words(&self.body)
    }
}

fn words(body: &str) -> String {
    body.lines()
        .filter_map(|line| line.strip_prefix("data: "))
        .filter(|data| *data != "[DONE]")
        .filter_map(|data| {
            let chunk: Value = serde_json::from_str(data).unwrap();
            Some(chunk["choices"].get(0)?["delta"]["content"].as_str()?.to_owned())
        })
        .collect()
}

/// What the fake worker answers with `tokens` tokens.
pub fn expected(tokens: u32) -> String {
    (1..=tokens).map(|position| format!("w{position} ")).collect()
}
