//! What became of the requests: how people learn that it works.

use std::time::Duration;

/// Totals since the daemon started.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Ledger {
    /// Answered completely.
    pub answered: u64,
    /// Answered completely after outliving at least one worker.
    pub carried: u64,
    /// Admitted, then ended with an error of ours.
    pub lost: u64,
    /// Workers replaced, planned or not.
    pub restarts: u64,
    /// Longest wait for a first assignment.
    pub longest_wait: Duration,
}
