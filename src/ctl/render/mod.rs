//! How facts look: for people in [`human`], [`status`] and [`history`], for programs in [`json`].
//!
//! Everything here returns text and writes nothing.

pub mod chart;
pub mod csv;
pub mod fits;
pub mod history;
pub mod human;
pub mod json;
pub mod metric;
pub mod progress;
pub mod quantity;
pub mod status;
pub mod table;
pub mod time_axis;
