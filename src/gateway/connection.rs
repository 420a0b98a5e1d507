//! One client connection as hyper sees it: whose turn it is, how long things may take, what lies beyond the request.
//!
//! Owns what HTTP libraries leave open: bytes sent ahead of the answer never hide a hang-up (they are dropped, and the
//! connection closes after the answer), slow heads get 408, idle and stalled connections end, and the library's own
//! bare refusals gain an error object. Does not parse HTTP beyond finding the end of a head.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep};

use super::answer;
use super::turns::{Phase, Turns};
use crate::supervisor::{Code, Refusal};

/// Bytes of a request line and its headers.
const HEAD_MAX: usize = 64 << 10;
/// How a client begins that takes us for an HTTP/2 server. The line alone says it; no HTTP/1 method is called PRI.
const HTTP2_PREFACE: &[u8] = b"PRI * HTTP/2.0";
/// First byte of a TLS client's first record; no HTTP method begins with it.
const TLS_HANDSHAKE: u8 = 0x16;

/// How long a connection may take for what.
#[derive(Debug, Clone, Copy)]
pub(super) struct Patience {
    /// From the first byte of a request's head to its last, and from a connection's begin to its first byte.
    pub head: Duration,
    /// Between two requests.
    pub idle: Duration,
    /// Without taking a single byte of an answer: the client is gone in all but name and holds a slot.
    pub stall: Duration,
    /// For the first request of a connection that is to be left: it may be on its way.
    pub first: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Self {
            head: Duration::from_secs(30),
            idle: Duration::from_secs(300),
            stall: Duration::from_secs(300),
            first: Duration::from_secs(3),
        }
    }
}

/// The stream under hyper.
#[derive(Debug)]
pub(super) struct Connection<S> {
    stream: S,
    turns: Turns,
    patience: Patience,
    /// True after a line end: the next one ends the head.
    line_ended: bool,
    /// True once a byte of the current head has come.
    head_begun: bool,
    /// Bytes of the current head.
    head_bytes: usize,
    /// True once a whole head has come.
    served: bool,
    /// True while something written may not have reached the kernel.
    unflushed: bool,
    reading: Option<Timer>,
    writing: Option<Timer>,
    leaving: Option<Timer>,
    /// How much of [`HTTP2_PREFACE`] the connection has begun with; `None` once it is something else.
    preface: Option<usize>,
    /// Written instead of a bare refusal, and how much of hyper's own bytes it stands for.
    substitute: Option<(Bytes, usize)>,
}

#[derive(Debug)]
struct Timer(Pin<Box<Sleep>>);

impl Timer {
    fn arm(slot: &mut Option<Self>, after: Duration, cx: &mut Context<'_>) -> Poll<()> {
        let timer = slot.get_or_insert_with(|| Self(Box::pin(tokio::time::sleep(after))));
        timer.0.as_mut().poll(cx)
    }

    fn rearm(slot: &mut Option<Self>, after: Duration) {
        if let Some(timer) = slot {
            timer.0.as_mut().reset(Instant::now() + after);
        }
    }
}

impl<S> Connection<S> {
    /// Wraps a stream; the second value goes to the service.
    pub fn new(stream: S, patience: Patience) -> (Self, Turns) {
        let turns = Turns::new();
        let connection = Self {
            stream,
            turns: turns.clone(),
            patience,
            line_ended: false,
            head_begun: false,
            head_bytes: 0,
            served: false,
            unflushed: false,
            reading: None,
            writing: None,
            leaving: None,
            preface: Some(0),
            substitute: None,
        };
        (connection, turns)
    }

    /// Number of bytes of `bytes` that belong to the head, up to and including its blank line.
    fn head_end(&mut self, bytes: &[u8]) -> Option<usize> {
        for (index, byte) in bytes.iter().enumerate() {
            match byte {
                b'\n' if self.line_ended => {
                    self.line_ended = false;
                    self.head_begun = false;
                    self.head_bytes += index + 1;
                    return Some(index + 1);
                }
                b'\n' => self.line_ended = true,
                b'\r' => {}
                _ => self.line_ended = false,
            }
        }
        self.head_bytes += bytes.len();
        None
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Connection<S> {
    fn poll_read_head(&mut self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let turns = self.turns.clone();
        let mut shared = turns.lock();
        if shared.surplus {
            return Poll::Ready(Ok(()));
        }
        if shared.held.is_empty() {
            drop(shared);
            match Pin::new(&mut self.stream).poll_read(cx, buf) {
                Poll::Ready(result) => result?,
                Poll::Pending => return self.poll_head_deadline(cx),
            }
            shared = turns.lock();
        } else {
            take(&mut shared.held, buf, u64::MAX);
        }
        let fresh = &buf.filled()[before..];
        if let Some(what) = self.other_protocol(fresh) {
            drop(shared);
            let message = format!("{what} is not spoken here; send plain HTTP/1.1");
            return self.refuse_unparsed(&Refusal::new(Code::InvalidValue, message), io::ErrorKind::InvalidData, cx);
        }
        if !fresh.is_empty() && !self.head_begun {
            self.head_begun = true;
            Timer::rearm(&mut self.reading, self.patience.head);
        }
        let end = self.head_end(fresh);
        // hyper's own limit is one on its buffer, which may hold a good deal more than the limit once.
        if self.head_bytes > HEAD_MAX {
            drop(shared);
            return self.refuse_unparsed(&head_too_large(), io::ErrorKind::InvalidData, cx);
        }
        if let Some(end) = end {
            self.head_bytes = 0;
            let mut rest = BytesMut::from(&fresh[end..]);
            rest.unsplit(std::mem::take(&mut shared.held));
            shared.held = rest;
            buf.set_filled(before + end);
            self.served = true;
            self.reading = None;
        }
        Poll::Ready(Ok(()))
    }

    fn poll_head_deadline(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if !self.head_begun && self.turns.lock().leaving {
            return self.poll_leave(cx);
        }
        // Who connects has something to ask, or is somebody who wants to keep others out.
        let between = self.served && !self.head_begun;
        let after = if between { self.patience.idle } else { self.patience.head };
        ready!(Timer::arm(&mut self.reading, after, cx));
        if !self.head_begun {
            return Poll::Ready(Ok(()));
        }
        let message = format!("the request's headers did not arrive within {after:?}; send them at once");
        self.refuse_unparsed(&Refusal::new(Code::RequestTimeout, message), io::ErrorKind::TimedOut, cx)
    }

    /// Answers by itself and ends the connection. Nothing else is under way on it, so a socket that cannot take this at
    /// once is as good as gone.
    fn refuse_unparsed(
        &mut self,
        refusal: &Refusal,
        kind: io::ErrorKind,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<()>> {
        let _ = Pin::new(&mut self.stream).poll_write(cx, &answer::bare(refusal));
        Poll::Ready(Err(kind.into()))
    }

    /// What else than HTTP/1 the first bytes of the connection are. hyper would say nothing, or nothing helpful.
    fn other_protocol(&mut self, fresh: &[u8]) -> Option<&'static str> {
        let seen = self.preface?;
        if seen == 0 && fresh.first() == Some(&TLS_HANDSHAKE) {
            return Some("TLS (https)");
        }
        let expected = &HTTP2_PREFACE[seen..];
        let compared = fresh.len().min(expected.len());
        self.preface = (fresh[..compared] == expected[..compared]).then_some(seen + compared);
        (self.preface == Some(HTTP2_PREFACE.len())).then_some("HTTP/2")
    }

    /// Ends the connection as a hang-up of the client would: nothing is under way on it, and nothing has come.
    fn poll_leave(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.unflushed {
            // Whoever flushes is woken by the socket, and reads again afterwards.
            return Poll::Pending;
        }
        if !self.served {
            ready!(Timer::arm(&mut self.leaving, self.patience.first, cx));
        }
        Poll::Ready(Ok(()))
    }

    fn poll_read_body(&mut self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>, limit: u64) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let mut shared = self.turns.lock();
        if shared.held.is_empty() {
            drop(shared);
            ready!(Pin::new(&mut self.stream).poll_read(cx, buf))?;
            shared = self.turns.lock();
        } else {
            take(&mut shared.held, buf, limit);
        }
        let read = buf.filled().len() - before;
        let wanted = read.min(usize::try_from(limit).unwrap_or(usize::MAX));
        if wanted < read {
            shared.surplus = true;
            buf.set_filled(before + wanted);
        }
        if let Phase::Body(left) = shared.phase {
            let left = left.saturating_sub(wanted as u64);
            shared.phase = if left == 0 { Phase::Busy } else { Phase::Body(left) };
        }
        Poll::Ready(Ok(()))
    }

    /// Waits for the hang-up; anything else that comes is dropped and costs the client the connection.
    fn poll_hang_up(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        {
            let mut shared = self.turns.lock();
            if !shared.held.is_empty() {
                shared.surplus = true;
                shared.held = BytesMut::new();
            }
            shared.reader = Some(cx.waker().clone());
        }
        let mut scratch = [0; 512];
        loop {
            let mut dropped = ReadBuf::new(&mut scratch);
            ready!(Pin::new(&mut self.stream).poll_read(cx, &mut dropped))?;
            if dropped.filled().is_empty() {
                return Poll::Ready(Ok(()));
            }
            self.turns.lock().surplus = true;
        }
    }

    fn poll_substitute(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        while let Some((bytes, stands_for)) = &mut self.substitute {
            if bytes.is_empty() {
                let stands_for = *stands_for;
                self.substitute = None;
                return Poll::Ready(Ok(stands_for));
            }
            let written = ready!(Pin::new(&mut self.stream).poll_write(cx, bytes))?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            bytes.advance(written);
        }
        Poll::Ready(Ok(0))
    }
}

/// Moves at most `limit` bytes from `held` to `buf`.
fn take(held: &mut BytesMut, buf: &mut ReadBuf<'_>, limit: u64) {
    let count = held.len().min(buf.remaining()).min(usize::try_from(limit).unwrap_or(usize::MAX));
    buf.put_slice(&held[..count]);
    held.advance(count);
    if held.is_empty() {
        // The connection outlives these bytes by far, and an empty buffer keeps its memory.
        *held = BytesMut::new();
    }
}

fn head_too_large() -> Refusal {
    Refusal::new(Code::HeadersTooLarge, "request line and headers exceed 64 KiB or 100 fields; send fewer")
}

/// The error object for a refusal that hyper wrote by itself: only its own answers have a failure and no content.
fn bare_refusal(bytes: &[u8]) -> Option<Bytes> {
    let status = bytes.strip_prefix(b"HTTP/1.1 ")?.get(..3)?;
    let empty = b"\r\ncontent-length: 0\r\n";
    if !bytes.windows(empty.len()).any(|window| window == empty) {
        return None;
    }
    let refusal = match status {
        b"400" => Refusal::new(Code::InvalidValue, "this is not an HTTP/1.1 request; check the request line"),
        b"414" | b"431" => head_too_large(),
        _ => return None,
    };
    Some(answer::bare(&refusal))
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncRead for Connection<S> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let phase = this.turns.lock().phase;
        match phase {
            Phase::Head => this.poll_read_head(cx, buf),
            Phase::Body(left) => this.poll_read_body(cx, buf, left),
            Phase::OpenBody => this.poll_read_body(cx, buf, u64::MAX),
            Phase::Busy => this.poll_hang_up(cx),
        }
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Connection<S> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        this.unflushed = true;
        if this.substitute.is_none()
            && let Some(better) = bare_refusal(bytes)
        {
            this.substitute = Some((better, bytes.len()));
        }
        let written = if this.substitute.is_some() {
            this.poll_substitute(cx)
        } else {
            Pin::new(&mut this.stream).poll_write(cx, bytes)
        };
        match written {
            Poll::Ready(written) => {
                this.writing = None;
                Poll::Ready(written)
            }
            Poll::Pending => {
                ready!(Timer::arm(&mut this.writing, this.patience.stall, cx));
                Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
            }
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        ready!(Pin::new(&mut this.stream).poll_flush(cx))?;
        this.unflushed = false;
        let mut shared = this.turns.lock();
        shared.flushes += 1;
        if let Some(waker) = shared.flushed.take() {
            waker.wake();
        }
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests;
