//! The gateway as clients meet it: real sockets, a driver and a worker played by the test.

#![allow(clippy::expect_used, clippy::panic, reason = "a test says so when its surroundings fail")]

mod documents;
mod harness;

mod carried;
mod edges;
mod failures;
mod hang_up;
mod hostile;
mod hostile_cases;
mod hostile_times;
mod links;
mod plain;
mod refusals;
mod streams;
mod tcp;

/// Against the fake worker's own process: `cargo test --features fake-worker`.
#[cfg(feature = "fake-worker")]
mod process;
