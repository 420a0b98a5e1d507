//! The whole product as its users meet it: `mlxsupd`, a worker process, `mlxsupctl`, plain HTTP over the sockets.
//!
//! The worker is the fake one, so that it can be told to die: `cargo test --features fake-worker`.

#![cfg(feature = "fake-worker")]
#![allow(
    clippy::expect_used,
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test whose surroundings fail, fails right there"
)]

mod http;
mod installed;
#[cfg(feature = "top")]
mod pty;
mod service;

mod activation;
mod adoptions;
mod answers;
mod boot_configs;
mod crashes;
#[cfg(target_os = "linux")]
mod crowds;
mod drains;
mod first_start;
mod foreign_engines;
mod handovers;
mod histories;
mod limits;
mod logs;
mod recordings;
mod reloads;
mod restarts;
mod rules;
mod schedules;
mod start_refused;
mod stops;
mod strangers;
mod takeovers;
#[cfg(target_os = "linux")]
mod tcp;
#[cfg(feature = "top")]
mod top;
mod unloads;
mod upgrades;
