//! How facts look: for people in [`human`] and [`status`], for programs in [`json`].
//!
//! Everything here returns text and writes nothing.

pub mod fits;
pub mod human;
pub mod json;
pub mod progress;
pub mod quantity;
pub mod status;
pub mod table;
