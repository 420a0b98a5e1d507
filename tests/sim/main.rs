//! The decision core in made-up worlds: thousands of days of trouble, every promise checked after every step.
//!
//! ```text
//! dice ─▶ settings, faults, operators, clients ─▶ world ─Event─▶ the core ─Action─▶ world
//!                                                   └─▶ model (what was said) ─▶ promises (what must hold)
//! ```
//! One seed is one world; nothing else is random, and no real time passes. `docs/simulation.md` tells how to use it.

#![allow(clippy::panic, reason = "a test: a broken promise ends it")]

mod clients;
mod crowd;
mod dice;
mod endings;
mod faults;
mod finale;
mod life;
mod load;
mod machine;
mod model;
mod mutations;
mod operators;
mod process;
mod promises;
mod refusals;
mod replay;
mod sessions;
mod settings;
mod shares;
mod slow;
mod sweep;
mod timeline;
mod trace;
mod truth;
mod turns;
mod workers;
mod world;

/// F7: no worker that moves is taken for dead …
#[test]
fn slow_is_never_dead() {
    sweep::each("slow but moving", sweep::number("SIM_SLOW").unwrap_or(40), slow::slow_but_moving);
}

/// … and none that does not move is overlooked.
#[test]
fn dead_is_found_in_time() {
    sweep::each("wedged", sweep::number("SIM_SLOW").unwrap_or(100), slow::wedged);
}

/// The short form, for every run of the tests.
#[test]
fn every_promise_holds_in_every_world() {
    sweep::Sweep::from_environment(40, 3).play();
}
