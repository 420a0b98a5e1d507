//! The client side: HTTP on the stable socket, relay from the worker link, errors and keep-alive.
//!
//! Owns connections, requests and answers; decides nothing about workers or order: it submits to
//! [`crate::daemon::handle`] and obeys. Tokens pass through here and nowhere else in the daemon.
//!
//! ```text
//! listener ─ connection ─ routes ─┬─ readiness                      facts
//!    room       turns      access └─ intake ─ session ─ relay ─ leg   generation: client ◀─ reply ─ flow
//!    slack                  keys                    │       kept_links
//!                                                   └ passage        answers of engines that do not speak the link
//! ```

mod access;
mod answer;
mod connection;
mod flow;
pub(crate) mod fuzzing;
mod identity;
mod intake;
mod kept_links;
pub mod keys;
mod leg;
pub mod listener;
mod passage;
mod progress;
mod readiness;
pub mod record;
mod relay;
mod reply;
mod room;
mod routes;
mod session;
mod slack;
mod turns;

use std::sync::Arc;

use tokio::sync::watch;

use crate::config::Config;
use crate::daemon::handle::Handle;
use crate::supervisor::Mono;
use crate::telemetry::Metrics;

pub use keys::Access;
pub use listener::{ClientListeners, serve};
pub use record::{RequestRecord, RequestSink};

/// What the gateway needs from the rest of the daemon.
pub struct GatewayContext {
    /// Way to the driver.
    pub handle: Handle,
    /// The configuration in force. Each request keeps the one it arrived under.
    pub config: watch::Receiver<Arc<Config>>,
    /// How TCP clients are let in, by the configuration and key file in force.
    pub access: watch::Receiver<Arc<Access>>,
    /// Takes the record of every ended generation request.
    pub requests: RequestSink,
    /// For `/metrics`.
    pub metrics: Arc<Metrics>,
    /// The driver's monotonic clock: deadlines in submissions are in its terms.
    pub mono: Arc<dyn Fn() -> Mono + Send + Sync>,
    /// Uid that is always served.
    pub owner_uid: u32,
    /// Connections served at once; more wait in the socket's backlog.
    pub max_connections: usize,
    /// Start of the daemon, seconds since the Unix epoch: what `/v1/models` calls `created`.
    pub started: u64,
}
