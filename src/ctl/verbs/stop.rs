//! `mlxsupctl stop`: the daemon goes down, running requests finishing within the grace period.
//!
//! A service manager would start its daemon again at once, so an installed service is stopped through it; any other
//! daemon is asked over its control socket.

use std::collections::BTreeMap;
use std::time::Duration;

use super::start::pretty;
use crate::control::view::{State, VerbOptions, VerbReply, VerbResult};
use crate::ctl::args::StopArgs;
use crate::ctl::control::Control;
use crate::ctl::failure::{ExitStatus, Failure, Kind};
use crate::ctl::home::Home;
use crate::ctl::render::human;
use crate::ctl::service_control::{Found, Standing, answering, choose, installed, stop_patience};
use crate::ctl::steer::{Order, steer};
use crate::ctl::terminal::Terminal;

/// Between two looks whether the socket still answers.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// Waits until nobody listens on the control socket any more.
pub async fn run(
    args: &StopArgs,
    home: &Home,
    control: &Control,
    terminal: &mut Terminal,
) -> Result<ExitStatus, Failure> {
    let Some(found) = choose(installed(), home) else { return ask_daemon(args, control, terminal).await };
    let control = Control::new(found.home());
    let service = found.control();
    let mut wait = stop_patience(Some(&found));
    let standing = service.standing(&mut wait, terminal).await;
    // A service manager that is out of reach must not keep a daemon of another origin from being stopped.
    let answered = answering(&control).await;
    let standing = match standing {
        Ok(standing) => standing,
        Err(error) if answered.is_none() => return Err(service.refused("say what it runs", error)),
        Err(_) => Standing::Absent,
    };
    if let Some(other) = answered
        && standing.pid() != Some(other.pid)
    {
        return ask_daemon(args, &control, terminal).await;
    }
    stop_service(args, &found, &standing, terminal).await
}

async fn stop_service(
    args: &StopArgs,
    found: &Found,
    standing: &Standing,
    terminal: &mut Terminal,
) -> Result<ExitStatus, Failure> {
    let (service, files) = (found.control(), found.files());
    if args.keep_worker {
        let message =
            format!("{} stops the daemon for good, and a worker without a daemon is of no use", service.name());
        return Err(Failure::new(Kind::Denied, message).hint("stop both: `mlxsupctl stop`"));
    }
    found.judge_caller("stop")?;
    let mut wait = stop_patience(Some(found));
    let (result, message) = if args.waiting.no_wait && *standing != Standing::Absent {
        service.only_order_down(files.names(), &mut wait, terminal).await?;
        (VerbResult::Started, format!("{} was told to stop {}", service.name(), service.unit()))
    } else if service.bring_down(files.names(), false, &mut wait, terminal).await? {
        (VerbResult::Done, "Stopped; `mlxsupctl start` starts it again".to_owned())
    } else {
        (VerbResult::Already, "Already stopped; `mlxsupctl start` starts it again".to_owned())
    };
    let reply = VerbReply { result, message, state: State::Stopping, facts: BTreeMap::new() };
    let columns = terminal.columns;
    let text = if args.waiting.json { pretty(&reply)? } else { human::reply(&reply, columns) };
    terminal.print(text)?;
    Ok(ExitStatus::Ok)
}

async fn ask_daemon(args: &StopArgs, control: &Control, terminal: &mut Terminal) -> Result<ExitStatus, Failure> {
    let options = VerbOptions { keep_worker: args.keep_worker, ..VerbOptions::default() };
    let undo = "see `mlxsupctl status`";
    let status = steer(Order { verb: "stop", options, waiting: args.waiting, undo }, control, terminal).await?;
    if !args.waiting.no_wait {
        // The reply is the daemon's last word, but a script that starts the next daemon needs the socket to be free.
        while tokio::net::UnixStream::connect(control.socket()).await.is_ok() {
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }
    Ok(status)
}
