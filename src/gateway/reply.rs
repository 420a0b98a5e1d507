//! What one client is told, and when: the commit, data, keep-alive, and every way an answer can end.
//!
//! Owns the framing towards the client. Before the first byte an error has its own HTTP status; after it, streams get
//! `event: error` and plain answers the error object, and both end without the final chunk.

use std::pin::Pin;
use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use mlxsup_worker_api::ErrorObject;
use tokio::time::{Instant, Sleep};

use super::answer;
use super::flow::{Head, Origin, Outlet, Output};
use crate::config::Queue;
use crate::supervisor::Refusal;

/// Shortest keep-alive interval a client's own timeout can ask for.
const SHORTEST_INTERVAL: Duration = Duration::from_secs(1);

/// Fires when nothing was sent for an interval.
#[derive(Debug)]
pub(super) struct Pulse {
    interval: Duration,
    due: Instant,
    /// `None`: this answer is never kept alive.
    timer: Option<Pin<Box<Sleep>>>,
}

impl Pulse {
    /// For a stream or a plain request that arrived at `arrived`.
    pub fn new(stream: bool, queue: &Queue, read_timeout: Option<Duration>, arrived: Instant) -> Self {
        let asked = read_timeout.map_or(Duration::MAX, |timeout| (timeout / 3).max(SHORTEST_INTERVAL));
        let interval = queue.keepalive.min(asked).max(Duration::from_millis(1));
        let first = if stream { Some(interval) } else { queue.keepalive_plain };
        let due = arrived + first.unwrap_or(interval);
        Self { interval, due, timer: first.map(|_| Box::pin(tokio::time::sleep_until(due))) }
    }

    /// Waits until the client has heard nothing for an interval. Cancel-safe.
    pub async fn tick(&mut self) {
        let Some(timer) = &mut self.timer else { return std::future::pending().await };
        loop {
            timer.as_mut().await;
            let now = Instant::now();
            let over = now >= self.due;
            if over {
                self.due = now + self.interval;
            }
            timer.as_mut().reset(self.due);
            if over {
                return;
            }
        }
    }

    /// Something was sent: the interval begins again. Cheap, so it can be called for every frame.
    fn heard(&mut self) {
        self.due = Instant::now() + self.interval;
    }
}

/// The way to one client.
#[derive(Debug)]
pub(super) struct Reply {
    outlet: Outlet,
    stream: bool,
    committed: bool,
    /// When the client should hear something again.
    pub pulse: Pulse,
}

impl Reply {
    /// A reply of which nothing has been sent.
    pub fn new(outlet: Outlet, stream: bool, pulse: Pulse) -> Self {
        Self { outlet, stream, committed: false, pulse }
    }

    async fn commit(&mut self, origin: Option<Origin>) {
        if !self.committed {
            self.committed = true;
            self.outlet.put(Output::Head(Head::Open { stream: self.stream, origin })).await;
        }
    }

    /// Client chunks, already framed. Waits while the client is slow.
    pub async fn data(&mut self, framed: Bytes, origin: Option<Origin>) {
        self.commit(origin).await;
        self.outlet.put(Output::Data(framed)).await;
        self.pulse.heard();
    }

    /// Shows a silent client that somebody is there.
    pub async fn keep_alive(&mut self, note: &str, origin: Option<Origin>) {
        self.commit(origin).await;
        let data = if self.stream { Bytes::from(format!(": {note}\n\n")) } else { Bytes::from_static(b" ") };
        self.outlet.put(Output::Data(data)).await;
    }

    /// The end of a complete stream. `settle` runs when the last bytes are sure to be taken.
    pub async fn end_stream(mut self, trailer: &str, origin: Option<Origin>, settle: impl FnOnce()) {
        self.commit(origin).await;
        let last = Bytes::from(format!("data: [DONE]\n\n: {trailer}\n\n"));
        self.outlet.put_after(Output::Data(last), settle).await;
    }

    /// A complete plain answer.
    pub async fn end_plain(self, body: Bytes, origin: Option<Origin>, settle: impl FnOnce()) {
        let output = if self.committed { Output::Data(body) } else { Output::Head(Head::Whole { body, origin }) };
        self.outlet.put_after(output, settle).await;
    }

    /// The daemon's own error.
    pub async fn refuse(self, refusal: Refusal, trailer: &str, settle: impl FnOnce()) {
        if self.committed {
            self.break_off(&answer::error_object(&refusal), trailer, settle).await;
        } else {
            self.outlet.put_after(Output::Head(Head::Refused(refusal)), settle).await;
        }
    }

    /// The worker's error, with the status it would have had.
    pub async fn pass_on(self, status: u16, object: ErrorObject, trailer: &str, settle: impl FnOnce()) {
        if self.committed {
            self.break_off(&object, trailer, settle).await;
        } else {
            self.outlet.put_after(Output::Head(Head::Passed { status, object }), settle).await;
        }
    }

    async fn break_off(self, object: &ErrorObject, trailer: &str, settle: impl FnOnce()) {
        let json = answer::error_json(object);
        let last = if self.stream {
            let mut event = BytesMut::from(&b"event: error\n"[..]);
            frame(&json, &mut event);
            event.put_slice(format!(": {trailer}\n\n").as_bytes());
            event.freeze()
        } else {
            json
        };
        self.outlet.put_after(Output::Data(last), settle).await;
        self.outlet.put(Output::Break).await;
    }
}

/// Frames one event's data for the client.
pub(super) fn frame(data: &[u8], to: &mut BytesMut) {
    to.reserve(data.len() + 8);
    for line in data.split(|byte| *byte == b'\n') {
        to.put_slice(b"data: ");
        to.put_slice(line);
        to.put_slice(b"\n");
    }
    to.put_slice(b"\n");
}

#[cfg(test)]
mod tests {
    use super::*;

    fn queue(keepalive: u64, plain: Option<u64>) -> Queue {
        Queue {
            max_waiting: 1,
            max_bytes: 1,
            max_wait: Duration::from_secs(1),
            keepalive: Duration::from_secs(keepalive),
            keepalive_plain: plain.map(Duration::from_secs),
            per_client_share: 1.0,
        }
    }

    async fn ticks_after(pulse: &mut Pulse) -> Duration {
        let before = Instant::now();
        pulse.tick().await;
        Instant::now() - before
    }

    #[tokio::test(start_paused = true)]
    async fn streams_are_kept_alive_within_a_third_of_the_clients_timeout() {
        let mut pulse = Pulse::new(true, &queue(15, None), Some(Duration::from_secs(30)), Instant::now());
        assert_eq!(ticks_after(&mut pulse).await.as_secs(), 10);
        assert_eq!(ticks_after(&mut pulse).await.as_secs(), 10);
        tokio::time::advance(Duration::from_secs(4)).await;
        pulse.heard();
        assert_eq!(ticks_after(&mut pulse).await.as_secs(), 10);
        let mut hasty = Pulse::new(true, &queue(15, None), Some(Duration::from_millis(1)), Instant::now());
        assert_eq!(ticks_after(&mut hasty).await.as_secs(), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn plain_requests_wait_longer_for_their_first_sign() {
        let mut pulse = Pulse::new(false, &queue(15, Some(60)), None, Instant::now());
        assert_eq!(ticks_after(&mut pulse).await.as_secs(), 60);
        assert_eq!(ticks_after(&mut pulse).await.as_secs(), 15);
        let mut off = Pulse::new(false, &queue(15, None), None, Instant::now());
        assert!(tokio::time::timeout(Duration::from_secs(9999), off.tick()).await.is_err());
    }

    #[test]
    fn data_with_line_ends_stays_one_event() {
        let mut to = BytesMut::new();
        frame(b"a\nb", &mut to);
        assert_eq!(&to[..], b"data: a\ndata: b\n\n");
    }
}
