//! Crontab text and the instants it means, on top of the `cron` crate.
//!
//! Owns the mapping from naive local time to instants (gaps, folds, weekday numbers, crontab's OR); owns no clock:
//! every function says what follows after an instant it is given. When a firing is due, missed or jittered is the
//! supervisor's affair.
//!
//! The `cron` crate alone skips, doubles and even reverses hours round a change of clocks, so it only ever sees naive
//! local time dressed as UTC; [`zone`] maps what it says to real instants.

mod crontab;
mod expression;
#[cfg(test)]
mod oracle_tests;
mod zone;

pub use expression::Expression;
pub use zone::Zone;

use std::ops::Range;

/// The text is no schedule, or names no zone.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{what}; {hint}")]
pub struct ScheduleError {
    /// What is wrong, naming the offending part.
    pub what: String,
    /// What to write instead.
    pub hint: String,
    /// Bytes of the given text that are at fault.
    pub span: Range<usize>,
}
