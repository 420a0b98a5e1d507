//! The last decisions, in memory, for `mlxsupctl events`; each is also a line in `mlxsupd.log` and a row of the history.

use std::collections::VecDeque;

use tokio::sync::broadcast;

use super::clock::rfc3339;
use crate::control::view::EventView;
use crate::history::History;
use crate::supervisor::{Record, Wall};

/// Events kept.
const KEPT: usize = 1000;

/// Events a slow follower may lag behind before it misses some.
const FOLLOWER_LAG: usize = 256;

/// The ring of events and its followers.
#[derive(Debug)]
pub struct Journal {
    events: VecDeque<EventView>,
    followers: broadcast::Sender<EventView>,
    history: Option<History>,
}

impl Default for Journal {
    fn default() -> Self {
        Self { events: VecDeque::new(), followers: broadcast::Sender::new(FOLLOWER_LAG), history: None }
    }
}

impl Journal {
    /// Has events kept for good from now on.
    pub fn keep_in(&mut self, history: History) {
        self.history = Some(history);
    }

    /// Adds a decision made at `at`.
    pub fn add(&mut self, record: &Record, at: Wall) {
        match record.kind {
            "worker_crashed" | "parked" | "worker_dead" | "worker_killed" | "config_rejected" | "config_error"
            | "history_set_aside" | "history_blocked" => {
                tracing::warn!(kind = record.kind, "{}", record.message);
            }
            _ => tracing::info!(kind = record.kind, "{}", record.message),
        }
        if let Some(history) = &self.history {
            history.event(at, record.kind, &record.message);
        }
        let event = EventView { at: rfc3339(at), kind: record.kind.to_owned(), message: record.message.clone() };
        // Nobody following is no failure.
        let _ = self.followers.send(event.clone());
        if self.events.len() == KEPT {
            self.events.pop_front();
        }
        self.events.push_back(event);
    }

    /// The events, oldest first.
    #[must_use]
    pub fn events(&self) -> Vec<EventView> {
        self.events.iter().cloned().collect()
    }

    /// Events from now on.
    #[must_use]
    pub fn follow(&self) -> broadcast::Receiver<EventView> {
        self.followers.subscribe()
    }
}
