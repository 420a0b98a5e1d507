//! The fault tool itself: what a test orders is what the fake worker does. `cargo test --features fake-worker`.

#![cfg(feature = "fake-worker")]
#![allow(
    clippy::expect_used,
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test whose surroundings fail, fails right there"
)]

mod lone;

mod endings;
mod lies;
mod orders;
