//! One sample per second: the machine, the worker, and what only the daemon knows about its requests.

use std::time::Duration;

use mlxsup_worker_api::WorkerStatus;

use crate::memory::{Metric, Probe, ProbeError, Sample, WorkerReading};
use crate::supervisor::snapshot::Snapshot;
use crate::supervisor::{Mono, time::millis};
use crate::telemetry::Latencies;

/// Takes samples and remembers the last.
#[derive(Debug)]
pub struct Sampler {
    probe: Probe,
    last: Sample,
    last_answered: Option<(u64, Mono)>,
    last_tokens: Option<(u32, u64, Mono)>,
}

impl Sampler {
    /// A sampler of this machine.
    ///
    /// # Errors
    /// When the machine's basic memory facts cannot be read.
    pub fn new() -> Result<Self, ProbeError> {
        Ok(Self { probe: Probe::new()?, last: Sample::default(), last_answered: None, last_tokens: None })
    }

    /// The last sample; empty before the first.
    #[must_use]
    pub fn last(&self) -> &Sample {
        &self.last
    }

    /// Reads everything now.
    pub fn sample(
        &mut self,
        worker: Option<&(u32, Option<WorkerStatus>)>,
        uptime: Duration,
        core: &Snapshot,
        latencies: Latencies,
        now: Mono,
    ) -> Sample {
        let reading = worker.map(|(pid, status)| WorkerReading { pid: *pid, status: status.as_ref(), uptime });
        let mut sample = self.probe.sample(reading, now);
        #[cfg(feature = "fake-worker")]
        crate::memory::pretence::overlay(&mut sample);
        sample.set(Metric::RequestsActive, Some(count(core.active)));
        sample.set(Metric::RequestsWaiting, Some(count(core.waiting)));
        sample.set(Metric::LatencyTtftP50, latencies.first_token_p50);
        sample.set(Metric::LatencyTtftP99, latencies.first_token_p99);
        sample.set(Metric::LatencyTokenP50, latencies.token_p50);
        sample.set(Metric::RequestsRate, self.answered_rate(core.ledger.answered, now));
        if let Some((pid, Some(status))) = worker {
            let speed = self.decode_speed(*pid, status.counters.completion_tokens, now);
            sample.set(Metric::SpeedDecode, speed);
        }
        self.last = sample.clone();
        sample
    }

    fn answered_rate(&mut self, answered: u64, now: Mono) -> Option<f64> {
        let last = self.last_answered.replace((answered, now));
        let (before, then) = last?;
        per_second(answered.saturating_sub(before), now, then)
    }

    fn decode_speed(&mut self, pid: u32, tokens: u64, now: Mono) -> Option<f64> {
        // Reports come every few seconds: a rate is taken over a report that changed. A worker that generates nothing has
        // no speed, rather than a slow one.
        match self.last_tokens {
            Some((same, before, _)) if same == pid && before == tokens => None,
            Some((same, before, then)) if same == pid => {
                self.last_tokens = Some((pid, tokens, now));
                per_second(tokens.saturating_sub(before), now, then)
            }
            _ => {
                self.last_tokens = Some((pid, tokens, now));
                None
            }
        }
    }
}

fn per_second(events: u64, now: Mono, then: Mono) -> Option<f64> {
    let elapsed_ms = millis(now - then);
    #[expect(clippy::cast_precision_loss, reason = "counts and milliseconds far below 2^52")]
    (elapsed_ms > 0).then(|| events as f64 * 1000.0 / elapsed_ms as f64)
}

fn count(number: usize) -> f64 {
    u32::try_from(number).map_or(f64::MAX, f64::from)
}
