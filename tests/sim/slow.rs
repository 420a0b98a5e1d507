//! Slow is never dead, and dead is found in time: worlds with one worker that moves in one way only, or not at all.

use std::time::Duration;

use mlxsup::supervisor::Event;

use crate::clients::{Nature, Session};
use crate::dice::Dice;
use crate::machine::{GIB, Machine};
use crate::process::Condition;
use crate::settings::Settings;
use crate::timeline::Happening;
use crate::world::{Verdict, World};

const SECOND: u64 = 1000;

/// The ways of being slow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Slowness {
    /// Its pages are on disk: only page-ins move, nothing answers, for minutes.
    Thrashing,
    /// One prompt is read for many minutes.
    LongPrefill,
    /// A token every few minutes.
    SlowDecode,
    /// It is finished, and its client reads on some day.
    SlowReader,
}

/// One run of a worker that moves, however slowly.
///
/// # Errors
/// When it is taken for dead, or anything else is broken.
pub fn slow_but_moving(seed: u64) -> Verdict {
    let mut world = one_worker(seed);
    let slowness =
        world.dice.pick(&[Slowness::Thrashing, Slowness::LongPrefill, Slowness::SlowDecode, Slowness::SlowReader]);
    serve(&mut world)?;
    let (prefill_ms, ms_per_token, nature) = match slowness {
        Slowness::Thrashing => (50, 40, Nature::Ordinary),
        Slowness::LongPrefill => (world.dice.between(60, 1_800) * SECOND, 40, Nature::Ordinary),
        Slowness::SlowDecode => (50, world.dice.between(1, 240) * SECOND, Nature::Ordinary),
        Slowness::SlowReader => (50, 40, Nature::SlowReader),
    };
    let total = if slowness == Slowness::SlowDecode { 20 } else { 3_000 };
    for _ in 0..world.dice.between(1, 3) {
        let session = Session { total, prefill_ms, ms_per_token, nature, ..Session::waiting() };
        world.submit(session, 40_000_000 * SECOND)?;
    }
    if slowness == Slowness::Thrashing {
        let pause = world.dice.below(20_000);
        world.run(world.now + pause)?;
        for process in world.processes.values_mut() {
            process.condition = Condition::Thrashing;
        }
        let until = world.now + world.dice.between(60, 3_000) * SECOND;
        let generations: Vec<u64> = world.processes.keys().copied().collect();
        for generation in generations {
            world.timeline.plan(until, Happening::Thaws { generation });
        }
    }
    world.run(world.now + 3_000 * SECOND)?;
    match world.kills_by_health {
        0 => Ok(()),
        kills => Err(format!("slow is not dead: {slowness:?}, {kills} killed")),
    }
}

/// One run of a worker that stands still with work pending; how long it took to find it, beyond what is promised.
///
/// # Errors
/// When it is not found within the window and two seconds.
pub fn wedged(seed: u64) -> Verdict {
    let mut world = one_worker(seed);
    serve(&mut world)?;
    let condition = world.dice.pick(&[Condition::Stopped, Condition::Deaf, Condition::Stalled]);
    let session = Session { total: 100_000, prefill_ms: 500, ms_per_token: 40, ..Session::waiting() };
    world.submit(session, 40_000_000 * SECOND)?;
    let pause = 5_000 + world.dice.below(30_000);
    world.run(world.now + pause)?;
    for process in world.processes.values_mut() {
        process.condition = condition;
    }
    let since = world.now;
    let policy = world.core.config().health.clone();
    let promised = match condition {
        // Every missed look takes its own timeout too.
        Condition::Stopped => policy.stall.min((policy.interval + policy.timeout) * (policy.failures + 1)),
        _ => policy.stall,
    } + Duration::from_secs(2)
        // The witnesses may last have been seen moving when the next look came.
        + policy.interval
        + policy.timeout;
    let promised = u64::try_from(promised.as_millis()).unwrap_or(u64::MAX / 2);
    world.run(since + promised)?;
    match world.found_dead_at.values().next() {
        Some(_) => Ok(()),
        None => Err(format!("{condition:?} for {promised} ms and not found: {policy:?}")),
    }
}

fn one_worker(seed: u64) -> World {
    let mut dice = Dice::new(seed);
    let stall = dice.pick(&[20, 60, 120, 300]);
    let settings = Settings::plain(stall, dice.pick(&[2, 5, 10]), dice.pick(&[2, 3, 5]));
    let machine = Machine { total: 64 * GIB, others: 8 * GIB, others_wired: 4 * GIB, ..Machine::quiet() };
    let mut world = World::with(seed, dice, settings, machine, [20 * GIB, 10 * GIB]);
    world.calm = true;
    world.slots = 3;
    world.load_ms = 5_000;
    world
}

fn serve(world: &mut World) -> Verdict {
    world.daemon_starts()?;
    world.run(world.now + 20 * SECOND)?;
    world.feed(Event::Tick)
}
