//! Crontab text and the instants it means, on top of the `cron` crate.
//!
//! Owns the mapping from naive local time to instants (gaps, folds, weekday numbers, crontab's OR); owns no clock.

/// A parsed cron expression and its time zone.
#[derive(Debug, Clone, PartialEq)]
pub struct Expression {
    /// The text as written.
    pub text: String,
}
