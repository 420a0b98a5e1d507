//! `mlxsupctl upgrade` under load: same daemon pid, same worker, nobody refused, nobody cut.

use std::time::Duration;

use crate::phase::{self, Act, Phase, Report};
use crate::settings::Settings;

/// `mlxsupctl`'s exit for words it does not know, and for what is not possible in this state.
const USAGE: i32 = 2;
const DENIED: i32 = 5;

/// An upgrade waits for all streams and is put off where they outlast the grace, so here they are short and it is not.
const LONGEST: Duration = Duration::from_secs(2);
const GRACE: &str = "20s";

pub fn run(settings: &Settings) -> Report {
    let settings = Settings { longest: settings.longest.min(LONGEST), grace: GRACE.to_owned(), ..settings.clone() };
    phase::run(&settings, "upgrades", settings.upgrades, false, upgrade)
}

fn upgrade(phase: &mut Phase) -> Result<Act, String> {
    let before = phase.rig.serving(|_| true)?;
    let daemon = phase.rig.daemon();
    let said = phase.rig.ctl(&["upgrade"]);
    match said.code {
        Some(0) => {}
        Some(USAGE | DENIED) if phase.done.is_empty() => return Ok(Act::Unknown(said.text)),
        // A stream outlasted the grace: put off, which is what is promised.
        Some(6) => return Ok(Act::Did("postponed")),
        _ => return Err(format!("upgrade: {said:?}")),
    }
    let after = phase.rig.serving(|serving| serving.epoch > before.epoch)?;
    phase.kept.0 += u64::from(after.pid == before.pid);
    phase.kept.1 += 1;
    if phase.rig.daemon() != daemon {
        return Err(format!("the daemon's pid changed: {daemon:?}, {:?}", phase.rig.daemon()));
    }
    Ok(Act::Did("done"))
}
