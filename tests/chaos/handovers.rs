//! Planned replacements of the worker, one in ten with a green that cannot load.

use crate::phase::{self, Act, Phase, Report};
use crate::rig::patiently;
use crate::settings::Settings;

/// `mlxsupctl`'s exits for what is not possible in this state, and for what was put off.
const DENIED: i32 = 5;
const DEADLINE: i32 = 6;

pub fn run(settings: &Settings, strategy: &'static str) -> Report {
    let mut past = 0;
    let mut number = 0;
    let continues = settings.engine.continues();
    phase::run(settings, &format!("{strategy} hand-overs"), settings.handovers, false, |phase| {
        number += 1;
        // Drawn for the long form; the short one has one for certain.
        let fails = phase.chance.below(10) == 0 || number == 2;
        hand_over(phase, strategy, fails, continues, &mut past)
    })
}

fn hand_over(phase: &mut Phase, strategy: &str, fails: bool, continues: bool, past: &mut u64) -> Result<Act, String> {
    let blue = phase.rig.serving(|serving| serving.generation >= *past)?;
    let next = blue.generation + 1;
    let is_overlap = strategy == "overlap";
    phase.rig.order(&match (fails, is_overlap) {
        (false, _) => String::new(),
        // Whichever number it gets: greens that failed before have used some up.
        (true, true) => "\"fail_load\":\"no such tensor\"".to_owned(),
        // The one after it must load, or nobody serves.
        (true, false) => format!("\"fail_load\":\"no such tensor\",\"only_generation\":{next}"),
    });
    let said = patiently(|| {
        let said = phase.rig.ctl(&["restart", "--mode", strategy]);
        // The planner needs one look at machine and worker, which a phase that has just begun may not have had.
        (!said.text.contains("is not known yet")).then_some(said)
    });
    phase.rig.order("");
    let said = said.ok_or("the planner never gets to know what there is")?;
    match (said.code, fails) {
        (Some(0), false) => {}
        (Some(DENIED), _) if phase.done.is_empty() => return Ok(Act::Unknown(said.text)),
        // A stream outlasted the grace, and nobody could have gone on with it.
        (Some(DEADLINE), _) if !continues => {
            let after = phase.rig.serving(|_| true)?;
            phase.kept.0 += u64::from(after.pid == blue.pid);
            phase.kept.1 += 1;
            return match after.pid == blue.pid {
                true => Ok(Act::Did("postponed")),
                false => Err(format!("postponed, and yet another worker: {blue:?}, {after:?}: {}", said.text)),
            };
        }
        // Blue must have been left alone; a sequential one ends well with the green after the failed one, or says so.
        (Some(0 | 1), true) => {}
        _ => return Err(format!("{strategy} with a green that {}: {said:?}", if fails { "fails" } else { "loads" })),
    }
    let after = phase.rig.serving(|serving| {
        let is_next = if fails { serving.generation > next } else { serving.generation >= next };
        is_next || (fails && is_overlap)
    })?;
    *past = after.generation;
    if fails && is_overlap {
        phase.kept.0 += u64::from(after.pid == blue.pid);
        phase.kept.1 += 1;
        if after.pid != blue.pid {
            return Err(format!("a failed green replaced blue: {blue:?}, {after:?}"));
        }
    }
    Ok(Act::Did(if fails { "failed" } else { "done" }))
}
