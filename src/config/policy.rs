//! What runs by the clock and by rules: actions, schedules, conditions, thresholds.
//!
//! Owns the validated shapes. Firing them is the supervisor's affair; reading them from text is [`super::schedules`]'
//! and [`super::rules`]'.

use std::time::Duration;

use super::RestartMode;
use crate::memory::Metric;

/// What a schedule or a rule can ask for. One list everywhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// Say it in log and events.
    Warn,
    /// Drop MLX's free-buffer cache.
    ClearCache,
    /// Drop saved prefixes.
    TrimPrefixCache,
    /// Answer new requests 503 until the rule clears.
    Refuse,
    /// Hand the worker over.
    Restart(RestartMode),
    /// Stop the worker and stay without one.
    Unload,
    /// Start it again.
    Load,
    /// Generate one token and check it.
    Canary,
}

/// `[[schedule]]`.
#[derive(Debug, Clone, PartialEq)]
pub struct Schedule {
    /// Unique name.
    pub name: String,
    /// Parsed expression and zone.
    pub when: crate::schedule::Expression,
    /// What is done.
    pub action: Action,
    /// Skipped while the worker is younger.
    pub min_uptime: Duration,
    /// Upper bound of a random delay.
    pub jitter: Duration,
    /// How long a quiet moment is looked for.
    pub wait_for_idle: Duration,
    /// What happens when none came.
    pub if_busy: IfBusy,
    /// What happens to firings that sleep, a stopped daemon or a clock set forward swallowed.
    pub missed: Missed,
}

/// `schedule.if_busy`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IfBusy {
    /// Act all the same.
    Run,
    /// Leave it out this time.
    Skip,
}

/// `schedule.missed`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Missed {
    /// Leave it out.
    Skip,
    /// Once, after waking.
    RunOnce,
}

/// `[[rule]]`.
#[derive(Debug, Clone, PartialEq)]
pub struct Rule {
    /// Unique name.
    pub name: String,
    /// All must hold.
    pub when: Vec<Condition>,
    /// How long they must hold.
    pub dwell: Duration,
    /// The ladder: the next step is taken if the rule still holds one cooldown later.
    pub actions: Vec<Action>,
    /// Minimum pause between two steps.
    pub cooldown: Duration,
    /// Streams that cannot be continued may be ended after so long; `None`: never.
    pub break_streams_after: Option<Duration>,
    /// True for the rules mlxsup brings along.
    pub built_in: bool,
}

/// One comparison of a rule.
#[derive(Debug, Clone, PartialEq)]
pub struct Condition {
    /// What is measured.
    pub metric: Metric,
    /// Which side acts.
    pub side: Side,
    /// The threshold.
    pub threshold: Threshold,
    /// Where the rule lets go again; `None`: at the threshold.
    pub clear: Option<Threshold>,
}

/// `above` or `below`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// Acts when the reading is greater.
    Above,
    /// Acts when the reading is smaller.
    Below,
}

/// A threshold in the metric's own unit (bytes, bytes per second, percent, seconds, counts).
#[derive(Debug, Clone, PartialEq)]
pub enum Threshold {
    /// A fixed number.
    Fixed(f64),
    /// A share of the machine's memory, 0–1 (byte metrics only).
    OfMemory(f64),
    /// A percentile of the machine's own history.
    Percentile {
        /// 0–100.
        percentile: f64,
        /// How much history.
        of: Duration,
        /// Factor on the percentile, 1.1 for `plus = "10%"`.
        factor: f64,
        /// Floor in the metric's unit; alone in force while learning.
        at_least: Option<f64>,
    },
}
