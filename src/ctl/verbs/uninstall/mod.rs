//! `mlxsupctl uninstall`: the service is stopped and its files are gone; what remains is named, or with `--purge`
//! removed. The model is never touched.

mod remains;

use std::path::Path;

use remains::Remains;

use crate::ctl::args::UninstallArgs;
use crate::ctl::control::Control;
use crate::ctl::failure::{ExitStatus, Failure, Kind};
use crate::ctl::home::{Home, SYSTEM_HOME, Source};
use crate::ctl::service_control::{Found, Scope, answering, choose, installed, stop_patience};
use crate::ctl::terminal::Terminal;
use crate::daemon::instance_lock::InstanceLock;
use crate::daemon::{leftover, state_file};

/// Takes the service out and says what is left.
pub async fn run(args: &UninstallArgs, home: &Home, terminal: &mut Terminal) -> Result<ExitStatus, Failure> {
    let scope = if args.system { Scope::System } else { Scope::User };
    let (ours, others): (Vec<Found>, Vec<Found>) = installed().into_iter().partition(|one| one.place.scope == scope);
    let somewhere_else = ours.first().map(|one| one.says.home.display().to_string());
    let root = match choose(ours, home) {
        Some(found) => {
            found.judge_caller("uninstall --system")?;
            take_out(&found, terminal).await?;
            found.says.home
        }
        None => {
            say_what_else_there_is(somewhere_else, &others, terminal)?;
            match (&home.source, scope) {
                (Source::User | Source::System(_), Scope::System) => Path::new(SYSTEM_HOME).to_owned(),
                (_, Scope::System) => home.path.clone(),
                (_, Scope::User) => home.of_person().to_owned(),
            }
        }
    };
    if !root.exists() {
        terminal.say(&format!("there is no home at `{}`: nothing remains", root.display()))?;
        return Ok(ExitStatus::Ok);
    }
    let remains = Remains::of(&root);
    if args.purge {
        purge(&root, &remains, terminal).await?;
    } else {
        remains.list(terminal)?;
        let again =
            if args.system { "sudo mlxsupctl uninstall --system --purge" } else { "mlxsupctl uninstall --purge" };
        terminal.say(&format!("to remove what is ours of it, too: `{again}`"))?;
    }
    Ok(ExitStatus::Ok)
}

async fn take_out(found: &Found, terminal: &mut Terminal) -> Result<(), Failure> {
    let (service, files) = (found.control(), found.files());
    let mut wait = stop_patience(Some(found));
    service.bring_down(files.names(), true, &mut wait, terminal).await?;
    files.remove()?;
    service.forget_files(&mut wait, terminal).await?;
    for path in files.paths() {
        terminal.print(format!("removed {}\n", path.display()))?;
    }
    Ok(())
}

fn say_what_else_there_is(other: Option<String>, others: &[Found], terminal: &mut Terminal) -> Result<(), Failure> {
    if let Some(home) = other {
        let message = format!("the installed service serves the home `{home}`, not this one; nothing was changed");
        return Err(Failure::new(Kind::Denied, message).hint(format!("`mlxsupctl --home {home} uninstall`")));
    }
    terminal.say("no service of yours is installed")?;
    for one in others {
        let (verb, home) = match one.place.scope {
            Scope::System => ("sudo mlxsupctl uninstall --system", &one.says.home),
            Scope::User => ("mlxsupctl uninstall", &one.says.home),
        };
        terminal.say(&format!("another one serves `{}`: `{verb}`", home.display()))?;
    }
    Ok(())
}

/// Removes everything of ours, under the home's lock, so that no daemon can be using it.
async fn purge(root: &Path, remains: &Remains, terminal: &mut Terminal) -> Result<(), Failure> {
    let control = Control::new(Home { path: root.to_owned(), source: Source::Flag });
    let in_use = |pid: String| {
        Failure::new(Kind::Denied, format!("a daemon ({pid}) still serves `{}`; nothing was removed", root.display()))
            .hint(format!("stop it, then do this again: `mlxsupctl --home {} stop`", root.display()))
    };
    if let Some(running) = answering(&control).await {
        return Err(in_use(format!("pid {}", running.pid)));
    }
    let lock = InstanceLock::take(&root.join("mlxsupd.lock"))
        .map_err(|error| Failure::new(Kind::Denied, "the home is in use; nothing was removed").caused_by(error))?;
    for worker in state_file::look(&root.join("state.json")).unwrap_or_default().workers {
        if let Some(said) = leftover::end(&worker).await {
            terminal.say(&said)?;
        }
    }
    remains.remove(root, terminal)?;
    drop(lock);
    Ok(())
}
