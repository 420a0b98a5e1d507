//! Fault injection only (feature `fake-worker`): a machine whose memory is what a test says.
//!
//! The file named by `MLXSUP_FAKE_MEMORY` holds one JSON object with any of `total`, `available`, `wired` (bytes) and
//! `pressure` (1, 2, 4; else it is 1, whatever other programs do to the machine that runs the tests); what it names
//! replaces the real reading. A stranded worker, a spike during a load and a machine
//! without room cannot be had otherwise without harming the machine that runs the tests.

use std::collections::BTreeMap;

use super::{Metric, Sample};

/// Where the test's numbers are.
const VARIABLE: &str = "MLXSUP_FAKE_MEMORY";

/// Names in the file and what they replace.
const NAMES: [(&str, Metric); 4] = [
    ("total", Metric::SystemTotal),
    ("available", Metric::SystemAvailable),
    ("wired", Metric::SystemWired),
    ("pressure", Metric::SystemPressure),
];

/// Replaces what the file names; without a file, or with one that cannot be read, the sample stays as it is but for the
/// pressure.
pub fn overlay(sample: &mut Sample) {
    let Some(path) = std::env::var_os(VARIABLE) else { return };
    sample.set(Metric::SystemPressure, Some(1.0));
    let Ok(text) = std::fs::read(path) else { return };
    let Ok(values) = serde_json::from_slice::<BTreeMap<String, f64>>(&text) else { return };
    for (name, metric) in NAMES {
        if let Some(value) = values.get(name) {
            sample.set(metric, Some(*value));
        }
    }
}

/// A machine that a test describes for limits: the same file, with `gpu` (0 or 1) and `working_set` beside `total`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pretended {
    /// Installed memory, bytes.
    pub total: u64,
    /// `iogpu.wired_limit_mb` in bytes.
    pub working_set: Option<u64>,
    /// A Mac.
    pub gpu: bool,
}

/// The machine of the file; `None` without one, and where it says nothing of a GPU: then only samples are replaced.
#[must_use]
pub fn machine() -> Option<Pretended> {
    let text = std::fs::read(std::env::var_os(VARIABLE)?).ok()?;
    let values: BTreeMap<String, f64> = serde_json::from_slice(&text).ok()?;
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "bytes a test wrote down")]
    let bytes = |name: &str| values.get(name).map(|value| *value as u64);
    let gpu = *values.get("gpu")? > 0.0;
    Some(Pretended { total: bytes("total")?, working_set: bytes("working_set"), gpu })
}
