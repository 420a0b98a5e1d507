//! `mlxsupctl upgrade`: another image of the daemon takes the place of this one, in the same process.
//!
//! The daemon cannot answer the order that ends it: the connection breaks, and the next image is known by its epoch.

use std::time::Duration;

use tokio::time::Instant;

use crate::control::view::{EventView, Status, VerbOptions, VerbReply, VerbResult};
use crate::ctl::args::UpgradeArgs;
use crate::ctl::control::{Answer, Control};
use crate::ctl::failure::{ExitStatus, Failure, Kind};
use crate::ctl::steer::{Order, outcome, steer};
use crate::ctl::terminal::Terminal;

/// Between two looks for the next image.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// For the next image to answer, and for the old one to have ended if it is to.
const NEXT_IMAGE: Duration = Duration::from_secs(30);

/// Events read to find the next image's first words.
const EVENTS: &str = "/v1/events?limit=1000";

/// Waits until the next image answers.
pub async fn run(args: &UpgradeArgs, control: &Control, terminal: &mut Terminal) -> Result<ExitStatus, Failure> {
    let to = match &args.to {
        Some(to) => Some(std::path::absolute(to).map_err(|error| {
            Failure::new(Kind::Usage, format!("cannot tell where `{}` is", to.display())).caused_by(error)
        })?),
        None => None,
    };
    let before = control.status().await?.value;
    let options = VerbOptions { to, ..VerbOptions::default() };
    let undo = "take it back with `mlxsupctl resume`, or see `mlxsupctl status`";
    let lost = match steer(Order { verb: "upgrade", options, waiting: args.waiting, undo }, control, terminal).await {
        Err(failure) if failure.kind() == Kind::Unreachable => failure,
        told => return told,
    };
    let after = next_image(&before, control, lost).await?;
    let mut reply = told(&before, &after, &last_words(control).await);
    if !args.waiting.json {
        // The sentence has them already.
        reply.facts.clear();
    }
    let text = serde_json::to_vec(&reply)
        .map_err(|error| Failure::new(Kind::Internal, "cannot write the outcome").caused_by(error))?;
    outcome(&Answer { text: text.into(), value: reply }, args.waiting.json, terminal)
}

/// The status of a daemon with a higher epoch; else the failure that began the waiting.
async fn next_image(before: &Status, control: &Control, lost: Failure) -> Result<Status, Failure> {
    let until = Instant::now() + NEXT_IMAGE;
    while Instant::now() < until {
        if let Ok(answer) = control.status().await
            && answer.value.daemon.epoch > before.daemon.epoch
        {
            return Ok(answer.value);
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
    Err(lost.hint("no other daemon took its place"))
}

/// What the next image says of the upgrade; empty when it does not.
async fn last_words(control: &Control) -> String {
    let Ok(text) = control.lines(EVENTS).await else { return String::new() };
    let mut events =
        text.split(|byte| *byte == b'\n').filter_map(|line| serde_json::from_slice::<EventView>(line).ok());
    events.rfind(|event| event.kind == "upgraded").map_or_else(String::new, |event| event.message)
}

fn told(before: &Status, after: &Status, words: &str) -> VerbReply {
    let (old, new) = (&before.daemon, &after.daemon);
    let survived = new.pid == old.pid;
    let message = if survived && !words.is_empty() {
        format!("Upgraded: {words}")
    } else if survived {
        format!("Upgraded: {} → {} in place (pid {})", old.version, new.version, new.pid)
    } else {
        format!("the daemon ended, and another one was started ({} → {}, pid {})", old.version, new.version, new.pid)
    };
    let facts = [
        ("from", serde_json::Value::from(old.version.clone())),
        ("to", new.version.clone().into()),
        ("pid", new.pid.into()),
        ("epoch", new.epoch.into()),
    ];
    VerbReply {
        result: if survived { VerbResult::Done } else { VerbResult::Failed },
        message,
        state: after.state,
        facts: facts.into_iter().map(|(name, value)| (name.to_owned(), value)).collect(),
    }
}
