//! `mlxsupctl upgrade` under load: same daemon pid, same worker, nobody refused, nobody cut.

use crate::phase::{self, Act, Phase, Report};
use crate::settings::Settings;

/// `mlxsupctl`'s exit for words it does not know, and for what is not possible in this state.
const USAGE: i32 = 2;
const DENIED: i32 = 5;

pub fn run(settings: &Settings) -> Report {
    phase::run(settings, "upgrades", settings.upgrades, &[], upgrade)
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
