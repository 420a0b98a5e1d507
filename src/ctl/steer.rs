//! Verbs that start something: the order is sent, progress is shown on stderr, the outcome decides the exit status.
//!
//! The order blocks at the daemon until its outcome is known; meanwhile the status is asked for on a second connection.
//! An interrupt ends only the waiting: what was ordered goes on.

use std::time::Duration;

use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::MissedTickBehavior;

use super::args::Waiting;
use super::control::{Answer, Control};
use super::failure::{ExitStatus, Failure, Kind};
use super::interrupt::Interrupts;
use super::render::quantity::Now;
use super::render::{human, json, progress};
use super::terminal::Terminal;
use crate::control::view::{Status, VerbOptions, VerbReply, VerbResult};

/// Between two looks at the daemon's status.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// One order.
#[derive(Debug)]
pub struct Order {
    /// Last part of the path, for example `clear-cache`.
    pub verb: &'static str,
    /// The body.
    pub options: VerbOptions,
    /// How to wait and print.
    pub waiting: Waiting,
    /// What to type to see how it goes on, or to take it back, when the waiting is interrupted.
    pub undo: &'static str,
}

impl Order {
    /// An order of `verb` without options of its own.
    #[must_use]
    pub fn plain(verb: &'static str, waiting: Waiting) -> Self {
        Self { verb, options: VerbOptions::default(), waiting, undo: "see `mlxsupctl status`" }
    }
}

/// Sends the order, shows progress, prints the outcome.
///
/// # Errors
/// When no daemon answers, or the outcome is a denial, a passed deadline or a failure.
pub async fn steer(mut order: Order, control: &Control, terminal: &mut Terminal) -> Result<ExitStatus, Failure> {
    order.options.no_wait = order.waiting.no_wait;
    let answer = wait(&order, control, terminal).await?;
    outcome(&answer, order.waiting.json, terminal)
}

async fn wait(order: &Order, control: &Control, terminal: &mut Terminal) -> Result<Answer<VerbReply>, Failure> {
    let mut interrupts = Interrupts::listen()
        .map_err(|error| Failure::new(Kind::Internal, "cannot watch for Ctrl-C").caused_by(error))?;
    let (sender, mut looks) = mpsc::channel(1);
    let looking = Looking(tokio::spawn(look(control.clone(), sender)));
    let reply = control.order(order.verb, &order.options);
    tokio::pin!(reply);
    let mut shown = String::new();
    loop {
        tokio::select! {
            biased;
            reply = &mut reply => {
                drop(looking);
                terminal.settle()?;
                return reply;
            }
            () = interrupts.pressed() => {
                return Err(Failure::new(Kind::Interrupted, format!("no longer waiting; `{}` goes on", order.verb))
                    .hint(order.undo));
            }
            Some(status) = looks.recv() => show(&status, &mut shown, terminal)?,
        }
    }
}

/// Asks for the status again and again. A look that fails shows nothing: the order's own connection knows better.
async fn look(control: Control, sender: mpsc::Sender<Box<Status>>) {
    let mut ticks = tokio::time::interval(LOOK_EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    // The first tick is immediate; most orders are answered before the second.
    ticks.tick().await;
    loop {
        ticks.tick().await;
        if let Ok(answer) = control.status().await
            && sender.send(Box::new(answer.value)).await.is_err()
        {
            return;
        }
    }
}

/// Ends the looking when the waiting ends.
struct Looking(JoinHandle<()>);

impl Drop for Looking {
    fn drop(&mut self) {
        self.0.abort();
    }
}

fn show(status: &Status, shown: &mut String, terminal: &mut Terminal) -> Result<(), Failure> {
    let line = progress::line(status, Now::of_machine(), terminal.err_is_terminal);
    if terminal.err_is_terminal {
        terminal.show_transient(&line)?;
        return Ok(());
    }
    let phase = progress::phase(status);
    if *shown != phase {
        terminal.say(&line)?;
        *shown = phase;
    }
    Ok(())
}

/// Prints an outcome, or makes a failure of it.
///
/// # Errors
/// A denial, a passed deadline or a failure.
pub fn outcome(answer: &Answer<VerbReply>, as_json: bool, terminal: &mut Terminal) -> Result<ExitStatus, Failure> {
    let reply = &answer.value;
    if as_json {
        terminal.print(json::pretty(&answer.text))?;
    }
    let kind = match reply.result {
        VerbResult::Done | VerbResult::Already | VerbResult::Started => {
            if !as_json {
                let columns = terminal.columns;
                terminal.print(human::reply(reply, columns))?;
            }
            return Ok(ExitStatus::Ok);
        }
        VerbResult::Denied => Kind::Denied,
        VerbResult::Deadline => Kind::Deadline,
        VerbResult::Failed => Kind::Internal,
    };
    let details = if as_json { String::new() } else { human::facts(reply) };
    Err(Failure::new(kind, reply.message.clone()).with_details(details))
}
