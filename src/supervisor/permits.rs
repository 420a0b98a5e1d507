//! Which verb is legal in which state. A new verb or state does not compile until somebody decides here.

use super::verbs::Verb;
use crate::control::view::State;

/// The answer to a verb before anything is done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Permit {
    /// Go ahead.
    Granted,
    /// It is already so.
    Already(&'static str),
    /// Not in this state, and why.
    Denied(&'static str),
}

/// Judges a verb by the state alone; what it would cost is judged by whoever carries it out.
#[must_use]
pub fn permit(verb: &Verb, state: State) -> Permit {
    use Permit::{Already, Denied, Granted};
    use State as S;
    if state == S::Stopping {
        return Denied("the daemon is stopping");
    }
    match verb {
        Verb::Drain { .. } => match state {
            S::Serving | S::Starting | S::Draining | S::Drained => Granted,
            S::Handover => {
                Denied("a hand-over is in progress; wait for it, or abort its drain with `mlxsupctl resume`")
            }
            S::Asleep | S::Unloaded | S::Parked | S::Stranded | S::Stopping => Denied("no worker is running"),
        },
        Verb::Resume => match state {
            S::Draining | S::Drained | S::Handover => Granted,
            S::Serving | S::Asleep => Already("already serving"),
            S::Starting => Granted,
            S::Unloaded => Denied("the model is unloaded; `mlxsupctl load` starts it"),
            S::Parked | S::Stranded => Denied("no worker is running; `mlxsupctl restart` tries again"),
            S::Stopping => Denied("the daemon is stopping"),
        },
        Verb::Restart { .. } => match state {
            S::Serving | S::Starting | S::Drained | S::Parked | S::Asleep => Granted,
            S::Draining => Denied("a drain is in progress; `mlxsupctl resume` aborts it"),
            S::Handover => Denied("a hand-over is already in progress"),
            S::Unloaded => Denied("the model is unloaded; `mlxsupctl load` starts it"),
            S::Stranded => Denied("a dead worker's memory has not come back; reboot, then start again"),
            S::Stopping => Denied("the daemon is stopping"),
        },
        Verb::Unload { .. } => match state {
            S::Serving | S::Starting | S::Drained | S::Asleep | S::Parked => Granted,
            S::Unloaded => Already("already unloaded"),
            S::Draining => Denied("a drain is in progress; `mlxsupctl resume` aborts it"),
            S::Handover => Denied("a hand-over is in progress; wait for it"),
            S::Stranded => Already("no worker is running"),
            S::Stopping => Denied("the daemon is stopping"),
        },
        Verb::Load { .. } => match state {
            S::Unloaded | S::Asleep | S::Draining => Granted,
            S::Serving | S::Drained | S::Handover => Already("already loaded"),
            S::Starting => Already("already loading"),
            S::Parked => Denied("parked after too many crashes; `mlxsupctl restart` tries again"),
            S::Stranded => Denied("a dead worker's memory has not come back; reboot, then start again"),
            S::Stopping => Denied("the daemon is stopping"),
        },
        Verb::ClearCache => match state {
            S::Serving | S::Draining | S::Drained => Granted,
            S::Starting => Denied("the worker is not ready yet"),
            S::Handover => Denied("a hand-over is in progress; the next worker's cache is empty anyway"),
            S::Asleep | S::Unloaded | S::Parked | S::Stranded | S::Stopping => Denied("no worker is running"),
        },
        Verb::Upgrade { .. } => match state {
            S::Serving | S::Starting | S::Drained | S::Asleep | S::Unloaded | S::Parked | S::Stranded => Granted,
            S::Draining => Denied("a drain is in progress; `mlxsupctl resume` aborts it"),
            S::Handover => Denied("a hand-over is in progress; wait for it"),
            S::Stopping => Denied("the daemon is stopping"),
        },
        Verb::RunSchedule { .. } => Granted,
    }
}
