//! Playing a recording again: a fresh core, the same events, and the first action that differs.

use std::path::Path;

use mlxsup::daemon::recording::{Beginning, Step, spoken};
use mlxsup::supervisor::Supervisor;

use crate::sweep::say;

/// Feeds a recording to a fresh core and returns how many steps it had.
///
/// # Errors
/// The first line that cannot be read, or whose actions differ.
pub fn replay(file: &Path) -> Result<usize, String> {
    let text = std::fs::read_to_string(file).map_err(|error| format!("cannot read {}: {error}", file.display()))?;
    let mut lines = text.lines().enumerate();
    let bad = |line: usize, error: serde_json::Error| format!("line {}: {error}", line + 1);
    let Some((line, first)) = lines.next() else { return Err("the recording is empty".to_owned()) };
    let Beginning { config, kept, seed, now } = serde_json::from_str(first).map_err(|error| bad(line, error))?;
    let mut core = Supervisor::new(config, &kept, seed, now);
    let mut steps = 0;
    for (line, text) in lines {
        let step: Step = match serde_json::from_str(text) {
            Ok(step) => step,
            // The daemon may have died over its last line.
            Err(error) if error.is_eof() => break,
            Err(error) => return Err(bad(line, error)),
        };
        let event = format!("{:?}", step.event);
        let actions: Vec<String> = core.step(step.event, step.now).iter().map(spoken).collect();
        if actions != step.actions {
            return Err(format!(
                "line {}: {event}\n  recorded: {:#?}\n  now:      {actions:#?}",
                line + 1,
                step.actions
            ));
        }
        core.check_invariants().map_err(|why| format!("line {}: {event}: {why}", line + 1))?;
        steps += 1;
    }
    Ok(steps)
}

/// `SIM_REPLAY=FILE cargo test --test sim replay`
#[test]
fn replay_what_the_environment_names() {
    let Some(file) = std::env::var_os("SIM_REPLAY") else { return };
    match replay(Path::new(&file)) {
        Ok(steps) => say(&format!("{steps} steps, and the same actions")),
        Err(why) => panic!("{why}"),
    }
}

#[test]
fn replay_of_a_made_up_day_takes_the_same_decisions() {
    let folder = tempfile::tempdir().expect("a folder");
    for seed in 1..=4 {
        let file = folder.path().join(format!("{seed}.jsonl"));
        let mut world = crate::world::World::new(seed);
        world.record_to = Some(file.clone());
        world.play(2).unwrap_or_else(|why| panic!("seed {seed}: {why}"));
        drop(world);
        let steps = replay(&file).unwrap_or_else(|why| panic!("seed {seed}: {why}"));
        assert!(steps > 50, "seed {seed} had only {steps} steps in its last life");
    }
}
