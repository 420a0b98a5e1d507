//! Logs: levels, rotation, and the one-line-per-request log.
