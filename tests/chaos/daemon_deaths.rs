//! SIGKILL to the daemon: launchd starts the next one, nobody is refused, the worker stays.

use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};

use crate::phase::{self, Act, Phase, Report};
use crate::settings::Settings;

pub fn run(settings: &Settings) -> Report {
    let mut epoch = 0;
    phase::run(settings, "daemon deaths", settings.daemon_kills, false, |phase| {
        epoch = kill_one(phase, epoch)?;
        Ok(Act::Did("SIGKILL"))
    })
}

/// Kills the daemon after `past` and waits until the next one serves; returns the epoch of the killed one.
fn kill_one(phase: &mut Phase, past: u64) -> Result<u64, String> {
    let before = phase.rig.serving(|serving| serving.epoch > past)?;
    let daemon = phase.rig.daemon().ok_or("launchd runs no daemon that serves")?;
    std::thread::sleep(Duration::from_millis(20 + u64::from(phase.chance.below(200))));
    // In this order: nobody may be cut before the instant that forgives it.
    phase.kills.push(Instant::now());
    kill(daemon, Signal::SIGKILL).map_err(|why| format!("kill {daemon}: {why}"))?;
    let after = phase.rig.serving(|serving| serving.epoch > before.epoch)?;
    phase.kept.0 += u64::from(after.pid == before.pid);
    phase.kept.1 += 1;
    Ok(before.epoch)
}
