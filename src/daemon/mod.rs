//! The one task that owns a [`crate::supervisor`], and the start and stop order around it.

pub mod handle;
