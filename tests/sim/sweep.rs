//! Many seeds, and what is printed when one of them breaks a promise.

use std::io::Write;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use crate::world::World;

/// How much is played.
#[derive(Debug, Clone, Copy)]
pub struct Sweep {
    pub first: u64,
    pub seeds: u64,
    pub hours: u64,
}

impl Sweep {
    /// As the environment says: `SIM_SEED` plays one, `SIM_SEEDS` so many from 1 (or from `SIM_FIRST`), `SIM_HOURS` each.
    pub fn from_environment(seeds: u64, hours: u64) -> Self {
        let hours = number("SIM_HOURS").unwrap_or(hours);
        match number("SIM_SEED") {
            Some(seed) => Self { first: seed, seeds: 1, hours },
            None => {
                Self { first: number("SIM_FIRST").unwrap_or(1), seeds: number("SIM_SEEDS").unwrap_or(seeds), hours }
            }
        }
    }

    /// Plays every seed and fails with the first broken promise found.
    #[track_caller]
    pub fn play(self) {
        let threads = std::thread::available_parallelism().map_or(1, |count| count.get() as u64).min(self.seeds);
        let next = AtomicU64::new(self.first);
        let done = AtomicU64::new(0);
        let steps = AtomicU64::new(0);
        let found = AtomicBool::new(false);
        let seeds_found = std::sync::Mutex::new(Vec::new());
        let keep_going = std::env::var_os("SIM_ALL").is_some();
        std::thread::scope(|scope| {
            for _ in 0..threads {
                scope.spawn(|| {
                    loop {
                        let seed = next.fetch_add(1, Ordering::Relaxed);
                        if seed >= self.first + self.seeds || (found.load(Ordering::Relaxed) && !keep_going) {
                            return;
                        }
                        let mut world = World::new(seed);
                        if let Err(why) = world.play(self.hours) {
                            found.store(true, Ordering::Relaxed);
                            say(&format!("seed {seed}: {why}"));
                            if let Ok(mut list) = seeds_found.lock() {
                                list.push((seed, why));
                            }
                        }
                        steps.fetch_add(world.steps, Ordering::Relaxed);
                        let done = done.fetch_add(1, Ordering::Relaxed) + 1;
                        if done.is_multiple_of(500) {
                            say(&format!("{done} of {} seeds, {} hours each", self.seeds, self.hours));
                        }
                    }
                });
            }
        });
        let mut failed = seeds_found.into_inner().unwrap_or_default();
        failed.sort();
        say(&format!(
            "{} seeds of {} virtual hours, {} steps, {} broken",
            done.load(Ordering::Relaxed),
            self.hours,
            steps.load(Ordering::Relaxed),
            failed.len()
        ));
        if let Some((seed, _)) = failed.first() {
            tell(*seed, self.hours);
        }
    }
}

/// A number from the environment.
pub fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().and_then(|text| text.parse().ok())
}

/// Runs one short world per seed; `SIM_SEED` runs one.
#[track_caller]
pub fn each(what: &str, seeds: u64, run: fn(u64) -> Result<(), String>) {
    let (first, seeds) = number("SIM_SEED").map_or((1, seeds), |seed| (seed, 1));
    for seed in first..first + seeds {
        if let Err(why) = run(seed) {
            panic!("{what}, seed {seed}: {why}\nplay it again: SIM_SEED={seed} cargo test --test sim");
        }
        if seed % 2_000 == 0 {
            say(&format!("{seed} of {seeds} runs, {what}"));
        }
    }
    say(&format!("{seeds} runs, {what}: none broken"));
}

/// Plays a failing seed again, with everything that led to the end.
#[track_caller]
fn tell(seed: u64, hours: u64) {
    let mut world = World::new(seed);
    world.trace.on = true;
    world.trace.aloud = std::env::var_os("SIM_TRACE").is_some();
    let why = world
        .play(hours)
        .err()
        .unwrap_or_else(|| "it does not fail again: something here is not repeatable".to_owned());
    let lines: Vec<&str> = world.trace.lines().collect();
    panic!(
        "{}\n\nbroken after {} steps: {why}\nconfiguration:\n{}\nplay it again: SIM_SEED={seed} SIM_HOURS={hours} cargo test --test sim\n",
        lines.join("\n"),
        world.steps,
        world.text
    );
}

/// A line of progress, past the test harness.
pub fn say(line: &str) {
    // Nothing is left to do about a closed stderr.
    let _ = writeln!(std::io::stderr(), "sim: {line}");
}
