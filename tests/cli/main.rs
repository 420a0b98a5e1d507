//! `mlxsupctl` as a person meets it: stdout, stderr and exit status of every verb and every error, against a control
//! server of the test's own that answers with fixtures.

mod chat;
mod facts;
mod failures;
mod fixtures;
mod logs;
mod screen;
mod server;
mod status;
mod steering;
mod words;
