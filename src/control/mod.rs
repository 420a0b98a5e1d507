//! The control socket: HTTP verbs for `mlxsupctl`, and the JSON both sides speak.

pub mod view;
