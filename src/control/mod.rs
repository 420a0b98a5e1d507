//! The control socket: HTTP verbs for `mlxsupctl`, and the JSON both sides speak.

pub mod limits_view;
pub mod listener;
mod past;
pub mod verbs;
pub mod view;
