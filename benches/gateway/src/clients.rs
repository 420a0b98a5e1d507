//! Clients that cost next to nothing: what they spend is taken from the programs compared.
//!
//! Owns connections, prepared requests and the reading of answers. HTTP/1.1 only, as far as the contenders speak it.

use std::io;
use std::path::PathBuf;
use std::pin::Pin;

use nix::time::{ClockId, clock_gettime};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpStream, UnixStream};

use crate::chunked::{Dechunker, take_events};

/// Before the time at which an event was made, in its text.
const STAMP: &[u8] = b"\"content\":\" ";

/// Where somebody listens.
#[derive(Debug, Clone)]
pub enum Place {
    /// A Unix socket.
    Unix(PathBuf),
    /// A port of 127.0.0.1.
    Tcp(u16),
}

trait Stream: AsyncRead + AsyncWrite + Send {}

impl<T: AsyncRead + AsyncWrite + Send> Stream for T {}

/// One kept-alive connection.
pub struct Client {
    stream: Pin<Box<dyn Stream>>,
    read: Vec<u8>,
}

/// A prepared request, head and body.
pub fn post(body: &str) -> Vec<u8> {
    let length = body.len();
    format!(
        "POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n\
         Content-Length: {length}\r\n\r\n{body}"
    )
    .into_bytes()
}

/// A prepared request without a body.
pub fn get(path: &str) -> Vec<u8> {
    format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n").into_bytes()
}

/// The clock that all processes of a machine share, nanoseconds.
pub fn now() -> u64 {
    let Ok(time) = clock_gettime(ClockId::CLOCK_MONOTONIC) else { return 0 };
    u64::try_from(time.tv_sec()).unwrap_or(0) * 1_000_000_000 + u64::try_from(time.tv_nsec()).unwrap_or(0)
}

struct Head {
    status: u16,
    /// `None`: chunked.
    length: Option<usize>,
}

impl Client {
    /// Connects.
    pub async fn open(place: &Place) -> io::Result<Self> {
        let stream: Pin<Box<dyn Stream>> = match place {
            Place::Unix(path) => Box::pin(UnixStream::connect(path).await?),
            Place::Tcp(port) => {
                let stream = TcpStream::connect(("127.0.0.1", *port)).await?;
                stream.set_nodelay(true)?;
                Box::pin(stream)
            }
        };
        Ok(Self { stream, read: Vec::new() })
    }

    /// Sends without waiting for the answer.
    pub async fn send(&mut self, request: &[u8]) -> io::Result<()> {
        self.stream.write_all(request).await
    }

    /// One request and its whole answer, which must be a success.
    pub async fn exchange(&mut self, request: &[u8]) -> io::Result<Vec<u8>> {
        self.send(request).await?;
        self.answer().await
    }

    /// The whole answer to what was sent.
    pub async fn answer(&mut self) -> io::Result<Vec<u8>> {
        let head = self.head().await?;
        let mut body = Vec::new();
        if let Some(length) = head.length {
            while self.read.len() < length {
                self.more().await?;
            }
            body.extend(self.read.drain(..length));
        } else {
            let mut dechunker = Dechunker::new();
            loop {
                dechunker.feed(&self.read, &mut body);
                self.read.clear();
                if dechunker.is_over() {
                    break;
                }
                self.more().await?;
            }
        }
        if head.status == 200 {
            return Ok(body);
        }
        Err(io::Error::other(format!("answered {}: {}", head.status, String::from_utf8_lossy(&body))))
    }

    /// One streamed answer to its end. For each event that says when it was made: that time, and when it was read.
    pub async fn stream(&mut self, request: &[u8], mut show: impl FnMut(u64, u64)) -> io::Result<()> {
        self.send(request).await?;
        let head = self.head().await?;
        if head.status != 200 || head.length.is_some() {
            return Err(io::Error::other(format!("answered {} where a stream was expected", head.status)));
        }
        let mut dechunker = Dechunker::new();
        let (mut text, mut ended) = (Vec::new(), false);
        loop {
            let at = now();
            dechunker.feed(&self.read, &mut text);
            self.read.clear();
            take_events(&mut text, |event| {
                ended |= event.ends_with(b"[DONE]");
                if let Some(made) = stamp(event) {
                    show(made, at);
                }
            });
            if dechunker.is_over() {
                break;
            }
            self.more().await?;
        }
        if ended { Ok(()) } else { Err(io::Error::other("a stream ended without its last event")) }
    }

    async fn head(&mut self) -> io::Result<Head> {
        let end = loop {
            if let Some(end) = self.read.windows(4).position(|window| window == b"\r\n\r\n") {
                break end;
            }
            self.more().await?;
        };
        let text = String::from_utf8_lossy(&self.read[..end]).to_ascii_lowercase();
        let status = text.get(9..12).and_then(|status| status.parse().ok()).unwrap_or(0);
        let length = text.lines().find_map(|line| line.strip_prefix("content-length:")?.trim().parse().ok());
        self.read.drain(..end + 4);
        Ok(Head { status, length })
    }

    async fn more(&mut self) -> io::Result<()> {
        self.read.reserve(16 << 10);
        match self.stream.read_buf(&mut self.read).await? {
            0 => Err(io::ErrorKind::UnexpectedEof.into()),
            _ => Ok(()),
        }
    }
}

/// When an event was made, if it says so.
fn stamp(event: &[u8]) -> Option<u64> {
    let start = event.windows(STAMP.len()).position(|window| window == STAMP)? + STAMP.len();
    let digits = event[start..].iter().take_while(|byte| byte.is_ascii_digit());
    Some(digits.fold(0, |number, digit| number * 10 + u64::from(digit - b'0')))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_tell_when_they_were_made() {
        assert_eq!(stamp(br#"data: {"choices":[{"delta":{"content":" 123456"}}]}"#), Some(123_456));
        assert_eq!(stamp(br#"data: {"choices":[{"delta":{"role":"assistant"}}]}"#), None);
    }
}
