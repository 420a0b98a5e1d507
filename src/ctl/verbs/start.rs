//! `mlxsupctl start`: the service manager starts the installed service again.

use std::collections::BTreeMap;

use crate::control::view::{State, VerbReply, VerbResult};
use crate::ctl::args::StartArgs;
use crate::ctl::control::Control;
use crate::ctl::failure::{ExitStatus, Failure, Kind};
use crate::ctl::home::Home;
use crate::ctl::render::human;
use crate::ctl::service_control::{Found, Patience, START_PATIENCE, answering, choose, installed};
use crate::ctl::terminal::Terminal;

/// Waits until a daemon answers; the model may still be loading then.
pub async fn run(args: &StartArgs, home: &Home, terminal: &mut Terminal) -> Result<ExitStatus, Failure> {
    let found = choose(installed(), home).ok_or_else(|| not_installed(home))?;
    found.judge_caller("start")?;
    let reply = start(args, &found, terminal).await?;
    if args.waiting.json {
        terminal.print(pretty(&reply)?)?;
    } else {
        let columns = terminal.columns;
        terminal.print(human::reply(&reply, columns))?;
    }
    Ok(ExitStatus::Ok)
}

async fn start(args: &StartArgs, found: &Found, terminal: &mut Terminal) -> Result<VerbReply, Failure> {
    let (service, control, files) = (found.control(), Control::new(found.home()), found.files());
    let mut wait = Patience::new(args.patience.deadline.unwrap_or(START_PATIENCE));
    let reply = |result, message: String, state| VerbReply { result, message, state, facts: BTreeMap::new() };
    if let Some(running) = answering(&control).await {
        let standing = service.standing(&mut wait, terminal).await;
        let standing = standing.map_err(|error| service.refused("say what it runs", error))?;
        if standing.pid() == Some(running.pid) {
            return Ok(reply(VerbResult::Already, format!("Already so: {running}"), running.state));
        }
        let message = format!("a daemon that {} did not start (pid {}) serves this home", service.name(), running.pid);
        return Err(Failure::new(Kind::Denied, message).hint("stop it, then do this again: `mlxsupctl stop`"));
    }
    if args.waiting.no_wait {
        service.only_order_up(files.names(), &mut wait, terminal).await?;
        let message = format!("{} was told to start {}", service.name(), service.unit());
        return Ok(reply(VerbResult::Started, message, State::Starting));
    }
    let running = service.bring_up(files.names(), false, &control, &mut wait, terminal).await?;
    Ok(reply(VerbResult::Done, running.to_string(), running.state))
}

/// A reply as `--json` prints it.
pub fn pretty(reply: &VerbReply) -> Result<String, Failure> {
    serde_json::to_string_pretty(reply)
        .map(|text| text + "\n")
        .map_err(|error| Failure::new(Kind::Internal, "cannot write the outcome as JSON").caused_by(error))
}

fn not_installed(home: &Home) -> Failure {
    let home = home.of_person().display().to_string();
    Failure::new(Kind::Usage, format!("no service is installed for the home `{home}`, so nobody can start it"))
        .hint("have launchd or systemd run it, now and from now on: `mlxsupctl install`")
        .hint(format!("or run it in this terminal: `mlxsupd --home {home}`"))
}
