//! What the gateway may ask of the task that owns the supervisor.
//!
//! Owns the message types between sessions and the driver; decides nothing. A session submits once, then obeys
//! [`Directive`]s until it has sent exactly one [`Report::Ended`] (dropping the [`Ticket`] sends `Cancelled`).

use std::sync::Arc;

use tokio::sync::{mpsc, oneshot, watch};

use crate::control::view::Status;
use crate::link::endpoint::Endpoint;
use crate::link::foreign::Foreign;
pub use crate::supervisor::request::{Class, Outcome, Report, Submission};
use crate::supervisor::{Generation, QueuePlace, Refusal, RequestId};

/// What the driver tells a session. Boxed, because a channel sets room for many aside, for every request that waits.
#[derive(Debug, Clone, PartialEq)]
pub enum Directive {
    /// Send the envelope to this worker now. Comes again after `Report::Interrupted`.
    Assigned(Box<Assignment>),
    /// The request ends with this error, before or after its first byte. The last directive.
    Refused(Box<Refusal>),
}

/// One request given to one worker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Assignment {
    /// Which worker.
    pub generation: Generation,
    /// Where it listens.
    pub endpoint: Endpoint,
    /// How to deal with it, unless it speaks the link.
    pub foreign: Option<Arc<Foreign>>,
}

/// Input of the driver from sessions.
#[derive(Debug)]
pub enum GatewayInput {
    /// A new request with the way back to its session.
    Submit {
        /// Chosen by the gateway, unique in this daemon.
        id: RequestId,
        /// For admission and order.
        submission: Submission,
        /// Directives go here; capacity [`DIRECTIVES`].
        directives: mpsc::Sender<Directive>,
    },
    /// News of a submitted request.
    Report {
        /// Which request.
        id: RequestId,
        /// What happened.
        report: Report,
    },
    /// Where this request stands in the queue; `None` once it is assigned or gone.
    Position {
        /// Which request.
        id: RequestId,
        /// Where to answer.
        reply: oneshot::Sender<Option<QueuePlace>>,
    },
}

/// Capacity of a session's directive channel: at most an assignment and a refusal can be under way.
pub const DIRECTIVES: usize = 4;

/// The gateway's end. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Handle {
    inputs: mpsc::UnboundedSender<GatewayInput>,
    status: watch::Receiver<Arc<Status>>,
    next_id: Arc<std::sync::atomic::AtomicU64>,
}

impl Handle {
    /// The handle and the driver's ends of its channels. The input channel is unbounded because its content is bounded
    /// elsewhere: one submission, and a handful of reports, per connection.
    #[must_use]
    pub fn new(status: watch::Receiver<Arc<Status>>) -> (Self, mpsc::UnboundedReceiver<GatewayInput>) {
        let (inputs, receiver) = mpsc::unbounded_channel();
        (Self { inputs, status, next_id: Arc::new(std::sync::atomic::AtomicU64::new(1)) }, receiver)
    }

    /// Submits a request. The driver answers with exactly one `Assigned` or `Refused` first.
    #[must_use]
    pub fn submit(&self, submission: Submission) -> Ticket {
        let id = RequestId(self.next_id.fetch_add(1, std::sync::atomic::Ordering::Relaxed));
        let (sender, directives) = mpsc::channel(DIRECTIVES);
        // A closed driver drops the sender, and `Ticket::next` then answers `None`.
        let _ = self.inputs.send(GatewayInput::Submit { id, submission, directives: sender });
        Ticket { id, inputs: self.inputs.clone(), directives, ended: false }
    }

    /// The state as last published.
    #[must_use]
    pub fn status(&self) -> Arc<Status> {
        self.status.borrow().clone()
    }
}

/// One submitted request. Dropping it before [`Ticket::end`] reports `Cancelled`.
#[derive(Debug)]
pub struct Ticket {
    id: RequestId,
    inputs: mpsc::UnboundedSender<GatewayInput>,
    directives: mpsc::Receiver<Directive>,
    ended: bool,
}

impl Ticket {
    /// The request's id inside this daemon.
    #[must_use]
    pub fn id(&self) -> RequestId {
        self.id
    }

    /// The next directive; `None` when the driver is gone. Cancel-safe: no directive is lost.
    pub async fn next(&mut self) -> Option<Directive> {
        self.directives.recv().await
    }

    /// Where it stands in the queue; `None` once assigned, refused or gone.
    pub async fn position(&self) -> Option<QueuePlace> {
        let (reply, answer) = oneshot::channel();
        self.inputs.send(GatewayInput::Position { id: self.id, reply }).ok()?;
        answer.await.ok().flatten()
    }

    /// Tells the driver something that does not end the request.
    pub fn report(&self, report: Report) {
        let _ = self.inputs.send(GatewayInput::Report { id: self.id, report });
    }

    /// Ends the request.
    pub fn end(mut self, outcome: Outcome) {
        self.ended = true;
        self.report(Report::Ended(outcome));
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        if !self.ended {
            self.report(Report::Ended(Outcome::Cancelled));
        }
    }
}
