//! The worker link, daemon side: spawn, ready pipe, probes, commands, exit watch.

pub mod events;
