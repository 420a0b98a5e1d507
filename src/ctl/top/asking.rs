//! What is asked of the daemon for one picture, over one connection: status, clients, new events, and at first the last minutes.

use std::time::Duration;

use http_body_util::Full;
use hyper::body::Incoming;
use hyper::{Method, Request, Response};
use serde::de::DeserializeOwned;
use tokio::sync::mpsc;

use super::curves::{SHOWN, WINDOW_MINUTES};
use super::input::Input;
use super::kept::Kept;
use crate::control::view::{ClientView, EventView, Status};
use crate::ctl::connection::{self, ConnectionError};
use crate::ctl::control::Control;
use crate::ctl::failure::{Failure, Kind};
use crate::ctl::render::quantity::Now;
use crate::history::view::HistoryView;
use crate::memory::Metric;

/// Facts are answered from memory; whoever needs longer is told to be silent, and asked again.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);

/// Longest answer accepted.
const ANSWER_MAX_BYTES: usize = 8 << 20;

/// Events asked for at first.
const EVENTS_AT_FIRST: u32 = 200;

/// Steps of the last minutes: one a second.
const STEPS: u32 = WINDOW_MINUTES * 60;

/// What one round of questions brought.
#[derive(Debug)]
pub struct Reading {
    /// When.
    pub now: Now,
    /// The status.
    pub status: Status,
    /// Who asks for what.
    pub clients: Vec<ClientView>,
    /// Events since the reading before, oldest first.
    pub events: Vec<EventView>,
    /// The last minutes, where they were wanted and the daemon has them.
    pub past: Option<HistoryView>,
}

/// Asks on a task of its own, so that a slow answer holds up no key. Each order (`true`: with the last minutes) brings one
/// [`Input::Answer`]; it ends when either side is dropped.
pub fn start(control: Control, answers: mpsc::Sender<Input>) -> mpsc::Sender<bool> {
    let (orders, mut wanted) = mpsc::channel(1);
    tokio::spawn(async move {
        let mut asker = Asker { kept: Kept::new(control.socket()), control, newest: None };
        while let Some(with_past) = wanted.recv().await {
            let answer = Box::new(asker.read(with_past).await);
            if answers.send(Input::Answer(answer)).await.is_err() {
                return;
            }
        }
    });
    orders
}

struct Asker {
    control: Control,
    kept: Kept,
    /// The last event seen.
    newest: Option<EventView>,
}

impl Asker {
    async fn read(&mut self, with_past: bool) -> Result<Reading, Failure> {
        let status = self.facts("/v1/status").await?;
        let clients = self.facts("/v1/clients").await?;
        let events = self.events().await?;
        let past = if with_past { self.past().await? } else { None };
        Ok(Reading { now: Now::of_machine(), status, clients, events, past })
    }

    /// `None` where the daemon cannot read its history: what is seen from now on is drawn all the same.
    async fn past(&mut self) -> Result<Option<HistoryView>, Failure> {
        let names = SHOWN.map(Metric::name).join(",");
        match self.facts(&format!("/v1/history?metric={names}&since={WINDOW_MINUTES}m&steps={STEPS}")).await {
            Ok(past) => Ok(Some(past)),
            Err(failure) if failure.kind() == Kind::Unreachable => Err(failure),
            Err(_) => Ok(None),
        }
    }

    /// Those that were not seen before. An instant and no number of lines, which would have the daemon look into its file
    /// every second for as long as its journal holds less.
    async fn events(&mut self) -> Result<Vec<EventView>, Failure> {
        let path = match &self.newest {
            Some(newest) => format!("/v1/events?follow=false&since={}", newest.at),
            None => format!("/v1/events?follow=false&limit={EVENTS_AT_FIRST}"),
        };
        let response = self.get(&path).await?;
        if !response.status().is_success() {
            self.control.understand::<()>(&path, response).await?;
            return Ok(Vec::new());
        }
        let body = connection::read(self.control.socket(), response.into_body(), ANSWER_MAX_BYTES).await;
        let body = body.map_err(|error| self.control.unreachable(error))?;
        let lines = body.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
        let events: Result<Vec<EventView>, _> = lines.map(serde_json::from_slice).collect();
        let mut events = events
            .map_err(|error| Failure::new(Kind::Internal, "cannot read an event of the daemon").caused_by(error))?;
        if let Some(seen) = events.iter().rposition(|event| Some(event) == self.newest.as_ref()) {
            events.drain(..=seen);
        }
        if let Some(last) = events.last() {
            self.newest = Some(last.clone());
        }
        Ok(events)
    }

    async fn facts<T: DeserializeOwned>(&mut self, path: &str) -> Result<T, Failure> {
        let response = self.get(path).await?;
        Ok(self.control.understand(path, response).await?.value)
    }

    async fn get(&mut self, path: &str) -> Result<Response<Incoming>, Failure> {
        let answer = match connection::request(Method::GET, path, None) {
            Ok(request) => self.send(request).await,
            Err(error) => Err(error),
        };
        answer.map_err(|error| self.control.unreachable(error))
    }

    async fn send(&mut self, request: Request<Full<bytes::Bytes>>) -> Result<Response<Incoming>, ConnectionError> {
        self.kept.send_within(ANSWER_TIMEOUT, request).await
    }
}
