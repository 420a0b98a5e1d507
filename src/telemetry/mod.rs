//! Logs: levels, rotation, and the one-line-per-request log; metrics.
//!
//! Owns the three files under `logs/` and how their lines look. What is worth a line is decided where it happens. Prompts
//! and answers never get here: no record has room for them.

mod line;
pub mod logging;
pub mod metrics;
mod recent_latency;
pub mod requests_log;
pub mod rotating_file;
pub mod token_gaps;
pub mod worker_log;

pub use logging::{Logging, LoggingError, StderrLog};
pub use metrics::Metrics;
pub use recent_latency::Latencies;
pub use requests_log::RequestsLog;
pub use rotating_file::RotatingFile;
pub use token_gaps::TokenGaps;
pub use worker_log::{copy_and_truncate_if_larger, rotate_if_larger};
