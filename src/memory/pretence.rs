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
