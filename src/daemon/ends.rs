//! The ends of the driver that others hold, and what they may ask through them.

use std::sync::Arc;

use tokio::sync::{broadcast, mpsc, oneshot, watch};

use super::handle::Handle;
use crate::config::Config;
use crate::control::view::{ClientView, EventView, Status};
use crate::supervisor::verbs::{Outcome, Verb};

/// What the control socket and the signals ask.
#[derive(Debug)]
pub enum Request {
    /// Carry out a verb and answer when it is over.
    Verb {
        /// Which.
        verb: Verb,
        /// Where the outcome goes.
        reply: oneshot::Sender<Outcome>,
    },
    /// The status of this moment.
    Status {
        /// Where it goes.
        reply: oneshot::Sender<Status>,
    },
    /// The clients, what they have waiting and what they were given.
    Clients {
        /// Where they go.
        reply: oneshot::Sender<Vec<ClientView>>,
    },
    /// The events so far, and those to come.
    Events {
        /// Where they go.
        reply: oneshot::Sender<(Vec<EventView>, broadcast::Receiver<EventView>)>,
    },
    /// A configuration that was read and accepted; `pending` lists keys that wait for the next worker.
    Reconfigure {
        /// In force from now on.
        config: Box<Config>,
        /// For `status`.
        pending: Vec<String>,
    },
    /// A configuration that was read and rejected; what is in force stays.
    Rejected {
        /// For `status`, one line each.
        problems: Vec<String>,
    },
    /// The last connection has ended: another image may take this one's place now, if that is still wanted.
    Exec,
    /// TERM, INT or the verb `stop`.
    Stop {
        /// Leave the worker running.
        keep_worker: bool,
    },
}

/// The ends of the driver that others hold.
#[derive(Debug, Clone)]
pub struct Ends {
    /// For the gateway.
    pub handle: Handle,
    /// For the control socket and the signals.
    pub requests: mpsc::Sender<Request>,
    /// The configuration in force.
    pub config: watch::Receiver<Arc<Config>>,
    /// The status as last published.
    pub status: watch::Receiver<Arc<Status>>,
}
