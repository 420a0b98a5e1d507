//! `mlxsupd` under the fake launchd, and the fake launchd itself: `cargo test --features fake-worker`.

#![cfg(all(feature = "fake-worker", target_os = "linux"))]
#![allow(
    clippy::expect_used,
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test whose surroundings fail, fails right there"
)]

#[path = "../daemon/http.rs"]
#[allow(dead_code, reason = "shared with the daemon's tests; these need less of it")]
mod http;
mod rig;

mod bootouts;
mod daemon;
mod respawns;
mod sockets;
