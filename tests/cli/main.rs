//! `mlxsupctl` as a person meets it: stdout, stderr and exit status of every verb and every error, against a control
//! server of the test's own that answers with fixtures.

#![allow(clippy::unwrap_used, reason = "a test whose surroundings cannot be set up fails right there")]

mod chat;
mod config;
mod doctor;
mod facts;
mod failures;
mod fixtures;
mod history;
#[cfg(feature = "fake-worker")]
mod hub;
#[cfg(feature = "fake-worker")]
mod init;
mod install;
mod launchd;
mod logs;
mod machine;
#[cfg(feature = "fake-worker")]
mod models;
mod screen;
mod server;
mod status;
mod steering;
mod systemd;
#[cfg(feature = "fake-worker")]
mod tune;
mod words;
